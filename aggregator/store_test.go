package aggregator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"nowcast/aggregator/fold"
	"nowcast/aggregator/group"
	"nowcast/internal/broker"
	"nowcast/internal/event"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

// lanes starts lanes that write to db. It doesn't wait until they are ready.
func (w *world) lanes(cfg Config, db inserter) (s *Service, m *metrics, stop func()) {
	w.t.Helper()
	registry := prometheus.NewRegistry()
	deps := w.deps(registry)
	if cfg.Session == 0 {
		cfg.Session = 10 * time.Second
	}
	if cfg.Drain == 0 {
		cfg.Drain = 3 * time.Second
	}
	s, m = &Service{log: deps.Log}, newMetrics(registry)
	if cfg.Windows {
		s.lanes = append(s.lanes, newLane("windows", cfg, deps, m,
			func(d *laneDeps, committed []group.Position) work {
				x := newWindowsWork(d, committed).(*windowsWork)
				for _, p := range x.partitions {
					p.maxFinals = cmp.Or(w.maxFinals, p.maxFinals)
				}
				return x
			}, topic.Events))
	}
	if cfg.Store {
		s.lanes = append(s.lanes, newLane("store", cfg, deps, m,
			func(d *laneDeps, committed []group.Position) work {
				return newStoreWork(d, db, committed)
			}, topic.Events, topic.Windows))
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, l := range s.lanes {
		l.recreationGrace = time.Second
		wg.Go(func() { l.member.Run(ctx) })
	}
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	w.t.Cleanup(stop)
	return s, m, stop
}

// odd sends what traffic doesn't: a late event, a stale envelope and a duplicate.
func (w *world) odd() {
	for p := range partitions {
		late := w.view(uint64(100+p), "/late")
		late.Time -= 120_000
		w.send(p, late)
		x := w.view(uint64(102+p), "/twice")
		x.HasID, x.ID = true, [16]byte{1: 7}
		w.send(p, x, x)
		stale := w.view(uint64(104+p), "/stale")
		stale.Time -= 700_000
		w.append(p, fold.Envelope{Offset: int64(len(w.log[p])), Time: stale.Time,
			Events: []event.Event{stale},
			Header: event.Header{Version: event.Version, Node: 1000 + uint64(len(w.log[p])), Sequence: 1,
				Low: stale.Time - 1}})
		w.clock += 1000
		w.send(p) // makes a second final, so that there is something to say
	}
}

// wantEvents returns the rows that one pass over the log stores, and its outcome.
func (w *world) wantEvents() (want map[string]string, sum fold.Outcome) {
	want = map[string]string{}
	for p := range partitions {
		r, rows := fold.NewClassifier(fold.StandardRules()), &eventRows{}
		for _, e := range w.log[p] {
			e.Events = slices.Clone(e.Events)
			if e.Header.Version == 0 || !r.Begin(e.Header, e.Time) {
				continue
			}
			for i := range e.Events {
				class := r.Classify(&e.Events[i])
				if sum.Add(class); class != fold.Duplicate {
					rows.add(p, &e, i, class)
				}
			}
			r.End()
		}
		keys, texts := texts("events", sent(w.t, "events", rows.columns()))
		for i, key := range keys {
			want[key] = texts[i]
		}
	}
	return want, sum
}

// wantWindows returns the final rows of one pass over the log.
func (w *world) wantWindows() map[string]string {
	rows := &windowRows{}
	for key, s := range w.want() {
		if s.Final {
			rows.add(uint32(key[0]-'0'), &s)
		}
	}
	keys, texts := texts("windows", sent(w.t, "windows", rows.columns()))
	want := map[string]string{}
	for i, key := range keys {
		want[key] = texts[i]
	}
	return want
}

// stored waits until the sink has exactly the rows of one pass over the log.
func (w *world) stored(s *sink) {
	w.t.Helper()
	events, _ := w.wantEvents()
	for table, want := range map[string]map[string]string{"events": events, "windows": w.wantWindows()} {
		w.until(10*time.Second, table+" stored", func() string { return differs(s.rows(table), want) })
	}
	want := w.wantLedger()
	w.until(10*time.Second, "ledger stored", func() string { return differs(s.ledger(w.t), want) })
}

// positions returns the positions that a group has committed, with offset -1 where it has none.
func (w *world) positions(id string) []group.Position {
	w.t.Helper()
	all, err := w.kafka.Committed(w.t.Context(), id, []int{0, 1}, topic.Events, topic.Windows)
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// committed returns the offsets of a group.
func (w *world) committed(id string) map[topicPartition]int64 {
	w.t.Helper()
	offsets := map[topicPartition]int64{}
	for _, p := range w.positions(id) {
		offsets[topicPartition{p.Topic, p.Partition}] = p.Offset
	}
	return offsets
}

// TestStore checks that all tables get the rows of one pass over the log, each event once, across restarts.
func TestStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newSink(t)
	_, _, stop := w.lanes(Config{Windows: true, Store: true}, s)
	w.traffic(1, 60, 20*time.Minute)
	w.odd()
	w.stored(s)
	stop()
	w.traffic(2, 40, 2*time.Minute)
	w.odd()
	_, m, _ := w.lanes(Config{Windows: true, Store: true}, s)
	w.traffic(3, 20, time.Minute)
	w.stored(s)
	if _, sum := w.wantEvents(); sum.Late == 0 || sum.Stale == 0 || sum.Duplicate == 0 {
		t.Errorf("the log is no test: %+v", sum)
	}
	if n := testutil.ToFloat64(m.stored.WithLabelValues("events")); n == 0 ||
		n > float64(len(s.rows("events"))) {
		t.Errorf("%v rows counted of %d", n, len(s.rows("events")))
	}
}

// TestStoreUnavailable checks that windows are emitted as usual while ClickHouse is unavailable, and that the
// missing rows are stored afterwards.
func TestStoreUnavailable(t *testing.T) {
	for _, c := range []struct {
		name string
		down error
		hung bool
	}{{"fails", errors.New("connection refused"), false}, {"hangs", nil, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := newSink(t)
			service, m, stop := w.lanes(Config{Windows: true, Store: true, Drain: 300 * time.Millisecond}, s)
			w.traffic(1, 40, 20*time.Minute)
			w.stored(s)
			s.set(c.down, c.hung, 0)
			w.traffic(2, 20, time.Minute)
			if !c.hung {
				w.until(5*time.Second, "degraded and ready", func() string {
					ok, store := isReady(service), service.Degraded()["store"]
					if !ok || !strings.Contains(store, "can't insert into ClickHouse: ") {
						return fmt.Sprint(ok, store)
					}
					return ""
				})
				w.until(5*time.Second, "counted", func() string {
					if n := testutil.ToFloat64(m.retries.WithLabelValues("events")); n == 0 {
						return "no attempt"
					}
					return ""
				})
			}
			slowest := time.Duration(0)
			for range 10 {
				w.clock += 1000
				w.send(0, w.view(1, "/"))
				sent := time.Now()
				w.until(5*time.Second, "emitted", func() string {
					if _, _, watermark := w.emitted(); watermark[0] < w.clock-1 {
						return fmt.Sprint(watermark)
					}
					return ""
				})
				slowest = max(slowest, time.Since(sent))
			}
			w.agree()
			if slowest > 3*time.Second { // a busy machine; an insert is given a minute
				t.Errorf("windows came up to %v late", slowest)
			}
			start := time.Now()
			stop()
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("stopped after %v", took)
			}
			got, offsets := s.rows("events"), w.committed("nowcast-store")
			want, _ := w.wantEvents()
			for key := range want {
				var p int
				var offset int64
				_, _ = fmt.Sscanf(key, "%d/%d/", &p, &offset)
				if _, has := got[key]; !has && offset < offsets[topicPartition{topic.Events, p}] {
					t.Errorf("%s isn't stored, and %d is committed", key,
						offsets[topicPartition{topic.Events, p}])
				}
			}
			s.set(nil, false, 0)
			w.lanes(Config{Windows: true, Store: true}, s)
			w.stored(s)
		})
	}
}

