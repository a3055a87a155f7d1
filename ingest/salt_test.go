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
	"nowcast/internal/event"
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

// idsOf returns the ids of a visitor at a time, on the clocks of a zone.
func idsOf(s *salts, zone string, at time.Time) (id, previous uint64, ok bool) {
	var e event.Event
	v := visitor{[]byte("a visitor"), s.clocks.of("site of "+zone, zone)}
	err := s.stamp(&e, &v, at.UnixMilli())
	return e.Visitor, e.PreviousVisitor, err == nil
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
			nodes[i] = newSalts(m, newSiteClocks(), slog.New(slog.DiscardHandler))
			wg.Go(func() { nodes[i].run(ctx) })
		}
		same := func() (id, previous uint64) {
			t.Helper()
			synctest.Wait()
			now := time.Now()
			id, previous, ok := idsOf(nodes[0], "UTC", now)
			if id2, previous2, ok2 := idsOf(nodes[1], "UTC", now); id2 != id || previous2 != previous ||
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
		m.setDown(true) // midnight needs no broker
		time.Sleep(12 * time.Hour)
		second, previous := same()
		if second == first || previous != first {
			t.Errorf("after midnight: %x, the day before %x, want another one and %x", second, previous,
				first)
		}
		time.Sleep(10 * time.Minute)
		if id, previous := same(); id != second || previous != 0 {
			t.Errorf("ten past midnight: %x %x, want %x and none", id, previous, second)
		}
		m.setDown(false)
		time.Sleep(8*time.Hour + 49*time.Minute) // 08:59
		if same(); m.count() != made {
			t.Errorf("%d salts before 09:00", m.count()-made)
		}
		time.Sleep(time.Minute + time.Second) // 09:00:01, an hour before tomorrow begins in the first zone
		synctest.Wait()
		if made = m.count() - made; made < 1 || made > 2 {
			t.Errorf("%d salts made ahead for tomorrow, want 1 or (from two nodes at once) 2", made)
		}
		time.Sleep(3*time.Hour + 9*time.Minute) // 12:09
		synctest.Wait()
		if id, previous, ok := idsOf(nodes[0], "Etc/GMT+12", time.Now()); !ok || id != second ||
			previous != first {
			t.Errorf("nine past midnight in the last zone: %x %x %v", id, previous, ok)
		}
		id, _, ok := idsOf(nodes[0], "Pacific/Kiritimati", time.Now())
		if !ok || id == second || id == first {
			t.Errorf("at the same time in the first zone: %x %v", id, ok)
		}
		if byDay := *nodes[0].byDay.Load(); len(byDay) != 3 {
			t.Errorf("%d salts in memory while yesterday's is needed", len(byDay))
		}
		time.Sleep(3 * time.Minute)
		if byDay := *nodes[0].byDay.Load(); len(byDay) != 2 {
			t.Errorf("%d salts in memory after yesterday's is no longer needed", len(byDay))
		}
		m.setDown(true)
		time.Sleep(22 * time.Hour) // 10:12, and no salt could be made for the day that the first zone has
		synctest.Wait()
		if same(); nodes[0].ready() || !nodes[1].ready() {
			t.Errorf("without the salt of the first zone, of which the first node has a site: %v %v",
				nodes[0].ready(), nodes[1].ready())
		}
		time.Sleep(14 * time.Hour)
		synctest.Wait()
		if _, _, ok := idsOf(nodes[1], "UTC", time.Now()); ok || nodes[1].ready() {
			t.Error("an id without a salt")
		}
		m.setDown(false)
		time.Sleep(2 * time.Second)
		same()
		cancel()
		wg.Wait()
	})
}

// TestSaltLife goes through days by the minute, on the clocks of all kinds of zones: an event always has an
// id, in the first ten minutes of its site's day also that of the day before, and no salt is in memory for
// longer than 51 hours and 12 minutes.
func TestSaltLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(11 * time.Hour)
		s := newSalts(newSaltMemory(), newSiteClocks(), slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.run(ctx) }()
		type life struct{ from, to time.Time }
		lives := map[sipKey]*life{}
		seams, start := map[string]int{}, time.Now()
		zones := []string{"Etc/GMT+12", "Pacific/Niue", "America/St_Johns", "UTC", "Asia/Kathmandu",
			"Pacific/Chatham", "Pacific/Kiritimati", "No/Such"}
		time.Sleep(30 * time.Second)
		for time.Since(start) < 6*24*time.Hour {
			synctest.Wait()
			now := time.Now()
			for _, key := range *s.byDay.Load() {
				if lives[key] == nil {
					lives[key] = &life{from: now}
				}
				lives[key].to = now
			}
			for _, zone := range zones {
				_, previous, ok := idsOf(s, zone, now)
				if !ok {
					t.Fatalf("%s: no salt in %s", now, zone)
				}
				location, err := time.LoadLocation(zone)
				if err != nil {
					location = time.UTC
				}
				local := now.In(location)
				seam := local.Hour() == 0 && local.Minute() < 10
				if seam != (previous != 0) && now.Sub(start) > 25*time.Hour {
					t.Fatalf("%s, which is %s: the id of the day before is %x", now, local, previous)
				}
				if seam {
					seams[zone]++
				}
			}
			time.Sleep(time.Minute)
		}
		for _, l := range lives {
			if lived := l.to.Sub(l.from); lived > 51*time.Hour+12*time.Minute {
				t.Errorf("a salt is in memory for %v", lived)
			}
		}
		for _, zone := range zones {
			if seams[zone] < 50 {
				t.Errorf("%d minutes in the seam of %s", seams[zone], zone)
			}
		}
		if len(lives) < 7 {
			t.Errorf("%d salts", len(lives))
		}
		cancel()
		<-done
	})
}
