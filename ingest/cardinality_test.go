package ingest

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/internal/event"
)

func newTestLimiter() *cardinalityLimiter {
	others := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "others"}, []string{"dimension"})
	return newCardinalityLimiter(slog.New(slog.DiscardHandler), others)
}

// others returns how many of n paths of a site, from number first on, become (other).
func (l *cardinalityLimiter) others(site string, first, n int, at time.Duration) (others int) {
	for i := range n {
		e := event.Event{Site: site, Path: fmt.Sprintf("/%d", first+i)}
		if l.limit(&e, l.startedAt.Add(at)); e.Path == otherValue {
			others++
		}
	}
	return others
}

// TestCardinalityLimit sends new and known values of one dimension through the minutes.
func TestCardinalityLimit(t *testing.T) {
	const s, m = time.Second, time.Minute
	l := newTestLimiter()
	for _, c := range []struct {
		what     string
		site     string
		first, n int
		at       time.Duration
		want     int
	}{
		{"within the limit", "a.example", 0, 5000, 0, 0},
		{"beyond it", "a.example", 5000, 100_000, 0, 100_000},
		{"what was seen goes on", "a.example", 0, 5000, s, 0},
		{"another site", "b.example", 0, 5000, s, 0},
		{"what came back in half a minute", "a.example", 200_000, 5000, 30 * s, 2500},
		{"what was seen in the minute before", "a.example", 0, 5000, m + s, 0},
		{"and is seen now", "a.example", 0, 5000, 2*m + s, 0},
		{"what wasn't in two minutes is new", "a.example", 0, 5000, 4*m + s, 0},
		{"so that others are too many", "a.example", 300_000, 100, 4*m + s, 100},
		{"what was new in the first minute", "b.example", 0, 5000, 300 * m, 0},
	} {
		if got := l.others(c.site, c.first, c.n, c.at); got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
	}
}

// TestCardinalityLimitOfManySites lets many sites make values up: each stays limited, and a site that
// doesn't keeps its values.
func TestCardinalityLimitOfManySites(t *testing.T) {
	l := newTestLimiter()
	at := time.Second
	if l.others("own.example", 0, 300, at) != 0 {
		t.Fatal("the first values are too many")
	}
	harmed := 0
	for i := range 120 {
		site := fmt.Sprintf("%d.example", i)
		if got := l.others(site, 0, 5200, at); got != 200 {
			t.Errorf("%s: %d of 5,200, want 200", site, got)
		}
		harmed += l.others("own.example", 0, 300, at)
	}
	for i := range 10_000 {
		l.others(fmt.Sprintf("%d.small.example", i), 0, 3, at)
	}
	harmed += l.others("own.example", 0, 300, at)
	if harmed != 0 {
		t.Errorf("%d values of a site that behaves count as (other)", harmed)
	}
	if got := l.others("7.example", 10_000, 1000, at); got != 1000 {
		t.Errorf("among many sites, one has %d of 1,000 new values refused, want all", got)
	}
}

// TestCardinalityLimitInParallel sends new values from several goroutines: no more pass than from one.
func TestCardinalityLimitInParallel(t *testing.T) {
	l := newTestLimiter()
	var others atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { others.Add(int64(l.others("a.example", i*1000, 1000, 0))) })
	}
	wg.Wait()
	if n := others.Load(); n != 3000 {
		t.Errorf("%d of 8,000 count as (other), want 3,000", n)
	}
}