// TestStoreUnknownOutcome checks that an insert without an acknowledgement is repeated with the same rows
// under the same token.
func TestStoreUnknownOutcome(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newSink(t)
	w.lanes(Config{Windows: true, Store: true}, s)
	for i := range uint64(3) {
		s.set(nil, false, 3)
		w.traffic(i, 20, time.Minute)
		w.stored(s)
	}
	w.until(10*time.Second, "inserted again", func() string {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.again < 3 {
			return fmt.Sprint(s.again)
		}
		return ""
	})
}

// TestStoreDeadLetter checks that unreadable records of either topic go to the dead-letter topic and are
// skipped.
func TestStoreDeadLetter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.garbage.Store(true)
	s := newSink(t)
	_, m, _ := w.lanes(Config{Store: true}, s)
	newer := window.Emission{Version: window.Version + 1, Epoch: 1}
	row := window.Emission{Version: window.Version, Epoch: 1, Partition: 0, Seconds: []window.Second{
		{Site: "example.com", At: 1_795_435_200, Events: 1, Revision: 1,
			Version: window.RowVersion(1, false, 7)},
		{Site: "example.com", At: 1_795_435_199, Events: 1, Final: true, Revision: 2,
			Version: window.RowVersion(1, true, 7)}}}
	for _, b := range [][]byte{[]byte("not an emission"), newer.Append(nil), row.Append(nil)} {
		w.produce(topic.Windows, 0, b)
	}
	later := event.AppendHeader(nil, event.Header{Version: event.Version + 1, Node: 1, Sequence: 1})
	for _, b := range [][]byte{[]byte("not an envelope"), later} {
		w.produce(topic.Events, 1, b)
	}
	w.log[1] = make([]fold.Envelope, 2)
	w.send(1, w.view(1, "/"))
	w.until(10*time.Second, "going on", func() string {
		if e, r := s.rows("events"), s.rows("windows"); len(e) != 1 || len(r) != 1 ||
			!strings.HasPrefix(r["example.com/1795435199/0/"+fmt.Sprint(row.Seconds[1].Version)],
				"example.com|1795435199|0|0|0|1|0|") {
			return fmt.Sprint(e, r)
		}
		return ""
	})
	letters := map[string]string{}
	ctx, enough := context.WithTimeout(t.Context(), 10*time.Second)
	defer enough()
	_ = w.kafka.Follow(ctx, broker.Follower{Topic: topic.DeadLetter, Record: func(r broker.Record) error {
		letters[string(r.Key)] = string(r.Value)
		if len(letters) == 4 {
			enough()
		}
		return nil
	}})
	for key, reason := range map[string]string{
		"store/nowcast.windows.v1/0/0": "corrupt",
		"store/nowcast.windows.v1/0/1": "emission has a newer schema version: 2, this program knows 1",
		"store/nowcast.events.v1/1/0":  "corrupt", "store/nowcast.events.v1/1/1": "newer schema version"} {
		if v := letters[key]; !strings.Contains(v, reason) ||
			!strings.Contains(v, fmt.Sprintf(`"offset":%s,`, key[len(key)-1:])) {
			t.Errorf("%s: %q, want %s", key, v, reason)
		}
	}
	if n := testutil.ToFloat64(m.envelopes.WithLabelValues("store", "unreadable")); n != 4 {
		t.Errorf("%v counted", n)
	}
	w.until(5*time.Second, "committed", func() string {
		c := w.committed("nowcast-store")
		if c[topicPartition{topic.Windows, 0}] != 3 || c[topicPartition{topic.Events, 1}] != 3 {
			return fmt.Sprint(c)
		}
		return ""
	})
}

