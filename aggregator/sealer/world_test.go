package sealer

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"nowcast/internal/embedded"
	"nowcast/internal/warehouse"
)

func TestMain(m *testing.M) {
	if handled, code := embedded.Main(os.Args); handled {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}

// world is a ClickHouse and a sealer whose clock the test moves.
type world struct {
	t      testing.TB
	engine *embedded.ClickHouse
	db     *warehouse.DB
	now    time.Time
}

func newWorld(t testing.TB) *world {
	t.Helper()
	library, err := embedded.FindLibrary("../../bin/libchdb.so")
	if err != nil {
		t.Fatal(err)
	}
	engine, err := embedded.NewClickHouse(embedded.Config{Dir: t.TempDir(), Library: library,
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	db, err := warehouse.Open(engine.DSN())
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = db.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if err := db.Wait(ctx, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if err := db.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	return &world{t: t, engine: engine, db: db, now: time.Now()}
}

func (w *world) sealer(cfg Config, db database) *Sealer {
	s := New(cfg, db, slog.New(slog.NewTextHandler(testLog{w.t}, nil)), prometheus.NewRegistry())
	s.now = func() time.Time { return w.now }
	return s
}

type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func (w *world) exec(query string, args ...any) {
	w.t.Helper()
	if err := w.db.Exec(w.t.Context(), query, args...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) number(query string) (n uint64) {
	w.t.Helper()
	if err := w.db.QueryRow(w.t.Context(), query).Scan(&n); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
	return n
}

// seal lets a sealer find and build what is due.
func (w *world) seal(s *Sealer) {
	w.t.Helper()
	for range 3 {
		if _, err := s.turn(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		w.now = w.now.Add(2 * time.Minute)
	}
}
