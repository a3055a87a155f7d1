package ingest

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"nowcast/internal/broker"

	"nowcast/ingest/spool"
	"nowcast/internal/event"
)

// memory is a log whose acknowledgements take as long as the test says.
type memory struct {
	mu      sync.Mutex
	takes   time.Duration
	refuses error
	tries   int
	values  map[int][]stored
}

type stored struct {
	at      time.Time // the record's timestamp
	arrived time.Time
	value   []byte
}

func (m *memory) set(takes time.Duration, refuses error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.takes, m.refuses = takes, refuses
}

func (m *memory) Produce(ctx context.Context, _ string, partition int, at time.Time, values ...[]byte) (int64, error) {
	m.mu.Lock()
	takes, refuses := m.takes, m.refuses
	m.tries++
	m.mu.Unlock()
	wait(ctx, takes)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if refuses != nil {
		return 0, refuses
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range values {
		m.values[partition] = append(m.values[partition], stored{at, time.Now(), slices.Clone(v)})
	}
	return 0, nil
}

func (m *memory) Refresh() {}

// records decodes a partition and checks what holds for every log: the sequence has no hole, time doesn't run backwards, and no
// event is later than its record or at or below a low watermark that was promised.
func (m *memory) records(t *testing.T, partition int) (all []record) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	nodes := map[uint64]record{} // the newest of each
	for _, s := range m.values[partition] {
		r := decoded(t, partition, s.at.UnixMilli(), s.value)
		last := nodes[r.Node]
		if r.Sequence <= last.Sequence {
			continue // a retry, which readers drop
		}
		if r.Sequence != last.Sequence+1 || r.at < last.at || r.Low < last.Low || last.CloseMarker {
			t.Errorf("%+v follows %+v", r.Header, last.Header)
		}
		for _, e := range r.events {
			if e.Time > r.at || e.Time <= r.Low || r.at-e.Time > 250 {
				t.Errorf("event of %d in %+v of %d", e.Time, r.Header, r.at)
			}
		}
		nodes[r.Node] = r
		all = append(all, r)
	}
	return all
}

func (m *memory) events(t *testing.T, partition int) (n int) {
	for _, r := range m.records(t, partition) {
		n += len(r.events)
	}
	return n
}

// publish runs a publisher on a memory in a bubble of its own time.
func publish(t *testing.T, lanes int, f func(m *memory, p *publisher, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{values: map[int][]stored{}}
		p, stop := m.publisher(t, nil, lanes)
		f(m, p, stop)
		stop()
	})
}

