package verify

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/event"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

// TestAgrees checks that a correct pipeline has no difference, and the figures of the report.
func TestAgrees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeline()
		r, err := p.verify(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Err(); err != nil {
			t.Errorf("%v: %+v", err, r.Differences)
		}
		got := []int{r.Records, r.Retried, r.Unreadable, r.Events, r.Counted, r.Late, r.Stale, r.Duplicate,
			r.WindowRows, r.EventRows,
			r.Ledger.Minutes, int(r.Ledger.Received), int(r.Ledger.Events), len(r.Notes), len(r.NotCompared)}
		if want := []int{6, 1, 0, 7, 4, 1, 1, 1, 3, 6, 2, 8, 7, 0, 0}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if !maps.Equal(r.Ledger.Dropped, map[string]uint64{"bot": 1}) || r.Through.Unix() != p.start+4 {
			t.Errorf("dropped %v, final through %v", r.Ledger.Dropped, r.Through)
		}
		want := Lateness{Node: "0000000000000001", Events: 1, Seconds: 1, FirstOffset: 2, LastOffset: 2,
			MostMS: 1550}
		if len(r.Lates) != 1 || r.Lates[0] != want {
			t.Errorf("late: %+v, want %+v", r.Lates, want)
		}
		if r, err := p.verify(t.Context(), 0, "example.org"); err != nil || r.Err() != nil ||
			r.Events+r.EventRows+r.WindowRows != 0 {
			t.Errorf("another site: %+v %v", r, err)
		}
	})
}

func events(p *pipeline) *[][]any  { return &p.events }
func windows(p *pipeline) *[][]any { return &p.windows }
func ledger(p *pipeline) *[][]any  { return &p.ledger }

// altered changes one cell of a table.
func altered(table func(*pipeline) *[][]any, row, column int, to any) func(*pipeline) {
	return func(p *pipeline) { (*table(p))[row][column] = to }
}

// removed removes a row of a table.
func removed(table func(*pipeline) *[][]any, row int) func(*pipeline) {
	return func(p *pipeline) { t := table(p); *t = slices.Delete(*t, row, row+1) }
}

// doubled adds a copy of a row to a table.
func doubled(table func(*pipeline) *[][]any, row int) func(*pipeline) {
	return func(p *pipeline) { t := table(p); *t = append(*t, (*t)[row]) }
}

// stray adds a row of another partition to a table.
func stray(table func(*pipeline) *[][]any) func(*pipeline) {
	return func(p *pipeline) { t := table(p); *t = append(*t, []any{site, int64(1), unknownPartition}) }
}

// storedAt adds an event, at ms after the start, to the table `events`.
func storedAt(ms int64, offset uint64) func(*pipeline) {
	return func(p *pipeline) {
		p.events = append(p.events, eventRow(event.Event{Site: site, Time: p.start*1000 + ms}, offset, 0,
			false, true))
	}
}

// emittedRowAt changes the first row of an emission.
func emittedRowAt(offset int, change func(*window.Second)) func(*pipeline) {
	return func(p *pipeline) { p.change(offset, func(e *window.Emission) { change(&e.Seconds[0]) }) }
}

// emittedAgain emits a changed copy of a final row.
func emittedAgain(change func(*window.Second)) func(*pipeline) {
	return func(p *pipeline) {
		p.produce(p.topic[2].Time, p.topic[1].Value)
		emittedRowAt(3, change)(p)
	}
}

