package aggregator

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"nowcast/aggregator/fold"
	"nowcast/internal/broker"
	"nowcast/internal/event"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

// TestWindows follows an event: it is emitted at once, is final when the watermark has passed its second,
// and its visitor leaves after five minutes.
func TestWindows(t *testing.T) {
	w := newWorld(t)
	w.start(Config{Windows: true})
	w.clock = w.clock/1000*1000 + 100
	second := w.clock / 1000
	sent := time.Now()
	w.send(0, w.view(1, "/"), w.view(2, "/a"), w.view(1, "/b"))
	w.send(1, w.view(3, "/"))
	key := func(p int, at int64) string { return fmt.Sprint(p, " example.com ", at) }
	w.until(5*time.Second, "provisional", func() string {
		rows, nows, _ := w.emitted()
		r, n := rows[key(0, second)], nows["0 example.com"]
		if r.Pageviews != 3 || r.Visitors != 2 || r.Active != 2 || r.Final || r.Revision != 3 ||
			len(n.Pages) != 2 || rows[key(1, second)].Active != 1 {
			return fmt.Sprintf("%+v %+v", r, n)
		}
		return ""
	})
	t.Logf("sent to emitted: %v", time.Since(sent))
	w.clock += 1000
	w.send(0)
	w.send(1)
	w.until(5*time.Second, "final", func() string {
		rows, _, watermark := w.emitted()
		if r := rows[key(0, second)]; !r.Final || r.Revision != 4 || r.Active != 2 ||
			watermark[1]/1000 != second+1 {
			return fmt.Sprintf("%+v, watermarks %v", r, watermark)
		}
		return ""
	})
	w.clock += 300_000
	w.send(0)
	w.send(1)
	w.until(5*time.Second, "gone", func() string {
		rows, nows, _ := w.emitted()
		r, has := rows[key(0, second+300)]
		if n := nows["0 example.com"]; !has || !r.Final || r.Active != 0 || len(n.Pages) != 0 {
			return fmt.Sprintf("%+v %+v", r, n)
		}
		return ""
	})
	w.agree()
}

// traffic sends n envelopes of random events over d of the log's time.
func (w *world) traffic(seed uint64, n int, d time.Duration) {
	r := rand.New(rand.NewPCG(seed, 2))
	for range n {
		w.clock += d.Milliseconds() / int64(n)
		p := r.IntN(partitions)
		var events []event.Event
		for range r.IntN(4) {
			e := w.view(uint64(1+r.IntN(20)*partitions+p), fmt.Sprint("/", r.IntN(5)))
			e.Kind, e.Site = event.Kind(1+r.IntN(3)), []string{"example.com", "example.org"}[r.IntN(2)]
			if r.IntN(3) == 0 {
				e.HasID, e.ID[0] = true, byte(r.IntN(100))
			}
			events = append(events, e)
		}
		w.send(p, events...)
		if r.IntN(10) == 0 { // a retry whose first try had arrived
			e := w.log[p][len(w.log[p])-1]
			e.Offset++
			w.append(p, e)
		}
	}
}

// TestTakeover checks that the rows are those of one pass over the log, whichever instance owns a
// partition.
func TestTakeover(t *testing.T) {
	w := newWorld(t)
	_, stop := w.start(Config{Windows: true})
	w.traffic(1, 60, 20*time.Minute)
	w.agree()
	stop()
	w.traffic(2, 60, 3*time.Minute) // no instance runs
	_, stop = w.start(Config{Windows: true})
	w.traffic(3, 20, time.Minute)
	w.agree()
	_, stop2 := w.start(Config{Windows: true}) // takes one of the partitions
	w.traffic(4, 30, time.Minute)
	w.agree()
	start := time.Now()
	stop()
	w.traffic(5, 30, time.Minute)
	w.agree()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("takeover after a clean stop took %v", took)
	}
	stop2()
	w.start(Config{Windows: true})
	w.clock += 310_000
	w.send(0)
	w.send(1)
	w.agree()
}

