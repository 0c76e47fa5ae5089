package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// loadResult is what -selftest prints.
//
// RequestsPerSecond is a lower bound: the generator may have been the slower side. The processor
// time of the endpoint per request says what a core of its own could serve.
type loadResult struct {
	Requests          int     `json:"requests"`
	Seconds           float64 `json:"seconds"`
	RequestsPerSecond float64 `json:"requests_per_second"`
	EndpointCPU       float64 `json:"endpoint_cpu_ms_per_request"`
	CeilingPerSecond  float64 `json:"ceiling_requests_per_second"`
}

// load sends requests over so many connections, one after the other on each, and counts answers.
func load(target string, connections int, duration time.Duration) (loadResult, error) {
	address, err := url.Parse(target)
	if err != nil {
		return loadResult{}, err
	}
	before, err := fetchStats(target)
	if err != nil {
		return loadResult{}, err
	}
	request := loadRequest(address.Host)
	began := time.Now()
	counts, failures := make([]int, connections), make([]error, connections)
	var group sync.WaitGroup
	for worker := range connections {
		group.Add(1)
		go func() {
			defer group.Done()
			counts[worker], failures[worker] = loadOne(address.Host, request, began.Add(duration))
		}()
	}
	group.Wait()
	seconds := time.Since(began).Seconds()
	if err := errors.Join(failures...); err != nil {
		return loadResult{}, err
	}
	after, err := fetchStats(target)
	if err != nil {
		return loadResult{}, err
	}
	total := 0
	for _, count := range counts {
		total += count
	}
	cpu := (after.CPUSeconds - before.CPUSeconds) / float64(max(1, total))
	return loadResult{total, seconds, float64(total) / seconds, cpu * 1000, 1 / cpu}, nil
}

// loadRequest returns a whole request of the size that the benchmarks send.
func loadRequest(host string) []byte {
	prompt := strings.Repeat("a document of some length, to be rewritten. ", 24)
	body := `{"model":"bench","messages":[{"role":"user","content":"` + prompt + `"}]}`
	return []byte("POST /v1/chat/completions HTTP/1.1\r\nHost: " + host +
		"\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
}

func loadOne(host string, request []byte, until time.Time) (count int, err error) {
	connection, err := net.Dial("tcp", host)
	if err != nil {
		return 0, err
	}
	defer func() { _ = connection.Close() }()
	reader := bufio.NewReaderSize(connection, 16<<10)
	for time.Now().Before(until) {
		if _, err := connection.Write(request); err != nil {
			return count, err
		}
		if err := skipResponse(reader); err != nil {
			return count, err
		}
		count++
	}
	return count, nil
}

// skipResponse reads one response with a Content-Length and status 200.
func skipResponse(reader *bufio.Reader) error {
	length := -1
	for first := true; ; first = false {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		text := strings.TrimRight(string(line), "\r\n")
		if first && !strings.HasPrefix(text, "HTTP/1.1 200") {
			return fmt.Errorf("the endpoint answered %q", text)
		}
		if text == "" {
			break
		}
		if name, value, _ := strings.Cut(text, ":"); strings.EqualFold(name, "Content-Length") {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return errors.New("a response without Content-Length")
	}
	_, err := io.CopyN(io.Discard, reader, int64(length))
	return err
}

func fetchStats(target string) (snapshot, error) {
	var stats snapshot
	response, err := http.Get(target + "/stats")
	if err != nil {
		return stats, err
	}
	defer func() { _ = response.Body.Close() }()
	return stats, json.NewDecoder(response.Body).Decode(&stats)
}
