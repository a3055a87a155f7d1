package publisher

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/ingest/publisher/logtest"
	"nowcast/ingest/publisher/spool"
	"nowcast/internal/broker"
	"nowcast/internal/event"
	"nowcast/internal/retry"
)

// memory is a log in memory. Each attempt takes a time and has an error that the test sets.
type memory struct {
	mu        sync.Mutex
	takes     time.Duration
	refuses   error
	tries     int
	values    map[int][]stored
	unwatched atomic.Bool
}

type stored struct {
	at    time.Time // the record's timestamp
	value []byte
}

func (m *memory) set(takes time.Duration, refuses error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.takes, m.refuses = takes, refuses
}

func (m *memory) Produce(ctx context.Context, _ string, partition int, at time.Time,
	values ...[]byte) (int64, error) {
	m.mu.Lock()
	takes, refuses := m.takes, m.refuses
	m.tries++
	m.mu.Unlock()
	_ = retry.Sleep(ctx, takes)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if refuses != nil {
		return 0, refuses
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range values {
		m.values[partition] = append(m.values[partition], stored{at, slices.Clone(v)})
	}
	return 0, nil
}

func (m *memory) Refresh() {}

// Bounds says that there is nothing to compare the clock with.
func (m *memory) Bounds(context.Context, string, int) (first, end int64, err error) { return 0, 0, nil }

func (m *memory) Follow(ctx context.Context, _ broker.Follower) error { <-ctx.Done(); return ctx.Err() }

// records decodes a partition and checks the promises of the package: the sequence has no gap, timestamps
// don't run backwards, and no event is later than its record, or at or before the low watermark.
func (m *memory) records(t *testing.T, partition int) (all []logtest.Record) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	nodes := map[uint64]logtest.Record{} // the newest record of each node
	for _, s := range m.values[partition] {
		r := logtest.Decode(t, partition, s.at.UnixMilli(), s.value)
		last := nodes[r.Node]
		if r.Sequence <= last.Sequence {
			continue // a duplicate, which readers drop
		}
		if r.Sequence != last.Sequence+1 || r.At < last.At || r.Low < last.Low || last.CloseMarker {
			t.Errorf("%+v follows %+v", r.Header, last.Header)
		}
		for _, e := range r.Events {
			if e.Time > r.At || e.Time <= r.Low || r.At-e.Time > 250 {
				t.Errorf("event of %d in %+v of %d", e.Time, r.Header, r.At)
			}
		}
		nodes[r.Node] = r
		all = append(all, r)
	}
	return all
}

func (m *memory) events(t *testing.T, partition int) (n int) {
	for _, r := range m.records(t, partition) {
		n += len(r.Events)
	}
	return n
}

// publish runs f with a publisher on a log in memory, in a synctest bubble.
func publish(t *testing.T, partitions int, f func(m *memory, p *Publisher, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{values: map[int][]stored{}}
		p, stop := m.publisher(t, nil, partitions)
		f(m, p, stop)
		stop()
	})
}

