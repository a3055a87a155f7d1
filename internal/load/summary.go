package load

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// outcome is what became of a beacon.
type outcome int

const (
	counted     outcome = iota // 202
	dropped                    // 202, but not counted: an unknown site, a bot
	refused                    // 400
	unavailable                // 503
	other                      // any other status
	failed                     // no answer
	outcomes
)

// tally counts the outcomes of all beacons, and of those since the last line of progress.
type tally struct {
	mu       sync.Mutex
	all      numbers
	recent   numbers
	examples [outcomes]string // the first answer of each outcome but counted
}

type numbers struct {
	outcomes [outcomes]int64
	latency  histogram
}

func (t *tally) add(o outcome, example string, latency time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.examples[o] == "" {
		t.examples[o] = example
	}
	for _, n := range []*numbers{&t.all, &t.recent} {
		n.outcomes[o]++
		n.latency.add(latency)
	}
}

// line is a line of progress about the beacons since the last one.
func (t *tally) line(since time.Duration) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := &t.recent
	s := fmt.Sprintf("%5.0fs %7d/s  202 %d  dropped %d  400 %d  503 %d  other %d  error %d   p50 %s  p99 %s",
		since.Seconds(), n.latency.n, n.outcomes[counted], n.outcomes[dropped], n.outcomes[refused],
		n.outcomes[unavailable], n.outcomes[other], n.outcomes[failed],
		short(n.latency.quantile(.5)), short(n.latency.quantile(.99)))
	*n = numbers{}
	return s
}

func short(d time.Duration) string {
	if d < 100*time.Millisecond {
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// report writes a line of progress every second until ctx ends.
func (l *Load) report(ctx context.Context, start time.Time) {
	if l.cfg.Progress == nil {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			fmt.Fprintln(l.cfg.Progress, l.tally.line(time.Since(start)))
		}
	}
}

// Summary is the result of Run. Latencies are in milliseconds and count from when a beacon was due.
type Summary struct {
	Seconds     float64 `json:"seconds"`
	Sent        int64   `json:"sent"` // answered or failed
	Rate        float64 `json:"rate"` // sent a second
	Counted     int64   `json:"counted"`
	Dropped     int64   `json:"dropped"`
	Refused     int64   `json:"refused"`
	Unavailable int64   `json:"unavailable"`
	Other       int64   `json:"other"`
	Failed      int64   `json:"failed"`
	Unsent      int64   `json:"unsent"` // due but not sent, estimated from the rate
	Latency     struct {
		Mean float64 `json:"mean"`
		P50  float64 `json:"p50"`
		P90  float64 `json:"p90"`
		P99  float64 `json:"p99"`
		P999 float64 `json:"p999"`
		Max  float64 `json:"max"`
	} `json:"latency_ms"`
	Examples []string `json:"examples,omitempty"` // the first answer of each outcome but counted
}

func (t *tally) summary(took time.Duration) *Summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := &t.all
	s := &Summary{
		Seconds: took.Seconds(), Sent: n.latency.n, Rate: float64(n.latency.n) / max(took.Seconds(), 1e-9),
		Counted: n.outcomes[counted], Dropped: n.outcomes[dropped], Refused: n.outcomes[refused],
		Unavailable: n.outcomes[unavailable], Other: n.outcomes[other], Failed: n.outcomes[failed],
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
	if n.latency.n > 0 {
		s.Latency.Mean = ms(n.latency.sum / time.Duration(n.latency.n))
	}
	h, l := &n.latency, &s.Latency
	l.P50, l.P90, l.P99 = ms(h.quantile(.5)), ms(h.quantile(.9)), ms(h.quantile(.99))
	l.P999, l.Max = ms(h.quantile(.999)), ms(h.max)
	for _, example := range t.examples {
		if example != "" {
			s.Examples = append(s.Examples, example)
		}
	}
	return s
}

// Print writes the summary for people.
func (s *Summary) Print(w io.Writer) error {
	_, err := fmt.Fprintf(w, `%d beacons in %.1f s, %.0f a second
  202 counted   %d
  202 dropped   %d
  400 refused   %d
  503           %d
  other answers %d
  no answer     %d
  never sent    %d
latency from when it was due: mean %.2f ms, p50 %.2f, p90 %.2f, p99 %.2f, p99.9 %.2f, max %.2f
`, s.Sent, s.Seconds, s.Rate, s.Counted, s.Dropped, s.Refused, s.Unavailable, s.Other, s.Failed, s.Unsent,
		s.Latency.Mean, s.Latency.P50, s.Latency.P90, s.Latency.P99, s.Latency.P999, s.Latency.Max)
	if advice := s.Advice(); err == nil && advice != "" {
		_, err = fmt.Fprintln(w, advice)
	}
	return err
}

// Advice says why beacons weren't counted and what to do; "" when all were.
func (s *Summary) Advice() string {
	switch {
	case s.Dropped > 0:
		return "the server drops beacons of sites that it doesn't know: add them with `nowcast site add`, " +
			"or give others with --site"
	case len(s.Examples) > 0:
		return "one of the other answers: " + s.Examples[0]
	case s.Unsent > 0:
		return "the server, or this machine, is too slow for the rate: give a lower --rate"
	}
	return ""
}
