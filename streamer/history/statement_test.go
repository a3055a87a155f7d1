package history

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

var update = flag.Bool("update", false, "write the golden files")

// recorder records the statements that it receives and fails each of them but that about days.
type recorder struct {
	fail   error
	sealed []sealedDay
	sent   strings.Builder
}

// dayRows are the answer of the statement about days.
type dayRows struct {
	driver.Rows
	days []sealedDay
	next int
}

func (r *dayRows) Next() bool   { r.next++; return r.next <= len(r.days) }
func (r *dayRows) Close() error { return nil }
func (r *dayRows) Err() error   { return nil }

func (r *dayRows) Scan(to ...any) error {
	d := r.days[r.next-1]
	*to[0].(*uint16), *to[1].(*uint64) = uint16(d.Date), d.Seal
	*to[2].(*bool), *to[3].(*bool) = d.Rolled, d.Monthly
	*to[4].(*[]string) = nil
	return nil
}

// importRows are the answer of the statement about imports: one, of all days.
type importRows struct{ dayRows }

func (r *importRows) Next() bool { r.next++; return r.next == 1 }

func (r *importRows) Scan(to ...any) error {
	*to[0].(*uint16), *to[1].(*uint16) = 0, math.MaxUint16
	return nil
}

func (r *recorder) Query(_ context.Context, query string, args ...any) (driver.Rows, error) {
	fmt.Fprintf(&r.sent, "%s;\n", query)
	for _, a := range args {
		v := a.(driver.NamedValue)
		fmt.Fprintf(&r.sent, "-- %s = %q\n", v.Name, fmt.Sprint(v.Value))
	}
	r.sent.WriteString("\n")
	switch {
	case strings.Contains(query, "FROM seals"):
		return &dayRows{days: r.sealed}, nil
	case strings.HasPrefix(query, "SELECT toUInt16(first)"):
		return &importRows{}, nil
	}
	return nil, r.fail
}

