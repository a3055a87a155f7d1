package e2e

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
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

// Under load, whatever is killed, stopped, cut off or delayed: aggregators, ingest nodes, ClickHouse, Kafka's brokers and the way to
// them. Afterwards each beacon that was answered 202 is stored exactly once, and `nowcast verify` finds nothing that it can't explain.
func TestChaos(t *testing.T) { chaos(t, *faults, kinds) }

// The same with nothing but what hurts ingest: it is killed, and all brokers come and go at once.
func TestIngestChaos(t *testing.T) { chaos(t, *kills, ingestKinds) }

func chaos(t *testing.T, faults int, of []kind) {
	w := startCluster(t)
	senders := w.load(t)
	r := rand.New(rand.NewPCG(*chaosSeed, 1))
	begin := time.Now()
	from := begin
	kinds := map[string]int{}
	for i := 1; i <= faults; i++ {
		name, says := w.fault(t, r, of)
		kinds[name]++
		t.Logf("%4d  %6.1f s  %s", i, time.Since(begin).Seconds(), says)
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
	senders.check(t, w.clickhouse)
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		t.Logf("%4d × %s", kinds[name], name)
	}
}

// check verifies what has been since from, and returns from when on the next check has to.
func (w *cluster) check(t *testing.T, from time.Time) time.Time {
	t.Helper()
	w.settle(t)
	to := time.Now().Truncate(time.Second).Add(time.Second)
	var r verify.Report
	var code int
	// A node that was killed holds the watermark for ten seconds, so the span's end is final a while after it is over.
	for end := to.Add(30 * time.Second); ; time.Sleep(2 * time.Second) {
		r, code = verified(t, "--kafka", w.kafka.Addrs()[0], "--clickhouse", w.clickhouse, "--wait", "3m",
			"--from", from.UTC().Truncate(time.Second).Format(time.RFC3339), "--to", to.UTC().Format(time.RFC3339))
		if code != 0 || !r.Through.Before(to) || time.Now().After(end) {
			break
		}
	}
	if code != 0 || r.Through.Before(to) || r.Events == 0 {
		t.Errorf("nowcast verify: exit %d, compared up to %s of %s, %d differences, not compared: %v", code, r.Through, to, r.Different, r.NotCompared)
		for _, d := range r.Differences[:min(20, len(r.Differences))] {
			t.Logf("%+v", d)
		}
	}
	t.Logf("verified: %d records, %d events of which %d late, %d stale, %d repeated; %d envelopes sent again, %d window rows, %d event rows, %d differences",
		r.Records, r.Events, r.Late, r.Stale, r.Duplicate, r.Retried, r.WindowRows, r.EventRows, r.Different)
	for _, l := range r.Lates {
		t.Logf("late: %+v", l)
	}
	return to
}

// senders post beacons, each with a page of its own, and remember which were answered 202.
type senders struct {
	cancel       context.CancelFunc
	done         sync.WaitGroup
	mu           sync.Mutex
	acked        map[string]bool
	refused, cut atomic.Int64 // answered otherwise; not answered
}

const senderCount, senderSites = 8, 3

func (w *cluster) load(t *testing.T) *senders {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &senders{cancel: cancel, acked: map[string]bool{}}
	t.Cleanup(s.stop)
	var sites []string
	for range senderSites {
		sites = append(sites, w.worlds[0].site(t, true))
	}
	for n := range senderCount {
		s.done.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				send, stop := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
				page := fmt.Sprintf("/%d/%d", n, i)
				a, err := w.worlds[n%len(w.worlds)].beacon(send, sites[i%len(sites)], page, i%40, nil)
				stop()
				switch {
				case err != nil:
					s.cut.Add(1)
					time.Sleep(50 * time.Millisecond)
				case a.status != http.StatusAccepted || a.header.Get("x-plausible-dropped") != "":
					s.refused.Add(1)
					time.Sleep(50 * time.Millisecond)
				default:
					s.mu.Lock()
					s.acked[page] = true
					s.mu.Unlock()
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	return s
}

func (s *senders) stop() {
	s.cancel()
	s.done.Wait()
}

// check compares what was acknowledged with what is stored.
func (s *senders) check(t *testing.T, dsn string) {
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
	// A beacon that was acknowledged a moment ago may be on its way.
	eventually(t, time.Minute, "all that was acknowledged is stored", func(ctx context.Context) error {
		rows = nil
		if err := db.Select(ctx, &rows, "SELECT path, count() AS times FROM events FINAL WHERE match(path, '^/[0-9]+/[0-9]+$') GROUP BY path"); err != nil {
			return err
		}
		lost := maps.Clone(s.acked)
		for _, r := range rows {
			delete(lost, r.Path)
		}
		if len(lost) > 0 {
			return fmt.Errorf("%d lost, of them %v", len(lost), slices.Sorted(maps.Keys(lost))[:min(10, len(lost))])
		}
		return nil
	})
	doubled, unsure := 0, 0
	for _, r := range rows {
		if r.Times != 1 {
			doubled++
		}
		if !s.acked[r.Path] {
			unsure++
		}
	}
	if doubled > 0 {
		t.Errorf("%d beacons are stored more than once", doubled)
	}
	t.Logf("%d beacons acknowledged, each stored once; %d refused, %d without an answer, of which %d are stored", len(s.acked), s.refused.Load(), s.cut.Load(), unsure)
}
