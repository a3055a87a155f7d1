package aggregator

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"nowcast/aggregator/fold"
	"nowcast/aggregator/group"
	"nowcast/internal/event"
	"nowcast/internal/topic"
)

// ledger returns what a query of the table returns: the highest version of each row, summed by site and
// minute. It checks that each row balances.
func (s *sink) ledger(t *testing.T) map[string]string {
	type row struct {
		version int
		numbers []uint64
		dropped []reasonCount
	}
	newest := map[string]row{}
	for _, text := range s.rows("ledger") {
		cells := strings.Split(text, "|")
		key, x := strings.Join(cells[:4], "/"), row{}
		x.version, _ = strconv.Atoi(cells[10])
		for _, c := range cells[4:9] {
			n, _ := strconv.ParseUint(c, 10, 64)
			x.numbers = append(x.numbers, n)
		}
		sum := x.numbers[1] + x.numbers[2] + x.numbers[3] + x.numbers[4]
		for pair := range strings.FieldsSeq(strings.Trim(strings.TrimPrefix(cells[9], "map"), "[]")) {
			reason, count, _ := strings.Cut(pair, ":")
			n, _ := strconv.ParseUint(count, 10, 64)
			x.dropped = append(x.dropped, reasonCount{reason, n})
			sum += n
		}
		if x.numbers[0] != sum {
			t.Errorf("%s doesn't balance: %s", key, text)
		}
		if old, has := newest[key]; !has || x.version > old.version {
			newest[key] = x
		}
	}
	sums := map[string]*entry{}
	for key, x := range newest {
		key = strings.Join(strings.Split(key, "/")[:2], " ")
		e := sums[key]
		if e == nil {
			e = &entry{}
			sums[key] = e
		}
		e.received += x.numbers[0]
		e.counted += x.numbers[1]
		e.late += x.numbers[2]
		e.stale += x.numbers[3]
		e.duplicate += x.numbers[4]
		for _, d := range x.dropped {
			e.drop(d.reason, d.n)
		}
	}
	return ledgerTexts(sums)
}

func ledgerTexts(sums map[string]*entry) map[string]string {
	texts := map[string]string{}
	for key, e := range sums {
		texts[key] = fmt.Sprint(e.received, e.counted, e.late, e.stale, e.duplicate, e.dropped)
	}
	return texts
}

// wantLedger recounts the log without segments and batches.
func (w *world) wantLedger() map[string]string {
	sums := map[string]*entry{}
	of := func(site string, minute int64) *entry {
		key := fmt.Sprint(site, " ", minute*60)
		if sums[key] == nil {
			sums[key] = &entry{}
		}
		return sums[key]
	}
	for p := range partitions {
		r := fold.NewClassifier(fold.StandardRules())
		for _, e := range w.log[p] {
			e.Events = slices.Clone(e.Events)
			if e.Header.Version == 0 || !r.Begin(e.Header, e.Time) {
				continue
			}
			for i := range e.Events {
				class := r.Classify(&e.Events[i])
				x := of(e.Events[i].Site, e.Events[i].Time/60_000)
				*map[fold.Class]*uint64{fold.Counted: &x.counted, fold.Late: &x.late, fold.Stale: &x.stale,
					fold.Duplicate: &x.duplicate}[class]++
				if len(e.Tallies) == 0 {
					x.received++
				}
			}
			for _, t := range e.Tallies {
				if x := of(t.Site, min(t.Minute, e.Time/60_000)); t.Reason == "" {
					x.received += t.Count
				} else {
					x.drop(t.Reason, t.Count)
				}
			}
			r.End()
		}
	}
	return ledgerTexts(sums)
}

// tallied sends an envelope as an ingest node does, with the tallies of its events and of dropped beacons.
func (w *world) tallied(partition int, dropped map[string]string, events ...event.Event) {
	w.t.Helper()
	w.sequence[partition]++
	e := fold.Envelope{Offset: int64(len(w.log[partition])), Time: w.clock,
		Header: event.Header{Version: event.Version, Node: w.node, Sequence: w.sequence[partition],
			Low: w.clock - 1}, Events: events}
	received := map[siteMinute]uint64{}
	for _, x := range events {
		e.Header.Low = min(e.Header.Low, x.Time-1)
		received[siteMinute{x.Site, x.Time / 60_000}]++
	}
	for reason, site := range dropped {
		received[siteMinute{site, w.clock / 60_000}]++
		e.Tallies = append(e.Tallies, event.Tally{Site: site, Minute: w.clock / 60_000, Reason: reason,
			Count: 1})
	}
	for k, n := range received {
		e.Tallies = append(e.Tallies, event.Tally{Site: k.site, Minute: k.minute, Count: n})
	}
	w.append(partition, e)
}