func TestStatements(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	ask := func(s string) string {
		return `{"site_id":"example.com","date_range":["2026-11-01","2026-11-07"],` + s + `}`
	}
	for golden, in := range map[string]string{
		"totals": ask(`"metrics":["visitors","visits","pageviews","events","views_per_visit",` +
			`"bounce_rate","visit_duration"]`),
		"pages": ask(`"metrics":["visitors","pageviews"],"dimensions":["event:page"],` +
			`"pagination":{"limit":10}`),
		"entries": ask(`"metrics":["visitors","visits","bounce_rate"],"dimensions":["event:page"],` +
			`"filters":[["contains","event:page",["/a"]],["is","visit:country",["DE"]]]`),
		"only_entries": ask(`"metrics":["bounce_rate"],"dimensions":["event:page"],` +
			`"filters":[["not",["is","event:page",["/"]]]]`),
		"local_times": `{"site_id":"example.com","metrics":["visitors","visits"],` +
			`"date_range":["2026-10-25T02:10:00","2026-10-25T02:19:59"]}`,
		"seconds": `{"site_id":"example.com","metrics":["pageviews","visitors"],` +
			`"date_range":["2026-11-23T11:55:00Z","2026-11-23T11:59:59Z"],"dimensions":["time:second"]}`,
		"sources": ask(`"metrics":["visitors","percentage","bounce_rate"],` +
			`"dimensions":["visit:source","visit:country"],"order_by":[["bounce_rate","asc"]]`),
		"weeks": ask(`"metrics":["visits","events"],"dimensions":["time:week","visit:entry_page",` +
			`"visit:exit_page"]`),
		"filters": ask(`"metrics":["events"],"filters":[["or",[["is_not","event:page",["/'; DROP ` +
			`TABLE events"]],["not",["and",[["contains","event:name",["A"],{"case_sensitive":false}],` +
			`["is","event:hostname",["X"],{"case_sensitive":false}]]]]]],["matches_not",` +
			`"event:props:a'b",["^x","y$"]],["contains_not","event:page",["z"]]]`),
		"of_visits": ask(`"metrics":["pageviews"],"dimensions":["event:props:plan"],"filters":[["is",` +
			`"visit:source",["Direct / None"]],["is","event:page",["/"]]]`),
		"sealed_totals": ask(`"metrics":["visitors","bounce_rate"]`),
		"sealed_pages": ask(`"metrics":["visitors","bounce_rate"],"dimensions":["event:page"],` +
			`"pagination":{"limit":10}`),
		"sealed_visits": ask(`"metrics":["visitors","visit_duration"],"dimensions":["visit:referrer"],` +
			`"filters":[["is","visit:country",["DE"]]]`),
		"sealed_hits": ask(`"metrics":["visits"],"dimensions":["event:name"],"order_by":[["event:name",` +
			`"asc"]],"filters":[["contains","event:page",["/a"]],["is","event:page",["/","/b"]]]`),
		"imported_totals": ask(`"metrics":["visitors","views_per_visit"],"include":{"imports":true}`),
		"sealed_imported_pages": ask(`"metrics":["visitors","bounce_rate"],"dimensions":["event:page"],` +
			`"include":{"imports":true}`),
		"all": `{"site_id":"example.com","metrics":["events"],"date_range":"all"}`,
	} {
		r := &recorder{fail: errors.New("no more")}
		if strings.HasPrefix(golden, "sealed_") {
			first := dateOf(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
			r.sealed = []sealedDay{{first, 11, true, false}, {first + 1, 11, true, false},
				{first + 2, 12, false, false}, {first + 4, 12, true, false}}
		}
		var q Query
		if err := json.Unmarshal([]byte(in), &q); err != nil {
			t.Fatal(err)
		}
		_, err := newEngine(
			t, r, Config{Threads: 1, Now: func() time.Time { return now }},
		).Run(
			t.Context(), public, Site{Domain: "example.com", Timezone: "Europe/Berlin"}, q,
		)
		var away *Unavailable
		if !errors.As(err, &away) || !errors.Is(err, r.fail) {
			t.Errorf("%s: got %v", golden, err)
		}
		file := filepath.Join("testdata", golden+".golden.sql")
		if *update {
			if err := os.WriteFile(file, []byte(r.sent.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if r.sent.String() != string(want) {
			t.Errorf("%s differs (go test -update writes it); sent:\n%s", file, r.sent.String())
		}
	}
}

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&clickhouse.Exception{Code: 241}, "*history.TooBig"},
		{&clickhouse.Exception{Code: 159}, "*history.TooBig"},
		{&clickhouse.Exception{Code: 158}, "*history.TooBig"},
		{&clickhouse.Exception{Code: 427}, "*history.Invalid"},
		{&clickhouse.Exception{Code: 60}, "*history.Unavailable"},
		{&clickhouse.Exception{Code: 202}, "*history.Unavailable"},
		{&clickhouse.Exception{Code: 62}, "*fmt.wrapError"},
		{fmt.Errorf("read row: %w", &clickhouse.Exception{Code: 241}), "*history.TooBig"},
		{clickhouse.ErrAcquireConnTimeout, "*history.Unavailable"},
		{errors.New("dial unix: connection refused"), "*history.Unavailable"},
	} {
		got := classify(c.err)
		if fmt.Sprintf("%T", got) != c.want {
			t.Errorf("%v: got %T, want %s", c.err, got, c.want)
		}
		if _, ok := got.(*Invalid); !ok && !errors.Is(got, c.err) {
			t.Errorf("%v: the cause is lost in %v", c.err, got)
		}
	}
}

// silent is a database that never answers, and counts the statements that wait for it.
type silent struct{ running atomic.Int64 }

func (d *silent) Query(ctx context.Context, _ string, _ ...any) (driver.Rows, error) {
	d.running.Add(1)
	defer d.running.Add(-1)
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestNoAnswer(t *testing.T) {
	q := Query{Metrics: []Metric{Events}, DateRange: DateRange{Name: "day"}}
	synctest.Test(t, func(t *testing.T) {
		d := &silent{}
		e := newEngine(t, d, Config{Timeout: 5 * time.Second, Threads: 1})
		start := time.Now()
		var away *Unavailable
		if _, err := e.Run(t.Context(), public, Site{}, q); !errors.As(err, &away) ||
			time.Since(start) != 9*time.Second {
			t.Errorf("got %v after %v, want *Unavailable after 9s", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := e.Run(ctx, public, Site{}, q); !errors.Is(err, context.DeadlineExceeded) ||
			errors.As(err, new(*Unavailable)) {
			t.Errorf("the client disconnected: got %v", err)
		}
	})
}
