package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"nowcast/internal/broker"
	"nowcast/internal/event"
	"nowcast/internal/topic"
	"nowcast/internal/verify"
	"nowcast/internal/warehouse"
	"nowcast/internal/window"
)

// verified runs `nowcast verify` and returns its report and its exit code.
func verified(t *testing.T, args ...string) (verify.Report, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(t), append([]string{"verify", "--json"}, args...)...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	_ = cmd.Run()
	var r verify.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("nowcast verify: %v\n%s", err, complaint.String())
	}
	return r, cmd.ProcessState.ExitCode()
}

// startSettled starts a laptop with 60 page views of a site and one by a bot, all in seconds before to,
// which are final.
func startSettled(t *testing.T) (l *laptop, site, to string) {
	t.Helper()
	l = startLaptop(t)
	site = l.site(t, true)
	l.bot(t, site)
	l.drip(t, site, 60, 3*time.Second)
	l.total(t, site, "pageviews", 60)
	time.Sleep(2 * time.Second) // until the last second is final; no interface tells when
	return l, site, time.Now().UTC().Truncate(time.Second).Format(time.RFC3339)
}

// Windows and history of a running pipeline agree with its log. Each row that is removed, doubled or
// altered by hand is reported with its place.
func TestVerify(t *testing.T) {
	l, site, to := startSettled(t)
	args := []string{"--data-dir", l.dir, "--site", site, "--to", to}
	r, code := verified(t, args...)
	if code != 0 || r.Different != 0 || r.Counted < 60 || r.EventRows != r.Counted || r.WindowRows < 3 ||
		len(r.NotCompared) > 0 {
		t.Fatalf("exit %d, %+v", code, r)
	}
	if x := r.Ledger; x.Minutes == 0 || x.Events != uint64(r.Counted) || x.Received != x.Events+1 ||
		x.Dropped["bot"] != 1 {
		t.Fatalf("compared ledger %+v, want %d events and a bot", x, r.Counted)
	}

	ends := endpointsOf(t, l)
	db, err := warehouse.Open(ends.Clickhouse)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	kafka := broker.New(broker.Config{Addrs: []string{ends.Kafka}})
	defer kafka.Close()
	const sync = " SETTINGS mutations_sync = 1"
	sql := func(statement string) func() error {
		return func() error {
			return db.Exec(t.Context(), strings.ReplaceAll(statement, "{site}", "'"+site+"'"))
		}
	}
	// contradict writes a changed copy of a final row to the windows topic.
	contradict := func(change func(*window.Second)) func() error {
		return func() error {
			s, partition := someFinal(t, kafka, site)
			change(&s)
			e := window.Emission{Version: window.Version, Partition: uint32(partition), Epoch: window.Epoch,
				Seconds: []window.Second{s}}
			_, err := kafka.Produce(t.Context(), topic.Windows, partition, time.Now(), e.Append(nil))
			return err
		}
	}
	known := map[verify.Difference]bool{}
	for _, c := range []struct {
		name string
		do   func() error
		want verify.Difference
	}{
		{"event removed", sql("ALTER TABLE events DELETE WHERE site = {site} AND (kpart, koff, kidx) " +
			"= (SELECT kpart, koff, kidx FROM events WHERE site = {site} ORDER BY ts LIMIT 1)" + sync),
			verify.Difference{In: "ClickHouse events", What: "missing"}},
		{"event doubled", sql("INSERT INTO events SELECT * REPLACE (visitor + 1 AS visitor) " +
			"FROM events WHERE site = {site} ORDER BY ts DESC LIMIT 1"),
			verify.Difference{In: "ClickHouse events", What: "doubled"}},
		{"event altered", sql("ALTER TABLE events UPDATE path = '/altered' WHERE site = {site} " +
			"AND (kpart, koff, kidx) = (SELECT kpart, koff, kidx FROM events WHERE site = {site} " +
			"ORDER BY ts LIMIT 1 OFFSET 10)" + sync),
			verify.Difference{In: "ClickHouse events", What: "a column differs"}},
		{"event made up", sql("INSERT INTO events SELECT * REPLACE (koff + 1000000 AS koff, 0 AS kidx) " +
			"FROM (SELECT * REPLACE (visitor + 2 AS visitor) FROM events WHERE site = {site} " +
			"ORDER BY ts LIMIT 1 OFFSET 5)"),
			verify.Difference{In: "ClickHouse events", What: "no event of the log explains it"}},
		{"window removed", sql("ALTER TABLE windows DELETE WHERE site = {site} " +
			"AND (second, part) = (SELECT second, part FROM windows WHERE site = {site} " +
			"ORDER BY second, part LIMIT 1)" + sync),
			verify.Difference{In: "ClickHouse windows", What: "missing"}},
		{"window doubled", sql("INSERT INTO windows SELECT * REPLACE (part + 1000 AS part) " +
			"FROM windows WHERE site = {site} ORDER BY second LIMIT 1 OFFSET 1"),
			verify.Difference{In: "ClickHouse windows",
				What: "1 rows of a partition that the log doesn't have"}},
		{"window altered", sql("INSERT INTO windows " +
			"SELECT * REPLACE (pageviews + 1 AS pageviews, version + 1 AS version) FROM windows " +
			"WHERE site = {site} AND part < 1000 ORDER BY second, part LIMIT 1 OFFSET 2"),
			verify.Difference{In: "ClickHouse windows", What: "pageviews is"}},
		{"ledger row removed", sql("ALTER TABLE ledger DELETE WHERE site = {site} " +
			"AND (minute, kpart, koff) = (SELECT minute, kpart, koff FROM ledger WHERE site = {site} " +
			"ORDER BY kpart, koff LIMIT 1)" + sync),
			verify.Difference{In: "ClickHouse ledger", What: "missing"}},
		{"ledger row of a reason altered",
			sql("ALTER TABLE ledger UPDATE dropped = map('spam', 1) WHERE site = {site} " +
				"AND (minute, kpart, koff) = (SELECT minute, kpart, koff FROM ledger WHERE site = {site} " +
				"ORDER BY kpart DESC, koff DESC LIMIT 1)" + sync), verify.Difference{In: "ClickHouse ledger",
				What: "dropped as spam is 1, recounted 0"}},
		{"ledger row that doesn't add up",
			sql("INSERT INTO ledger SELECT * REPLACE (late + 1 AS late, version + 1 AS version) " +
				"FROM ledger FINAL WHERE site = {site} ORDER BY kpart, koff LIMIT 1"),
			verify.Difference{In: "ClickHouse ledger", What: "it doesn't add up"}},
		{"ledger row made up", sql("INSERT INTO ledger " +
			"SELECT * REPLACE (minute - INTERVAL 3 MINUTE AS minute) FROM ledger " +
			"WHERE site = {site} ORDER BY minute DESC LIMIT 1"),
			verify.Difference{In: "ClickHouse ledger", What: "no event of the log explains it"}},
		{"ledger row of another partition",
			sql("INSERT INTO ledger SELECT * REPLACE (kpart + 1000 AS kpart) " +
				"FROM ledger WHERE site = {site} ORDER BY minute DESC LIMIT 1"),
			verify.Difference{In: "ClickHouse ledger",
				What: "1 rows of a partition that the log doesn't have"}},
		{"topic altered under the same version", contradict(func(s *window.Second) { s.Visitors++ }),
			verify.Difference{In: topic.Windows, What: "one version has two contents"}},
		{"topic altered by a newer version", contradict(func(s *window.Second) { s.Events++; s.Version++ }),
			verify.Difference{In: topic.Windows, What: "events is"}},
		{"tallies without events", func() error { return produceTally(t, kafka, site, 3) },
			verify.Difference{In: topic.Events,
				What: "tallies and events don't fit: 3 received, 0 dropped, 0 events"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.do(); err != nil {
				t.Fatal(err)
			}
			after, code := verified(t, args...)
			found := false
			for _, d := range after.Differences {
				found = found || !known[d] && d.In == c.want.In && strings.Contains(d.What, c.want.What)
				known[d] = true
			}
			if code != 1 || !found {
				t.Errorf("exit %d, found %+v, want %q in %s", code, after.Differences, c.want.What, c.want.In)
			}
		})
	}
}

