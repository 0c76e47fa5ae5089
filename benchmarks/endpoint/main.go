// Command endpoint is the server that the benchmarks run against.
//
// It speaks the OpenAI chat completions API and answers after a fixed or log-normal latency, as many
// requests at once as come, or as many as it has slots for. It can refuse with 429 like a token bucket, and misbehave in the ways
// that real servers do. `/stats` says what it saw, so that clients are judged from the far side.
//
// It prints one line of JSON with its URL when it listens. Port 0 takes a free one.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// options is the command line.
type options struct {
	listen       string
	model        string
	latency      time.Duration
	sigma        float64
	seed         uint64
	answerTokens int
	slots        int
	limits       limitOptions
	faults       faultOptions

	selfTest    bool
	target      string
	connections int
	duration    time.Duration
}

func parseOptions(arguments []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("endpoint", flag.ContinueOnError)
	flags.StringVar(&o.listen, "listen", "127.0.0.1:0", "address to listen on")
	flags.StringVar(&o.model, "model", "bench", "name of the model that is served")
	flags.DurationVar(&o.latency, "latency", 200*time.Millisecond, "mean latency of an answer")
	flags.Float64Var(&o.sigma, "sigma", 0, "sigma of a log-normal latency; 0: every answer takes -latency")
	flags.Uint64Var(&o.seed, "seed", 1, "seed of latencies and faults")
	flags.IntVar(&o.answerTokens, "answer-tokens", 300, "length of an answer")
	flags.IntVar(&o.slots, "slots", 0, "requests that are worked on at once, all others wait; 0: no limit")

	flags.Float64Var(&o.limits.requestsPerSecond, "rps", 0, "requests per second; 0: no limit")
	flags.Float64Var(&o.limits.requestBurst, "burst", 25, "requests that may come at once under -rps")
	flags.Float64Var(&o.limits.tokensPerMinute, "tpm", 0, "tokens per minute, prompts and answers; 0: no limit")
	flags.Float64Var(&o.limits.tokenBurst, "token-burst", 0, "tokens that may come at once; 0: a tenth of -tpm")
	flags.DurationVar(&o.limits.retryAfter, "retry-after", time.Second, "Retry-After of a 429, rounded up to seconds; 0: none")
	flags.BoolVar(&o.limits.exactRetryAfter, "retry-after-ms", false, "send retry-after-ms with the exact wait instead")
	flags.BoolVar(&o.limits.announce, "announce", false, "send x-ratelimit-* headers with every answer")

	faults := flags.String("faults", "", "what goes wrong and how often, as status500=0.1,hang=0.01: "+strings.Join(faultNames, ", "))
	flags.DurationVar(&o.faults.drip, "drip", 2*time.Second, "how long the fault `drip` takes over one body")

	flags.BoolVar(&o.selfTest, "selftest", false, "load the endpoint at -target and print what it took")
	flags.StringVar(&o.target, "target", "", "URL of another endpoint, for -selftest")
	flags.IntVar(&o.connections, "connections", 64, "connections of -selftest")
	flags.DurationVar(&o.duration, "duration", 2*time.Second, "duration of -selftest")
	if err := flags.Parse(arguments); err != nil {
		return o, err
	}
	var err error
	o.faults.seed = o.seed
	o.faults.rates, err = parseFaults(*faults)
	if err == nil && o.selfTest && o.target == "" {
		err = errors.New("-selftest needs -target, the URL of a running endpoint")
	}
	return o, err
}

func main() {
	o, err := parseOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "endpoint:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	if o.selfTest {
		result, err := load(o.target, o.connections, o.duration)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(result)
	}
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]string{"url": "http://" + listener.Addr().String()}); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	web := &http.Server{Handler: newServer(o).routes(), ReadHeaderTimeout: 30 * time.Second}
	go func() {
		<-ctx.Done()
		// Requests under way may hang on purpose: nobody waits for them.
		_ = web.Close()
	}()
	if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
