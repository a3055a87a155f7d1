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
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOptions(t *testing.T) {
	lz4, none := clickhouse.CompressionLZ4, clickhouse.CompressionNone
	for _, c := range []struct {
		dsn, addr, user, database string
		protocol                  clickhouse.Protocol
		tls                       bool
		compression               clickhouse.CompressionMethod
	}{
		{"clickhouse://ch:9000", "ch:9000", "", "default", clickhouse.Native, false, lz4},
		{"clickhouse://u:p@ch:9000/web", "ch:9000", "u", "web", clickhouse.Native, false, lz4},
		{"clickhouse://ch:9440?secure=true", "ch:9440", "", "default", clickhouse.Native, true, lz4},
		{"http://u:p@ch:8123/web?compress=zstd", "ch:8123", "u", "web", clickhouse.HTTP, false, clickhouse.CompressionZSTD},
		{"https://ch:8443/web", "ch:8443", "", "web", clickhouse.HTTP, true, lz4},
		{"https://ch:8443/web?dial_timeout=1s", "ch:8443", "", "web", clickhouse.HTTP, true, lz4},
		{"unix:///tmp/a%20b.sock", "localhost", "", "default", clickhouse.HTTP, false, lz4},
		{"unix:///tmp/a.sock?database=web&compress=none", "localhost", "", "web", clickhouse.HTTP, false, none},
	} {
		o, err := options(c.dsn)
		if err != nil {
			t.Errorf("%s: %v", c.dsn, err)
			continue
		}
		got := []any{o.Addr[0], o.Auth.Username, o.Auth.Database, o.Protocol, o.TLS != nil, o.Compression.Method}
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

// recorder keeps the statements that it is sent, in order. It answers the one SELECT that Migrate needs and fails on
// everything else (a call of a method that isn't here panics).
type recorder struct {
	driver.Conn
	applied []uint32
	fail    string
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
		{"again", []uint32{1, 2, 3, 4, 5}},
		{"half", []uint32{1, 2}},
		{"newer", []uint32{1, 2, 3, 4, 5, 4000}},
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
			t.Errorf("went on after a failure: %s", s)
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
		if _, err := migrations(m); (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %q", files, err, want)
		}
	}
	all, err := migrations(files)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if strings.Contains(m.statement, ";") || !strings.Contains(m.statement, "EXISTS") && !strings.Contains(m.statement, "MODIFY SETTING") {
			t.Errorf("%s: want one statement that may run twice", m.name)
		}
	}
}

// Over a unix socket, what arrives is ClickHouse's HTTP protocol with the settings of the address.
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

func TestWait(t *testing.T) {
	answer := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case code := <-answer:
			w.Header().Set("X-ClickHouse-Exception-Code", code)
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, "Code: "+code+". DB::Exception: no")
		default:
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	defer srv.Close()
	db, err := Open(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	log := slog.New(slog.DiscardHandler)

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := db.Wait(ctx, log); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with nobody there: got %v", err)
	}
	answer <- "516"
	if err := db.Wait(t.Context(), log); err == nil || !strings.Contains(err.Error(), "516") {
		t.Errorf("with a wrong password: got %v", err)
	}
}
