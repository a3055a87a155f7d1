package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
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

var outage = flag.Duration("outage", 12*time.Second, "how long Kafka is away in TestOutage")

// lonely is one broker and one ingest node with a spool.
type lonely struct {
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

func startLonely(t *testing.T, more ...string) *lonely {
	t.Helper()
	l := &lonely{dir: t.TempDir(), listen: port(t), ops: port(t)}
	k, err := kafkatest.Start(kafkatest.Config{Dir: filepath.Join(l.dir, "kafka"), Nodes: 1})
	if errors.Is(err, kafkatest.ErrUnavailable) {
		missing(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Stop)
	l.node = k.Nodes[0]
	l.kafka = broker.New(broker.Config{Addrs: k.Addrs()})
	t.Cleanup(l.kafka.Close)
	if err := l.kafka.Ensure(t.Context(), topic.Specs(4, 1), nil); err != nil {
		t.Fatal(err)
	}
	l.makeSite(t)
	l.ingest = "http://" + l.listen
	l.args = append([]string{"ingest", "--listen", l.listen, "--ops-listen", l.ops, "--kafka", strings.Join(k.Addrs(), ","),
		"--trusted-proxies", "127.0.0.0/8", "--spool-dir", filepath.Join(l.dir, "spool")}, more...)
	l.start(t)
	return l
}

func (l *lonely) start(t *testing.T) {
	t.Helper()
	l.proc = start(t, l.args...)
	ready(t, l.proc, l.ops)
}

// makeSite makes example.com known without a streamer.
func (l *lonely) makeSite(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := site.NewRegistry(l.kafka, slog.New(slog.DiscardHandler))
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	err := r.Wait(ctx)
	if err == nil {
		err = r.Put(ctx, site.Site{Domain: "example.com", Timezone: "UTC"})
	}
	cancel()
	<-done
	if err != nil {
		t.Fatal(err)
	}
}

// crowd posts beacons, each with a page and a sender of its own, and remembers which were answered 202.
type crowd struct {
	stop         func()
	mu           sync.Mutex
	acked        map[string]bool
	refused, cut atomic.Int64
	slowest      atomic.Int64 // ns, of a 202
	busy         func(a answer)
}

func (l *lonely) load(t *testing.T, senders int, busy func(answer)) *crowd {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &crowd{acked: map[string]bool{}, busy: busy}
	var wg sync.WaitGroup
	c.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(c.stop)
	for n := range senders {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				page := fmt.Sprintf("/%d/%d", n, i)
				send, stop := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
				sent := time.Now()
				a, err := l.secret(send, page, i)
				stop()
				switch {
				case err != nil:
					c.cut.Add(1)
					time.Sleep(50 * time.Millisecond)
				case a.status != http.StatusAccepted:
					c.refused.Add(1)
					if c.busy != nil {
						c.busy(a)
					}
					time.Sleep(50 * time.Millisecond)
				default:
					for took, old := int64(time.Since(sent)), c.slowest.Load(); took > old && !c.slowest.CompareAndSwap(old, took); old = c.slowest.Load() {
					}
					c.mu.Lock()
					c.acked[page] = true
					c.mu.Unlock()
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	return c
}

// count is how many were answered 202.
func (c *crowd) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.acked)
}

// secret posts a beacon from an address and an agent that nobody may ever find again.
func (l *lonely) secret(ctx context.Context, page string, i int) (answer, error) {
	// By a property's value: of paths a site may not have so many new ones.
	body := fmt.Sprintf(`{"n":"pageview","d":"example.com","u":"https://example.com/","p":{"page":%q}}`, page)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.ingest+"/api/event", strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("User-Agent", secretAgent)
	req.Header.Set("X-Forwarded-For", []string{secretAddress4.String(), secretAddress6.String()}[i%2])
	return do(req)
}

// check reads the log as readers do, retried envelopes dropped, and compares it with what was acknowledged.
func (l *lonely) check(t *testing.T, c *crowd) {
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
					return fmt.Errorf("node %x went from sequence %d to %d", h.Node, newest[h.Node], h.Sequence)
				}
				newest[h.Node] = h.Sequence
				var e event.Event
				for d.Next(&e) {
					if err := event.EachProp(e.Props, func(_, page string) bool { times[strings.Clone(page)]++; return true }); err != nil {
						return err
					}
				}
				return d.Err()
			})
		}
		lost := 0
		for page := range c.acked {
			if times[page] == 0 {
				lost++
			}
		}
		if lost > 0 {
			return fmt.Errorf("%d of %d are not, %d are", lost, len(c.acked), len(times))
		}
		return nil
	})
	for page, n := range times {
		if n != 1 && page != "/probe" {
			t.Errorf("%s is in the log %d times", page, n)
		}
	}
	t.Logf("%d beacons acknowledged, each once in the log (%d events there); the slowest after %v; %d refused, %d without an answer", len(c.acked), len(times),
		time.Duration(c.slowest.Load()).Round(time.Millisecond), c.refused.Load(), c.cut.Load())
}

