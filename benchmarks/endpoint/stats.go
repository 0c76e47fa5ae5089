package main

import (
	"sync"
	"syscall"
	"time"
)

const (
	// Service times are counted in steps of 0.1 ms up to 20 s.
	serviceStep  = 100 * time.Microsecond
	serviceSteps = 200_000
)

// snapshot is the body of /stats.
//
// The span begins when two requests are first under way at once and ends with the last answer: a
// client's lonely first request, to find out what the server can do, is not part of the run.
// Only requests that were let in count as in flight.
type snapshot struct {
	Requests        int            `json:"requests"`
	Answered        int            `json:"answered"`
	Refused         int            `json:"refused"`
	Abandoned       int            `json:"abandoned"`
	Faults          map[string]int `json:"faults"`
	Distinct        int            `json:"distinct"`
	Reissued        int            `json:"reissued"`
	Tokens          int            `json:"tokens"`
	InFlight        int            `json:"in_flight"`
	PeakConcurrency int            `json:"peak_concurrency"`
	MeanConcurrency float64        `json:"mean_concurrency"`
	SpanSeconds     float64        `json:"span_seconds"`
	ServiceP50      float64        `json:"service_p50_seconds"`
	ServiceP99      float64        `json:"service_p99_seconds"`
	CPUSeconds      float64        `json:"cpu_seconds"`
}

// statistics is what the server saw since it started, or since the last reset.
type statistics struct {
	mu        sync.Mutex
	requests  int
	answered  int
	refused   int
	abandoned int
	faults    map[string]int
	// Hashes of the bodies that were let in; one that comes again is a call that is paid for twice.
	seen     map[uint64]struct{}
	reissued int
	tokens   int

	inFlight int
	peak     int
	integral float64
	changed  time.Time
	began    time.Time
	ended    time.Time
	// The integral at the time of the last answer: what is abandoned later is not part of the run.
	atEnd float64

	service   []int32
	cpuBefore float64
}

func newStatistics() *statistics {
	s := &statistics{service: make([]int32, serviceSteps+1)}
	s.clear()
	return s
}

func (s *statistics) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
}

func (s *statistics) clear() {
	s.requests, s.answered, s.refused, s.abandoned, s.reissued, s.tokens = 0, 0, 0, 0, 0, 0
	s.faults, s.seen = map[string]int{}, map[uint64]struct{}{}
	s.peak, s.integral, s.atEnd = s.inFlight, 0, 0
	s.began, s.ended, s.changed = time.Time{}, time.Time{}, time.Time{}
	clear(s.service)
	s.cpuBefore = cpuSeconds()
}

// refuse counts a request that was not let in.
func (s *statistics) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	s.refused++
}

// enter counts a request that was let in.
func (s *statistics) enter(body uint64, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	if _, known := s.seen[body]; known {
		s.reissued++
	}
	s.seen[body] = struct{}{}
	s.advance(now)
	s.inFlight++
	s.peak = max(s.peak, s.inFlight)
	if s.inFlight == 2 && s.began.IsZero() {
		s.began, s.changed = now, now
	}
}

// answer counts the end of a request that enter has counted, as answered or as fault says.
func (s *statistics) answer(tokens int, fault string, took time.Duration, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(now)
	s.inFlight--
	if fault == "" {
		s.answered++
	} else {
		s.faults[fault]++
	}
	s.tokens += tokens
	s.ended, s.atEnd = now, s.integral
	s.service[min(int(took/serviceStep), serviceSteps)]++
}

// abandon counts a request whose client went away.
func (s *statistics) abandon(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(now)
	s.inFlight--
	s.abandoned++
}

func (s *statistics) advance(now time.Time) {
	if !s.began.IsZero() {
		s.integral += float64(s.inFlight) * now.Sub(s.changed).Seconds()
		s.changed = now
	}
}

func (s *statistics) snapshot() snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	faults := make(map[string]int, len(s.faults))
	for name, count := range s.faults {
		faults[name] = count
	}
	view := snapshot{
		Requests:        s.requests,
		Answered:        s.answered,
		Refused:         s.refused,
		Abandoned:       s.abandoned,
		Faults:          faults,
		Distinct:        len(s.seen),
		Reissued:        s.reissued,
		Tokens:          s.tokens,
		InFlight:        s.inFlight,
		PeakConcurrency: s.peak,
		ServiceP50:      s.percentile(0.5),
		ServiceP99:      s.percentile(0.99),
		CPUSeconds:      cpuSeconds() - s.cpuBefore,
	}
	if s.ended.After(s.began) && !s.began.IsZero() {
		view.SpanSeconds = s.ended.Sub(s.began).Seconds()
		view.MeanConcurrency = s.atEnd / view.SpanSeconds
	}
	return view
}

func (s *statistics) percentile(share float64) float64 {
	total := 0
	for _, count := range s.service {
		total += int(count)
	}
	rank, sum := int(share*float64(total)), 0
	for step, count := range s.service {
		sum += int(count)
		if sum > rank {
			return (time.Duration(step) * serviceStep).Seconds()
		}
	}
	return 0
}

// cpuSeconds returns the processor time that this process has used.
func cpuSeconds() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(usage.Utime) + seconds(usage.Stime)
}
