package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"nowcast/internal/warehouse"
)

// A rewind writes the rows that ClickHouse lost again from the log. It is idempotent and doesn't disturb
// running roles.
func TestRewind(t *testing.T) {
	l, site, to := startSettled(t)
	agrees := func(want bool) {
		t.Helper()
		r, code := verified(t, "--data-dir", l.dir, "--to", to)
		if (code == 0) != want || r.Counted < 60 {
			t.Fatalf("nowcast verify: exit %d, %+v", code, r)
		}
	}
	agrees(true)
	db, err := warehouse.Open(endpointsOf(t, l).Clickhouse)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	count := func() string {
		var n, m uint64
		for table, into := range map[string]*uint64{"events": &n, "windows": &m} {
			query := "SELECT count() FROM " + table + " FINAL WHERE site = '" + site + "'"
			if err := db.QueryRow(t.Context(), query).Scan(into); err != nil {
				t.Fatal(err)
			}
		}
		return fmt.Sprint(n, m)
	}
	before := count()
	rewind := func(from string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, binary(t), "aggregator", "--lanes", "store", "--from", from,
			"--data-dir", l.dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("rewind: %v\n%s", err, out)
		}
		return string(out)
	}
	for _, loss := range []string{"TRUNCATE TABLE events", "TRUNCATE TABLE windows",
		// The same rows twice: ClickHouse would drop an insert that it has seen before.
		"ALTER TABLE events DELETE WHERE cityHash64(koff, kidx) % 3 = 0 SETTINGS mutations_sync = 1",
		"ALTER TABLE events DELETE WHERE cityHash64(koff, kidx) % 3 = 0 SETTINGS mutations_sync = 1",
		"ALTER TABLE windows DELETE WHERE second % 2 = 0 SETTINGS mutations_sync = 1"} {
		if err := db.Exec(t.Context(), loss); err != nil {
			t.Fatal(err)
		}
		agrees(false)
		if out := rewind("1h"); !strings.Contains(out, "event rows, ") ||
			!strings.Contains(out, "nowcast verify --from") {
			t.Errorf("its output is %s", out)
		}
		agrees(true)
	}
	ledger := func() beacons {
		t.Helper()
		b, err := l.beaconsOf(t.Context(), site)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	had := ledger()
	if err := db.Exec(t.Context(), "TRUNCATE TABLE ledger"); err != nil {
		t.Fatal(err)
	}
	if rewind("1h"); had.Received < 60 || !reflect.DeepEqual(ledger(), had) {
		t.Errorf("the ledger was %+v and is %+v", had, ledger())
	}
	rewind("1h")
	rewind("3s") // a span whose duplicates lie before it
	agrees(true)
	if !reflect.DeepEqual(ledger(), had) {
		t.Errorf("the ledger was %+v and is %+v", had, ledger())
	}
	if after := count(); after != before {
		t.Errorf("%s rows, before it were %s", after, before)
	}
	l.drip(t, site, 10, 500*time.Millisecond)
	l.total(t, site, "pageviews", 70)
}