// While Kafka is away beacons are taken; the process is killed on top of it; and all that was answered 202 is in the log afterwards, once. And nowhere,
// in the log, the spool, what the process says or its metrics, is the address or the agent of anybody.
func TestOutage(t *testing.T) {
	l := startLonely(t)
	c := l.load(t, 4, nil)
	time.Sleep(time.Second)
	l.node.Kill()
	time.Sleep(4 * time.Second)
	if len(spoolFiles(t, l.dir)) == 0 {
		t.Error("nothing is on disk")
	}
	before, refused := c.count(), c.refused.Load()
	for begin := time.Now(); time.Since(begin) < *outage; time.Sleep(100 * time.Millisecond) {
		l.hasNoSecret(t, "spool")
	}
	// A disk that is busy with other things may take its seconds for a sync, and is too late then.
	if taken, refused := c.count()-before, int(c.refused.Load()-refused); taken < 100 || refused > taken/50 {
		t.Errorf("%d beacons were taken and %d refused while the disk takes them", taken, refused)
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
	l.node.Kill() // and once more with the process alive
	time.Sleep(4 * time.Second)
	if err := l.node.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	c.stop()
	l.check(t, c)
	l.hasNoSecret(t, "")
	a, err := l.call(t.Context(), http.MethodGet, "http://"+l.ops+"/metrics", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	noSecret(t, "/metrics", []byte(a.body))
	noSecret(t, "what the process says", []byte(l.proc.out.String()))
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
func (l *lonely) hasNoSecret(t *testing.T, sub string) {
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
	for _, s := range [][]byte{[]byte(secretAddress4.String()), []byte(secretAddress6.String()), []byte("2001:db8:dead:c0de"), raw[:8], []byte("secretive"), []byte("31337")} {
		if bytes.Contains(b, s) {
			t.Errorf("%s has %q", where, s)
		}
	}
}

// The disk of the spool is full: beacons are refused with 503 and a time to come back, nothing that was acknowledged is lost, and the process goes on by
// itself when there is room again, and when Kafka is back.
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
	l := startLonely(t, "--spool-dir", filepath.Join(disk, "spool"), "--spool-free", "1")
	c := l.load(t, 8, func(a answer) {
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
			a, err := l.secret(ctx, "/probe", 0)
			if err == nil && a.status != http.StatusServiceUnavailable {
				err = fmt.Errorf("%d", a.status)
			}
			return err
		})
	}
	refusing("beacons are refused when the disk is nearly full")
	if r, err := l.call(t.Context(), http.MethodGet, "http://"+l.ops+"/readyz", "", nil); err != nil || r.status != http.StatusServiceUnavailable || !strings.Contains(r.body, "have to stay free") {
		t.Errorf("/readyz with a full disk: %v %v", r, err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "beacons are taken when there is room again", func(ctx context.Context) error {
		a, err := l.secret(ctx, "/probe", 0)
		if err == nil && a.status != http.StatusAccepted {
			err = fmt.Errorf("%d %s", a.status, a.body)
		}
		return err
	})
	// Somebody else takes the last byte at once.
	if err := os.WriteFile(filler, make([]byte, 3<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk isn't full: %v", err)
	}
	refusing("beacons are refused when the disk is full")
	if err := l.node.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the log is back", func(ctx context.Context) error {
		a, err := l.secret(ctx, "/probe", 0)
		if err == nil && a.status != http.StatusAccepted {
			err = fmt.Errorf("%d %s", a.status, a.body)
		}
		return err
	})
	time.Sleep(time.Second)
	c.stop()
	if wrong.Load() > 0 {
		t.Errorf("%d refusals weren't 503 with Retry-After", wrong.Load())
	}
	l.check(t, c)
	if len(c.acked) < 100 || c.refused.Load() == 0 {
		t.Errorf("%d acknowledged, %d refused: no test", len(c.acked), c.refused.Load())
	}
}

// A salt is on no disk two days after it was made: Kafka deletes what is older than the topic's retention, by files that close within an hour. This has
// a real broker look often, and looks for the bytes.
func TestSaltsLeaveTheDisk(t *testing.T) {
	dir := t.TempDir()
	k, err := kafkatest.Start(kafkatest.Config{Dir: dir, Nodes: 1, Props: map[string]string{"log.retention.check.interval.ms": "500", "log.initial.task.delay.ms": "500", "log.segment.delete.delay.ms": "500"}})
	if errors.Is(err, kafkatest.ErrUnavailable) {
		missing(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Stop)
	client := broker.New(broker.Config{Addrs: k.Addrs()})
	t.Cleanup(client.Close)
	if err := client.Ensure(t.Context(), topic.Specs(1, 1), nil); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	salts := map[time.Duration]string{-73 * time.Hour: "c0ffee00c0ffee00c0ffee00c0ffee01", -49 * time.Hour: "c0ffee00c0ffee00c0ffee00c0ffee02", -25 * time.Hour: "c0ffee00c0ffee00c0ffee00c0ffee03",
		-time.Hour: "c0ffee00c0ffee00c0ffee00c0ffee04"}
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
	for _, ago := range []time.Duration{-73 * time.Hour, -49 * time.Hour, -25 * time.Hour, -time.Hour} {
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
			if old := ago < -48*time.Hour; old && onDisk(salt) {
				return fmt.Errorf("the salt of %v ago is on disk", ago)
			}
		}
		return nil
	})
	for ago, salt := range salts {
		if ago > -48*time.Hour && !onDisk(salt) {
			t.Errorf("the salt of %v ago is gone too early", ago)
		}
	}
}
