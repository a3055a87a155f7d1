package embedded_test

import (
	"testing"
	"time"

	"nowcast/internal/warehouse"
)

func open(t *testing.T, dsn string) *warehouse.DB {
	t.Helper()
	db, err := warehouse.Open(dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestClickHouseMigrates(t *testing.T) {
	h := newClickHouse(t, t.TempDir())
	begin := time.Now()
	run(t, h)
	t.Logf("ready after %v, %s", time.Since(begin), memory(t, h.PID()))
	db := open(t, h.DSN())
	for range 2 {
		begin = time.Now()
		if err := db.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Logf("migrated in %v", time.Since(begin))
	}
	t.Log(memory(t, h.PID()))
}
