package aggregator

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"nowcast/aggregator/fold"
	"nowcast/aggregator/group"
	"nowcast/internal/broker"
	"nowcast/internal/embedded"
	"nowcast/internal/event"
	"nowcast/internal/topic"
	"nowcast/internal/warehouse"
	"nowcast/internal/window"
)

// sink is a ClickHouse of the three tables in memory. Like the real one it drops an insert whose token it knows; unlike it, it minds when
// the rows aren't the same.
type sink struct {
	t *testing.T

	mu     sync.Mutex
	away   error  // what an insert fails with
	only   string // the table whose inserts fail; of all when empty
	hung   bool   // an insert takes until its caller gives up
	lose   int    // so many inserts are done and not acknowledged
	tokens map[string][]string
	again  int // inserts with a known token
	tables map[string]map[string]string
}

func newSink(t *testing.T) *sink {
	return &sink{t: t, tokens: map[string][]string{}, tables: map[string]map[string]string{"events": {}, "windows": {}, "ledger": {}}}
}

// be changes what the sink does with inserts.
func (s *sink) be(away error, hung bool, lose int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away, s.hung, s.lose = away, hung, lose
}

func (s *sink) rows(table string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.tables[table])
}

func (s *sink) PrepareBatch(ctx context.Context, query string, _ ...driver.PrepareBatchOption) (driver.Batch, error) {
	words := strings.FieldsFunc(query, func(r rune) bool { return strings.ContainsRune(" \n(),", r) })
	s.mu.Lock()
	away, hung := s.away, s.hung
	if s.only != "" && s.only != words[2] {
		away = nil
	}
	s.mu.Unlock()
	if hung {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if away != nil {
		return nil, away
	}
	return &sinkBatch{sink: s, token: tokenOf(ctx), table: words[2], columns: columnsOf(s.t, words[2], words[3:])}, nil
}

// tokenOf digs out what clickhouse-go keeps for itself.
func tokenOf(ctx context.Context) string {
	options := reflect.ValueOf(ctx).Elem().FieldByName("val").Elem()
	if options.Type() != reflect.TypeFor[clickhouse.QueryOptions]() {
		return ""
	}
	return options.FieldByName("settings").MapIndex(reflect.ValueOf("insert_deduplication_token")).Elem().String()
}

type sinkBatch struct {
	driver.Batch
	sink         *sink
	token, table string
	columns      []column.Interface
}

func (b *sinkBatch) Close() error                { return nil }
func (b *sinkBatch) Columns() []column.Interface { return b.columns }

// columnsOf are the client's columns for an insert into a table.
func columnsOf(t *testing.T, table string, names []string) (columns []column.Interface) {
	ours := (&eventRows{}).columns()
	switch table {
	case "windows":
		ours = (&windowRows{}).columns()
	case "ledger":
		ours = (&ledgerRows{}).columns()
	}
	for i, name := range names {
		c, err := column.Type(ours[i].Type()).Column(name, &column.ServerContext{})
		if err != nil {
			t.Fatal(err)
		}
		columns = append(columns, c)
	}
	return columns
}

// sent are rows as they arrive at the other end.
func sent(t *testing.T, table string, from []vector) []column.Interface {
	t.Helper()
	to := columnsOf(t, table, make([]string, len(from)))
	if err := fill(to, from, from[0].Rows()); err != nil {
		t.Fatal(err)
	}
	return to
}

// value is a cell, times as seconds of 1970.
func value(c column.Interface, i int) any {
	v := c.Row(i, false)
	if at, ok := v.(time.Time); ok {
		return strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', -1, 64)
	}
	return v
}

// keyOf is what a row is told by: where in the log the event was, or what the version of which second.
func keyOf(table string, columns []column.Interface, i int) string {
	at := func(c int) any { return value(columns[c], i) }
	switch table {
	case "events":
		return fmt.Sprint(at(4), "/", at(5), "/", at(6))
	case "ledger":
		return fmt.Sprint(at(0), "/", at(1), "/", at(2), "/", at(3), "/", at(10))
	}
	return fmt.Sprint(at(0), "/", at(1), "/", at(2), "/", at(7))
}

// texts are the rows with all their columns, by key.
func texts(table string, columns []column.Interface) (keys, rows []string) {
	for i := range columns[0].Rows() {
		var row strings.Builder
		for _, c := range columns {
			fmt.Fprintf(&row, "%v|", value(c, i))
		}
		keys, rows = append(keys, keyOf(table, columns, i)), append(rows, row.String())
	}
	return keys, rows
}

func (b *sinkBatch) Send() error {
	keys, rows := texts(b.table, b.columns)
	s := b.sink
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, has := s.tokens[b.token]; has || b.token == "" {
		s.again++
		if !slices.Equal(known, rows) {
			s.t.Errorf("token %q had other rows", b.token)
		}
	}
	s.tokens[b.token] = rows
	for i, key := range keys {
		if old, has := s.tables[b.table][key]; has && old != rows[i] {
			s.t.Errorf("two contents of %s %s:\n%s\n%s", b.table, key, old, rows[i])
		}
		s.tables[b.table][key] = rows[i]
	}
	if s.lose > 0 {
		s.lose--
		return errors.New("read: connection reset by peer")
	}
	return nil
}

// lanes starts lanes that write to db, and doesn't wait until they are ready.
func (w *world) lanes(cfg Config, db inserter) (s *Service, m *metrics, stop func()) {
	w.t.Helper()
	registry := prometheus.NewRegistry()
	deps := Deps{Broker: w.kafka, Log: slog.New(slog.NewTextHandler(testLog{w.t}, nil)), Metrics: registry}
	if cfg.Session == 0 {
		cfg.Session = 10 * time.Second
	}
	if cfg.Drain == 0 {
		cfg.Drain = 3 * time.Second
	}
	s, m = &Service{log: deps.Log}, newMetrics(registry)
	if cfg.Windows {
		s.lanes = append(s.lanes, newLane("windows", cfg, deps, m, func(l *lane, partitions []int, committed []group.Position) work {
			x := newWindowsWork(l, partitions, committed).(*windowsWork)
			for _, p := range x.parts {
				p.most = cmp.Or(w.most, p.most)
			}
			return x
		}, topic.Events))
	}
	if cfg.Store {
		s.lanes = append(s.lanes, newLane("store", cfg, deps, m, func(l *lane, _ []int, committed []group.Position) work {
			return newStoreWork(l, db, committed)
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

// odd sends what traffic doesn't: an event that is late, an envelope that can't be told from a retry, and an event that comes twice.
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
		w.append(p, fold.Envelope{Offset: int64(len(w.log[p])), Time: stale.Time, Events: []event.Event{stale},
			Header: event.Header{Version: event.Version, Node: 1000 + uint64(len(w.log[p])), Sequence: 1, Low: stale.Time - 1}})
		w.clock += 1000
		w.send(p) // makes a second final, so that there is something to say
	}
}

// wantEvents is what a straight run over the log stores, and how many events are late, stale and repeated in it.
func (w *world) wantEvents() (want map[string]string, sum fold.Outcome) {
	want = map[string]string{}
	for p := range partitions {
		r, rows := fold.NewReader(fold.Standard()), &eventRows{}
		for _, e := range w.log[p] {
			e.Events = slices.Clone(e.Events)
			if e.Header.Version == 0 || !r.Begin(e.Header, e.Time) {
				continue
			}
			for i := range e.Events {
				class := r.Judge(&e.Events[i])
				if sum.Add(class); class != fold.Repeated {
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

// wantWindows is what a straight run over the log says of seconds that are over.
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

// stored waits until the sink has what a straight run says, and nothing else.
func (w *world) stored(s *sink) {
	w.t.Helper()
	events, _ := w.wantEvents()
	for table, want := range map[string]map[string]string{"events": events, "windows": w.wantWindows()} {
		w.until(10*time.Second, table+" stored", func() string { return differs(s.rows(table), want) })
	}
	want := w.wantLedger()
	w.until(10*time.Second, "ledger stored", func() string { return differs(s.ledger(w.t), want) })
}

// positions are those that a group has committed; of offset -1 where it has none.
func (w *world) positions(id string) []group.Position {
	w.t.Helper()
	all, err := w.kafka.Committed(w.t.Context(), id, []int{0, 1}, topic.Events, topic.Windows)
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// committed are the offsets of a group, by topic and partition.
func (w *world) committed(id string) map[partitionOf]int64 {
	w.t.Helper()
	offsets := map[partitionOf]int64{}
	for _, p := range w.positions(id) {
		offsets[partitionOf{p.Topic, p.Partition}] = p.Offset
	}
	return offsets
}

// Both tables get what a straight run over the log says, each event once, whoever stores it and however often that changes.
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
	if _, sum := w.wantEvents(); sum.Late == 0 || sum.Stale == 0 || sum.Repeated == 0 {
		t.Errorf("the log is no test: %+v", sum)
	}
	if n := testutil.ToFloat64(m.stored.WithLabelValues("events")); n == 0 || n > float64(len(s.rows("events"))) {
		t.Errorf("%v rows counted of %d", n, len(s.rows("events")))
	}
}

// While ClickHouse is away, for whatever reason, windows come as ever, and what wasn't stored is stored afterwards.
func TestStoreAway(t *testing.T) {
	for _, c := range []struct {
		name string
		away error
		hung bool
	}{{"fails", errors.New("connection refused"), false}, {"hangs", nil, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := newSink(t)
			service, m, stop := w.lanes(Config{Windows: true, Store: true, Drain: 300 * time.Millisecond}, s)
			w.traffic(1, 40, 20*time.Minute)
			w.stored(s)
			s.be(c.away, c.hung, 0)
			w.traffic(2, 20, time.Minute)
			if !c.hung {
				w.until(5*time.Second, "unready", func() string {
					if ok, reason := service.Ready(); ok || !strings.Contains(reason, "store lane: can't insert into ClickHouse: ") {
						return fmt.Sprint(ok, reason)
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
				w.until(5*time.Second, "said", func() string {
					if _, _, watermark := w.said(); watermark[0] < w.clock-1 {
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
				if _, has := got[key]; !has && offset < offsets[partitionOf{topic.Events, p}] {
					t.Errorf("%s isn't stored, and %d is committed", key, offsets[partitionOf{topic.Events, p}])
				}
			}
			s.be(nil, false, 0)
			w.lanes(Config{Windows: true, Store: true}, s)
			w.stored(s)
		})
	}
}

// An insert that was done and not acknowledged is repeated with the same rows under the same token.
func TestStoreUnknownOutcome(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newSink(t)
	w.lanes(Config{Windows: true, Store: true}, s)
	for i := range uint64(3) {
		s.be(nil, false, 3)
		w.traffic(i, 20, time.Minute)
		w.stored(s)
	}
	w.until(10*time.Second, "repeated", func() string {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.again < 3 {
			return fmt.Sprint(s.again)
		}
		return ""
	})
}

// blank is a table of rows without content.
type blank struct {
	n    int
	send func(ctx context.Context, rows int, token string) error
}

func (k *blank) rows() int { return k.n }
func (k *blank) reset()    { k.n = 0 }
func (k *blank) insert(ctx context.Context, _ inserter, token string) error {
	return k.send(ctx, k.n, token)
}

// What comes while an insert is under way is inserted too when the run ends meanwhile: nobody would read it again.
func TestBatcherEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stored := 0
		b := newBatcher(&lane{name: "store", log: slog.New(slog.DiscardHandler), metrics: newMetrics(prometheus.NewRegistry())}, "events", nil, func() *blank {
			return &blank{send: func(_ context.Context, rows int, _ string) error {
				time.Sleep(10 * time.Second)
				stored += rows
				return nil
			}}
		})
		add := func(offset int64) {
			if err := b.add(t.Context(), group.Position{Topic: topic.Events, Offset: offset}, []byte{1}, func(k *blank) { k.n++ }); err != nil {
				t.Error(err)
			}
		}
		running, end := context.WithCancel(t.Context())
		done := make(chan struct{})
		add(1)
		go func() { defer close(done); b.run(running, t.Context()) }()
		time.Sleep(batchAge + time.Second) // the first one is under way
		add(2)
		end()
		<-done
		if p := b.positions(); stored != 2 || len(p) != 1 || p[0].Offset != 2 {
			t.Errorf("%d rows are stored, reached %+v", stored, p)
		}
	})
}

// While ClickHouse is away there are three batches, and whoever has more waits. A batch that isn't acknowledged reaches nothing.
func TestBatcherBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const piece = batchRows / 4
		m := newMetrics(prometheus.NewRegistry())
		var mu sync.Mutex
		var answer error
		var hung bool
		var tokens []string
		var stored, added int
		be := func(err error, h bool) {
			mu.Lock()
			defer mu.Unlock()
			answer, hung = err, h
		}
		b := newBatcher(&lane{name: "store", log: slog.New(slog.DiscardHandler), metrics: m}, "events", nil, func() *blank {
			return &blank{send: func(ctx context.Context, rows int, token string) error {
				mu.Lock()
				defer mu.Unlock()
				tokens = append(tokens, token)
				if hung {
					mu.Unlock()
					<-ctx.Done()
					mu.Lock()
					return ctx.Err()
				}
				if answer == nil {
					stored += rows
				}
				return answer
			}}
		})
		now := func() (a, s int, t []string) {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return added, stored / piece, slices.Clone(tokens)
		}
		be(errors.New("connection refused"), false)
		running, end := context.WithCancel(t.Context())
		hard, cut := context.WithCancel(t.Context())
		reading, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { b.run(running, hard) })
		wg.Go(func() {
			for i := range int64(100) {
				if b.add(reading, group.Position{Topic: topic.Events, Offset: i + 1}, []byte{byte(i)}, func(k *blank) { k.n += piece }) != nil {
					return
				}
				mu.Lock()
				added++
				mu.Unlock()
			}
		})
		time.Sleep(time.Minute)
		// Two batches are being inserted, and one is full: reading waited for each.
		if added, _, _ := now(); added != 12 || testutil.ToFloat64(m.waits.WithLabelValues("events")) != 3 {
			t.Errorf("%d pieces are held, %v waits", added, testutil.ToFloat64(m.waits.WithLabelValues("events")))
		}
		if r := b.unready(); r != "can't insert into ClickHouse: connection refused" || len(b.positions()) != 0 {
			t.Errorf("unready %q, reached %v", r, b.positions())
		}
		_, _, used := now()
		attempts := map[string]int{}
		for _, token := range used {
			attempts[token]++
		}
		if len(attempts) != 2 || attempts[used[0]] < 10 || len(used)-attempts[used[0]] < 10 {
			t.Errorf("attempts by token: %v", attempts)
		}
		be(nil, true)
		time.Sleep(2*tryInsert + longInsert)
		if added, _, _ := now(); !strings.Contains(b.unready(), "can't insert into ClickHouse: context deadline exceeded") || added != 12 {
			t.Errorf("unready %q with %d pieces", b.unready(), added)
		}
		be(nil, false)
		time.Sleep(2 * tryInsert)
		if added, stored, _ := now(); b.unready() != "" || added != 100 || stored != 100 || b.positions()[0].Offset != 100 {
			t.Errorf("unready %q, %d added, %d stored, reached %v", b.unready(), added, stored, b.positions())
		}
		be(nil, true)
		if err := b.add(t.Context(), group.Position{Topic: topic.Events, Offset: 101}, []byte{1}, func(k *blank) { k.n++ }); err != nil {
			t.Error(err)
		}
		time.Sleep(batchAge + longInsert + time.Second)
		if r := b.unready(); !strings.HasPrefix(r, "ClickHouse hasn't answered an insert for 1") {
			t.Errorf("unready %q while an insert hangs", r)
		}
		stop()
		end()
		cut()
		wg.Wait()
		if b.positions()[0].Offset != 100 {
			t.Errorf("reached %v by an insert without an answer", b.positions())
		}
	})
}

// desk is where inserts of a batcher wait until the test answers them.
type desk struct {
	*batcher[*blank]
	t       *testing.T
	metrics *metrics
	calls   chan call
	end     context.CancelFunc // of the run
	cut     context.CancelFunc // of what is under way
	ended   chan struct{}
	offset  int64
}

type call struct {
	rows   int
	token  string
	answer chan error
}

func newDesk(t *testing.T) *desk {
	d := &desk{t: t, metrics: newMetrics(prometheus.NewRegistry()), calls: make(chan call, 10), ended: make(chan struct{})}
	d.batcher = newBatcher(&lane{name: "store", log: slog.New(slog.DiscardHandler), metrics: d.metrics}, "events", nil, func() *blank {
		return &blank{send: func(ctx context.Context, rows int, token string) error {
			c := call{rows, token, make(chan error, 1)}
			d.calls <- c
			select {
			case err := <-c.answer:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
	})
	running, end := context.WithCancel(t.Context())
	hard, cut := context.WithCancel(t.Context())
	d.end, d.cut = end, cut
	go func() { defer close(d.ended); d.run(running, hard) }()
	return d
}

// add brings the next record, with rows.
func (d *desk) add(rows int) {
	d.t.Helper()
	d.offset++
	err := d.batcher.add(d.t.Context(), group.Position{Topic: topic.Events, Offset: d.offset}, binary.LittleEndian.AppendUint64(nil, uint64(d.offset)), func(k *blank) { k.n += rows })
	if err != nil {
		d.t.Error(err)
	}
}

// insert is the next one that arrives within the time; none has no rows.
func (d *desk) insert(within time.Duration) call {
	select {
	case c := <-d.calls:
		return c
	case <-time.After(within):
		return call{answer: make(chan error, 1)}
	}
}

func (d *desk) reached(want int64) {
	d.t.Helper()
	synctest.Wait()
	var got int64
	for _, p := range d.positions() {
		got = p.Offset
	}
	if got != want {
		d.t.Errorf("reached %d, want %d", got, want)
	}
}

// A batch that is acknowledged before an earlier one moves no position, and makes no room. The earlier one keeps its token.
func TestBatcherOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.add(batchRows)
		first := d.insert(time.Millisecond)
		d.add(batchRows + 1)
		second := d.insert(time.Millisecond)
		d.add(batchRows + 2)
		if first.rows != batchRows || second.rows != batchRows+1 {
			t.Fatalf("inserts of %d and %d rows", first.rows, second.rows)
		}
		d.reached(0)
		second.answer <- nil
		d.reached(0)
		if third := d.insert(5 * time.Second); third.rows != 0 {
			t.Errorf("%d rows are inserted while the oldest batch isn't acknowledged", third.rows)
		}
		for range 3 {
			first.answer <- errors.New("read: connection reset by peer")
			again := d.insert(5 * time.Second)
			if again.rows != first.rows || again.token != first.token {
				t.Errorf("%d rows under %q were repeated as %d under %q", first.rows, first.token, again.rows, again.token)
			}
			first = again
			d.reached(0)
			if r := d.unready(); !strings.Contains(r, "reset by peer") {
				t.Errorf("unready %q", r)
			}
		}
		first.answer <- nil
		d.reached(2)
		third := d.insert(time.Millisecond)
		third.answer <- nil
		d.reached(3)
		if r := d.unready(); r != "" || third.rows != batchRows+2 {
			t.Errorf("unready %q after %d rows", r, third.rows)
		}
		d.end()
		<-d.ended
	})
}

// What isn't full goes once a second, and waits for what is under way, also when that takes longer.
func TestBatcherTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		var inserts []int
		time.Sleep(100 * time.Millisecond) // so that nothing happens at the moment of a tick
		for range 40 {
			d.add(1)
			time.Sleep(250 * time.Millisecond)
			for len(d.calls) > 0 {
				c := <-d.calls
				c.answer <- nil
				inserts = append(inserts, c.rows)
			}
		}
		if len(inserts) != 10 {
			t.Errorf("in ten seconds there were inserts of %v rows", inserts)
		}
		d.add(1)
		slow := d.insert(2 * time.Second)
		for range 10 {
			d.add(1)
		}
		if c := d.insert(5 * time.Second); c.rows != 0 {
			t.Errorf("%d rows are inserted beside %d", c.rows, slow.rows)
		}
		slow.answer <- nil
		c := d.insert(time.Millisecond)
		if c.rows != 10 {
			t.Errorf("%d rows are inserted after a slow insert", c.rows)
		}
		c.answer <- nil
		d.reached(51)
		d.end()
		<-d.ended
	})
}

// At its end a run brings in all three batches when there is time, and says nothing of those for which there was none.
func TestBatcherDrain(t *testing.T) {
	for _, enough := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t)
			d.add(batchRows)
			first := d.insert(time.Millisecond)
			d.add(batchRows)
			second := d.insert(time.Millisecond)
			d.add(7)
			d.end()
			second.answer <- nil
			d.reached(0)
			if !enough {
				d.cut()
				<-d.ended
				d.reached(0)
				return
			}
			if c := d.insert(time.Second); c.rows != 0 {
				t.Errorf("a third insert, of %d rows, is under way", c.rows)
			}
			first.answer <- nil
			last := d.insert(time.Millisecond)
			d.reached(2)
			last.answer <- nil
			<-d.ended
			d.reached(3)
			if last.rows != 7 {
				t.Errorf("the last insert has %d rows", last.rows)
			}
		})
	}
}

