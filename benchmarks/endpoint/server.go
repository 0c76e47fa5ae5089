package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	// Bytes of English text per token, about.
	bytesPerToken = 4
	dripPieces    = 20
)

// server answers chat completions.
type server struct {
	options   options
	latencies *latencies
	limiter   *limiter
	faults    *faultSource
	answers   *answers
	stats     *statistics
	buffers   sync.Pool
	// One entry for each request that is being worked on; nil if all are at once.
	slots chan struct{}
}

func newServer(o options) *server {
	var slots chan struct{}
	if o.slots > 0 {
		slots = make(chan struct{}, o.slots)
	}
	return &server{
		slots:     slots,
		options:   o,
		latencies: newLatencies(o.latency, o.sigma, o.seed),
		limiter:   newLimiter(o.limits, time.Now()),
		faults:    newFaultSource(o.faults),
		answers:   newAnswers(o.model, o.answerTokens),
		stats:     newStatistics(),
		buffers:   sync.Pool{New: func() any { return new(bytes.Buffer) }},
	}
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", s.complete)
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		model := map[string]any{"id": s.options.model, "object": "model", "created": 1767225600, "owned_by": "bench"}
		writeJSON(w, map[string]any{"object": "list", "data": []any{model}})
	})
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, s.stats.snapshot())
	})
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) {
		s.stats.reset()
		writeJSON(w, s.stats.snapshot())
	})
	return mux
}

func (s *server) complete(w http.ResponseWriter, r *http.Request) {
	arrived := time.Now()
	hash, size, err := s.read(r)
	if err != nil {
		http.Error(w, "the request's body broke off", http.StatusBadRequest)
		return
	}
	promptTokens := size / bytesPerToken
	s.limiter.describe(w.Header(), arrived)
	if wait := s.limiter.admit(promptTokens+s.options.answerTokens, arrived); wait > 0 {
		s.stats.refuse()
		s.limiter.refuse(w.Header(), wait)
		writeError(w, http.StatusTooManyRequests, "Rate limit reached", "rate_limit_exceeded")
		return
	}
	s.stats.enter(hash, arrived)
	fault := s.faults.next()
	if !s.wait(r, fault) {
		s.stats.abandon(time.Now())
		return
	}
	tokens := 0
	if s.write(w, hash, promptTokens, fault) {
		tokens = promptTokens + s.options.answerTokens
	}
	now := time.Now()
	s.stats.answer(tokens, fault, now.Sub(arrived), now)
	if fault == faultHalf {
		panic(http.ErrAbortHandler) // net/http's way to cut a connection
	}
}

// read returns the hash of a request's body and its size. It is a pure function of the body.
func (s *server) read(r *http.Request) (hash uint64, size int, err error) {
	buffer, _ := s.buffers.Get().(*bytes.Buffer)
	defer s.buffers.Put(buffer)
	buffer.Reset()
	if _, err = buffer.ReadFrom(r.Body); err != nil {
		return 0, 0, err
	}
	return fnv64(buffer.Bytes()), buffer.Len(), nil
}

// wait waits for a slot and lets the latency pass; it returns false when the client has gone first.
func (s *server) wait(r *http.Request, fault string) bool {
	latency := s.latencies.next()
	if s.slots != nil {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		case <-r.Context().Done():
			return false
		}
	}
	if fault == faultHang {
		<-r.Context().Done()
		return false
	}
	if latency <= 0 {
		return true
	}
	timer := time.NewTimer(latency)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// write sends the answer, or what fault makes of it; it returns whether a completion was sent.
func (s *server) write(w http.ResponseWriter, hash uint64, promptTokens int, fault string) bool {
	switch fault {
	case faultStatus:
		writeError(w, http.StatusInternalServerError, "The server had an error", "internal_error")
		return false
	case faultBusy:
		writeError(w, http.StatusServiceUnavailable, "The server is overloaded", "overloaded")
		return false
	}
	body := s.answers.body(hash, promptTokens, fault)
	if fault == faultGarbage {
		body = []byte("<html><body>Bad gateway, says the proxy</body></html>")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	switch fault {
	case faultHalf:
		_, _ = w.Write(body[:len(body)/2])
		_ = http.NewResponseController(w).Flush()
		return false
	case faultDrip:
		s.drip(w, body)
	default:
		_, _ = w.Write(body)
	}
	return true
}

// drip sends a body in pieces.
func (s *server) drip(w http.ResponseWriter, body []byte) {
	control := http.NewResponseController(w)
	piece := len(body)/dripPieces + 1
	for len(body) > 0 {
		size := min(piece, len(body))
		if _, err := w.Write(body[:size]); err != nil {
			return
		}
		_ = control.Flush()
		body = body[size:]
		time.Sleep(s.options.faults.drip / dripPieces)
	}
}

// fnv64 is FNV-1a over 8 bytes at a time: fast, and the same in every process.
func fnv64(data []byte) uint64 {
	const prime = 1099511628211
	hash := uint64(14695981039346656037)
	for len(data) >= 8 {
		word := uint64(data[0]) | uint64(data[1])<<8 | uint64(data[2])<<16 | uint64(data[3])<<24 |
			uint64(data[4])<<32 | uint64(data[5])<<40 | uint64(data[6])<<48 | uint64(data[7])<<56
		hash = (hash ^ word) * prime
		hash ^= hash >> 29
		data = data[8:]
	}
	for _, value := range data {
		hash = (hash ^ uint64(value)) * prime
	}
	return hash
}

func writeError(w http.ResponseWriter, status int, message, code string) {
	body, _ := json.Marshal(map[string]any{
		"error": map[string]any{"message": message, "type": code, "param": nil, "code": code},
	})
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}
