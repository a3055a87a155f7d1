package aggregator

import (
	"log/slog"
	"testing"
	"time"
)

// Where an event was in the log leaves ClickHouse a day after the log has forgotten it; all else
// stays.
func TestOldPositionsAreCleared(t *testing.T) {
	t.Parallel()
	w := newEngineWorld(t)
	if err := w.db.Wait(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if err := w.db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	const rows = "INSERT INTO events (site, ts, visitor, id, kpart, koff, kidx) SELECT 'example.com', " +
		"now64(3) - INTERVAL number DAY, number, toString(number), 1 + number % 4, 1000 + number, 5 " +
		"FROM numbers(60)"
	if err := w.db.Exec(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	var got []struct {
		All   uint64 `ch:"all"`
		Old   uint64 `ch:"old"`
		Index uint64 `ch:"index"`
	}
	for range 2 { // the second time there is nothing to do
		if err := clearPositions(t.Context(), w.db, now); err != nil {
			t.Fatal(err)
		}
		w.until(30*time.Second, "positions of the last 31 days", func() string {
			got = got[:0]
			err := w.db.Select(t.Context(), &got, "SELECT count() AS all, "+
				"countIf(kpart != 0 OR koff != 0) AS old, countIf(kidx = 5) AS index FROM events")
			if err != nil {
				return err.Error()
			}
			if got[0].All != 60 || got[0].Index != 60 || got[0].Old < 31 || got[0].Old > 32 {
				return "not yet"
			}
			return ""
		})
	}
}
