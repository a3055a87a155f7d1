package aggregator

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"nowcast/aggregator/group"
	"nowcast/internal/topic"
)

// blank is a rowBuffer that only counts rows.
type blank struct {
	n    int
	send func(ctx context.Context, rows int, token string) error
}

func (k *blank) rows() int { return k.n }

func (k *blank) reset() { k.n = 0 }

func (k *blank) insert(ctx context.Context, _ inserter, token string) error {
	return k.send(ctx, k.n, token)
}

// TestBatcherEnds checks that rows that arrive during an insert are inserted as well when run ends
// meanwhile: no one would read them again.
func TestBatcherEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stored := 0
		b := newBatcher(&laneDeps{name: "store", log: slog.New(slog.DiscardHandler),
			metrics: newMetrics(prometheus.NewRegistry())}, "events", nil, func() *blank {
			return &blank{send: func(_ context.Context, rows int, _ string) error {
				time.Sleep(10 * time.Second)
				stored += rows
				return nil
			}}
		})
		add := func(offset int64) {
			if err := b.add(t.Context(), group.Position{Topic: topic.Events, Offset: offset}, []byte{1},
				func(k *blank) { k.n++ }); err != nil {
				t.Error(err)
			}
		}
		running, end := context.WithCancel(t.Context())
		done := make(chan struct{})
		add(1)
		go func() { defer close(done); b.run(running, t.Context()) }()
		time.Sleep(maxBatchAge + time.Second) // the first one is under way
		add(2)
		end()
		<-done
		if p := b.storedPositions(); stored != 2 || len(p) != 1 || p[0].Offset != 2 {
			t.Errorf("%d rows are stored, reached %+v", stored, p)
		}
	})
}

// TestBatcherBounds checks that three batches exist while ClickHouse is unavailable, that add blocks for
// more, and that an unacknowledged batch moves no position.
func TestBatcherBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const piece = maxBatchRows / 4
		m := newMetrics(prometheus.NewRegistry())
		var mu sync.Mutex
		var answer error
		var hung bool
		var tokens []string
		var stored, added int
		be := func(err error, h bool) {
			mu.Lock()
			defer mu.Unlock()
			answer, hung = err, h
		}
		b := newBatcher(&laneDeps{name: "store", log: slog.New(slog.DiscardHandler), metrics: m}, "events",
			nil, func() *blank {
				return &blank{send: func(ctx context.Context, rows int, token string) error {
					mu.Lock()
					defer mu.Unlock()
					tokens = append(tokens, token)
					if hung {
						mu.Unlock()
						<-ctx.Done()
						mu.Lock()
						return ctx.Err()
					}
					if answer == nil {
						stored += rows
					}
					return answer
				}}
			})
		now := func() (a, s int, t []string) {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return added, stored / piece, slices.Clone(tokens)
		}
		be(errors.New("connection refused"), false)
		running, end := context.WithCancel(t.Context())
		draining, cut := context.WithCancel(t.Context())
		reading, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { b.run(running, draining) })
		wg.Go(func() {
			for i := range int64(100) {
				if b.add(reading, group.Position{Topic: topic.Events, Offset: i + 1}, []byte{byte(i)},
					func(k *blank) { k.n += piece }) != nil {
					return
				}
				mu.Lock()
				added++
				mu.Unlock()
			}
		})
		time.Sleep(time.Minute)
		// Two batches are in flight and one is full: add has blocked for each.
		if added, _, _ := now(); added != 12 || testutil.ToFloat64(m.waits.WithLabelValues("events")) != 3 {
			t.Errorf("%d pieces are held, %v waits", added,
				testutil.ToFloat64(m.waits.WithLabelValues("events")))
		}
		if r := b.unready(); r != "can't insert into ClickHouse: connection refused" ||
			len(b.storedPositions()) != 0 {
			t.Errorf("unready %q, reached %v", r, b.storedPositions())
		}
		_, _, used := now()
		attempts := map[string]int{}
		for _, token := range used {
			attempts[token]++
		}
		if len(attempts) != 2 || attempts[used[0]] < 10 || len(used)-attempts[used[0]] < 10 {
			t.Errorf("attempts by token: %v", attempts)
		}
		be(nil, true)
		time.Sleep(2*insertTimeout + slowInsert)
		if added, _, _ := now(); !strings.Contains(b.unready(),
			"can't insert into ClickHouse: context deadline exceeded") || added != 12 {
			t.Errorf("unready %q with %d pieces", b.unready(), added)
		}
		be(nil, false)
		time.Sleep(2 * insertTimeout)
		if added, stored, _ := now(); b.unready() != "" || added != 100 || stored != 100 ||
			b.storedPositions()[0].Offset != 100 {
			t.Errorf("unready %q, %d added, %d stored, reached %v", b.unready(), added, stored,
				b.storedPositions())
		}
		be(nil, true)
		if err := b.add(t.Context(), group.Position{Topic: topic.Events, Offset: 101}, []byte{1},
			func(k *blank) { k.n++ }); err != nil {
			t.Error(err)
		}
		time.Sleep(maxBatchAge + slowInsert + time.Second)
		if r := b.unready(); !strings.HasPrefix(r, "ClickHouse hasn't answered an insert for 1") {
			t.Errorf("unready %q while an insert hangs", r)
		}
		stop()
		end()
		cut()
		wg.Wait()
		if b.storedPositions()[0].Offset != 100 {
			t.Errorf("reached %v by an insert without an answer", b.storedPositions())
		}
	})
}

// desk holds the inserts of a batcher until the test answers them.
type desk struct {
	*batcher[*blank]
	t       *testing.T
	metrics *metrics
	calls   chan call
	end     context.CancelFunc // of the run
	cut     context.CancelFunc // of what is under way
	ended   chan struct{}
	offset  int64
}

