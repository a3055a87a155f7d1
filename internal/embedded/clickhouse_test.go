package embedded_test

import (
	"errors"
	"sync"
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

// Instances that start together migrate together, and a later migration changes nothing.
func TestMigrate(t *testing.T) {
	t.Parallel()
	h := newClickHouse(t, t.TempDir())
	run(t, h)
	var g sync.WaitGroup
	for range 4 {
		db := open(t, h.DSN())
		g.Go(func() {
			if err := errors.Join(db.Wait(t.Context(), discard), db.Migrate(t.Context())); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	db := open(t, h.DSN())
	if err := db.Migrate(t.Context()); err != nil {
		t.Error(err)
	}
	for _, row := range []struct{ query, want string }{
		{
			"SELECT groupArray(name) FROM (SELECT DISTINCT name FROM migrations ORDER BY name)",
			"['channel_city_screen','cuts','events','events_day','events_in_compact_parts','events_ttl'," +
				"'expired','hits','imported','imports','ledger','ledger_duplicate','ledger_rollup'," +
				"'ledger_ttl','marks','migrations','names','rolled_up','rollups','seals','visits','windows']",
		},
		{
			"SELECT groupArray(name) FROM " +
				"(SELECT name FROM system.tables WHERE database = 'default' ORDER BY name)",
			"['cuts','events','expired','hits','imported','imports','ledger','ledger_rollup'," +
				"'marks','migrations','names','rolled_up','rollups','seals','visits','windows']",
		},
		{
			"SELECT engine_full LIKE '%fsync_after_insert = 1%' FROM system.tables " +
				"WHERE database = 'default' AND name = 'events'",
			"1",
		},
	} {
		if got := one[string](t, db, "SELECT toString(("+row.query+"))"); got != row.want {
			t.Errorf("%s: got %s, want %s", row.query, got, row.want)
		}
	}
}

// FINAL reads the newest version of a row.
func TestTablesReplace(t *testing.T) {
	t.Parallel()
	h := newClickHouse(t, t.TempDir())
	run(t, h)
	db := open(t, h.DSN())
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	for _, version := range []uint64{5, 1 << 63, 7} {
		b, err := db.PrepareBatch(t.Context(), "INSERT INTO windows")
		if err != nil {
			t.Fatal(err)
		}
		err = b.Append("a.example", now, uint16(3), uint32(1), uint32(2), uint32(3), uint32(4), version)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Send(); err != nil {
			t.Fatal(err)
		}
	}
	if got := one[uint64](t, db, "SELECT version FROM windows FINAL"); got != 1<<63 {
		t.Errorf("windows: got version %d", got)
	}
	stale, fresh := someEvent("b.example", 1), someEvent("b.example", 1)
	stale.Fresh, stale.KOff = false, 1
	fresh.KOff = 2
	for _, e := range []event{stale, fresh, stale} {
		if err := insertEvents(t.Context(), db, e); err != nil {
			t.Fatal(err)
		}
	}
	if got := one[uint64](t, db, "SELECT koff FROM events FINAL"); got != 2 {
		t.Errorf("events: got the row at offset %d, want the fresh one", got)
	}
}
