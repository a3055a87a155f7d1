package warehouse

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOptions(t *testing.T) {
	lz4, zstd, none := clickhouse.CompressionLZ4, clickhouse.CompressionZSTD, clickhouse.CompressionNone
	for _, c := range []struct {
		dsn, addr, user, database string
		protocol                  clickhouse.Protocol
		tls                       bool
		compression               clickhouse.CompressionMethod
	}{
		{"clickhouse://ch:9000", "ch:9000", "", "default", clickhouse.Native, false, lz4},
		{"clickhouse://u:p@ch:9000/web", "ch:9000", "u", "web", clickhouse.Native, false, lz4},
		{"clickhouse://ch:9440?secure=true", "ch:9440", "", "default", clickhouse.Native, true, lz4},
		{"http://u:p@ch:8123/web?compress=zstd", "ch:8123", "u", "web", clickhouse.HTTP, false, zstd},
		{"https://ch:8443/web", "ch:8443", "", "web", clickhouse.HTTP, true, lz4},
		{"https://ch:8443/web?dial_timeout=1s", "ch:8443", "", "web", clickhouse.HTTP, true, lz4},
		{"unix:///tmp/a%20b.sock", "localhost", "", "default", clickhouse.HTTP, false, lz4},
		{"unix:///tmp/a?database=web&compress=none", "localhost", "", "web", clickhouse.HTTP, false, none},
	} {
		o, err := options(c.dsn)
		if err != nil {
			t.Errorf("%s: %v", c.dsn, err)
			continue
		}
		got := []any{o.Addr[0], o.Auth.Username, o.Auth.Database, o.Protocol, o.TLS != nil,
			o.Compression.Method}
		want := []any{c.addr, c.user, c.database, c.protocol, c.tls, c.compression}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", c.dsn, got, want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for dsn, want := range map[string]string{
		"":                       "give it as clickhouse://",
		"localhost:9000":         "give it as clickhouse://",
		"postgres://x/y":         `unknown scheme "postgres"`,
		"unix://relative.sock":   "absolute path",
		"clickhouse:///database": "address",
		"clickhouse://u:secret@ch:9000?dial_timeout=x": "dial timeout",
	} {
		_, err := Open(dsn)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want an error with %q", dsn, err, want)
		}
	}
}

// recorder is a connection that records the statements sent to it, in order. It answers the one SELECT
// of Migrate and fails on any other; a call of another method panics.
type recorder struct {
	driver.Conn
	applied []uint32 // versions, the answer to the SELECT
	fail    string   // statements with this text fail
	sent    []string
}

func (r *recorder) Exec(_ context.Context, query string, args ...any) error {
	r.sent = append(r.sent, query)
	if len(args) > 0 {
		return fmt.Errorf("unexpected arguments %v", args)
	}
	if r.fail != "" && strings.Contains(query, r.fail) {
		return errors.New("refused")
	}
	return nil
}

func (r *recorder) Select(_ context.Context, dest any, query string, args ...any) error {
	r.sent = append(r.sent, query)
	if query != selectApplied || len(args) > 0 {
		return fmt.Errorf("unexpected query %s %v", query, args)
	}
	rows := reflect.ValueOf(dest).Elem()
	for _, v := range r.applied {
		row := reflect.New(rows.Type().Elem()).Elem()
		row.Field(0).SetUint(uint64(v))
		rows.Set(reflect.Append(rows, row))
	}
	return nil
}

func TestMigrateSends(t *testing.T) {
	for _, c := range []struct {
		golden  string
		applied []uint32
	}{
		{"first", nil},
		{"again", []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}},
		{"half", []uint32{1, 2}},
		{"newer", []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 4000}},
	} {
		r := &recorder{applied: c.applied}
		if err := (&DB{r}).Migrate(t.Context()); err != nil {
			t.Errorf("%s: %v", c.golden, err)
		}
		golden(t, c.golden, strings.Join(r.sent, ";\n\n")+";\n")
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "migrate_"+name+".golden.sql")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it); sent:\n%s", file, got)
	}
}

func TestMigrateStopsAtFailure(t *testing.T) {
	r := &recorder{fail: "EXISTS events"}
	err := (&DB{r}).Migrate(t.Context())
	if err == nil || !strings.Contains(err.Error(), "run migration 0002_events: refused") {
		t.Errorf("got %v", err)
	}
	for _, s := range r.sent {
		if strings.Contains(s, "windows") {
			t.Errorf("ran a statement after a failure: %s", s)
		}
	}
}

func TestMigrationFiles(t *testing.T) {
	for want, files := range map[string][]string{
		"":           {"sql/0001_a.sql", "sql/0002_b.sql"},
		"with 0002_": {"sql/0001_a.sql", "sql/0003_b.sql"},
		"with 0001_": {"sql/a.sql"},
	} {
		m := fstest.MapFS{}
		for _, f := range files {
			m[f] = &fstest.MapFile{Data: []byte("SELECT 1\n")}
		}
		_, err := migrations(m)
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %q", files, err, want)
		}
	}
	all, err := migrations(files)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		idempotent := strings.Contains(m.statement, "EXISTS") ||
			strings.Contains(m.statement, "MODIFY SETTING") || strings.Contains(m.statement, "MODIFY TTL")
		if strings.Contains(m.statement, ";") || !idempotent {
			t.Errorf("%s: want one idempotent statement", m.name)
		}
	}
}

// Over a unix socket the client speaks ClickHouse's HTTP protocol, with the settings of the address.
func TestOpenUnix(t *testing.T) {
	var got url.Values
	path := filepath.Join(t.TempDir(), "a b.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.Query()
		http.Error(w, "Code: 516. DB::Exception: no (AUTHENTICATION_FAILED)", http.StatusForbidden)
	})}
	go srv.Serve(l)
	defer srv.Close()
	db, err := Open((&url.URL{Scheme: "unix", Path: path, RawQuery: "max_threads=2"}).String())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Ping(t.Context()); err == nil {
		t.Error("want an error")
	}
	if got.Get("database") != "default" || got.Get("max_threads") != "2" {
		t.Errorf("got %v", got)
	}
}

// unreachable is a connection whose pings fail.
type unreachable struct{ driver.Conn }

func (unreachable) Ping(context.Context) error { return errors.New("connection refused") }

func TestWaitForUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		err := (&DB{unreachable{}}).Wait(ctx, slog.New(slog.NewTextHandler(&log, nil)))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		for _, waited := range []string{"waited=1s", "waited=6s", "waited=11s"} {
			if strings.Count(log.String(), waited+" ") != 1 {
				t.Errorf("want one message with %s:\n%s", waited, &log)
			}
		}
		if n := strings.Count(log.String(), "\n"); n != 3 {
			t.Errorf("got %d messages, want 3", n)
		}
	})
}

func TestWaitForWrongPassword(t *testing.T) {
	answers := make(chan int, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case answers <- http.StatusBadGateway: // the first ping
			w.WriteHeader(http.StatusBadGateway)
		default:
			w.Header().Set("X-ClickHouse-Exception-Code", "516")
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, "Code: 516. DB::Exception: no")
		}
	}))
	defer srv.Close()
	db, err := Open(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Wait(t.Context(), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "516") {
		t.Errorf("got %v", err)
	}
	if len(answers) != 1 {
		t.Error("gave up before ClickHouse refused the password")
	}
}