// produceTally writes an envelope with a tally of received beacons and without their events.
func produceTally(t *testing.T, kafka *broker.Client, site string, received uint64) error {
	t.Helper()
	now := time.Now()
	b := event.AppendHeader(nil, event.Header{Node: 4711, Sequence: 1, Low: now.UnixMilli(),
		CloseMarker: true})
	b = event.AppendTally(b, event.Tally{Site: site, Minute: now.Unix()/60 - 1, Count: received})
	_, err := kafka.Produce(t.Context(), topic.Events, 0, now, b)
	return err
}

// A log can't be altered, so its copy is: a row of the windows topic is removed, or each is written twice,
// which is no difference.
func TestVerifyTopic(t *testing.T) {
	l, site, to := startSettled(t)
	ends := endpointsOf(t, l)
	kafka := broker.New(broker.Config{Addrs: []string{ends.Kafka}})
	defer kafka.Close()
	removed, _ := someFinal(t, kafka, site)
	for _, c := range []struct {
		name  string
		times func(window.Second) int // how often a row is written
		want  string
	}{
		{"nothing altered", func(window.Second) int { return 1 }, ""},
		{"all doubled", func(window.Second) int { return 2 }, ""},
		{"a row removed", func(s window.Second) int {
			if s.Site == removed.Site && s.At == removed.At && s.Version == removed.Version {
				return 0
			}
			return 1
		}, "the second is over and its row isn't final"},
		{"all rows of a second removed", func(s window.Second) int {
			if s.Site == removed.Site && s.At == removed.At {
				return 0
			}
			return 1
		}, "missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			copied := copyTopics(t, kafka, c.times)
			r, _ := verified(t, "--kafka", copied, "--clickhouse", ends.Clickhouse, "--site", site, "--to",
				to, "--wait", "1ms")
			found := false
			for _, d := range r.Differences {
				if d.In != topic.Windows {
					continue
				}
				found = true
				if c.want == "" || !strings.Contains(d.What, c.want) || d.Second != removed.At {
					t.Errorf("found %+v, want %q", d, c.want)
				}
			}
			if r.WindowRows < 3 || found != (c.want != "") {
				t.Errorf("%d rows compared, found %+v, want %q", r.WindowRows, r.Differences, c.want)
			}
		})
	}
}

