// Command bench measures the whole pipeline on the embedded parts through its doors. Each figure in the docs names the subcommand
// that makes it:
//
//	bench glass     beacon to glass at rate=100ms: when idle, under 1,000 beacons/s and then beside heavy queries, and where the time goes
//	bench beacons   durable beacons a second by single posts, beside the same server's cheapest route
//	bench ingest    the ingest role on a real Kafka beside a gin route that does nothing and one with kafka-go's Writer
//	bench overload  twice what ingest can take, for SPAN (1m): its answers, its memory, and how soon it is as before
//	bench idle      memory of all processes when nothing happens
//	bench aggregator
//	                that role on a long log in a real Kafka: CPU of the windows lane beside a loop that only fetches, warm-up,
//	                rows/s into ClickHouse, and how long after a kill -9 there is a fresh frame
//	bench streamer  viewers of a streamer beside those of gin, go-sse, centrifuge, nchan and a bare loop: memory, CPU, fan-out, connections
//	bench viewers   100,000 viewers on this machine, for -span
//	bench soak      viewers who come and go for -span: whether a streamer's memory, goroutines or files grow
//
// Machines are noisy: compare figures of one run only.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"nowcast/internal/embedded"
)

func main() {
	if handled, code := embedded.Main(os.Args); handled {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	programs := map[string]func(context.Context, *server) error{"glass": glass, "beacons": beacons, "idle": idle}
	if len(args) > 0 {
		if program := streamerPrograms(args[0]); program != nil {
			return program(ctx, args[1:])
		}
	}
	switch {
	case len(args) == 1 && args[0] == "aggregator": // these bring a Kafka of their own
		return aggregate(ctx)
	case len(args) == 1 && args[0] == "ingest":
		return ingests(ctx)
	case len(args) == 1 && args[0] == "overload":
		return overload(ctx)
	case len(args) == 3 && strings.HasPrefix(args[0], "serve-"):
		return serveOther(ctx, args[0], args[1], args[2])
	case len(args) != 1 || programs[args[0]] == nil:
		return errors.New("usage: bench glass|beacons|ingest|overload|idle|aggregator|streamer|viewers|soak")
	}
	s, err := start(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	return programs[args[0]](ctx, s)
}

// server is a `nowcast all` of our own on a fresh data dir.
type server struct {
	cmd      *exec.Cmd
	dir, url string
	key      string
	started  time.Duration
}

func start(ctx context.Context) (*server, error) {
	dir, err := os.MkdirTemp("", "nowcast-bench-")
	if err != nil {
		return nil, err
	}
	var addrs []string
	for range 2 {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, l.Addr().String())
		l.Close()
	}
	s := &server{dir: dir, url: "http://" + addrs[0]}
	s.cmd = exec.CommandContext(ctx, "bin/nowcast", "all", "--listen", addrs[0], "--ops-listen", addrs[1], "--data-dir", dir, "--log-level", "warn")
	s.cmd.Stderr = os.Stderr
	begin := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start bin/nowcast (make build makes it): %w", err)
	}
	for {
		if a, err := s.do(ctx, http.MethodGet, "http://"+addrs[1]+"/readyz", nil); err == nil && a == http.StatusOK {
			break
		}
		if time.Since(begin) > time.Minute || ctx.Err() != nil {
			s.stop()
			return nil, errors.New("nowcast isn't ready after a minute")
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.started = time.Since(begin)
	key, err := os.ReadFile(filepath.Join(dir, "admin.key"))
	s.key = strings.TrimSpace(string(key))
	return s, err
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
	_ = os.RemoveAll(s.dir)
}

// do sends JSON and returns the status.
func (s *server) do(ctx context.Context, method, url string, body any) (int, error) {
	var r io.Reader
	if body != nil {
		j, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		r = bytes.NewReader(j)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, r)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

// site makes a public site and waits until beacons for it are taken.
func (s *server) site(ctx context.Context, domain string) error {
	if st, err := s.do(ctx, http.MethodPost, s.url+"/api/v1/sites", map[string]any{"domain": domain, "public": true}); err != nil || st != http.StatusCreated {
		return fmt.Errorf("make site %s: %d %w", domain, st, err)
	}
	return nil
}

// post sends one page view of a visitor.
func post(ctx context.Context, c *http.Client, url, site, page string, visitor int) error {
	body := fmt.Sprintf(`{"n":"pageview","d":"%s","u":"https://%s%s"}`, site, site, page)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/event", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", fmt.Sprintf("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Visitor/%d", visitor))
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	if res.StatusCode != http.StatusAccepted || res.Header.Get("x-plausible-dropped") != "" {
		return fmt.Errorf("beacon: %s", res.Status)
	}
	return nil
}

// quantiles prints p50, p90, p99 and the maximum of d.
func quantiles(name string, d []time.Duration) {
	if len(d) == 0 {
		fmt.Printf("%-34s no values\n", name)
		return
	}
	slices.Sort(d)
	q := func(f float64) time.Duration { return d[int(f*float64(len(d)-1))].Round(100 * time.Microsecond) }
	fmt.Printf("%-34s p50 %-8v p90 %-8v p99 %-8v max %-8v (%d)\n", name, q(.5), q(.9), q(.99), q(1), len(d))
}
