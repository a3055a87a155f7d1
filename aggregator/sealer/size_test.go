package sealer

import (
	"fmt"
	"testing"
	"time"
)

// events inserts rows of one day: n events of each visitor, a second apart.
func (w *world) events(site string, visitors, n int) {
	w.t.Helper()
	w.exec(fmt.Sprintf("INSERT INTO events (site, ts, visitor, id, koff, kind, name, path, "+
		"referrer, source, country, props, day, utc_offset) "+
		"SELECT '%s', toDateTime64(%d + intDiv(number, %d) %% 80000, 3, 'UTC'), cityHash64(number "+
		"%% %d), leftPad(toString(number), 16, '0'), number, "+
		"if(number %% 5 = 0, 'custom', 'pageview'), 'pageview', concat('/path/of/a/page/', "+
		"toString(number %% 1000)), 'https://example.org/a/referrer', "+
		"'example.org', 'DE', map('plan', 'free'), toDate(%d), 0 FROM "+
		"numbers(%d)", site, firstDay*86400, visitors, visitors, firstDay, visitors*n))
	w.exec(fmt.Sprintf("INSERT INTO marks VALUES ('%s', toDate(%d), 1)", site, firstDay))
}

// sealed fails the test unless all of a site's events are sealed.
func (w *world) sealed(site string, events int) {
	w.t.Helper()
	const of = " WHERE (site, day, seal) IN (SELECT site, day, seal FROM seals FINAL) AND site = '"
	if n := w.number("SELECT count() FROM hits" + of + site + "'"); n != uint64(events) {
		w.t.Errorf("%d hits of %s, want %d", n, site, events)
	}
	if n := w.number("SELECT sum(events) FROM visits" + of + site + "'"); n != uint64(events) {
		w.t.Errorf("visits of %s have %d events, want %d", site, n, events)
	}
}

// TestHostileVisitor seals the days of visitors with very many events. The time is proportional,
// and the memory within the limit.
func TestHostileVisitor(t *testing.T) {
	w := newWorld(t)
	s := w.sealer(Config{}, w.db)
	var took [2]time.Duration
	for i, n := range []int{50_000, 200_000} {
		site := fmt.Sprint("hostile", n)
		w.events(site, 1, n)
		start := time.Now()
		w.seal(s)
		took[i] = time.Since(start)
		w.sealed(site, n)
	}
	if took[1] > 10*took[0]+10*time.Second {
		t.Errorf("four times the events take %v instead of %v", took[1], took[0])
	}
}

// TestLargeDay seals a day of more events than one slice. Where the memory doesn't suffice, it takes smaller
// slices.
func TestLargeDay(t *testing.T) {
	w := newWorld(t)
	const visitors, each = 30_000, 20
	w.events("large", visitors, each)
	s := w.sealer(Config{Memory: 400 << 20}, w.db)
	for range 6 {
		if _, err := s.turn(t.Context()); err != nil {
			t.Log(err)
		}
		w.now = w.now.Add(2 * time.Minute)
	}
	if s.cfg.Slice == defaultSlice {
		t.Error("the memory sufficed")
	}
	w.sealed("large", visitors*each)
	if n := w.number("SELECT uniqExact(who) FROM hits WHERE seal IN (SELECT seal FROM seals " +
		"FINAL)"); n != visitors {
		t.Errorf("%d visitors, want %d", n, visitors)
	}
	if n := w.number("SELECT sum(visitors) FROM rollups WHERE dim = '' AND span = 'day' AND seal IN " +
		"(SELECT seal FROM seals FINAL)"); n != visitors {
		t.Errorf("%d visitors in rollups, want %d", n, visitors)
	}
}

// TestSmallSites seals a day of 3,000 sites in a few builds.
func TestSmallSites(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(fmt.Sprintf("INSERT INTO events (site, ts, visitor, id, kind, day, utc_offset) SELECT "+
		"concat('site', toString(number %% 3000), '.example'), "+
		"toDateTime64(%d + number, 3, 'UTC'), number, leftPad(toString(number), 16, '0'), "+
		"'pageview', toDate(%d), 0 FROM numbers(9000)",
		firstDay*86400, firstDay))
	w.exec("INSERT INTO marks SELECT DISTINCT site, day, 1 FROM events")
	s := w.sealer(Config{}, w.db)
	w.seal(s)
	if n := w.number("SELECT count() FROM seals FINAL"); n != 3000 {
		t.Errorf("%d days are sealed", n)
	}
	if n := w.number("SELECT sum(events) FROM visits WHERE seal IN (SELECT seal FROM seals " +
		"FINAL)"); n != 9000 {
		t.Errorf("%d events are sealed", n)
	}
	if n := w.number("SELECT uniqExact(seal) FROM seals FINAL"); n > 2 {
		t.Errorf("%d seals", n)
	}
}
