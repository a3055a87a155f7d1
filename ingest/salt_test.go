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

	"nowcast/internal/broker"
)

// saltMemory is a topic in memory that several nodes follow.
type saltMemory struct {
	mu      sync.Mutex
	records [][]byte
	changed chan struct{}
	down    bool
}

func newSaltMemory(records ...string) *saltMemory {
	m := &saltMemory{changed: make(chan struct{})}
	for _, r := range records {
		m.records = append(m.records, []byte(r))
	}
	return m
}

var errDown = errors.New("the broker is down")

func (m *saltMemory) Bounds(context.Context, string, int) (int64, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return 0, 0, errDown
	}
	return 0, int64(len(m.records)), nil
}

func (m *saltMemory) ProduceKeyed(_ context.Context, _ string, _, value []byte) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return 0, errDown
	}
	m.records = append(m.records, slices.Clone(value))
	close(m.changed)
	m.changed = make(chan struct{})
	return int64(len(m.records) - 1), nil
}

func (m *saltMemory) Follow(ctx context.Context, f broker.Follower) error {
	for next := f.From; ; {
		m.mu.Lock()
		fresh, changed := m.records[next:], m.changed
		m.mu.Unlock()
		for _, r := range fresh {
			if err := f.Record(broker.Record{Offset: next, Value: r}); err != nil {
				return err
			}
			next++
		}
		if err := f.Batch(next, next); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (m *saltMemory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.records)
}

func (m *saltMemory) setDown(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

// TestSalts runs two nodes through two midnights. The time of a synctest bubble starts at one, UTC.
func TestSalts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(12 * time.Hour)
		m := newSaltMemory(`{"day":"1999-12-30","salt":"00112233445566778899aabbccddeeff"}`, `rubbish`,
			`{"day":"2000-01-01","salt":"short"}`)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		nodes := [2]*salts{}
		for i := range nodes {
			nodes[i] = newSalts(m, slog.New(slog.DiscardHandler))
			wg.Go(func() { nodes[i].run(ctx) })
		}
		visitor := []byte("a visitor")
		same := func() (id, previous uint64) {
			t.Helper()
			synctest.Wait()
			now := time.Now().UnixMilli()
			id, previous, ok := nodes[0].ids(now, visitor)
			if id2, previous2, ok2 := nodes[1].ids(now, visitor); id2 != id || previous2 != previous ||
				!ok || !ok2 {
				t.Errorf("%s: the nodes differ: %x %x %v, %x %x %v", time.Now(), id, previous, ok, id2,
					previous2, ok2)
			}
			return id, previous
		}
		first, previous := same()
		if previous != 0 {
			t.Error("an id of yesterday at noon")
		}
		made := m.count()
		time.Sleep(10 * time.Hour) // 22:00
		if same(); m.count() != made {
			t.Errorf("%d salts before 23:00", m.count()-made)
		}
		time.Sleep(time.Hour + time.Second) // 23:00:01
		synctest.Wait()
		if made = m.count() - made; made < 1 || made > 2 {
			t.Errorf("%d salts made ahead for tomorrow, want 1 or (from two nodes at once) 2", made)
		}
		m.setDown(true) // midnight needs no broker
		time.Sleep(time.Hour)
		second, previous := same()
		if second == first || previous != first {
			t.Errorf("after midnight: %x, the day before %x, want another one and %x", second, previous,
				first)
		}
		time.Sleep(10 * time.Minute)
		if id, previous := same(); id != second || previous != 0 {
			t.Errorf("ten past midnight: %x %x, want %x and none", id, previous, second)
		}
		time.Sleep(2 * time.Minute)
		if byDay := *nodes[0].byDay.Load(); len(byDay) != 1 {
			t.Errorf("%d salts in memory after yesterday's is no longer needed", len(byDay))
		}
		time.Sleep(24 * time.Hour) // no salt could be made for this day
		synctest.Wait()
		if _, _, ok := nodes[0].ids(time.Now().UnixMilli(), visitor); ok || nodes[0].ready() {
			t.Error("an id without a salt")
		}
		m.setDown(false)
		time.Sleep(2 * time.Second)
		same()
		cancel()
		wg.Wait()
	})
}
