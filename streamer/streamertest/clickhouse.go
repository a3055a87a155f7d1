package streamertest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/internal/embedded"
	"nowcast/internal/warehouse"
)

// Main runs the tests of a package that calls ClickHouse.
func Main(m *testing.M, after func() error) {
	if handled, code := embedded.Main(os.Args); handled {
		os.Exit(code)
	}
	code := m.Run()
	if code == 0 {
		if err := after(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// ClickHouse starts the embedded ClickHouse with its tables until the test ends. It skips the test where the
// library isn't; where CI is set, its absence fails.
func ClickHouse(t testing.TB) *warehouse.DB {
	t.Helper()
	library := ""
	const npm = "../../deployments/npm/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so"
	for _, p := range []string{"", npm, "../../bin/libchdb.so"} {
		if lib, err := embedded.FindLibrary(p); err == nil {
			library = lib
			break
		}
	}
	switch {
	case library != "":
	case os.Getenv("CI") != "":
		t.Fatal("libchdb.so is missing: run `npm ci --prefix deployments/npm`")
	default:
		t.Skip("LEFT OUT: libchdb.so is missing; `npm ci --prefix deployments/npm` gets it")
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	h, err := embedded.NewClickHouse(embedded.Config{Dir: t.TempDir(), Log: log, Library: library,
		Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	db, err := warehouse.Open(h.DSN())
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = db.Close() // its connections end with the engine
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	ready, done := context.WithTimeout(ctx, time.Minute)
	defer done()
	if err := db.Wait(ready, log); err != nil {
		t.Fatal(err)
	}
	if err := db.Migrate(ready); err != nil {
		t.Fatal(err)
	}
	return db
}