// publisher starts a publisher. stop may be called more than once.
func (m *memory) publisher(t *testing.T, disk *spool.Spool, partitions int) (p *Publisher, stop func()) {
	t.Helper()
	stamp := func(e *event.Event, _ any, at int64) error { e.Time = at; return nil }
	p, err := New(stamp, Deps{
		Broker: m, Spool: disk, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
		Watched: func() bool { return !m.unwatched.Load() },
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Open(partitions)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { p.Run(ctx); close(done) }()
	return p, func() { cancel(); <-done }
}

func (p *Publisher) mustAdd(t *testing.T, partition int) *Envelope {
	t.Helper()
	e, err := p.Add(partition, &event.Event{Kind: event.Pageview, Name: "pageview", Site: "example.com"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func acked(e *Envelope) bool {
	select {
	case <-e.done:
		return e.err == nil
	default:
		return false
	}
}

// TestTicks sends a record every 250 ms while there are no events.
func TestTicks(t *testing.T) {
	publish(t, 3, func(m *memory, p *Publisher, stop func()) {
		time.Sleep(9900 * time.Millisecond)
		stop()
		for i := range 3 {
			all := m.records(t, i)
			if len(all) != 40+1 || !all[40].CloseMarker {
				t.Fatalf("partition %d: %d records in 10 idle seconds, want 40 and the close marker", i,
					len(all))
			}
			for _, r := range all {
				if r.Low != r.At-1 || len(r.Events) > 0 {
					t.Errorf("tick %+v at %d", r.Header, r.At)
				}
			}
		}
	})
}

// TestIdleSendsAtOnce adds an event to an idle partition.
func TestIdleSendsAtOnce(t *testing.T) {
	publish(t, 1, func(m *memory, p *Publisher, _ func()) {
		time.Sleep(1111 * time.Millisecond)
		now := time.Now()
		e := p.mustAdd(t, 0)
		<-e.done
		if e.err != nil || !time.Now().Equal(now) {
			t.Errorf("acknowledged after %s: %v", time.Since(now), e.err)
		}
	})
}

// TestGroupCommit uses a slow log: the events that come during an attempt are in one envelope.
func TestGroupCommit(t *testing.T) {
	publish(t, 1, func(m *memory, p *Publisher, stop func()) {
		m.set(40*time.Millisecond, nil)
		for range 1000 { // an event a millisecond
			p.mustAdd(t, 0)
			time.Sleep(time.Millisecond)
		}
		stop()
		all := m.records(t, 0)
		if n := m.events(t, 0); n != 1000 || len(all) < 24 || len(all) > 30 {
			t.Errorf("%d events in %d envelopes, want 1000 in about 27", n, len(all))
		}
	})
}

// TestGathering sends events in pairs, which are gathered, and then single ones, which are sent at once.
func TestGathering(t *testing.T) {
	publish(t, 1, func(m *memory, p *Publisher, _ func()) {
		time.Sleep(time.Second)
		for range 1000 { // two at a time, every half a millisecond
			p.mustAdd(t, 0)
			p.mustAdd(t, 0)
			time.Sleep(time.Millisecond / 2)
		}
		time.Sleep(time.Second)
		full := 0
		for _, r := range m.records(t, 0) {
			if len(r.Events) > 0 {
				full++
			}
		}
		if n := m.events(t, 0); n != 2000 || full > 180 || full < 120 {
			t.Errorf("%d events in %d envelopes, want 2000 in about 150", n, full)
		}
		for range 100 {
			now := time.Now()
			if e := p.mustAdd(t, 0); true {
				<-e.done
			}
			if took := time.Since(now); took > 0 {
				t.Fatalf("a single event took %s", took)
			}
			time.Sleep(time.Millisecond)
		}
	})
}

// TestClosing uses a slow log: the timestamp of a record stays at most 250 ms after its first event.
func TestClosing(t *testing.T) {
	publish(t, 1, func(m *memory, p *Publisher, _ func()) {
		m.set(7*time.Second, nil)
		var all []*Envelope
		for range 500 {
			all = append(all, p.mustAdd(t, 0))
			time.Sleep(10 * time.Millisecond)
		}
		if acked(all[1]) {
			t.Error("acknowledged too early")
		}
		m.set(0, nil)
		time.Sleep(8 * time.Second)
		synctest.Wait()
		for i, e := range all {
			if !acked(e) {
				t.Fatalf("event %d isn't acknowledged", i)
			}
		}
		if n := m.events(t, 0); n != 500 {
			t.Errorf("%d events", n)
		}
	})
}

// TestOutage lets the log refuse for a minute: the queue grows to its bound, then all of it is sent in
// order.
func TestOutage(t *testing.T) {
	publish(t, 1, func(m *memory, p *Publisher, _ func()) {
		m.set(0, broker.ErrNotEnoughReplicas)
		taken, refused := 0, 0
		for range 6000 { // for a minute
			_, err := p.Add(0, &event.Event{Kind: event.Pageview, Site: "example.com"}, nil)
			switch {
			case err == nil:
				taken++
			case errors.Is(err, errQueueFull):
				refused++
			default:
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if w := p.writers[0]; refused == 0 || len(w.queue) > maxQueue+1 {
			t.Errorf("%d refused, %d envelopes wait", refused, len(w.queue))
		}
		if ok, reason := p.Ready(); ok {
			t.Error("ready", reason)
		}
		m.set(0, nil)
		time.Sleep(time.Second)
		if n := m.events(t, 0); n != taken {
			t.Errorf("%d events in the log, %d were taken", n, taken)
		}
		if ok, reason := p.Ready(); !ok {
			t.Error(reason)
		}
		if m.tries > 1000 {
			t.Errorf("%d tries in a minute", m.tries)
		}
	})
}

// TestFull fills envelopes by number and by size.
func TestFull(t *testing.T) {
	publish(t, 1, func(m *memory, p *Publisher, stop func()) {
		m.set(100*time.Millisecond, nil)
		for range 1200 {
			p.mustAdd(t, 0)
		}
		big := make([]byte, 70_000)
		for range 20 {
			if _, err := p.Add(0, &event.Event{Kind: event.Custom, Name: string(big)}, nil); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		for _, s := range m.values[0] {
			if len(s.value) > 900_000 {
				t.Errorf("a record of %d bytes", len(s.value))
			}
		}
		for _, r := range m.records(t, 0) {
			if len(r.Events) > maxEvents {
				t.Errorf("%d events in an envelope", len(r.Events))
			}
		}
		if n := m.events(t, 0); n != 1220 {
			t.Errorf("%d events", n)
		}
	})
}

// TestRefusedForGood lets the log refuse a record for its size: the next record is sent.
func TestRefusedForGood(t *testing.T) {
	publish(t, 1, func(m *memory, p *Publisher, _ func()) {
		m.set(0, broker.ErrTooLarge)
		e := p.mustAdd(t, 0)
		<-e.done
		if !errors.Is(e.err, broker.ErrTooLarge) {
			t.Error(e.err)
		}
		m.set(0, nil)
		if e = p.mustAdd(t, 0); true {
			<-e.done
		}
		if e.err != nil {
			t.Error(e.err)
		}
	})
}

// TestDrain stops with a slow log: Run waits for it for at most stopTimeout and refuses events
// meanwhile.
func TestDrain(t *testing.T) {
	publish(t, 1, func(m *memory, p *Publisher, stop func()) {
		m.set(time.Second, nil)
		time.Sleep(1500 * time.Millisecond)
		e := p.mustAdd(t, 0)
		from := time.Now()
		stop()
		if !acked(e) || time.Since(from) > stopTimeout {
			t.Errorf("after %s: acknowledged %v", time.Since(from), acked(e))
		}
	})
	publish(t, 1, func(m *memory, p *Publisher, stop func()) {
		m.set(time.Hour, nil)
		e := p.mustAdd(t, 0)
		from := time.Now()
		go func() {
			time.Sleep(time.Millisecond)
			if _, err := p.Add(0, &event.Event{}, nil); !errors.Is(err, errStopping) {
				t.Errorf("taken while stopping: %v", err)
			}
		}()
		stop()
		if <-e.done; !errors.Is(e.err, errNotAcknowledged) || time.Since(from) != stopTimeout {
			t.Errorf("after %s: %v", time.Since(from), e.err)
		}
	})
}
