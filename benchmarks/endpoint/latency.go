package main

import (
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// latencies draws how long answers take. Safe for concurrent use; equal seeds draw equal sequences.
type latencies struct {
	mean  time.Duration
	sigma float64

	mu     sync.Mutex
	random *rand.Rand
}

func newLatencies(mean time.Duration, sigma float64, seed uint64) *latencies {
	return &latencies{mean: mean, sigma: sigma, random: rand.New(rand.NewPCG(seed, 0))}
}

// next returns the latency of the next answer: the mean, or log-normal with that mean.
func (l *latencies) next() time.Duration {
	if l.sigma == 0 {
		return l.mean
	}
	l.mu.Lock()
	normal := l.random.NormFloat64()
	l.mu.Unlock()
	// exp(mu + sigma^2/2) is the mean of a log-normal distribution.
	factor := math.Exp(l.sigma*normal - l.sigma*l.sigma/2)
	return time.Duration(float64(l.mean) * factor)
}
