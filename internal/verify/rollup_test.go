package verify

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const rollupReceived, rollupLate = 2, 4 // columns in sql/rollup.sql

// rollUp sums the pipeline's ledger over partitions, as the aggregator does. The table `ledger` has rows of
// a rewind.
func (p *pipeline) rollUp() {
	for _, x := range p.ledger {
		p.rollup = append(p.rollup, append([]any{x[0], x[1]}, x[3:9]...))
	}
	p.ledger = p.ledger[:1]
}

// TestRolledUp compares minutes that are rolled up as sums: nothing differs, and each change is reported.
func TestRolledUp(t *testing.T) {
	sums := func(p *pipeline) *[][]any { return &p.rollup }
	more := func(p *pipeline) {
		p.rollup[0][rollupReceived], p.rollup[0][rollupLate] = uint64(9), uint64(3)
	}
	for _, c := range []struct {
		name   string
		change func(*pipeline)
		ends   bool   // the run reads to the log's end
		want   string // a part of the difference, or ""
	}{
		{"as it was", func(*pipeline) {}, true, ""},
		{"as it was, log goes on", func(*pipeline) {}, false, ""},
		{"no row is left in ledger", func(p *pipeline) { p.ledger = nil }, true, ""},
		{"a row of another partition", func(p *pipeline) { p.ledger[0][ledgerFirst] = uint64(99) }, true, ""},
		{"of later records", more, false, ""},
		{"too much", more, true, "received is 9, recounted 7"},
		{"too little", altered(sums, 0, rollupReceived, uint64(6)), false, "received is 6, recounted 7"},
		{"unbalanced", altered(sums, 0, rollupReceived, uint64(8)), false, "it doesn't add up: 8 received"},
		{"reason lost", altered(sums, 0, 7, map[string]uint64{}), false, "dropped as bot is 0, recounted 1"},
		{"missing", removed(sums, 1), true, "missing: 1 received"},
		{"made up", altered(sums, 1, 0, "example.org"), true, "no event of the log explains it: 1 received"},
		{"erased", func(p *pipeline) { p.erased = p.tombstones(0, true) }, true, stillStored},
		{"erased and gone", func(p *pipeline) {
			p.erased = p.tombstones(0, true)
			p.rollup, p.ledger, p.events, p.windows = nil, nil, nil, nil
		}, true, ""},
		{"erasure under way", func(p *pipeline) { p.erased = p.tombstones(0, false) }, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPipeline()
				p.rollUp()
				c.change(p)
				r := newRun(Config{From: time.Unix(p.start-720, 0), To: time.Unix(p.start+4, 0)}, p, p, p)
				r.rollup.before, r.readsToEnd, r.erased = p.start/60+1, c.ends, p.erased
				report, err := r.run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				got := ""
				for _, d := range report.Differences {
					got += d.In + ": " + d.What + "\n"
				}
				if c.want == "" && got != "" || c.want != "" && !strings.Contains(got, inRollupTable+": "+
					c.want) {
					t.Errorf("got %q, want %q", got, c.want)
				}
				if len(report.Notes) == 0 || !strings.Contains(strings.Join(report.Notes, ""),
					"compared as sums over all partitions") {
					t.Errorf("notes: %q", report.Notes)
				}
			})
		})
	}
}

// TestRolledUpOfAPartOfTheLog: a sum isn't compared where a partition's records are lost or not yet stored.
func TestRolledUpOfAPartOfTheLog(t *testing.T) {
	now := time.Now().Unix() / 60
	here := minuteKey{site, now - 100}
	for name, change := range map[string]func(*rollup, *recount){
		"not stored yet":   func(_ *rollup, rc *recount) { rc.ledger[here].last = 50 },
		"deleted":          func(_ *rollup, rc *recount) { rc.lostThrough = here.minute },
		"deleted of other": func(x *rollup, _ *recount) { x.lostThrough = here.minute },
		"deleted of all": func(x *rollup, rc *recount) {
			x.lostThrough = here.minute
			delete(rc.ledger, here)
			delete(x.want, here)
		},
		"whole": func(*rollup, *recount) {},
	} {
		p := newPipeline()
		p.rollup = [][]any{{site, here.minute, uint64(5), uint64(5), uint64(0), uint64(0), uint64(0),
			map[string]uint64{}}}
		r := newRun(Config{From: time.Unix((now-200)*60, 0), To: time.Unix(now*60, 0)}, p, p, p)
		r.rollup.before, r.readsToEnd = now-50, true
		for part := range 2 {
			rc := newRecount(r.Config, part)
			rc.ledger = map[minuteKey]*outcomes{here: {received: 2, counted: 2, last: 49},
				{site, now - 50}: {received: 1}}
			if part == 1 {
				change(&r.rollup, rc)
			}
			r.rollup.take(rc, 50)
			if len(rc.ledger) != 1 {
				t.Errorf("%s: %d minutes are left to the partition, want 1", name, len(rc.ledger))
			}
		}
		if err := r.compareRollup(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := r.report.Different; (n == 0) == (name == "whole") {
			t.Errorf("%s: %d differences: %+v", name, n, r.report.Differences)
		}
	}
}