// TestLedger sends random beacons, among them duplicates, late and dropped ones, in envelopes of which some
// are written twice, through lanes that restart and inserts whose outcome is unknown. In every row at any
// time received is the sum of the others, and in the end each beacon is in one of them.
func TestLedger(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newSink(t)
	r := rand.New(rand.NewPCG(1, 2))
	for run := range 4 {
		_, _, stop := w.lanes(Config{Windows: true, Store: true, Drain: time.Duration(run%2) * time.Second},
			s)
		for range 60 {
			w.clock += int64(r.IntN(9000))
			p := r.IntN(partitions)
			var events []event.Event
			for range r.IntN(6) {
				x := w.view(uint64(r.IntN(50)), "/")
				x.Site = fmt.Sprintf("%d.example", r.IntN(3))
				x.Time -= int64(r.IntN(200))
				if r.IntN(10) == 0 {
					x.Time -= 60_000 // late
				}
				if x.HasID = r.IntN(2) == 0; x.HasID {
					x.ID = [16]byte{byte(r.IntN(40)), 1}
				}
				events = append(events, x)
			}
			dropped := map[string]string{}
			for _, reason := range []string{"bot", "prefetch", "spam_referrer"} {
				if r.IntN(4) == 0 {
					dropped[reason] = fmt.Sprintf("%d.example", r.IntN(4))
				}
			}
			w.tallied(p, dropped, events...)
			if n := len(w.log[p]); r.IntN(8) == 0 {
				again := w.log[p][n-1]
				again.Offset++
				w.append(p, again)
			}
			if r.IntN(20) == 0 {
				s.set(nil, false, 2)
			}
		}
		if run%2 == 0 {
			w.stored(s)
		}
		stop()
	}
	w.odd() // among them envelopes without tallies
	w.lanes(Config{Windows: true, Store: true}, s)
	w.stored(s)
	if _, sum := w.wantEvents(); sum.Late == 0 || sum.Stale == 0 || sum.Duplicate == 0 {
		t.Errorf("the log is no test: %+v", sum)
	}
	if n, all := len(s.ledger(t)), len(s.rows("ledger")); n > all {
		t.Errorf("%d rows for %d sites and minutes", all, n)
	}
}

// TestLedgerAway checks that events are stored while the ledger can't be written and that the position
// waits, so that a crash loses neither.
func TestLedgerAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newSink(t)
	s.only = "ledger"
	s.set(errors.New("no such table"), false, 0)
	_, _, stop := w.lanes(Config{Windows: true, Store: true, Drain: 100 * time.Millisecond}, s)
	w.traffic(1, 40, 5*time.Minute)
	w.until(10*time.Second, "events stored", func() string {
		want, _ := w.wantEvents()
		return differs(s.rows("events"), want)
	})
	stop()
	for of, offset := range w.committed("nowcast-store") {
		if of.topic == topic.Events && offset > 0 {
			t.Errorf("%v: %d is committed and nothing of the ledger stored", of, offset)
		}
	}
	s.set(nil, false, 0)
	w.lanes(Config{Windows: true, Store: true}, s)
	w.stored(s)
}

// TestLedgerSegments checks that a segment ends with the minute of the log's time, or at maxEntries.
func TestLedgerSegments(t *testing.T) {
	var l ledger
	take := func(offset, now int64, sites ...string) (from []int64) {
		e := fold.Envelope{Offset: offset, Time: now}
		var classes []fold.Class
		for _, s := range sites {
			e.Events, classes = append(e.Events, event.Event{Site: s, Time: now}),
				append(classes, fold.Counted)
		}
		l.add(&e, classes, now)
		for _, x := range l.touched {
			from = append(from, x.segment)
		}
		return from
	}
	many := make([]string, maxEntries)
	for i := range many {
		many[i] = strconv.Itoa(i)
	}
	for _, c := range []struct {
		offset, now int64
		sites       []string
		rows        int
		from        int64
	}{
		{5, 60_000, []string{"a", "b", "a"}, 2, 5}, {6, 119_999, []string{"a"}, 1, 5},
		{7, 119_999, nil, 0, 0}, {8, 120_000, []string{"a"}, 1, 8},
		{9, 120_000, many, maxEntries, 8}, {10, 120_000, []string{"a"}, 1, 10},
		{11, 120_000, []string{"a"}, 1, 10},
	} {
		if from := take(c.offset, c.now, c.sites...); len(from) != c.rows || c.rows > 0 &&
			(slices.Min(from) != c.from || slices.Max(from) != c.from) {
			t.Errorf("%d: %d rows of %v, want %d of %d", c.offset, len(from), from[:min(3, len(from))],
				c.rows, c.from)
		}
	}
}

// TestLowerPositions checks that the lower position of both sinks is committed.
func TestLowerPositions(t *testing.T) {
	at := func(partition int, offset int64) group.Position {
		return group.Position{Topic: topic.Events, Partition: partition, Offset: offset,
			Metadata: strconv.FormatInt(offset, 10)}
	}
	for _, c := range []struct{ a, b, want []group.Position }{
		{nil, []group.Position{at(0, 1)}, nil},
		{[]group.Position{at(0, 1)}, []group.Position{at(1, 1)}, nil},
		{[]group.Position{at(0, 1), at(1, 9)}, []group.Position{at(1, 7), at(0, 5)},
			[]group.Position{at(0, 1), at(1, 7)}},
	} {
		if got := lowerPositions(c.a, c.b); !slices.Equal(got, c.want) {
			t.Errorf("%v, %v: got %v", c.a, c.b, got)
		}
	}
}

// BenchmarkLedger measures what the ledger adds to an event of the store lane, in envelopes of a hundred.
func BenchmarkLedger(b *testing.B) {
	for _, sites := range []int{1, 100} {
		b.Run(fmt.Sprint(sites), func(b *testing.B) {
			e := fold.Envelope{Time: 1795435200000}
			classes := make([]fold.Class, 100)
			for i := range classes {
				classes[i] = fold.Counted
				e.Events = append(e.Events, event.Event{Site: fmt.Sprintf("%d.example.com", i%sites),
					Time: e.Time})
			}
			for i := range sites {
				e.Tallies = append(e.Tallies,
					event.Tally{Site: e.Events[i].Site, Minute: e.Time / 60_000, Count: uint64(100 / sites)})
			}
			var l ledger
			var rows ledgerRows
			n := 0
			for b.Loop() {
				e.Offset++
				l.add(&e, classes, e.Time)
				rows.add(0, l.touched, nil)
				n += len(classes)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
		})
	}
}