// TestDifferences changes one thing of a correct pipeline. Each change is reported in its place, by its
// sentence, and as an error, which makes `nowcast verify` exit with 1.
func TestDifferences(t *testing.T) {
	const missing, madeUp = "missing", "no event of the log explains it"
	const alteredEvent, unknown = "a column differs from the log",
		"1 rows of a partition that the log doesn't have"
	drop := func(e *window.Emission) { e.Seconds = e.Seconds[1:] }
	for _, c := range []struct {
		name   string
		change func(*pipeline)
		in     string
		what   string // a part of the sentence
	}{
		{"event removed", removed(events, 0), inEventsTable, missing},
		{"late event removed", removed(events, 4), inEventsTable, missing},
		{"stale event removed", removed(events, 5), inEventsTable, missing},
		{"event doubled", doubled(events, 2), inEventsTable, "doubled"},
		{"event altered", altered(events, 3, eventPath, "/other"), inEventsTable, alteredEvent},
		{"event marked late", altered(events, 0, eventLate, true), inEventsTable, alteredEvent},
		{"event without props", altered(events, 2, eventProps, map[string]string{}), inEventsTable,
			alteredEvent},
		{"event of another day", altered(events, 1, eventDay, uint32(1)), inEventsTable, alteredEvent},
		{"event of another offset", altered(events, 1, eventOffset, int32(-1)), inEventsTable, alteredEvent},
		{"event of another user", altered(events, 1, eventUser, uint64(6)), inEventsTable, alteredEvent},
		{"event without a day, of another", altered(events, 0, eventDay, uint32(1)), inEventsTable,
			alteredEvent},
		{"filled in offset without its day", altered(events, 0, eventOffset, int32(14*3600)),
			inEventsTable, alteredEvent},
		{"event made up", storedAt(0, 100), inEventsTable, madeUp},
		{"duplicate stored", storedAt(2060, 2), inEventsTable, madeUp},
		{"event of partition 7", stray(events), inEventsTable, unknown},

		{"window removed", removed(windows, 2), inWindowsTable, missing +
			": 0 page views, 1 visitors, 1 events, 2 active"},
		{"window of another site", altered(windows, 0, windowSite, "example.org"), inWindowsTable, madeUp +
			": 2 page views"},
		{"window made up", func(p *pipeline) { p.windows[2][windowSecond] = p.start + 3 }, inWindowsTable,
			madeUp},
		{"window of partition 7", stray(windows), inWindowsTable, unknown},

		{"emission without a row", func(p *pipeline) { p.change(2, drop) }, inWindowsTopic, missing +
			": 1 page views"},
		{"emitted row altered", emittedRowAt(2, func(s *window.Second) { s.Pageviews = 9 }), inWindowsTopic,
			"pageviews is 9, recounted 1"},
		{"emitted row made up", emittedRowAt(2, func(s *window.Second) { s.Site = "example.org" }),
			inWindowsTopic, madeUp},
		{"emitted row not final", emittedRowAt(2, func(s *window.Second) { s.Final = false }), inWindowsTopic,
			"the second is over and its row isn't final"},
		{"one version altered", emittedAgain(func(s *window.Second) { s.Visitors++ }), inWindowsTopic,
			"one version has two contents: 2 page views, 3 visitors"},
		{"final row changed", emittedAgain(func(s *window.Second) { s.Events++; s.Version++ }),
			inWindowsTopic, "a final row changes from 2 page views"},
		{"final row not final", emittedAgain(func(s *window.Second) { s.Final = false; s.Version++ }),
			inWindowsTopic,
			"a final row changes"},
		{"emission of partition 3", func(p *pipeline) {
			p.change(0,
				func(e *window.Emission) { e.Partition = 3 })
		},
			inWindowsTopic, "the record is about partition 3"},

		{"ledger row removed", removed(ledger, 0), inLedgerTable,
			missing + ": 7 received, 4 counted, 1 late, 0 stale, 1 duplicate, 1 dropped"},
		{"ledger row doubled", doubled(ledger, 0), inLedgerTable, "received is 14, recounted 7"},
		{"ledger row unbalanced", altered(ledger, 0, ledgerLate, uint64(2)), inLedgerTable,
			"late is 2, recounted 1, it doesn't add up: 7 received, but 8 counted"},
		{"ledger reason altered", altered(ledger, 0, ledgerDropped, map[string]uint64{"spam": 1}),
			inLedgerTable, "dropped as bot is 0, recounted 1, dropped as spam is 1, recounted 0"},
		{"ledger row made up", func(p *pipeline) { p.ledger[1][ledgerMinute] = p.start/60 - 1 },
			inLedgerTable, madeUp + ": 1 received"},
		{"ledger row of partition 7", stray(ledger), inLedgerTable, unknown},

		{"tallies without events", func(p *pipeline) {
			tally := event.Tally{Site: site, Minute: p.start / 60, Count: 3}
			p.envelope(3, 1, p.start*1000+3000, 0, nil, tally)
		}, inEventsTopic, "tallies and events don't fit: 3 received, 0 dropped, 0 events"},
	} {
		t.Run(c.name, func(t *testing.T) { found(t, c.change, c.in, c.what) })
	}
	for i, name := range []string{"pageviews", "visitors", "events", "active"} {
		t.Run("window's "+name, func(t *testing.T) {
			found(t, altered(windows, 1, windowFirst+i, uint32(7)), inWindowsTable, name+" is 7, recounted ")
		})
	}
	for i, name := range []string{"received", "counted", "late", "stale", "duplicate"} {
		t.Run("ledger's "+name, func(t *testing.T) {
			found(t, altered(ledger, 0, ledgerFirst+i, uint64(99)), inLedgerTable, name+" is 99, recounted ")
		})
	}
}