// TestDeadLetter checks that unreadable records go to the dead-letter topic and are skipped.
func TestDeadLetter(t *testing.T) {
	w := newWorld(t)
	w.start(Config{Windows: true})
	newer := event.AppendHeader(nil, event.Header{Version: event.Version + 1, Node: 1, Sequence: 1})
	for _, b := range [][]byte{[]byte("not an envelope"), newer} {
		if _, err := w.kafka.Produce(t.Context(), topic.Events, 0, time.UnixMilli(w.clock), b); err != nil {
			t.Fatal(err)
		}
	}
	w.log[0] = make([]fold.Envelope, 2)
	w.send(0, w.view(1, "/"))
	w.until(5*time.Second, "going on", func() string {
		if rows, _, _ := w.emitted(); len(rows) != 1 {
			return fmt.Sprint(rows)
		}
		return ""
	})
	var letters []string
	_ = w.kafka.Follow(t.Context(), broker.Follower{Topic: topic.DeadLetter,
		Record: func(r broker.Record) error {
			letters = append(letters, string(r.Value))
			if len(letters) == 2 {
				return fmt.Errorf("enough")
			}
			return nil
		}})
	want := `{"lane":"windows","topic":"nowcast.events.v1","partition":0,"offset":1,` +
		`"reason":"read header of version 2, this program knows up to 1: newer schema version"}`
	if len(letters) != 2 || letters[1] != want {
		t.Errorf("got %q, want %s", letters, want)
	}
}

// TestPendingThins checks that all final rows are emitted, of provisional ones the newest, and a site's
// lists at most once a second.
func TestPendingThins(t *testing.T) {
	w := fold.NewWindows(fold.StandardRules())
	p := newPending(3, w.Fold)
	offset := int64(0)
	send := func(at int64, events ...event.Event) {
		offset++
		e := fold.Envelope{Offset: offset, Time: at,
			Header: event.Header{Node: 1, Sequence: uint64(offset), Low: at - 1}, Events: events}
		finals, _ := w.Apply(&e)
		p.add(finals, offset, w.Classifier)
	}
	view := func(at int64, visitor uint64) event.Event {
		return event.Event{Time: at, Visitor: visitor, Kind: event.Pageview, Site: "x", Path: "/"}
	}
	now := time.UnixMilli(1_795_435_201_000)
	at := now.UnixMilli()
	send(at, view(at, 1), view(at-1000, 2))
	send(at+10, view(at+10, 3))
	send(at+20, view(at+20, 4))
	if records, n := p.emit(now); n != (counts{1, 1, 1}) || len(records) != 1 {
		t.Errorf("%+v in %d records", n, len(records))
	}
	send(at+30, view(at+30, 5))
	if _, n := p.emit(now.Add(emitInterval)); n != (counts{0, 1, 0}) || !p.hasChanges() {
		t.Errorf("%+v, want the row and the list not twice within a second", n)
	}
	if _, n := p.emit(now.Add(listInterval)); n != (counts{0, 0, 1}) || p.hasChanges() {
		t.Errorf("%+v after a second, want the list", n)
	}
	send(at+40, view(at+40, 6))
	send(at + 2000)
	if _, n := p.emit(now.Add(2 * listInterval)); n != (counts{1, 0, 1}) || p.hasChanges() {
		t.Errorf("%+v, want no provisional row of a second that is over", n)
	}
}

// TestPendingCuts checks that a large emission is cut into records, of which only the last carries the new
// watermark.
func TestPendingCuts(t *testing.T) {
	p := newPending(0, fold.New(fold.StandardRules()))
	r := fold.NewClassifier(fold.StandardRules())
	var finals []window.Second
	for i := range 60_000 {
		finals = append(finals, window.Second{Site: fmt.Sprintf("site-%d.example.com", i),
			At: 1_795_435_200, Events: 1, Final: true, Version: 1 << 52})
	}
	r.Begin(event.Header{Node: 1, Sequence: 1, Low: 1_795_435_201_000}, 1_795_435_201_000)
	p.add(finals, 7, r)
	records, _ := p.emit(time.Now())
	rows := 0
	for i, b := range records {
		var e window.Emission
		if err := e.Decode(b); err != nil || len(b) > maxRecord+64 {
			t.Fatal(len(b), err)
		}
		if last := i == len(records)-1; (e.Watermark == 1_795_435_201_000) != last || e.Offset != 7 {
			t.Errorf("record %d of %d: watermark %d, offset %d", i, len(records), e.Watermark, e.Offset)
		}
		rows += len(e.Seconds)
	}
	if rows != 60_000 || len(records) < 3 {
		t.Errorf("%d rows in %d records", rows, len(records))
	}
}
