package main

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestLogNormalLatencyHasTheMeanAskedFor(t *testing.T) {
	draws := newLatencies(500*time.Millisecond, 0.6, 3)
	sum := 0.0
	const count = 200_000
	for range count {
		sum += draws.next().Seconds()
	}
	if mean := sum / count; math.Abs(mean-0.5) > 0.005 {
		t.Errorf("mean %.4f s, want 0.5", mean)
	}
}

func TestEqualSeedsDrawEqualLatencies(t *testing.T) {
	left, right := newLatencies(time.Second, 0.6, 9), newLatencies(time.Second, 0.6, 9)
	for range 100 {
		if left.next() != right.next() {
			t.Fatal("the sequences differ")
		}
	}
}

func TestBucketAdmitsItsBurstAndThenItsRate(t *testing.T) {
	now := time.Unix(0, 0)
	limits := newLimiter(limitOptions{requestsPerSecond: 100, requestBurst: 25}, now)
	admitted := 0
	for range 10_000 { // 10,000 per second for a second
		if limits.admit(1, now) == 0 {
			admitted++
		}
		now = now.Add(100 * time.Microsecond)
	}
	if admitted < 124 || admitted > 126 {
		t.Errorf("admitted %d, want 25 + 100", admitted)
	}
}

func TestTokensAreLimitedToo(t *testing.T) {
	now := time.Unix(0, 0)
	limits := newLimiter(limitOptions{tokensPerMinute: 60_000, tokenBurst: 1000}, now)
	if limits.admit(1000, now) != 0 {
		t.Fatal("the first request did not fit")
	}
	if wait := limits.admit(500, now); wait.Round(time.Millisecond) != 500*time.Millisecond {
		t.Errorf("wait %v, want 500ms", wait)
	}
}