// found checks that a change is reported.
func found(t *testing.T, change func(*pipeline), in, what string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPipeline()
		change(p)
		r, err := p.verify(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		has := false
		for _, d := range r.Differences {
			has = has || d.In == in && strings.Contains(d.What, what)
		}
		if err := r.Err(); !has || err == nil || !strings.HasSuffix(err.Error(), "can't be explained") {
			t.Errorf("%v: %+v, want %q in %s", err, r.Differences, what, in)
		}
		var text strings.Builder
		if err := r.Print(&text, 50); err != nil || !strings.Contains(text.String(), what) {
			t.Errorf("the printed report lacks %q: %v\n%s", what, err, &text)
		}
	})
}

// TestNoDifferences changes what no query sees, or what isn't due yet.
func TestNoDifferences(t *testing.T) {
	for _, c := range []struct {
		name        string
		change      func(*pipeline)
		note        string // a part of a note, "" for none
		notCompared string // the same
	}{
		{"emission repeated", emittedAgain(func(*window.Second) {}), "", ""},
		{"older version later",
			emittedAgain(func(s *window.Second) { s.Events++; s.Final = false; s.Version -= 2 }), "", ""},
		{"ledger in two segments", func(p *pipeline) {
			p.ledger[0][ledgerFirst], p.ledger[0][ledgerFirst+1] = uint64(6), uint64(3)
			p.ledger = append(p.ledger, []any{site, p.start / 60, uint64(1), uint64(1), uint64(1),
				uint64(0), uint64(0), uint64(0), map[string]uint64{}, uint64(1)})
		}, "", ""},
		{"day of an event of before filled in", func(p *pipeline) {
			p.events[0][eventDay], p.events[0][eventOffset] = p.events[0][eventDay].(uint32)+1, int32(14*3600)
		}, "", ""},
		{"unreadable record", func(p *pipeline) {
			p.log = append(p.log, broker.Record{Offset: 6, Time: p.start*1000 + 6000, Value: []byte("x")})
		},
			"partition 0, offset 6: the record can't be read", ""},
		{"unreadable emission", func(p *pipeline) { p.produce(p.start*1000, []byte("x")) },
			"offset 3 of nowcast.windows.v1: the record can't be read", ""},
		{"event not stored yet", func(p *pipeline) {
			p.events = append(p.events[:3], p.events[5])
			p.committed[topic.Events] = func() int64 { return 2 }
		}, "", "the store lane is 3 records behind"},
		{"window not stored yet", func(p *pipeline) {
			p.windows = p.windows[:1]
			p.committed[topic.Windows] = func() int64 { return 2 }
		}, "", "the store lane is 1 records behind"},
		{"windows not emitted yet", func(p *pipeline) { p.topic, p.windows = p.topic[:2], p.windows[:1] },
			"", "the windows lane is 3 s behind the log"},
		{"no windows emitted yet", func(p *pipeline) { p.topic, p.windows = nil, nil }, "",
			"the windows lane hasn't come to the span yet"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPipeline()
				c.change(p)
				r, err := p.verify(t.Context(), 0)
				if err != nil || r.Different != 0 {
					t.Fatalf("%v: %+v", err, r.Differences)
				}
				if notes := strings.Join(r.Notes, "\n"); !strings.Contains(notes, c.note) || c.note == "" &&
					notes != "" {
					t.Errorf("notes %q, want %q", notes, c.note)
				}
				behind := strings.Join(r.NotCompared, "\n")
				if !strings.Contains(behind, c.notCompared) || c.notCompared == "" && behind != "" ||
					(r.Err() != nil) != (c.notCompared != "") {
					t.Errorf("not compared %q, want %q; %v", behind, c.notCompared, r.Err())
				}
			})
		})
	}
}