func (w *world) produce(topic string, partition int, value []byte) {
	w.t.Helper()
	if _, err := w.kafka.Produce(w.t.Context(), topic, partition, time.UnixMilli(w.clock),
		value); err != nil {
		w.t.Fatal(err)
	}
}

// TestStoreEngine runs the store lane on the real engine: every column arrives, and tokens prevent copies
// without FINAL.
func TestStoreEngine(t *testing.T) {
	t.Parallel()
	w := newEngineWorld(t)
	_, stop := w.start(Config{Windows: true, Store: true, Drain: time.Minute}) // creates the tables
	w.traffic(1, 30, time.Minute)
	w.agree()
	stop()
	w.lanes(Config{Windows: true, Store: true}, &forgetful{DB: w.db})
	w.traffic(2, 30, time.Minute)
	rich := w.view(9, "/bücher?q=日本")
	rich.Kind, rich.Name, rich.Props = event.Custom, "buy",
		event.AppendProp(event.AppendProp(nil, "plan", "pro"), "n", "2")
	rich.RevenueMicros, rich.Currency, rich.ScrollDepth, rich.EngagedMS, rich.Interactive = -1_500_000,
		"EUR", 300, 4_000_000_000, true
	rich.Day, rich.UTCOffset, rich.User = uint32(rich.Time/86_400_000)+1, 45_900, 77
	w.send(0, rich)
	w.odd()
	w.clock += 2000
	w.send(0)
	w.send(1)
	w.agree()
	events, _ := w.wantEvents()
	windows := w.wantWindows()
	w.until(10*time.Second, "stored", func() string {
		var c []struct {
			N        uint64 `ch:"n"`
			Distinct uint64 `ch:"d"`
		}
		for table, want := range map[string]int{"events": len(events), "windows": len(windows)} {
			key := map[string]string{"events": "kpart, koff, kidx", "windows": "site, second, part"}[table]
			if err := w.db.Select(t.Context(), &c,
				"SELECT count() n, uniqExact("+key+") d FROM "+table); err != nil {
				return err.Error()
			}
			if c[0].N != uint64(want) || c[0].Distinct != uint64(want) {
				return fmt.Sprintf("%s: %+v, want %d", table, c[0], want)
			}
			c = nil
		}
		return ""
	})
	var rows []struct {
		Path    string            `ch:"path"`
		Props   map[string]string `ch:"props"`
		Revenue int64             `ch:"revenue_micros"`
		Depth   uint8             `ch:"scroll_depth"`
		Engaged uint32            `ch:"engaged_ms"`
		TS      time.Time         `ch:"ts"`
		Day     time.Time         `ch:"day"`
		Offset  int32             `ch:"utc_offset"`
		User    uint64            `ch:"user"`
	}
	if err := w.db.Select(t.Context(), &rows,
		"SELECT path, props, revenue_micros, scroll_depth, engaged_ms, ts, day, utc_offset, user "+
			"FROM events WHERE interactive AND name = 'buy' AND NOT late AND fresh"); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 1 || rows[0].Path != rich.Path ||
		!maps.Equal(rows[0].Props, map[string]string{"plan": "pro", "n": "2"}) ||
		rows[0].Revenue != -1_500_000 ||
		rows[0].Depth != 255 || rows[0].Engaged != 4_000_000_000 || rows[0].TS.UnixMilli() != rich.Time {
		t.Errorf("got %+v, want %+v", rows, rich)
	}
	if r := rows[0]; r.Day.Unix() != int64(rich.Day)*86_400 || r.Offset != 45_900 || r.User != 77 {
		t.Errorf("got %+v, want %+v", r, rich)
	}
	// The events of before have none of the three: their day is UTC's.
	var undatedRows []struct {
		N    uint64 `ch:"n"`
		Like uint64 `ch:"l"`
	}
	if err := w.db.Select(t.Context(), &undatedRows, "SELECT countIf(utc_offset = -1) n, "+
		"countIf(utc_offset = -1 AND day = toDate(ts) AND user = 0) l FROM events"); err != nil ||
		int(undatedRows[0].N) != len(events)-1 || undatedRows[0].Like != undatedRows[0].N {
		t.Errorf("%+v %v: want %d rows of UTC's day", undatedRows, err, len(events)-1)
	}
	// More different names than fit into 16 bits.
	many, e := &eventRows{}, fold.Envelope{Events: []event.Event{{Kind: event.Pageview}}}
	for i := range 70_000 {
		x := &e.Events[0]
		x.Time, x.Site, x.Path = rich.Time, fmt.Sprint("s", i), fmt.Sprint("/", i)
		many.add(0, &e, 0, 0)
	}
	if err := many.insert(t.Context(), w.db, "many"); err != nil {
		t.Fatal(err)
	}
	var n []struct {
		N uint64 `ch:"n"`
	}
	if err := w.db.Select(t.Context(), &n,
		"SELECT uniqExact(site) n FROM events "+
			"WHERE substring(site, 2) = substring(path, 2) AND kind = 'pageview'"); err != nil ||
		n[0].N != 70_000 {
		t.Errorf("%+v %v", n, err)
	}
}
