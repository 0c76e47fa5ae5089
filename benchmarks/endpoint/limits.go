package main

import (
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// limitOptions says which requests are refused with 429, and what the refusal asks for.
type limitOptions struct {
	requestsPerSecond float64
	requestBurst      float64
	tokensPerMinute   float64
	tokenBurst        float64
	retryAfter        time.Duration
	exactRetryAfter   bool
	announce          bool
}

// bucket is a token bucket. It starts full. Not safe for concurrent use.
type bucket struct {
	perSecond float64
	capacity  float64
	level     float64
	filled    time.Time
}

func newBucket(perSecond, capacity float64, now time.Time) *bucket {
	if perSecond <= 0 {
		return nil
	}
	return &bucket{perSecond: perSecond, capacity: capacity, level: capacity, filled: now}
}

// missing returns how long until amount is there, 0 if it is. A nil bucket is never empty.
func (b *bucket) missing(amount float64, now time.Time) time.Duration {
	if b == nil {
		return 0
	}
	b.level = math.Min(b.capacity, b.level+b.perSecond*now.Sub(b.filled).Seconds())
	b.filled = now
	if b.level >= amount {
		return 0
	}
	return time.Duration((amount - b.level) / b.perSecond * float64(time.Second))
}

func (b *bucket) take(amount float64) {
	if b != nil {
		b.level -= amount
	}
}

// limiter holds the buckets of the one key that everybody shares.
type limiter struct {
	options limitOptions

	mu       sync.Mutex
	requests *bucket
	tokens   *bucket
}

func newLimiter(options limitOptions, now time.Time) *limiter {
	if options.tokenBurst == 0 {
		options.tokenBurst = options.tokensPerMinute / 10
	}
	return &limiter{
		options:  options,
		requests: newBucket(options.requestsPerSecond, options.requestBurst, now),
		tokens:   newBucket(options.tokensPerMinute/60, options.tokenBurst, now),
	}
}

// admit takes a request of so many tokens in, or returns how long until there is room for it.
// A refused request costs nothing.
func (l *limiter) admit(tokens int, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// More tokens than the bucket ever holds are let in when it is full.
	amount := float64(tokens)
	if l.tokens != nil {
		amount = math.Min(amount, l.tokens.capacity)
	}
	wait = max(l.requests.missing(1, now), l.tokens.missing(amount, now))
	if wait == 0 {
		l.requests.take(1)
		l.tokens.take(amount)
	}
	return wait
}

// refuse sets the headers of a 429 that may be tried again after wait.
func (l *limiter) refuse(headers http.Header, wait time.Duration) {
	if l.options.exactRetryAfter {
		headers.Set("retry-after-ms", strconv.FormatInt(int64(math.Ceil(wait.Seconds()*1000)), 10))
	} else if l.options.retryAfter > 0 {
		seconds := math.Ceil(max(wait, l.options.retryAfter).Seconds())
		headers.Set("Retry-After", strconv.Itoa(int(seconds)))
	}
}

// describe sets the x-ratelimit headers, if they are wanted.
func (l *limiter) describe(headers http.Header, now time.Time) {
	if !l.options.announce {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for unit, bucket := range map[string]*bucket{"requests": l.requests, "tokens": l.tokens} {
		if bucket == nil {
			continue
		}
		full := bucket.missing(bucket.capacity, now)
		headers.Set("x-ratelimit-limit-"+unit, strconv.Itoa(int(bucket.perSecond*60)))
		headers.Set("x-ratelimit-remaining-"+unit, strconv.Itoa(int(bucket.level)))
		headers.Set("x-ratelimit-reset-"+unit, full.Round(time.Millisecond).String())
	}
}
