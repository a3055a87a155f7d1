package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is an http.RoundTripper that answers beacons, so that tests can run on a synthetic clock.
type server struct {
	t      *testing.T
	answer func(w http.ResponseWriter, n int) error

	mu       sync.Mutex
	beacons  []beacon
	visitors map[string]bool // by address and user agent
	sum      *Summary
}

// RoundTrip is the server's side of a request.
func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(r.Body)
	var got beacon
	if err := json.Unmarshal(body, &got); err != nil || r.URL.Path != "/api/event" ||
		r.Method != http.MethodPost {
		s.t.Errorf("%s %s: %v", r.URL, body, err)
	}
	s.mu.Lock()
	s.beacons = append(s.beacons, got)
	s.visitors[r.Header.Get("X-Forwarded-For")+r.UserAgent()] = true
	n := len(s.beacons)
	s.mu.Unlock()
	w := httptest.NewRecorder()
	if err := s.answer(w, n); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

func accept(w http.ResponseWriter, _ int) error { w.WriteHeader(http.StatusAccepted); return nil }

// listener listens for the connection by which Run checks that the server answers.
func listener(t *testing.T) string {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return "http://" + l.Addr().String()
}

// runLoad runs a load on a synthetic clock against a server that answers by answer.
func runLoad(t *testing.T, cfg Config, answer func(http.ResponseWriter, int) error) (*server, *Summary) {
	t.Helper()
	s := &server{t: t, visitors: map[string]bool{}, answer: answer}
	cfg.Server = listener(t)
	synctest.Test(t, func(t *testing.T) {
		l, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		l.client.Transport = s
		if s.sum, err = l.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	return s, s.sum
}

func TestStreamIsRealistic(t *testing.T) {
	var progress bytes.Buffer
	s, sum := runLoad(t, Config{Sites: []string{"a.example", "b.example"}, Rate: 200, Visitors: 300,
		Duration: 20 * time.Second, Seed: 7, Progress: &progress}, accept)
	if sum.Sent < 3900 || sum.Sent > 4100 || sum.Counted != sum.Sent || sum.Advice() != "" ||
		sum.Latency.Max != 0 || sum.Seconds > 20.1 {
		t.Errorf("200/s for 20 s: %+v", sum)
	}
	names, sites, pages, sources := map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}
	for _, b := range s.beacons {
		names[b.Name]++
		sites[b.Domain]++
		pages[b.URL]++
		if !strings.Contains(b.Referrer, ".example/") {
			sources[b.Referrer]++
		}
	}
	if names["pageview"] < 2000 || names["engagement"] < 500 ||
		names["Signup"]+names["Download"]+names["Purchase"] < 80 {
		t.Errorf("kinds: %v", names)
	}
	if sites["a.example"] < sites["b.example"] || sites["b.example"] == 0 {
		t.Errorf("sites: %v", sites)
	}
	if len(pages) < 60 || pages["https://a.example/"] < 150 || len(sources) < 8 {
		t.Errorf("%d pages, %d views of the first one, sources %v", len(pages), pages["https://a.example/"],
			sources)
	}
	if len(s.visitors) != 300 {
		t.Errorf("%d visitors came of 300", len(s.visitors))
	}
	if lines := strings.Count(progress.String(), "\n"); lines < 19 || !strings.Contains(progress.String(),
		"p99 ") {
		t.Errorf("%d lines of progress: %s", lines, &progress)
	}
	again, _ := runLoad(t, Config{Sites: []string{"a.example", "b.example"}, Rate: 200, Visitors: 300,
		Duration: 20 * time.Second, Seed: 7}, accept)
	if len(again.beacons) != len(s.beacons) || again.beacons[0].URL != s.beacons[0].URL ||
		len(again.visitors) != len(s.visitors) {
		t.Error("the same seed gave another stream")
	}
}

// A server that stalls for a second delays all beacons that are due meanwhile, not one a connection.
func TestLatencyCountsFromDueTime(t *testing.T) {
	begin := sync.OnceValue(time.Now)
	cfg := Config{Sites: []string{"a.example"}, Rate: 2000, Visitors: 100, Duration: 2 * time.Second, Seed: 1}
	_, sum := runLoad(t, cfg, func(w http.ResponseWriter, n int) error {
		time.Sleep(time.Until(begin().Add(time.Second)))
		return accept(w, n)
	})
	if sum.Sent < 3900 || sum.Sent > 4100 || sum.Latency.Max < 950 || sum.Latency.P50 > 50 ||
		sum.Latency.Mean < 200 || sum.Latency.Mean > 300 {
		t.Errorf("%+v", sum)
	}
}

func TestUnsentBeaconsAreCounted(t *testing.T) {
	cfg := Config{Sites: []string{"a.example"}, Rate: 5000, Visitors: 100, Duration: 2 * time.Second, Seed: 1}
	_, sum := runLoad(t, cfg, func(w http.ResponseWriter, n int) error {
		time.Sleep(time.Second)
		return accept(w, n)
	})
	if sum.Sent+sum.Unsent < 9500 || sum.Sent+sum.Unsent > 10500 || sum.Unsent < 4000 ||
		!strings.Contains(sum.Advice(), "lower --rate") {
		t.Errorf("%+v: %s", sum, sum.Advice())
	}
}

func TestOutcomes(t *testing.T) {
	cfg := Config{Sites: []string{"a.example"}, Rate: 500, Visitors: 50, Duration: time.Second, Seed: 1}
	_, sum := runLoad(t, cfg, func(w http.ResponseWriter, n int) error {
		switch n % 5 {
		case 0:
			w.Header().Set("X-Plausible-Dropped", "1")
			w.WriteHeader(http.StatusAccepted)
		case 1:
			http.Error(w, "bad", http.StatusBadRequest)
		case 2:
			http.Error(w, "down", http.StatusServiceUnavailable)
		case 3:
			http.Error(w, "?", http.StatusTeapot)
		case 4:
			return errors.New("cut")
		}
		return nil
	})
	if sum.Counted != 0 || sum.Dropped == 0 || sum.Refused == 0 || sum.Unavailable == 0 || sum.Other == 0 ||
		sum.Failed == 0 {
		t.Errorf("%+v", sum)
	}
	if sum.Sent != sum.Dropped+sum.Refused+sum.Unavailable+sum.Other+sum.Failed ||
		!strings.Contains(sum.Advice(), "site add") {
		t.Errorf("%+v: %s", sum, sum.Advice())
	}
	var b bytes.Buffer
	if err := sum.Print(&b); err != nil || !strings.Contains(b.String(), "p99.9") {
		t.Errorf("%v %s", err, &b)
	}
}

// The connection is a real one, and the duration unlimited.
func TestRunReturnsSummaryWhenContextEnds(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter,
		_ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
	}))
	defer s.Close()
	l, err := New(Config{Server: s.URL, Sites: []string{"a.example"}, Rate: 200, Visitors: 50, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if sum, err := l.Run(ctx); err != nil || sum.Counted == 0 || sum.Failed != 0 {
		t.Errorf("%v %+v", err, sum)
	}
}

func TestRunFailsWithoutServer(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	l, err := New(Config{Server: s.URL, Sites: []string{"a.example"}, Rate: 1, Visitors: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "doesn't answer") {
		t.Error(err)
	}
}

func TestValidate(t *testing.T) {
	good := Config{Server: "http://127.0.0.1:1", Sites: []string{"a"}, Rate: 1, Visitors: 1}
	for _, row := range []struct {
		want   string
		change func(*Config)
	}{
		{"", func(*Config) {}},
		{"server", func(c *Config) { c.Server = "127.0.0.1:1" }},
		{"site", func(c *Config) { c.Sites = nil }},
		{"rate", func(c *Config) { c.Rate = 0 }},
		{"visitors", func(c *Config) { c.Visitors = 0 }},
		{"duration", func(c *Config) { c.Duration = -1 }},
	} {
		c := good
		row.change(&c)
		if err := c.Validate(); (err == nil) != (row.want == "") || err != nil &&
			!strings.Contains(err.Error(), row.want) {
			t.Errorf("%q: %v", row.want, err)
		}
	}
}

func TestVisitorsAreDistinctAndReproducible(t *testing.T) {
	agents := map[string]bool{}
	for n := range 5000 {
		v := newVisitor(3, n)
		if w := newVisitor(3, n); *v != *w {
			t.Fatalf("visitor %d differs: %v %v", n, v, w)
		}
		if agents[v.agent] {
			t.Fatalf("two have the agent %s", v.agent)
		}
		agents[v.agent] = true
		if !v.address.IsGlobalUnicast() || v.address.IsPrivate() {
			t.Fatalf("address %s", v.address)
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	for _, p := range places {
		for _, b := range p.blocks {
			if b != b.Masked() {
				t.Errorf("%s isn't a block", b)
			}
			for range 100 {
				if a := addressIn(b, r); !b.Contains(a) {
					t.Fatalf("%s isn't in %s", a, b)
				}
			}
		}
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	if h.quantile(.5) != 0 {
		t.Error("an empty one has a quantile")
	}
	for us := 1; us <= 100_000; us++ {
		h.add(time.Duration(us) * time.Microsecond)
	}
	for _, q := range []float64{.01, .5, .9, .99, .999, 1} {
		got, want := float64(h.quantile(q).Microseconds()), q*100_000
		if got < want*.999 || got > want*1.04 {
			t.Errorf("quantile %g: %g µs, want %g", q, got, want)
		}
	}
	for us := uint64(0); us < 1<<32; us = us*9/8 + 1 {
		if i := index(us); upper(i) < us || i > 0 && upper(i-1) >= us {
			t.Fatalf("%d µs is in bucket %d, which ends at %d", us, i, upper(i))
		}
	}
	h.add(100 * time.Hour)
	if h.quantile(1) != time.Duration(upper(len(h.buckets)-1))*time.Microsecond {
		t.Error(fmt.Sprint("past the last bucket: ", h.quantile(1)))
	}
}