// TestLostHead checks that rows of records that retention has deleted are no differences.
func TestLostHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeline()
		p.first = 1
		p.windows, p.topic = nil, nil
		r, err := p.verify(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if notes := strings.Join(r.Notes, "\n"); !strings.Contains(notes, "the log begins at offset 1") {
			t.Errorf("notes %q", notes)
		}
		for _, d := range r.Differences {
			if d.In == inEventsTable || d.In == inLedgerTable {
				t.Errorf("%+v", d)
			}
		}
	})
}

// TestWait checks that a run waits for lanes that catch up in time, and ends with its context.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeline()
		caughtUp := time.Now().Add(3 * time.Second)
		p.committed[topic.Events] = func() int64 {
			if time.Now().Before(caughtUp) {
				return 0
			}
			return int64(len(p.log))
		}
		if r, err := p.verify(t.Context(), 10*time.Second); err != nil || r.Err() != nil ||
			time.Now().Before(caughtUp) {
			t.Errorf("%+v %v at %v", r, err, time.Now())
		}
		p.topic = p.topic[:2]
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.verify(ctx, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended with %v", err)
		}
	})
}

// TestFailures checks that a run fails if something can't be read.
func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeline()
		p.fail = errors.New("connection refused")
		const want = "partition 0: read windows from ClickHouse: connection refused"
		if _, err := p.verify(t.Context(), 0); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		now := time.Now()
		if _, err := newRun(Config{From: now, To: now.Add(time.Millisecond)}, p, p,
			p).run(t.Context()); err == nil ||
			!strings.HasPrefix(err.Error(), "the span is empty") {
			t.Errorf("an empty span: %v", err)
		}
	})
}

// TestPrint checks that a report lists late events, and names how many differences it leaves out.
func TestPrint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeline()
		p.events = nil
		r, err := p.verify(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := r.Print(&b, 2); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"Late events: ", "0000000000000001", "2 to 2", "1.6 s", "and 4 more",
			"6 records of 1 partitions"} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("no %q in:\n%s", want, &b)
			}
		}
	})
}

// TestRecount recounts visitors that leave, and one whose id changes at midnight.
func TestRecount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeline()
		p.log = nil
		b := p.start * 1000
		view := func(at int64, visitor, previous uint64) []event.Event {
			return []event.Event{{Site: site, Time: b + at, Visitor: visitor, PreviousVisitor: previous,
				Kind: event.Pageview}}
		}
		p.envelope(1, 1, b+100, b, view(50, 1, 0))
		p.envelope(1, 2, b+10_100, b+10_000, view(10_050, 2, 1)) // visitor 1 after midnight
		p.envelope(1, 3, b+20_100, b+20_000, view(20_050, 3, 0))
		p.envelope(1, 4, b+400_000, b+399_999, nil)
		rc := newRecount(Config{From: time.Unix(p.start, 0), To: time.Unix(p.start+400, 0)}, 0)
		for _, x := range p.log {
			rc.addEnvelope(x, &Report{})
		}
		want := map[rowKey]row{
			{site, p.start}:       {1, 1, 1, 1},
			{site, p.start + 10}:  {1, 1, 1, 1},
			{site, p.start + 20}:  {1, 1, 1, 2},
			{site, p.start + 310}: {0, 0, 0, 1},
			{site, p.start + 320}: {0, 0, 0, 0},
		}
		if got := rc.rows(); !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if got := rc.finalAt(p.start + 10); got != 2 {
			t.Errorf("the second is final at offset %d, want 2", got)
		}
	})
}