func TestFaultsAreCheckedWhenTheyAreRead(t *testing.T) {
	for _, text := range []string{"explode=0.1", "hang", "hang=x", "hang=0.7,half=0.7"} {
		if _, err := parseFaults(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func start(t *testing.T, arguments ...string) (*server, *httptest.Server) {
	t.Helper()
	o, err := parseOptions(arguments)
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(o)
	web := httptest.NewServer(s.routes())
	t.Cleanup(web.Close)
	return s, web
}

func ask(web *httptest.Server, prompt string) (*http.Response, []byte, error) {
	body := `{"model":"bench","messages":[{"role":"user","content":"` + prompt + `"}]}`
	response, err := http.Post(web.URL+"/v1/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	return response, data, err
}

func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen within 5 s")
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func TestAnswersAreValidAndDependOnTheRequestAlone(t *testing.T) {
	_, web := start(t, "-latency", "1ms")
	read := func(prompt string) string {
		_, data, err := ask(web, prompt)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Choices []struct{ Message struct{ Content string } }
			Usage   struct {
				CompletionTokens int `json:"completion_tokens"`
			}
		}
		if err := json.Unmarshal(data, &answer); err != nil {
			t.Fatal(err)
		}
		if answer.Usage.CompletionTokens != 300 {
			t.Errorf("%d tokens, want 300", answer.Usage.CompletionTokens)
		}
		return answer.Choices[0].Message.Content
	}
	first, other, again := read("one"), read("two"), read("one")
	if first != again || first == other {
		t.Error("the answer is not a function of the request")
	}
	if lines := strings.Split(first, "\n"); len(lines) != answerItems || !strings.HasPrefix(lines[4], "5. ") {
		t.Errorf("not a list of %d items: %q", answerItems, first)
	}
}

func TestRefusalsSayWhenToComeBack(t *testing.T) {
	s, web := start(t, "-latency", "0s", "-rps", "0.001", "-burst", "1", "-retry-after", "1500ms")
	_, _, _ = ask(web, "in")
	response, _, err := ask(web, "out")
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusTooManyRequests || response.Header.Get("Retry-After") == "" {
		t.Errorf("status %d, Retry-After %q", response.StatusCode, response.Header.Get("Retry-After"))
	}
	if stats := s.stats.snapshot(); stats.Refused != 1 || stats.Answered != 1 {
		t.Errorf("%+v", stats)
	}
}

func TestConcurrencyIsMeasuredOverTheRun(t *testing.T) {
	s, web := start(t, "-latency", "100ms")
	var group sync.WaitGroup
	for range 8 {
		group.Add(1)
		go func() {
			defer group.Done()
			for call := range 3 {
				_, _, _ = ask(web, strings.Repeat("x", call+1))
			}
		}()
	}
	group.Wait()
	stats := s.stats.snapshot()
	if stats.PeakConcurrency != 8 || stats.MeanConcurrency < 7 || stats.MeanConcurrency > 8 {
		t.Errorf("peak %d, mean %.2f, want 8", stats.PeakConcurrency, stats.MeanConcurrency)
	}
	if stats.Distinct != 3 || stats.Reissued != 21 {
		t.Errorf("distinct %d, reissued %d", stats.Distinct, stats.Reissued)
	}
}

func TestEveryFaultDoesWhatItsNameSays(t *testing.T) {
	http.DefaultTransport.(*http.Transport).DisableKeepAlives = true
	check := map[string]func(*http.Response, []byte, error) bool{
		faultStatus:  func(r *http.Response, _ []byte, _ error) bool { return r.StatusCode == 500 },
		faultBusy:    func(r *http.Response, _ []byte, _ error) bool { return r.StatusCode == 503 },
		faultHalf:    func(_ *http.Response, _ []byte, err error) bool { return err != nil },
		faultGarbage: func(_ *http.Response, data []byte, _ error) bool { return !json.Valid(data) },
		faultDrip:    func(_ *http.Response, data []byte, _ error) bool { return json.Valid(data) },
		faultEmpty: func(_ *http.Response, data []byte, _ error) bool {
			return json.Valid(data) && strings.Contains(string(data), `"choices":[]`)
		},
		faultNull: func(_ *http.Response, data []byte, _ error) bool {
			return json.Valid(data) && strings.Contains(string(data), `"content":null`)
		},
		faultUsage: func(_ *http.Response, data []byte, _ error) bool {
			return json.Valid(data) && strings.Contains(string(data), `"prompt_tokens":-`)
		},
	}
	for name, holds := range check {
		t.Run(name, func(t *testing.T) {
			s, web := start(t, "-latency", "0s", "-drip", "20ms", "-faults", name+"=1")
			if response, data, err := ask(web, "p"); !holds(response, data, err) {
				t.Errorf("%v %q %v", response, data, err)
			}
			// A client may have a whole body before the server has counted it.
			eventually(t, func() bool { return s.stats.snapshot().Faults[name] == 1 })
		})
	}
}

func TestHangingRequestIsAbandonedByItsClient(t *testing.T) {
	s, web := start(t, "-faults", "hang=1")
	client := http.Client{Timeout: 50 * time.Millisecond}
	if _, err := client.Post(web.URL+"/v1/chat/completions", "", strings.NewReader("{}")); err == nil {
		t.Fatal("it answered")
	}
	eventually(t, func() bool {
		stats := s.stats.snapshot()
		return stats.Abandoned == 1 && stats.InFlight == 0
	})
}

func TestRequestsWithoutASlotWait(t *testing.T) {
	o, err := parseOptions([]string{"-latency", "20ms", "-slots", "2"})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(newServer(o).routes())
	defer web.Close()
	began := time.Now()
	var group sync.WaitGroup
	for range 8 {
		group.Add(1)
		go func() {
			defer group.Done()
			response, err := http.Post(web.URL+"/v1/chat/completions", "application/json", strings.NewReader("{}"))
			if err != nil {
				t.Error(err)
				return
			}
			_ = response.Body.Close()
		}()
	}
	group.Wait()
	if took := time.Since(began); took < 80*time.Millisecond {
		t.Errorf("8 requests over 2 slots took %v, at least 80ms were expected", took)
	}
}
