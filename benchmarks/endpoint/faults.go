package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Faults, each with the probability that a request meets it.
const (
	faultStatus  = "status500" // 500 with a JSON error
	faultBusy    = "status503" // 503 without Retry-After
	faultHang    = "hang"      // no answer until the client gives up
	faultHalf    = "half"      // the connection is closed in the middle of the body
	faultGarbage = "garbage"   // 200, and a body that is no JSON
	faultDrip    = "drip"      // the body comes in small pieces
	faultEmpty   = "empty"     // an empty list of choices
	faultNull    = "null"      // a choice whose content is null
	faultUsage   = "usage"     // token counts that cannot be
)

var faultNames = []string{
	faultStatus, faultBusy, faultHang, faultHalf, faultGarbage, faultDrip, faultEmpty, faultNull, faultUsage,
}

type faultRate struct {
	name string
	rate float64
}

type faultOptions struct {
	rates []faultRate
	drip  time.Duration
	seed  uint64
}

// parseFaults reads `name=rate,...`.
func parseFaults(text string) ([]faultRate, error) {
	if text == "" {
		return nil, nil
	}
	var rates []faultRate
	total := 0.0
	for _, item := range strings.Split(text, ",") {
		name, value, _ := strings.Cut(item, "=")
		rate, err := strconv.ParseFloat(value, 64)
		if !slices.Contains(faultNames, name) || err != nil || rate < 0 {
			return nil, fmt.Errorf("-faults: %q is not NAME=RATE with a name of %v", item, faultNames)
		}
		total += rate
		rates = append(rates, faultRate{name, rate})
	}
	if total > 1 {
		return nil, fmt.Errorf("-faults: the rates add up to %g, more than 1", total)
	}
	return rates, nil
}

// faultSource draws what goes wrong. Safe for concurrent use.
type faultSource struct {
	rates []faultRate

	mu     sync.Mutex
	random *rand.Rand
}

func newFaultSource(options faultOptions) *faultSource {
	return &faultSource{rates: options.rates, random: rand.New(rand.NewPCG(options.seed, 1))}
}

// next returns the fault of the next request, or "".
func (f *faultSource) next() string {
	if len(f.rates) == 0 {
		return ""
	}
	f.mu.Lock()
	draw := f.random.Float64()
	f.mu.Unlock()
	for _, fault := range f.rates {
		if draw < fault.rate {
			return fault.name
		}
		draw -= fault.rate
	}
	return ""
}