type call struct {
	rows   int
	token  string
	answer chan error
}

func newDesk(t *testing.T) *desk {
	d := &desk{t: t, metrics: newMetrics(prometheus.NewRegistry()), calls: make(chan call, 10),
		ended: make(chan struct{})}
	d.batcher = newBatcher(&laneDeps{name: "store", log: slog.New(slog.DiscardHandler), metrics: d.metrics},
		"events", nil, func() *blank {
			return &blank{send: func(ctx context.Context, rows int, token string) error {
				c := call{rows, token, make(chan error, 1)}
				d.calls <- c
				select {
				case err := <-c.answer:
					return err
				case <-ctx.Done():
					return ctx.Err()
				}
			}}
		})
	running, end := context.WithCancel(t.Context())
	draining, cut := context.WithCancel(t.Context())
	d.end, d.cut = end, cut
	go func() { defer close(d.ended); d.run(running, draining) }()
	return d
}

// add adds a record with rows.
func (d *desk) add(rows int) {
	d.t.Helper()
	d.offset++
	err := d.batcher.add(d.t.Context(), group.Position{Topic: topic.Events, Offset: d.offset},
		binary.LittleEndian.AppendUint64(nil, uint64(d.offset)), func(k *blank) { k.n += rows })
	if err != nil {
		d.t.Error(err)
	}
}

// insert returns the next insert that arrives within the time, or one without rows.
func (d *desk) insert(within time.Duration) call {
	select {
	case c := <-d.calls:
		return c
	case <-time.After(within):
		return call{answer: make(chan error, 1)}
	}
}

func (d *desk) reached(want int64) {
	d.t.Helper()
	synctest.Wait()
	var got int64
	for _, p := range d.storedPositions() {
		got = p.Offset
	}
	if got != want {
		d.t.Errorf("reached %d, want %d", got, want)
	}
}

// TestBatcherOrder checks that a batch acknowledged before an earlier one moves no position and makes no
// room, and that the earlier one keeps its token.
func TestBatcherOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.add(maxBatchRows)
		first := d.insert(time.Millisecond)
		d.add(maxBatchRows + 1)
		second := d.insert(time.Millisecond)
		d.add(maxBatchRows + 2)
		if first.rows != maxBatchRows || second.rows != maxBatchRows+1 {
			t.Fatalf("inserts of %d and %d rows", first.rows, second.rows)
		}
		d.reached(0)
		second.answer <- nil
		d.reached(0)
		if third := d.insert(5 * time.Second); third.rows != 0 {
			t.Errorf("%d rows are inserted while the oldest batch isn't acknowledged", third.rows)
		}
		for range 3 {
			first.answer <- errors.New("read: connection reset by peer")
			again := d.insert(5 * time.Second)
			if again.rows != first.rows || again.token != first.token {
				t.Errorf("%d rows under %q were repeated as %d under %q", first.rows, first.token,
					again.rows, again.token)
			}
			first = again
			d.reached(0)
			if r := d.unready(); !strings.Contains(r, "reset by peer") {
				t.Errorf("unready %q", r)
			}
		}
		first.answer <- nil
		d.reached(2)
		third := d.insert(time.Millisecond)
		third.answer <- nil
		d.reached(3)
		if r := d.unready(); r != "" || third.rows != maxBatchRows+2 {
			t.Errorf("unready %q after %d rows", r, third.rows)
		}
		d.end()
		<-d.ended
	})
}

// TestBatcherTrickle checks that a batch that isn't full is inserted once a second and waits for the
// inserts in flight, also slow ones.
func TestBatcherTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		var inserts []int
		time.Sleep(100 * time.Millisecond) // so that nothing happens at the moment of a tick
		for range 40 {
			d.add(1)
			time.Sleep(250 * time.Millisecond)
			for len(d.calls) > 0 {
				c := <-d.calls
				c.answer <- nil
				inserts = append(inserts, c.rows)
			}
		}
		if len(inserts) != 10 {
			t.Errorf("in ten seconds there were inserts of %v rows", inserts)
		}
		d.add(1)
		slow := d.insert(2 * time.Second)
		for range 10 {
			d.add(1)
		}
		if c := d.insert(5 * time.Second); c.rows != 0 {
			t.Errorf("%d rows are inserted beside %d", c.rows, slow.rows)
		}
		slow.answer <- nil
		c := d.insert(time.Millisecond)
		if c.rows != 10 {
			t.Errorf("%d rows are inserted after a slow insert", c.rows)
		}
		c.answer <- nil
		d.reached(51)
		d.end()
		<-d.ended
	})
}

// TestBatcherDrain checks that run inserts all three batches at its end if there is time, and acknowledges
// none without an answer.
func TestBatcherDrain(t *testing.T) {
	for _, enough := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t)
			d.add(maxBatchRows)
			first := d.insert(time.Millisecond)
			d.add(maxBatchRows)
			second := d.insert(time.Millisecond)
			d.add(7)
			d.end()
			second.answer <- nil
			d.reached(0)
			if !enough {
				d.cut()
				<-d.ended
				d.reached(0)
				return
			}
			if c := d.insert(time.Second); c.rows != 0 {
				t.Errorf("a third insert, of %d rows, is under way", c.rows)
			}
			first.answer <- nil
			last := d.insert(time.Millisecond)
			d.reached(2)
			last.answer <- nil
			<-d.ended
			d.reached(3)
			if last.rows != 7 {
				t.Errorf("the last insert has %d rows", last.rows)
			}
		})
	}
}
