package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/e2e/kafkatest"
	"nowcast/internal/event"
	"nowcast/internal/site"
	"nowcast/internal/topic"
)

var outage = flag.Duration("outage", 12*time.Second, "how long Kafka is down in TestOutage")

// singleNode is one broker and one ingest node with a spool.
type singleNode struct {
	world
	dir    string
	node   *kafkatest.Node
	kafka  *broker.Client
	listen string
	ops    string
	args   []string
	proc   *proc
}

const secretAgent = "Mozilla/5.0 (X11; Linux x86_64; rv:142.0; secretive31337) Gecko/20100101 Firefox/142.0"

var (
	secretAddress4 = netip.MustParseAddr("203.0.113.77")
	secretAddress6 = netip.MustParseAddr("2001:db8:dead:c0de:1234:5678:9abc:def0")
)

func startSingleNode(t *testing.T, more ...string) *singleNode {
	t.Helper()
	l := &singleNode{dir: t.TempDir(), listen: port(t), ops: port(t)}
	k := startKafka(t, kafkatest.Config{Dir: filepath.Join(l.dir, "kafka"), Nodes: 1})
	l.node = k.Nodes[0]
	l.kafka = broker.New(broker.Config{Addrs: k.Addrs()})
	t.Cleanup(l.kafka.Close)
	if err := l.kafka.Ensure(t.Context(), topic.Specs(4, 1), nil); err != nil {
		t.Fatal(err)
	}
	putSites(t, l.kafka, site.Site{Domain: "example.com", Timezone: "UTC"})
	l.ingest = "http://" + l.listen
	l.args = append([]string{"ingest", "--listen", l.listen, "--ops-listen", l.ops,
		"--kafka", strings.Join(k.Addrs(), ","), "--trusted-proxies", "127.0.0.0/8", "--spool-dir",
		filepath.Join(l.dir, "spool")}, more...)
	l.start(t)
	return l
}

func (l *singleNode) start(t *testing.T) {
	t.Helper()
	l.proc = start(t, l.args...)
	ready(t, l.proc, l.ops)
}

// load has senders post beacons. onRefused may be nil.
func (l *singleNode) load(t *testing.T, count int, onRefused func(answer)) *senders {
	t.Helper()
	return startSenders(t, sendConfig{count: count, pause: 10 * time.Millisecond, onRefused: onRefused,
		post: func(ctx context.Context, _, i int, page string) (answer,
			error) {
			return l.postSecret(ctx, page, i)
		},
		accepted: func(a answer) bool { return a.status == http.StatusAccepted },
	})
}

// postSecret posts a beacon from an address and with a user agent that must not be stored anywhere.
func (l *singleNode) postSecret(ctx context.Context, page string, i int) (answer, error) {
	// The page is a property's value: the cardinality limit would replace so many new paths.
	body := fmt.Sprintf(`{"n":"pageview","d":"example.com","u":"https://example.com/","p":{"page":%q}}`, page)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.ingest+"/api/event",
		strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("User-Agent", secretAgent)
	req.Header.Set("X-Forwarded-For", []string{secretAddress4.String(), secretAddress6.String()}[i%2])
	return do(req)
}

// checkLog compares the accepted beacons with the log, without the envelopes that were retried.
func (l *singleNode) checkLog(t *testing.T, s *senders) {
	t.Helper()
	eventually(t, 30*time.Second, "Kafka answers", func(ctx context.Context) error {
		l.kafka.Refresh() // of connections to a broker that was killed
		_, _, err := l.kafka.Bounds(ctx, topic.Events, 0)
		return err
	})
	var times map[string]int
	eventually(t, 3*time.Minute, "all that was acknowledged is in the log", func(context.Context) error {
		times = map[string]int{}
		for p := range 4 {
			newest := map[uint64]uint64{}
			var d event.Decoder
			readAll(t, l.kafka, topic.Events, p, func(r broker.Record) error {
				h, err := d.Reset(r.Value)
				if err != nil || h.Sequence <= newest[h.Node] {
					return err
				}
				if newest[h.Node] != 0 && h.Sequence != newest[h.Node]+1 {
					return fmt.Errorf("node %x went from sequence %d to %d", h.Node, newest[h.Node],
						h.Sequence)
				}
				newest[h.Node] = h.Sequence
				var e event.Event
				for d.Next(&e) {
					err := event.EachProp(e.Props, func(_, page string) bool {
						times[strings.Clone(page)]++
						return true
					})
					if err != nil {
						return err
					}
				}
				return d.Err()
			})
		}
		lost := 0
		for page := range s.acked {
			if times[page] == 0 {
				lost++
			}
		}
		if lost > 0 {
			return fmt.Errorf("%d of %d are not, %d are", lost, len(s.acked), len(times))
		}
		return nil
	})
	for page, n := range times {
		if n != 1 && page != "/probe" {
			t.Errorf("%s is in the log %d times", page, n)
		}
	}
	t.Logf("%d beacons acknowledged, each once in the log of %d events; the slowest after %v; %d refused, "+
		"%d without an answer", len(s.acked), len(times),
		time.Duration(s.slowest.Load()).Round(time.Millisecond),
		s.refused.Load(), s.unanswered.Load())
}

