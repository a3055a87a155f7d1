package verify

import (
	"testing"
	"time"

	"nowcast/internal/erasure"
	"nowcast/internal/window"
)

// tombstones returns a set with one request about the pipeline's site; all of it before the end of the span.
func (p *pipeline) tombstones(visitor erasure.VisitorID, done bool) *erasure.Set {
	at := time.Unix(p.start+10, 0)
	e := &erasure.Erasure{Request: erasure.Request{ID: "e", Kind: erasure.Site, Site: site, Before: at,
		Requested: at}}
	if visitor != 0 {
		e.Kind, e.Visitor = erasure.Visitor, visitor
	}
	if done {
		e.State = erasure.Done
	}
	return erasure.NewSet(e)
}

func (p *pipeline) verifyErased(t *testing.T, set *erasure.Set) *Report {
	t.Helper()
	r := newRun(Config{From: time.Unix(p.start-720, 0), To: time.Unix(p.start+4, 0)}, p, p, p)
	r.erased = set
	report, err := r.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// After an erasure nothing of it is missing, what was published before it may count it or not, and what is
// still stored is a difference once the erasure has ended.
func TestErasure(t *testing.T) {
	without := func(rows [][]any, keep func([]any) bool) (left [][]any) {
		for _, r := range rows {
			if keep(r) {
				left = append(left, r)
			}
		}
		return left
	}
	none := func([]any) bool { return false }
	for _, c := range []struct {
		name    string
		visitor erasure.VisitorID
		done    bool
		change  func(p *pipeline)
		erased  int
		want    []string // where differences are
		notes   int
	}{
		{"site, tables empty", 0, true, func(p *pipeline) { p.events, p.windows, p.ledger = nil, nil, nil },
			7, nil, 0},
		{"site, under way", 0, false, func(*pipeline) {}, 7, nil, 1},
		{"site, an event left", 0, true, func(p *pipeline) {
			p.events, p.windows, p.ledger = p.events[:1], nil, nil
		}, 7, []string{inEventsTable}, 0},
		{"site, a window left", 0, true, func(p *pipeline) {
			p.events, p.windows, p.ledger = nil, p.windows[:1], nil
		}, 7, []string{inWindowsTable}, 0},
		{"site, a minute left", 0, true, func(p *pipeline) {
			p.events, p.windows, p.ledger = nil, nil, p.ledger[:1]
		}, 7, []string{inLedgerTable}, 0},
		{"site, published once before its second was over", 0, true, func(p *pipeline) {
			p.events, p.windows, p.ledger = nil, nil, nil
			p.change(2, func(e *window.Emission) { e.Seconds[0].Final = false })
		}, 7, nil, 0},
		{"visitor, the row of another one not final", 2, true, func(p *pipeline) {
			p.events = without(p.events, func(r []any) bool { return r[2] != uint64(2) })
			p.change(1, func(e *window.Emission) { e.Seconds[0].Final = false })
		}, 2, []string{inWindowsTopic}, 0},
		{"visitor, windows as before", 2, true, func(p *pipeline) {
			p.events = without(p.events, func(r []any) bool { return r[2] != uint64(2) })
		}, 2, nil, 0},
		{"visitor, windows made again", 2, true, func(p *pipeline) {
			p.events = without(p.events, func(r []any) bool { return r[2] != uint64(2) })
			p.windows = [][]any{
				{site, p.start, uint32(1), uint32(1), uint32(1), uint32(1), uint64(1)},
				{site, p.start + 1, uint32(1), uint32(1), uint32(1), uint32(1), uint64(2)}}
			p.change(1, func(e *window.Emission) { e.Seconds[0].Events, e.Seconds[0].Active = 1, 1 })
		}, 2, nil, 0},
		{"visitor, still stored", 2, true, func(*pipeline) {}, 2, []string{inEventsTable, inEventsTable}, 0},
		{"visitor, another one missing", 2, true, func(p *pipeline) {
			p.events = without(p.events, func(r []any) bool { return r[2] == uint64(3) })
		}, 2, []string{inEventsTable, inEventsTable, inEventsTable}, 0},
		{"visitor, more than anybody counted", 2, true, func(p *pipeline) {
			p.events = without(p.events, func(r []any) bool { return r[2] != uint64(2) })
			p.windows[0][2] = uint32(3)
		}, 2, []string{inWindowsTable}, 0},
		{"visitor, the ledger gone", 2, true, func(p *pipeline) {
			p.events = without(p.events, func(r []any) bool { return r[2] != uint64(2) })
			p.ledger = without(p.ledger, none)
		}, 2, []string{inLedgerTable, inLedgerTable}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPipeline()
			c.change(p)
			r := p.verifyErased(t, p.tombstones(c.visitor, c.done))
			var in []string
			for _, d := range r.Differences {
				in = append(in, d.In)
			}
			if r.Erased != c.erased || len(in) != len(c.want) || len(r.Notes) != c.notes {
				t.Fatalf("%d erased, differences %+v, notes %v; want %d, %v", r.Erased, r.Differences,
					r.Notes,
					c.erased, c.want)
			}
			for i := range in {
				if in[i] != c.want[i] {
					t.Errorf("differences in %v, want %v", in, c.want)
				}
			}
		})
	}
}

// A row that is missing because its site keeps it no longer is no difference.
func TestExpired(t *testing.T) {
	p := newPipeline()
	p.events, p.windows, p.ledger = nil, nil, nil
	r := newRun(Config{From: time.Unix(p.start-720, 0), To: time.Unix(p.start+4, 0)}, p, p, p)
	r.expired = map[string]int64{site: (p.start + 4) * 1000}
	report, err := r.run(t.Context())
	if err != nil || report.Different != 0 || report.Counted == 0 {
		t.Errorf("%+v %v", report, err)
	}
	r = newRun(r.Config, p, p, p)
	if report, err := r.run(t.Context()); err != nil || report.Different == 0 {
		t.Errorf("%+v %v", report, err)
	}
}
