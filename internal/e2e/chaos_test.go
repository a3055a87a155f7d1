package e2e

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"nowcast/internal/verify"
	"nowcast/internal/warehouse"
)

var (
	faults    = flag.Int("faults", 30, "how many faults TestChaos injects")
	kills     = flag.Int("kills", 12, "how many faults TestIngestChaos injects")
	chaosSeed = flag.Uint64("chaos-seed", 1, "of the choice of faults")
	checkEach = flag.Int("check", 100, "verify after so many faults, and at the end")
)

// Under load, aggregators, ingest nodes, ClickHouse, Kafka's brokers and the connections to them are
// killed, stopped, cut off and delayed. Afterwards each beacon that was answered 202 is stored exactly
// once, and `nowcast verify` finds no difference.
func TestChaos(t *testing.T) { chaos(t, *faults, kinds) }

// The same with the faults of ingest only: a node is killed, or all brokers stop and start at once.
func TestIngestChaos(t *testing.T) { chaos(t, *kills, ingestKinds) }

func chaos(t *testing.T, faults int, kinds []kind) {
	w := startCluster(t)
	senders := w.load(t)
	r := rand.New(rand.NewPCG(*chaosSeed, 1))
	begin := time.Now()
	from := begin
	counts := map[string]int{}
	for i := 1; i <= faults; i++ {
		name, description := w.fault(t, r, kinds)
		counts[name]++
		t.Logf("%4d  %6.1f s  %s", i, time.Since(begin).Seconds(), description)
		time.Sleep(300*time.Millisecond + time.Duration(r.Int64N(int64(3*time.Second))))
		if i%*checkEach == 0 && i < faults {
			from = w.check(t, from)
			if t.Failed() {
				break
			}
		}
	}
	w.settle(t)
	senders.stop()
	w.check(t, begin)
	senders.checkStored(t, w.clickhouse)
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%4d × %s", counts[name], name)
	}
}

// check runs `nowcast verify` over the span since from, and returns the span's end.
func (w *cluster) check(t *testing.T, from time.Time) time.Time {
	t.Helper()
	w.settle(t)
	to := time.Now().Truncate(time.Second).Add(time.Second)
	var r verify.Report
	var code int
	// A killed node holds back the watermark for ten seconds, so the end of the span becomes final later.
	for end := to.Add(30 * time.Second); ; time.Sleep(2 * time.Second) {
		r, code = verified(t, "--kafka", w.kafka.Addrs()[0], "--clickhouse", w.clickhouse, "--wait", "3m",
			"--from", from.UTC().Truncate(time.Second).Format(time.RFC3339), "--to",
			to.UTC().Format(time.RFC3339))
		if code != 0 || !r.Through.Before(to) || time.Now().After(end) {
			break
		}
	}
	if code != 0 || r.Through.Before(to) || r.Events == 0 {
		t.Errorf("nowcast verify: exit %d, compared up to %s of %s, %d differences, not compared: %v", code,
			r.Through, to, r.Different, r.NotCompared)
		for _, d := range r.Differences[:min(20, len(r.Differences))] {
			t.Logf("%+v", d)
		}
	}
	t.Logf("verified: %d records, %d events of which %d late, %d stale, %d duplicate; %d envelopes retried, "+
		"%d window rows, %d event rows, %d differences", r.Records, r.Events, r.Late, r.Stale, r.Duplicate,
		r.Retried, r.WindowRows, r.EventRows, r.Different)
	for _, l := range r.Lates {
		t.Logf("late: %+v", l)
	}
	return to
}

// load has eight senders post page views of three sites.
func (w *cluster) load(t *testing.T) *senders {
	t.Helper()
	var sites []string
	for range 3 {
		sites = append(sites, w.worlds[0].site(t, true))
	}
	return startSenders(t, sendConfig{count: 8, pause: 20 * time.Millisecond,
		post: func(ctx context.Context, sender, i int, page string) (answer, error) {
			return w.worlds[sender%len(w.worlds)].beacon(ctx, sites[i%len(sites)], page, i%40, nil)
		},
		accepted: func(a answer) bool {
			return a.status == http.StatusAccepted && a.header.Get("x-plausible-dropped") == ""
		},
	})
}

// checkStored compares the accepted beacons with the stored events.
func (s *senders) checkStored(t *testing.T, dsn string) {
	t.Helper()
	db, err := warehouse.Open(dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var rows []struct {
		Path  string `ch:"path"`
		Times uint64 `ch:"times"`
	}
	eventually(t, time.Minute, "all that was acknowledged is stored", func(ctx context.Context) error {
		rows = nil
		err := db.Select(ctx, &rows, "SELECT path, count() AS times FROM events FINAL "+
			"WHERE match(path, '^/[0-9]+/[0-9]+$') GROUP BY path")
		if err != nil {
			return err
		}
		lost := maps.Clone(s.acked)
		for _, r := range rows {
			delete(lost, r.Path)
		}
		if len(lost) > 0 {
			return fmt.Errorf("%d lost, of them %v", len(lost),
				slices.Sorted(maps.Keys(lost))[:min(10, len(lost))])
		}
		return nil
	})
	doubled, unknown := 0, 0
	for _, r := range rows {
		if r.Times != 1 {
			doubled++
		}
		if !s.acked[r.Path] {
			unknown++
		}
	}
	if doubled > 0 {
		t.Errorf("%d beacons are stored more than once", doubled)
	}
	t.Logf("%d beacons acknowledged, each stored once; %d refused, %d unanswered, of which %d are stored",
		len(s.acked), s.refused.Load(), s.unanswered.Load(), unknown)
}