// TestCardinality makes values of each dimension up and looks at the events in the log.
func TestCardinality(t *testing.T) {
	w := start(t, Config{})
	limits := &w.intake.cardinality.limits
	for d := range limits {
		limits[d] = newGCRA(Limit{Rate: 1e-6, Burst: 2})
	}
	agent := func(i int) string { return strings.ReplaceAll(chrome, "126.0", fmt.Sprintf("%d.0", 100+i)) }
	send := func(i int, domain string) {
		t.Helper()
		body := fmt.Sprintf(`{"n":"made up %[1]d","d":"%[2]s",`+
			`"u":"https://h%[1]d.example/p%[1]d?utm_source=s%[1]d&utm_medium=m%[1]d&utm_campaign=c%[1]d&`+
			`utm_content=o%[1]d&utm_term=t%[1]d","r":"https://r%[1]d.example/x","p":{"plan":"pro",`+
			`"k%[1]d":"v"}}`, i, domain)
		if a := w.post(t, body, "User-Agent", agent(i), "Accept-Language",
			fmt.Sprintf("l%d", i)); a.status != 202 || a.header.Get("x-plausible-dropped") != "" {
			t.Fatalf("%+v", a)
		}
	}
	for i := range 4 {
		send(i, "example.com")
	}
	send(9, "example.com,other.example")
	send(0, "example.com")
	if a := w.post(t, `{"n":"pageview","d":"example.com","u":"https://h0.example/p0"}`); a.status != 202 {
		t.Errorf("%+v", a)
	}
	flat := func(e event.Event) string {
		s := strings.Join([]string{e.Name, e.Hostname, e.Path, e.Referrer, e.Source, e.UTMSource,
			e.UTMMedium, e.UTMCampaign, e.UTMContent, e.UTMTerm, e.BrowserVersion, e.Language}, " ")
		_ = event.EachProp(e.Props, func(k, v string) bool { s += " " + k + ":" + v; return true })
		return s
	}
	whole := func(i int, props string) string {
		return fmt.Sprintf("made up %[1]d h%[1]d.example /p%[1]d r%[1]d.example/x s%[1]d s%[1]d m%[1]d "+
			"c%[1]d o%[1]d t%[1]d %[2]d.0 l%[1]d plan:pro", i, 100+i) + props
	}
	rest := strings.Repeat(otherValue+" ", 12) + "plan:pro"
	got := map[string]int{}
	for _, e := range w.events(t) {
		if e.Site == "other.example" {
			if s := flat(e); s != whole(9, " k9:v") {
				t.Errorf("of another site, by the same beacon: %s", s)
			}
			continue
		}
		got[flat(e)]++
	}
	// k1 was the third key of a property
	for s, n := range map[string]int{whole(0, " k0:v"): 2, whole(1, ""): 1, rest: 3} {
		if got[s] != n {
			t.Errorf("%d times, want %d: %s", got[s], n, s)
		}
	}
	if len(got) != 4 { // and the page view, with a language and a version of its own
		t.Errorf("%v", got)
	}
}

func BenchmarkCardinalityLimit(b *testing.B) {
	l := newTestLimiter()
	now := l.startedAt
	full := event.Event{
		Kind: event.Custom, Site: "example.com", Hostname: "example.com", Path: "/pricing",
		Referrer: "news.ycombinator.com/item", Source: "Hacker News", Name: "Signup",
		UTMSource: "news", UTMMedium: "email", UTMCampaign: "launch day", Browser: "Chrome",
		BrowserVersion: "126.0", OSVersion: "10", Language: "de-CH",
		Props: event.AppendProp(event.AppendProp(nil, "plan", "pro"), "seats", "5"),
	}
	view := event.Event{Kind: event.Pageview, Site: "example.com", Hostname: "example.com",
		Path: "/pricing", Browser: "Chrome", BrowserVersion: "126.0", OSVersion: "10", Language: "de-CH"}
	for _, c := range []struct {
		name string
		e    event.Event
	}{{"pageview", view}, {"campaign", full}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				e := c.e
				l.limit(&e, now)
			}
		})
	}
	b.Run("made up", func(b *testing.B) {
		b.ReportAllocs()
		paths := make([]string, 1<<16)
		for i := range paths {
			paths[i] = fmt.Sprintf("/%d", i)
		}
		for i := 0; b.Loop(); i++ {
			e := view
			e.Path = paths[i%len(paths)]
			l.limit(&e, now)
		}
	})
}
