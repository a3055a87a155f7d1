package sealer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// mortal is a ClickHouse's client whose process dies at a statement: before it, or after ClickHouse has done
// it.
type mortal struct {
	database
	left  int // statements until then
	after bool
}

var errDead = errors.New("the process is dead")

func (m *mortal) do(run func() error) error {
	m.left--
	if m.left < 0 || m.left == 0 && !m.after {
		return errDead
	}
	err := run()
	if m.left == 0 {
		return errDead
	}
	return err
}

func (m *mortal) Exec(ctx context.Context, query string, args ...any) error {
	return m.do(func() error { return m.database.Exec(ctx, query, args...) })
}

func (m *mortal) Select(ctx context.Context, dest any, query string, args ...any) error {
	return m.do(func() error { return m.database.Select(ctx, dest, query, args...) })
}

func (m *mortal) PrepareBatch(ctx context.Context, query string,
	o ...driver.PrepareBatchOption) (driver.Batch, error) {
	b, err := m.database.PrepareBatch(ctx, query, o...)
	return mortalBatch{b, m}, err
}

type mortalBatch struct {
	driver.Batch
	m *mortal
}

func (b mortalBatch) Send() error { return b.m.do(b.Batch.Send) }

// TestDeaths lets a sealer die at each of its statements, before and after it. Whatever it leaves,
// readers see whole days, the next sealer ends the work, and nothing stays of what was left.
func TestDeaths(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := history(rand.New(rand.NewPCG(3, 4)), 20)
	stored := 0
	deaths := 0
	for n := 1; ; n++ {
		next := min(len(all), stored+max(1, len(all)/60))
		w.store(all[stored:next]) // so that there is work
		stored = next
		w.exec("INSERT INTO marks SELECT DISTINCT site, day, 1 FROM events")
		m := &mortal{database: w.db, left: 1 + n/2, after: n%2 == 0}
		s := w.sealer(Config{Rolled: 1, Slice: 300, Quiet: 1}, m)
		_, err := s.turn(t.Context())
		if err == nil {
			w.now = w.now.Add(1)
			_, err = s.turn(t.Context())
		}
		w.whole()
		if err == nil {
			break
		}
		if !errors.Is(err, errDead) {
			t.Fatal(err)
		}
		deaths++
	}
	if deaths < 30 {
		t.Errorf("only %d deaths", deaths)
	}
	w.store(all[stored:])
	s := w.sealer(Config{Rolled: 1}, w.db)
	s.orphanAge = 0
	w.seal(s)
	w.agree(fmt.Sprintf("after %d deaths", deaths), all)
	w.settle(s)
}

// whole checks that each named seal has all of its days' rows.
func (w *world) whole() {
	w.t.Helper()
	const named = " WHERE (site, day, seal) IN (SELECT site, day, seal FROM seals FINAL)"
	n := w.number("SELECT count() FROM (SELECT site, day, seal, count() AS n FROM hits" + named + " " +
		"GROUP BY site, day, seal) AS h " +
		"FULL JOIN (SELECT site, day, seal, sum(events) AS n FROM visits" + named + " GROUP BY " +
		"site, day, seal) AS v USING (site, day, seal) " +
		"FULL JOIN (SELECT site, day, seal, sum(events) AS n FROM rollups" + named + " AND dim = '' " +
		"AND span = 'day' GROUP BY site, day, seal) AS r " +
		"USING (site, day, seal) WHERE h.n != v.n OR h.n != r.n")
	if n != 0 {
		w.t.Errorf("%d days are sealed by halves", n)
	}
}

// TestTwo lets two sealers work at once, beside late rows.
func TestTwo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := history(rand.New(rand.NewPCG(5, 6)), 40)
	var sealers []*Sealer
	for range 2 {
		s := w.sealer(Config{Rolled: 1, Quiet: 1, Slice: 500}, w.db)
		s.orphanAge = 0
		sealers = append(sealers, s)
	}
	for part := range slices.Chunk(all, len(all)/4+1) {
		w.store(part)
		w.now = w.now.Add(time.Hour)
		now := w.now
		var wg sync.WaitGroup
		for _, s := range sealers {
			wg.Go(func() {
				for i := range 2 {
					s.now = func() time.Time { return now.Add(time.Duration(i) * time.Minute) }
					if _, err := s.turn(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		w.whole()
	}
	s := w.sealer(Config{Rolled: 1}, w.db)
	s.orphanAge = 0
	w.seal(s)
	w.agree("two sealers", all)
	w.settle(s)
}