// publisher starts one, which may be stopped more than once.
func (m *memory) publisher(t *testing.T, disk *spool.Spool, lanes int) (p *publisher, stop func()) {
	t.Helper()
	meter, err := newMeter(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	p = newPublisher(m, disk, slog.New(slog.DiscardHandler), meter, func(d *draft, at int64) error { d.Time = at; return nil })
	p.open(lanes)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { p.run(ctx); close(done) }()
	return p, func() { cancel(); <-done }
}

func (p *publisher) must(t *testing.T, partition int) *envelope {
	t.Helper()
	e, err := p.add(partition, &draft{Event: event.Event{Kind: event.Pageview, Name: "pageview", Site: "example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func acked(e *envelope) bool {
	select {
	case <-e.done:
		return e.err == nil
	default:
		return false
	}
}

func TestTicks(t *testing.T) {
	publish(t, 3, func(m *memory, p *publisher, stop func()) {
		time.Sleep(9900 * time.Millisecond)
		stop()
		for i := range 3 {
			all := m.records(t, i)
			if len(all) != 40+1 || !all[40].CloseMarker {
				t.Fatalf("partition %d: %d records in 10 idle seconds, want 40 and the farewell", i, len(all))
			}
			for _, r := range all {
				if r.Low != r.at-1 || len(r.events) > 0 {
					t.Errorf("tick %+v at %d", r.Header, r.at)
				}
			}
		}
	})
}

func TestIdleSendsAtOnce(t *testing.T) {
	publish(t, 1, func(m *memory, p *publisher, _ func()) {
		time.Sleep(1111 * time.Millisecond)
		now := time.Now()
		e := p.must(t, 0)
		<-e.done
		if e.err != nil || !time.Now().Equal(now) {
			t.Errorf("acknowledged after %s: %v", time.Since(now), e.err)
		}
	})
}

func TestGroupCommit(t *testing.T) {
	publish(t, 1, func(m *memory, p *publisher, stop func()) {
		m.set(40*time.Millisecond, nil)
		for range 1000 { // an event a millisecond
			p.must(t, 0)
			time.Sleep(time.Millisecond)
		}
		stop()
		all := m.records(t, 0)
		if n := m.events(t, 0); n != 1000 || len(all) < 24 || len(all) > 30 {
			t.Errorf("%d events in %d envelopes, want 1000 in about 27", n, len(all))
		}
	})
}

// TestGathering: where events come together, an envelope waits a moment for more of them; one that comes alone never does.
func TestGathering(t *testing.T) {
	publish(t, 1, func(m *memory, p *publisher, _ func()) {
		time.Sleep(time.Second)
		for range 1000 { // two at a time, every half a millisecond
			p.must(t, 0)
			p.must(t, 0)
			time.Sleep(time.Millisecond / 2)
		}
		time.Sleep(time.Second)
		full := 0
		for _, r := range m.records(t, 0) {
			if len(r.events) > 0 {
				full++
			}
		}
		if n := m.events(t, 0); n != 2000 || full > 180 || full < 120 {
			t.Errorf("%d events in %d envelopes, want 2000 in about 150", n, full)
		}
		for range 100 {
			now := time.Now()
			if e := p.must(t, 0); true {
				<-e.done
			}
			if took := time.Since(now); took > 0 {
				t.Fatalf("an event that came alone took %s", took)
			}
			time.Sleep(time.Millisecond)
		}
	})
}

// TestClosing: a record's timestamp is at most 250 ms after its first event, whatever the log does.
func TestClosing(t *testing.T) {
	publish(t, 1, func(m *memory, p *publisher, _ func()) {
		m.set(7*time.Second, nil)
		var all []*envelope
		for range 500 {
			all = append(all, p.must(t, 0))
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

// TestOutage: while the log refuses, the queue grows to its bound and no further, then all of it goes out in order.
func TestOutage(t *testing.T) {
	publish(t, 1, func(m *memory, p *publisher, _ func()) {
		m.set(0, broker.ErrNotEnoughReplicas)
		taken, refused := 0, 0
		for range 6000 { // a minute
			_, err := p.add(0, &draft{Event: event.Event{Kind: event.Pageview, Site: "example.com"}})
			switch {
			case err == nil:
				taken++
			case errors.Is(err, errFull):
				refused++
			default:
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if l := p.lanes[0]; refused == 0 || len(l.queue) > maxQueue+1 {
			t.Errorf("%d refused, %d envelopes wait", refused, len(l.queue))
		}
		if ok, why := p.ready(); ok {
			t.Error("ready", why)
		}
		m.set(0, nil)
		time.Sleep(time.Second)
		if n := m.events(t, 0); n != taken {
			t.Errorf("%d events in the log, %d were taken", n, taken)
		}
		if ok, why := p.ready(); !ok {
			t.Error(why)
		}
		if m.tries > 1000 {
			t.Errorf("%d tries in a minute", m.tries)
		}
	})
}

func TestFull(t *testing.T) {
	publish(t, 1, func(m *memory, p *publisher, stop func()) {
		m.set(100*time.Millisecond, nil)
		for range 1200 {
			p.must(t, 0)
		}
		big := make([]byte, 70_000)
		for range 20 {
			if _, err := p.add(0, &draft{Event: event.Event{Kind: event.Custom, Name: string(big)}}); err != nil {
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
			if len(r.events) > fullEvents {
				t.Errorf("%d events in an envelope", len(r.events))
			}
		}
		if n := m.events(t, 0); n != 1220 {
			t.Errorf("%d events", n)
		}
	})
}

// TestRefusedForGood: a record that the log will never take doesn't stand in the way of the next one.
func TestRefusedForGood(t *testing.T) {
	publish(t, 1, func(m *memory, p *publisher, _ func()) {
		m.set(0, broker.ErrTooLarge)
		e := p.must(t, 0)
		<-e.done
		if !errors.Is(e.err, broker.ErrTooLarge) {
			t.Error(e.err)
		}
		m.set(0, nil)
		if e = p.must(t, 0); true {
			<-e.done
		}
		if e.err != nil {
			t.Error(e.err)
		}
	})
}

// TestDrain: a stop waits for the log, but not for ever, and refuses meanwhile.
func TestDrain(t *testing.T) {
	publish(t, 1, func(m *memory, p *publisher, stop func()) {
		m.set(time.Second, nil)
		time.Sleep(1500 * time.Millisecond)
		e := p.must(t, 0)
		from := time.Now()
		stop()
		if !acked(e) || time.Since(from) > drainWithin {
			t.Errorf("after %s: acknowledged %v", time.Since(from), acked(e))
		}
	})
	publish(t, 1, func(m *memory, p *publisher, stop func()) {
		m.set(time.Hour, nil)
		e := p.must(t, 0)
		from := time.Now()
		go func() {
			time.Sleep(time.Millisecond)
			if _, err := p.add(0, &draft{}); !errors.Is(err, errStopping) {
				t.Errorf("taken while stopping: %v", err)
			}
		}()
		stop()
		if <-e.done; !errors.Is(e.err, errLost) || time.Since(from) != drainWithin {
			t.Errorf("after %s: %v", time.Since(from), e.err)
		}
	})
}
