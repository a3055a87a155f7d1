package site

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"nowcast/internal/broker"
	"nowcast/internal/topic"
)

// writer returns a function that writes records as a registry of today does.
func (w *world) writer(t testing.TB) (produce func(key string, v any), done func()) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(w.addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	produce = func(key string, v any) {
		b, err := encode(header{Revision: 1, Write: newWrite()}, v)
		if err != nil {
			t.Fatal(err)
		}
		c.Produce(context.Background(), &kgo.Record{Topic: topic.Sites, Key: []byte(key), Value: b},
			func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
	}
	return produce, func() {
		if err := c.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

var fillCreated = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// fill writes n sites with rules, and n keys.
func (w *world) fill(t testing.TB, n int) {
	t.Helper()
	produce, done := w.writer(t)
	defer done()
	created := fillCreated
	for i := range n {
		domain := fmt.Sprintf("site-%d.example.com", i)
		produce("site/"+domain, Site{
			Domain: domain, Timezone: "Europe/Berlin", Created: created.Add(time.Duration(i) * time.Second),
			Rules: Rules{Hostnames: []string{domain, "*." + domain}, BlockedPaths: []string{"/admin/**"}},
		})
		id := fmt.Sprintf("%012x", i)
		k := Key{ID: id, Name: "key", Hash: hash(id), Sites: []string{domain}, Created: created}
		produce("key/"+id, k)
	}
}

// fillGoals writes each goals of each of the n sites of fill.
func (w *world) fillGoals(t testing.TB, n, each int) {
	t.Helper()
	produce, done := w.writer(t)
	defer done()
	for i := range n {
		created := fillCreated.Add(time.Duration(i) * time.Second)
		c := conversions{Site: fmt.Sprintf("site-%d.example.com", i), Generation: created.UnixMilli()}
		for j := range each {
			name := fmt.Sprint("Goal ", j)
			g, err := json.Marshal(Goal{ID: fmt.Sprintf("%012x", j), Name: name, Revision: 1,
				Created: created, Condition: Condition{Event: Pattern(name), Properties: []PropertyCondition{
					{"plan", PropertyIs, []string{"pro", "team"}}}}})
			if err != nil {
				t.Fatal(err)
			}
			c.Goals = append(c.Goals, g)
		}
		produce("goals/"+conversionsID(c.Site, c.Generation), c)
	}
}

// start starts a registry, waits until it is ready, and returns the CPU time of this process meanwhile: that
// of the registry and of the broker in it.
func (w *world) start(t testing.TB) (r *Registry, cpu time.Duration, stop func()) {
	t.Helper()
	before := cpuTime(t)
	c := broker.New(broker.Config{Addrs: w.addrs})
	r = NewRegistry(c, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	if err := r.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	return r, cpuTime(t) - before, func() { cancel(); <-done; c.Close() }
}

func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Ten thousand sites and as many keys are read within a second of CPU time.
func TestStartWithManySites(t *testing.T) {
	const n = 10_000
	w := newWorld(t)
	w.fill(t, n)
	r, cpu, stop := w.start(t)
	defer stop()
	if s := r.Sites(); len(s) != n || s[0].Domain != "site-0.example.com" || len(r.Keys()) != n {
		t.Errorf("%d sites, %d keys", len(r.Sites()), len(r.Keys()))
	}
	k, ok := r.keys.byHash.get(hash("000000000007"))
	if !ok || !slices.Equal(k.Sites, []string{"site-7.example.com"}) {
		t.Errorf("%t %+v", ok, k)
	}
	limit := time.Second
	if raceDetector {
		limit *= 10
	}
	if t.Logf("%d sites and keys: %s of CPU", n, cpu); cpu > limit {
		t.Errorf("that took %s of CPU", cpu)
	}
}

// Five thousand links are listed and one more is made without looking at all of them.
func TestManyLinks(t *testing.T) {
	const sites = 50
	w := newWorld(t)
	r := w.ready(w.registry())
	for i := range sites {
		domain := fmt.Sprintf("site-%d.example.com", i)
		if err := r.Put(t.Context(), Site{Domain: domain}); err != nil {
			t.Fatal(err)
		}
		for j := range maxLinks {
			if _, _, err := r.NewLink(t.Context(), domain, fmt.Sprint("link ", j)); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(r.Links(domain)); n != maxLinks {
			t.Fatalf("%s has %d links", domain, n)
		}
	}
	again, cpu, stop := w.start(t)
	defer stop()
	if n := len(again.Links("site-7.example.com")); n != maxLinks {
		t.Errorf("after a start: %d links", n)
	}
	t.Logf("start with %d links: %s of CPU", sites*maxLinks, cpu)
}

// BenchmarkStart measures a start with as many sites as keys: `make bench-registry`.
func BenchmarkStart(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("sites=%d", n), func(b *testing.B) {
			w := newWorld(b)
			w.fill(b, n)
			var cpu time.Duration
			for b.Loop() {
				_, took, stop := w.start(b)
				cpu += took
				b.StopTimer()
				stop()
				b.StartTimer()
			}
			b.ReportMetric(cpu.Seconds()/float64(b.N), "cpu-s/op")
			b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N)/float64(2*n), "cpu-ns/record")
		})
	}
}

// BenchmarkChange measures a change of one site among many, until it is visible.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprintf("sites=%d", n), func(b *testing.B) {
			w := newWorld(b)
			w.fill(b, n)
			r, _, stop := w.start(b)
			defer stop()
			for i := 0; b.Loop(); i++ {
				change := func(s *Site) error { s.RetentionDays = 1 + i%1000; return nil }
				if _, err := r.Change(b.Context(), "site-7.example.com", change); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