// A column of names arrives as it is, however many different ones it has, and again when its memory is used again.
func TestNames(t *testing.T) {
	var n names
	for _, different := range []int{0, 1, 255, 256, 65_535, 65_536, 3} {
		n.Reset()
		var want []string
		for i := range 2*different + 3 {
			s := ""
			if i%3 != 0 && different > 0 {
				s = fmt.Sprint("n", i/2%different)
			}
			want = append(want, s)
			n.add(s)
		}
		c, err := column.Type(n.Type()).Column("", &column.ServerContext{})
		if err != nil {
			t.Fatal(err)
		}
		if err := fill([]column.Interface{c}, []vector{&n}, len(want)); err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if got := c.Row(i, false); got != want[i] {
				t.Fatalf("of %d: row %d is %v, want %s", different, i, got, want[i])
			}
		}
	}
}

// Of properties with the same key the last one counts, and what can't be read does no harm.
func TestProperties(t *testing.T) {
	var p properties
	twice := event.AppendProp(event.AppendProp(event.AppendProp(nil, "a", "1"), "b", ""), "a", "2")
	for range 2 {
		p.Reset()
		for _, props := range [][]byte{nil, twice, nil, append(slices.Clone(twice), 0xff), event.AppendProp(nil, "c", "日本")} {
			p.add(props)
		}
		c, err := column.Type(p.Type()).Column("", &column.ServerContext{})
		if err != nil {
			t.Fatal(err)
		}
		if err := fill([]column.Interface{c}, []vector{&p}, 5); err != nil {
			t.Fatal(err)
		}
		var got []any
		for i := range 5 {
			got = append(got, c.Row(i, false))
		}
		ab := map[string]string{"a": "2", "b": ""}
		if want := []any{map[string]string{}, ab, map[string]string{}, ab, map[string]string{"c": "日本"}}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

// A table that isn't as it should be, and columns that aren't of one length, are said and not sent.
func TestFillMismatch(t *testing.T) {
	for kind, want := range map[column.Type]string{"String": "column c is of type String, want LowCardinality(String)", "LowCardinality(String)": "column c has 1 rows, want 2"} {
		var n names
		n.add("x")
		c, err := kind.Column("c", &column.ServerContext{})
		if err != nil {
			t.Fatal(err)
		}
		if err := fill([]column.Interface{c}, []vector{&n}, 2); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		if err := fill([]column.Interface{c, c}, []vector{&n}, 1); err == nil {
			t.Error("a column without values was filled")
		}
	}
}

// What can't be read of either topic is written down and left out.
func TestStoreDeadLetter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.garbage.Store(true)
	s := newSink(t)
	_, m, _ := w.lanes(Config{Store: true}, s)
	newer := window.Emission{Version: window.Version + 1, Epoch: 1}
	row := window.Emission{Version: window.Version, Epoch: 1, Partition: 0, Seconds: []window.Second{
		{Site: "example.com", At: 1_795_435_200, Events: 1, Revision: 1, Version: window.RowVersion(1, false, 7)},
		{Site: "example.com", At: 1_795_435_199, Events: 1, Final: true, Revision: 2, Version: window.RowVersion(1, true, 7)}}}
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
		if e, r := s.rows("events"), s.rows("windows"); len(e) != 1 || len(r) != 1 || !strings.HasPrefix(r["example.com/1795435199/0/"+fmt.Sprint(row.Seconds[1].Version)], "example.com|1795435199|0|0|0|1|0|") {
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
		"store/nowcast.windows.v1/0/0": "corrupt", "store/nowcast.windows.v1/0/1": "emission has a newer schema version: 2, this program knows 1",
		"store/nowcast.events.v1/1/0": "corrupt", "store/nowcast.events.v1/1/1": "newer schema version"} {
		if v := letters[key]; !strings.Contains(v, reason) || !strings.Contains(v, fmt.Sprintf(`"offset":%s,`, key[len(key)-1:])) {
			t.Errorf("%s: %q, want %s", key, v, reason)
		}
	}
	if n := testutil.ToFloat64(m.envelopes.WithLabelValues("store", "unreadable")); n != 4 {
		t.Errorf("%v counted", n)
	}
	w.until(5*time.Second, "committed", func() string {
		c := w.committed("nowcast-store")
		if c[partitionOf{topic.Windows, 0}] != 3 || c[partitionOf{topic.Events, 1}] != 3 {
			return fmt.Sprint(c)
		}
		return ""
	})
}

func (w *world) produce(topic string, partition int, value []byte) {
	w.t.Helper()
	if _, err := w.kafka.Produce(w.t.Context(), topic, partition, time.UnixMilli(w.clock), value); err != nil {
		w.t.Fatal(err)
	}
}

// forgetful does what it is asked and now and then says that it didn't.
type forgetful struct {
	*warehouse.DB
	mu sync.Mutex
	n  int
}

func (f *forgetful) PrepareBatch(ctx context.Context, query string, opts ...driver.PrepareBatchOption) (driver.Batch, error) {
	b, err := f.DB.PrepareBatch(ctx, query, opts...)
	return forgetfulBatch{b, f}, err
}

type forgetfulBatch struct {
	driver.Batch
	f *forgetful
}

func (b forgetfulBatch) Send() error {
	err := b.Batch.Send()
	b.f.mu.Lock()
	defer b.f.mu.Unlock()
	if b.f.n++; err == nil && b.f.n%2 == 1 {
		return errors.New("read: connection reset by peer")
	}
	return err
}

// The same on the real engine: every column arrives as it is meant to, and tokens keep copies out without FINAL.
func TestStoreEngine(t *testing.T) {
	t.Parallel()
	library, err := embedded.FindLibrary("../bin/libchdb.so")
	if err != nil {
		t.Fatal(err)
	}
	engine, err := embedded.NewClickHouse(embedded.Config{Dir: t.TempDir(), Library: library, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	w := newWorld(t)
	if w.db, err = warehouse.Open(engine.DSN()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.db.Close() })
	_, stop := w.start(Config{Windows: true, Store: true}) // makes the tables
	w.traffic(1, 30, time.Minute)
	w.agree()
	stop()
	w.lanes(Config{Windows: true, Store: true}, &forgetful{DB: w.db})
	w.traffic(2, 30, time.Minute)
	rich := w.view(9, "/bücher?q=日本")
	rich.Kind, rich.Name, rich.Props = event.Custom, "buy", event.AppendProp(event.AppendProp(nil, "plan", "pro"), "n", "2")
	rich.RevenueMicros, rich.Currency, rich.ScrollDepth, rich.EngagedMS, rich.Interactive = -1_500_000, "EUR", 300, 4_000_000_000, true
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
			if err := w.db.Select(t.Context(), &c, "SELECT count() n, uniqExact("+key+") d FROM "+table); err != nil {
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
	}
	if err := w.db.Select(t.Context(), &rows, "SELECT path, props, revenue_micros, scroll_depth, engaged_ms, ts FROM events WHERE interactive AND name = 'buy' AND NOT late AND fresh"); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 1 || rows[0].Path != rich.Path || !maps.Equal(rows[0].Props, map[string]string{"plan": "pro", "n": "2"}) || rows[0].Revenue != -1_500_000 ||
		rows[0].Depth != 255 || rows[0].Engaged != 4_000_000_000 || rows[0].TS.UnixMilli() != rich.Time {
		t.Errorf("got %+v, want %+v", rows, rich)
	} // More different names than fit into 16 bits.
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
	if err := w.db.Select(t.Context(), &n, "SELECT uniqExact(site) n FROM events WHERE substring(site, 2) = substring(path, 2) AND kind = 'pageview'"); err != nil || n[0].N != 70_000 {
		t.Errorf("%+v %v", n, err)
	}
}