// copyTopics starts a broker with a copy of both topics. times says how often a row of the windows topic is
// written.
func copyTopics(t *testing.T, from *broker.Client, times func(window.Second) int) (addr string) {
	t.Helper()
	k, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	into := broker.New(broker.Config{Addrs: k.ListenAddrs()})
	t.Cleanup(into.Close)
	if err := into.Ensure(t.Context(), topic.Specs(4, 1), nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{topic.Events, topic.Windows} {
		for p := range 4 {
			readAll(t, from, name, p, func(r broker.Record) error {
				values := [][]byte{r.Value}
				if name == topic.Windows {
					var e window.Emission
					if err := e.Decode(r.Value); err != nil {
						return err
					}
					values = [][]byte{nil}
					rows := e.Seconds
					for e.Seconds = nil; len(rows) > 0; rows = rows[1:] {
						for range times(rows[0]) {
							e.Seconds = append(e.Seconds, rows[0])
						}
					}
					values[0] = e.Append(nil)
				}
				at, err := into.Produce(t.Context(), name, p, time.UnixMilli(r.Time), values...)
				if err == nil && at != r.Offset {
					err = fmt.Errorf("the copy of %s/%d@%d is at %d", name, p, r.Offset, at)
				}
				return err
			})
		}
	}
	return k.ListenAddrs()[0]
}

// readAll calls each with the records that a partition has now.
func readAll(t *testing.T, kafka *broker.Client, name string, p int, each func(broker.Record) error) {
	t.Helper()
	_, end, err := kafka.Bounds(t.Context(), name, p)
	if err != nil {
		t.Fatal(err)
	}
	if end == 0 {
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	batch := func(next, _ int64) error {
		if next >= end {
			cancel()
		}
		return nil
	}
	err = kafka.Follow(ctx, broker.Follower{Topic: name, Partition: p, Record: each, Batch: batch})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// endpointsOf are the addresses of a laptop's embedded Kafka and ClickHouse.
func endpointsOf(t *testing.T, l *laptop) (ends struct{ Kafka, Clickhouse string }) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(l.dir, "endpoints.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &ends); err != nil {
		t.Fatal(err)
	}
	return ends
}

// someFinal is a final row of a site in the windows topic, with its partition.
func someFinal(t *testing.T, kafka *broker.Client, site string) (s window.Second, partition int) {
	t.Helper()
	for p := range 4 {
		readAll(t, kafka, topic.Windows, p, func(r broker.Record) error {
			var e window.Emission
			if err := e.Decode(r.Value); err != nil {
				return err
			}
			for _, x := range e.Seconds {
				if x.Site == site && x.Final && x.Events > 0 {
					s, partition = x, p
					s.Site = site
				}
			}
			return nil
		})
		if s.Site != "" {
			return s, partition
		}
	}
	t.Fatal("no final row")
	return s, 0
}
