package sealer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCompaction merges the days of a month that is over, again with a late row, and over the deaths of the
// sealer. Readers see the same all the time.
func TestCompaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := history(rand.New(rand.NewPCG(7, 8)), 40)
	late := all[len(all)-1]
	w.now = time.Date(2026, 9, 20, 12, 0, 0, 0, time.UTC)
	s := w.sealer(Config{Rolled: 1, Slice: 50}, w.db)
	s.orphanAge = 0
	w.store(all[:len(all)-1])
	w.seal(s)
	if n := w.number("SELECT uniqExact(seal) FROM seals FINAL"); n < 4 {
		t.Fatalf("only %d seals", n)
	}
	w.agree("before", all[:len(all)-1])
	w.now = time.Date(2026, 10, 4, 0, 0, 1, 0, time.UTC)
	for left := 1; ; left++ { // statements
		x := w.sealer(Config{Rolled: 1}, &mortal{database: w.db, left: 1 + left/2, after: left%2 == 0})
		if err := x.compact(t.Context()); err == nil {
			break
		}
		w.agree(fmt.Sprint("a death at statement ", left), all[:len(all)-1])
	}
	if n := w.number("SELECT uniqExact(seal) FROM seals FINAL WHERE monthly"); n != 1 {
		t.Errorf("%d monthly seals, want 1", n)
	}
	w.month(all[:len(all)-1])
	w.store([]row{late})
	w.seal(s)
	w.agree("with a late row", all)
	w.now = w.now.Add(2 * time.Hour)
	w.seal(s)
	w.agree("compacted again", all)
	w.month(all)
	if n := w.number("SELECT uniqExact(seal) FROM seals FINAL"); n != 1 {
		t.Errorf("%d seals in the end, want 1", n)
	}
	w.settle(s)
}

// month compares the rows of a month with the sums of its days.
func (w *world) month(rows []row) {
	w.t.Helper()
	want := map[string]sums{}
	for key, x := range wanted(rows) {
		if p := strings.Split(key, "|"); p[2] == "day" {
			first := time.Unix(firstDay*86400, 0).UTC()
			first = first.AddDate(0, 0, 1-first.Day())
			p[2], p[3] = "month", fmt.Sprint(first.Unix()/86400)
			k := strings.Join(p, "|")
			want[k] = want[k].plus(x)
		}
	}
	got := w.rollups()
	for key, x := range want {
		if got[key] != x {
			w.t.Errorf("%s is %+v, want %+v", key, got[key], x)
		}
	}
	n := 0
	for key := range got {
		if strings.Contains(key, "|month|") {
			n++
		}
	}
	if n != len(want) {
		w.t.Errorf("%d rows of the month, want %d", n, len(want))
	}
}

// TestLostRows checks that days of which ClickHouse has lost sealed rows are built again.
func TestLostRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := history(rand.New(rand.NewPCG(9, 10)), 40)
	w.store(all)
	s := w.sealer(Config{Rolled: 1, Slice: 500}, w.db)
	w.seal(s)
	seal := fmt.Sprint(w.number("SELECT seal FROM seals FINAL WHERE events > 0 LIMIT 1"))
	w.exec("ALTER TABLE visits DROP PARTITION ID '" + seal + "'")
	w.exec("ALTER TABLE hits DROP PARTITION ID '" + seal + "'")
	next := w.sealer(Config{Rolled: 1}, w.db)
	w.seal(next)
	w.agree("after a loss", all)
}

// TestUnmarked checks that days of before there were marks are sealed.
func TestUnmarked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := history(rand.New(rand.NewPCG(11, 12)), 20)
	w.store(all)
	w.exec("TRUNCATE TABLE marks")
	w.seal(w.sealer(Config{Rolled: 1}, w.db))
	w.agree("unmarked", all)
}

// TestOpen checks which days are sealed when: an open day of a small site isn't, one of a large site is when
// it is quiet, and a day that is over on its site's clocks is at once.
func TestOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at := time.Date(2026, 11, 12, 14, 0, 0, 0, time.UTC)
	day := int(at.Unix() / 86400)
	for i, x := range []struct {
		site   string
		offset int32
		day    int
		n      int
	}{{"small", 0, day, 5}, {"large", 0, day, 60}, {"east", 12 * 3600, day, 5}, {"west", -11 * 3600,
		day - 1, 5},
		{"far west", -11 * 3600, day, 5}} {
		var rows []row
		for n := range x.n {
			begin := (int64(x.day)*86400 - int64(x.offset)) * 1000
			rows = append(rows, row{site: x.site, day: x.day, offset: x.offset, at: begin + 3_600_000,
				visitor: uint64(n), place: uint64(1000*i + n), kind: "pageview", path: "/"})
		}
		w.store(rows)
	}
	w.now = at
	s := w.sealer(Config{Large: 50}, w.db)
	sealed := func() string {
		if _, err := s.turn(t.Context()); err != nil {
			t.Fatal(err)
		}
		rows, err := w.db.Query(t.Context(), "SELECT site FROM (SELECT * FROM seals FINAL) AS s "+
			"INNER JOIN (SELECT site, day, "+
			"sum(n) AS n FROM marks GROUP BY site, day) AS m USING (site, day) WHERE m.n = s.marks "+
			"ORDER BY site")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var all []string
		for rows.Next() {
			var site string
			if err := rows.Scan(&site); err != nil {
				t.Fatal(err)
			}
			all = append(all, site)
		}
		return strings.Join(all, ",")
	}
	for _, step := range []struct {
		wait time.Duration
		want string
	}{{0, ""}, {29 * time.Second, ""}, {time.Minute, "east,large,west"}, {time.Minute, "east,large,west"},
		{10 * time.Hour, "east,large,small,west"}, {11 * time.Hour, "east,far west,large,small,west"}} {
		w.now = w.now.Add(step.wait)
		if got := sealed(); got != step.want {
			t.Errorf("at %s: %q are sealed, want %q", w.now.Format(time.TimeOnly), got, step.want)
		}
	}
	builds := w.number("SELECT count() FROM seals")
	for range 5 { // a late row a second
		w.exec(fmt.Sprintf("INSERT INTO marks VALUES ('east', toDate(%d), 1)", day))
		w.now = w.now.Add(time.Second)
		sealed()
	}
	if n := w.number("SELECT count() FROM seals"); n != builds {
		t.Errorf("%d builds while a day goes on changing", n-builds)
	}
	w.now = w.now.Add(31 * time.Second)
	if !slices.Contains(strings.Split(sealed(), ","), "east") {
		t.Error("a late day isn't built after it is quiet")
	}
}
