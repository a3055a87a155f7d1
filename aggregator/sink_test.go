package aggregator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"nowcast/internal/warehouse"
)

// sink is an in-memory ClickHouse with the five tables. Like the real one it drops an insert under a known
// token; unlike it, it fails the test if the rows differ.
type sink struct {
	t *testing.T

	mu     sync.Mutex
	down   error  // what an insert fails with
	only   string // the table whose inserts fail; of all when empty
	hung   bool   // an insert takes until its caller gives up
	lose   int    // so many inserts are done and not acknowledged
	tokens map[string][]string
	again  int // inserts with a known token
	tables map[string]map[string]string
}

func newSink(t *testing.T) *sink {
	return &sink{t: t, tokens: map[string][]string{},
		tables: map[string]map[string]string{"events": {}, "windows": {}, "ledger": {}, "cuts": {},
			"marks": {}}}
}

// set changes how the sink answers inserts.
func (s *sink) set(down error, hung bool, lose int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down, s.hung, s.lose = down, hung, lose
}

func (s *sink) rows(table string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.tables[table])
}

func (s *sink) PrepareBatch(ctx context.Context, query string,
	_ ...driver.PrepareBatchOption) (driver.Batch, error) {
	words := strings.FieldsFunc(query, func(r rune) bool { return strings.ContainsRune(" \n(),", r) })
	s.mu.Lock()
	down, hung := s.down, s.hung
	if s.only != "" && s.only != words[2] {
		down = nil
	}
	s.mu.Unlock()
	if hung {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if down != nil {
		return nil, down
	}
	return &sinkBatch{sink: s, token: tokenOf(ctx), table: words[2],
		columns: columnsOf(s.t, words[2], words[3:])}, nil
}

// tokenOf reads the token from clickhouse-go's private options.
func tokenOf(ctx context.Context) string {
	options := reflect.ValueOf(ctx).Elem().FieldByName("val").Elem()
	if options.Type() != reflect.TypeFor[clickhouse.QueryOptions]() {
		return ""
	}
	key := reflect.ValueOf("insert_deduplication_token")
	return options.FieldByName("settings").MapIndex(key).Elem().String()
}

type sinkBatch struct {
	driver.Batch
	sink         *sink
	token, table string
	columns      []column.Interface
}

func (b *sinkBatch) Close() error { return nil }

func (b *sinkBatch) Columns() []column.Interface { return b.columns }

// columnsOf returns the client's columns for an insert into a table.
func columnsOf(t *testing.T, table string, names []string) (columns []column.Interface) {
	ours := (&eventRows{}).columns()
	switch table {
	case "windows":
		ours = (&windowRows{}).columns()
	case "ledger":
		ours = (&ledgerRows{}).columns()
	case "cuts":
		ours = (&cutRows{}).columns()
	case "marks":
		ours = (&dayMarks{}).columns()
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

// sent returns rows as ClickHouse receives them.
func sent(t *testing.T, table string, from []vector) []column.Interface {
	t.Helper()
	to := columnsOf(t, table, make([]string, len(from)))
	if err := fill(to, from, from[0].Rows()); err != nil {
		t.Fatal(err)
	}
	return to
}

// value returns a cell, times as unix seconds.
func value(c column.Interface, i int) any {
	v := c.Row(i, false)
	if at, ok := v.(time.Time); ok {
		return strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', -1, 64)
	}
	return v
}

// keyOf returns the key of a row: an event's place in the log, or the second and version of a window.
func keyOf(table string, columns []column.Interface, i int) string {
	at := func(c int) any { return value(columns[c], i) }
	switch table {
	case "events":
		return fmt.Sprint(at(4), "/", at(5), "/", at(6))
	case "cuts", "marks":
		return fmt.Sprint(at(0), "/", at(1))
	case "ledger":
		return fmt.Sprint(at(0), "/", at(1), "/", at(2), "/", at(3), "/", at(10))
	}
	return fmt.Sprint(at(0), "/", at(1), "/", at(2), "/", at(7))
}

// texts returns the rows with all their columns and their keys.
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

// forgetful inserts, and then fails every second insert.
type forgetful struct {
	*warehouse.DB
	mu sync.Mutex
	n  int
}

func (f *forgetful) PrepareBatch(ctx context.Context, query string,
	opts ...driver.PrepareBatchOption) (driver.Batch, error) {
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