// While Kafka is down, ingest accepts beacons; it is killed as well; and every beacon that was answered 202
// is in the log once afterwards. Neither the log nor the spool, the process's output nor its metrics
// contain an address or a user agent.
func TestOutage(t *testing.T) {
	l := startSingleNode(t)
	s := l.load(t, 4, nil)
	time.Sleep(time.Second)
	l.node.Kill()
	time.Sleep(4 * time.Second)
	if len(spoolFiles(t, l.dir)) == 0 {
		t.Error("nothing is on disk")
	}
	l.isReadyWithoutLog(t)
	before, refused := s.count(), s.refused.Load()
	for begin := time.Now(); time.Since(begin) < *outage; time.Sleep(100 * time.Millisecond) {
		l.hasNoSecret(t, "spool")
	}
	// A sync of a busy disk may take seconds, which is too late for the beacons that wait for it.
	if accepted, refused := s.count()-before, int(s.refused.Load()-refused); accepted < 100 ||
		refused > accepted/50 {
		t.Errorf("%d beacons were accepted and %d refused while the spool has room", accepted, refused)
	}
	l.proc.kill(syscall.SIGKILL)
	if err := l.node.Start(); err != nil {
		t.Fatal(err)
	}
	l.start(t)
	if !strings.Contains(l.proc.out.String(), "sending what an earlier process left on disk") {
		t.Error("the next process doesn't say what it found")
	}
	eventually(t, 2*time.Minute+*outage, "the spool is empty", func(context.Context) error {
		if files := spoolFiles(t, l.dir); len(files) > 0 {
			return fmt.Errorf("it has %v", files)
		}
		return nil
	})
	l.node.Kill() // a second outage, which the process survives
	time.Sleep(4 * time.Second)
	if err := l.node.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	s.stop()
	l.checkLog(t, s)
	l.hasNoSecret(t, "")
	a, err := l.call(t.Context(), http.MethodGet, "http://"+l.ops+"/metrics", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	noSecret(t, "/metrics", []byte(a.body))
	noSecret(t, "the process's output", []byte(l.proc.out.String()))
}

func spoolFiles(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "spool", "*.spool"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// hasNoSecret searches every file of a folder.
func (l *singleNode) hasNoSecret(t *testing.T, sub string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(l.dir, sub), func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil //nolint:nilerr // files come and go
		}
		if b, err := os.ReadFile(name); err == nil {
			noSecret(t, name, b)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func noSecret(t *testing.T, where string, b []byte) {
	t.Helper()
	raw := secretAddress6.As16()
	for _, s := range [][]byte{[]byte(secretAddress4.String()), []byte(secretAddress6.String()),
		[]byte("2001:db8:dead:c0de"), raw[:8], []byte("secretive"), []byte("31337")} {
		if bytes.Contains(b, s) {
			t.Errorf("%s has %q", where, s)
		}
	}
}

// isReadyWithoutLog checks that the process is ready while Kafka is down and its spool has room, and says
// what it does without: on the ops address with the reason, which has no address.
func (l *singleNode) isReadyWithoutLog(t *testing.T) {
	t.Helper()
	for addr, want := range map[string]string{l.ops: `"degraded":{"log":"the log hasn't acknowledged`,
		l.listen: `{"ready":true,"degraded":["log"`} {
		eventually(t, 10*time.Second, "ready, and degraded", func(ctx context.Context) error {
			a, err := l.call(ctx, http.MethodGet, "http://"+addr+"/readyz", "", nil)
			if err == nil && (a.status != http.StatusOK || !strings.Contains(a.body, want) ||
				strings.Contains(a.body, "127.0.0.1")) {
				err = fmt.Errorf("%d %s", a.status, a.body)
			}
			return err
		})
	}
}

// When the disk of the spool is full, beacons are refused with 503 and Retry-After, and no acknowledged
// beacon is lost. The process recovers by itself when there is room again, and when Kafka is back.
func TestDiskFull(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=3m"); err != nil {
		missing(t, fmt.Errorf("a small disk needs the right to mount one: %w", err))
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, 0) })
	var wrong atomic.Int64
	l := startSingleNode(t, "--spool-dir", filepath.Join(disk, "spool"), "--spool-free", "1")
	s := l.load(t, 8, func(a answer) {
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
			wrong.Add(1)
		}
	})
	time.Sleep(time.Second)
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 1900<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	l.node.Kill()
	refusing := func(why string) {
		t.Helper()
		eventually(t, 60*time.Second, why, func(ctx context.Context) error {
			a, err := l.postSecret(ctx, "/probe", 0)
			if err == nil && a.status != http.StatusServiceUnavailable {
				err = fmt.Errorf("%d", a.status)
			}
			return err
		})
	}
	refusing("beacons are refused when the disk is nearly full")
	r, err := l.call(t.Context(), http.MethodGet, "http://"+l.ops+"/readyz", "", nil)
	if err != nil || r.status != http.StatusServiceUnavailable ||
		!strings.Contains(r.body, "have to stay free") {
		t.Errorf("/readyz with a full disk: %v %v", r, err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	l.accepts(t, 10*time.Second, "beacons are accepted when there is room again")
	// Another program fills the disk at once.
	if err := os.WriteFile(filler, make([]byte, 3<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk isn't full: %v", err)
	}
	refusing("beacons are refused when the disk is full")
	if err := l.node.Start(); err != nil {
		t.Fatal(err)
	}
	l.accepts(t, 30*time.Second, "beacons are accepted when Kafka is back")
	time.Sleep(time.Second)
	s.stop()
	if wrong.Load() > 0 {
		t.Errorf("%d refusals weren't 503 with Retry-After", wrong.Load())
	}
	l.checkLog(t, s)
	if len(s.acked) < 100 || s.refused.Load() == 0 {
		t.Errorf("%d acknowledged, %d refused: no test", len(s.acked), s.refused.Load())
	}
}

// accepts waits until a beacon is accepted.
func (l *singleNode) accepts(t *testing.T, limit time.Duration, what string) {
	t.Helper()
	eventually(t, limit, what, func(ctx context.Context) error {
		a, err := l.postSecret(ctx, "/probe", 0)
		if err == nil && a.status != http.StatusAccepted {
			err = fmt.Errorf("%d %s", a.status, a.body)
		}
		return err
	})
}

// No disk has a salt 52 hours after the salt was made: Kafka deletes segments that are older than the
// topic's retention, and a segment closes within an hour. The broker of this test checks retention every
// half second.
func TestSaltsLeaveTheDisk(t *testing.T) {
	dir := t.TempDir()
	k := startKafka(t, kafkatest.Config{Dir: dir, Nodes: 1, Props: map[string]string{
		"log.retention.check.interval.ms": "500", "log.initial.task.delay.ms": "500",
		"log.segment.delete.delay.ms": "500"}})
	client := broker.New(broker.Config{Addrs: k.Addrs()})
	t.Cleanup(client.Close)
	if err := client.Ensure(t.Context(), topic.Specs(1, 1), nil); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	salts := map[time.Duration]string{
		-73 * time.Hour: "c0ffee00c0ffee00c0ffee00c0ffee01",
		-53 * time.Hour: "c0ffee00c0ffee00c0ffee00c0ffee02",
		-51 * time.Hour: "c0ffee00c0ffee00c0ffee00c0ffee03",
		-time.Hour:      "c0ffee00c0ffee00c0ffee00c0ffee04",
	}
	onDisk := func(salt string) (found bool) {
		_ = filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				b, _ := os.ReadFile(name)
				found = found || bytes.Contains(b, []byte(salt))
			}
			return nil
		})
		return found
	}
	for _, ago := range []time.Duration{-73 * time.Hour, -53 * time.Hour, -51 * time.Hour, -time.Hour} {
		at := now.Add(ago)
		value := fmt.Sprintf(`{"day":%q,"salt":%q}`, at.UTC().Format(time.DateOnly), salts[ago])
		eventually(t, 20*time.Second, "the salt is written", func(ctx context.Context) error {
			_, err := client.Produce(ctx, topic.Salts, 0, at, []byte(value))
			if err != nil {
				client.Refresh()
			}
			return err
		})
	}
	if !onDisk(salts[-time.Hour]) {
		t.Fatal("the search doesn't find what is there")
	}
	eventually(t, 90*time.Second, "old salts are gone", func(context.Context) error {
		for ago, salt := range salts {
			if old := ago < -topic.SaltRetention; old && onDisk(salt) {
				return fmt.Errorf("the salt of %v ago is on disk", ago)
			}
		}
		return nil
	})
	for ago, salt := range salts {
		if ago > -topic.SaltRetention && !onDisk(salt) {
			t.Errorf("the salt of %v ago is gone too early", ago)
		}
	}
}
