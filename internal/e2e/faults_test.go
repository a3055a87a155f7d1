package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/e2e/kafkatest"
	"nowcast/internal/embedded"
	"nowcast/internal/topic"
)

// cluster is three brokers, ClickHouse, two ingest nodes, two aggregators and a streamer. Each is a process
// of its own, in which faults are injected.
type cluster struct {
	kafka      *kafkatest.Cluster
	direct     *broker.Client // of the test, past the proxies
	clickhouse string
	engine     *embedded.ClickHouse
	roles      []*role // ingest and aggregators; each has a listener of Kafka (door) of its own
	worlds     []*world
	proxies    map[string][]*proxy // by door

	mu      sync.Mutex
	faulty  map[string]bool // parts with a fault at present
	healing sync.WaitGroup
}

// role is a nowcast process that is restarted again and again.
type role struct {
	door, ops string
	args      []string
	log       string
	bin       string

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{}
}

func (r *role) start() error {
	f, err := os.OpenFile(r.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.Command(r.bin, r.args...)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cmd, r.ended = cmd, ended
	return nil
}

func (r *role) signal(s syscall.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.cmd.Process.Signal(s)
}

// end sends a signal and waits until the process has ended. After 30 s it kills the process.
func (r *role) end(s syscall.Signal) {
	r.signal(s)
	select {
	case <-r.ended:
	case <-time.After(30 * time.Second):
		r.signal(syscall.SIGKILL)
		<-r.ended
	}
}

// alive reports whether the process is running.
func (r *role) alive() bool {
	select {
	case <-r.ended:
		return false
	default:
		return true
	}
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	w := &cluster{proxies: map[string][]*proxy{}, faulty: map[string]bool{}}
	server := startProxies(t)
	doors := []string{"INGEST1", "INGEST2", "AGGREGATOR1", "AGGREGATOR2"}
	var err error
	w.kafka, err = kafkatest.Start(kafkatest.Config{Dir: t.TempDir(), Nodes: 3, Doors: doors,
		Proxy: func(door, upstream string) (string, error) {
			p, addr, err := server.listen(upstream+door, upstream)
			if err != nil {
				return "", err
			}
			w.proxies[door] = append(w.proxies[door], p)
			return addr, nil
		}})
	if errors.Is(err, kafkatest.ErrUnavailable) {
		missing(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.kafka.Stop)
	w.direct = broker.New(broker.Config{Addrs: w.kafka.Addrs()})
	t.Cleanup(w.direct.Close)
	w.engine = engine(t)
	w.clickhouse = w.engine.DSN()
	addrs := strings.Join(w.kafka.Addrs(), ",")
	makeTopics(t, addrs, "3")
	listen := port(t)
	// The streamer is needed to make sites.
	start(t, "streamer", "--listen", listen, "--ops-listen", port(t), "--kafka", addrs, "--clickhouse",
		w.clickhouse, "--admin-key", clusterKey)
	dir := t.TempDir()
	for _, d := range doors {
		r := &role{door: d, ops: port(t), log: filepath.Join(dir, d+".log"), bin: binary(t)}
		name := strings.ToLower(strings.TrimRight(d, "0123456789"))
		r.args = []string{name, "--ops-listen", r.ops, "--kafka", strings.Join(w.kafka.Door(d), ",")}
		if name == "ingest" {
			l := port(t)
			r.args = append(r.args, "--listen", l, "--spool-dir", filepath.Join(dir, d+".spool"))
			w.worlds = append(w.worlds, &world{ingest: "http://" + l, key: clusterKey,
				streamers: []string{"http://" + listen}})
		} else {
			r.args = append(r.args, "--clickhouse", w.clickhouse)
		}
		if err := r.start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			r.signal(syscall.SIGCONT)
			r.end(syscall.SIGTERM)
			if b, err := os.ReadFile(r.log); t.Failed() && err == nil {
				t.Logf("%s printed:\n%s", d, b[max(0, len(b)-6000):])
			}
		})
		w.roles = append(w.roles, r)
	}
	t.Cleanup(w.healing.Wait)
	w.settle(t)
	return w
}

// engine is an embedded ClickHouse that runs until the end of the test.
func engine(t *testing.T) *embedded.ClickHouse {
	t.Helper()
	library, err := embedded.FindLibrary("../../bin/libchdb.so")
	if err != nil {
		t.Fatal(err)
	}
	cfg := embedded.Config{Dir: t.TempDir(), Library: library, Log: slog.New(slog.DiscardHandler)}
	c, err := embedded.NewClickHouse(cfg)
	if err != nil {
		t.Fatal(err)
	}
	background(t, c.Run)
	return c
}

// fault injects a fault into a part that has none, and heals it after a while. At most three parts are
// faulty at a time, and one of them a broker, once all replicas are in sync: a beacon is acknowledged by
// two of three.
func (w *cluster) fault(t *testing.T, r *rand.Rand, kinds []kind) (name, description string) {
	t.Helper()
	for {
		k := kinds[r.IntN(len(kinds))]
		which := r.IntN(1 << 16)
		span := k.least + time.Duration(r.Int64N(int64(k.most-k.least)))
		if !w.claim(k.part(w, which)) {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		part := k.part(w, which)
		heal := k.inject(w, part, span, r)
		w.healing.Go(func() {
			time.Sleep(span)
			if err := heal(); err != nil {
				t.Errorf("heal %s after %s: %v", part, k.name, err)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			delete(w.faulty, part)
		})
		what, _, _ := strings.Cut(strings.TrimRight(part, "0123456789"), " ")
		return what + ": " + k.name, fmt.Sprintf("%s: %s, %.1f s", part, k.name, span.Seconds())
	}
}

// claim marks a part as faulty, if the limits of fault allow that.
func (w *cluster) claim(part string) bool {
	isBroker := strings.HasPrefix(part, "broker")
	if isBroker && !w.inSync() {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.faulty[part] || len(w.faulty) >= 3 {
		return false
	}
	for other := range w.faulty {
		if isBroker && strings.HasPrefix(other, "broker") {
			return false
		}
	}
	w.faulty[part] = true
	return true
}

// inSync reports whether every partition has all its replicas in sync.
func (w *cluster) inSync() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	n, err := w.direct.InSyncReplicas(ctx, topic.Events, topic.Windows, "__consumer_offsets")
	if err != nil {
		w.direct.Refresh()
	}
	return err == nil && n == 3
}

// kind is a kind of fault.
type kind struct {
	name        string
	least, most time.Duration // until it is healed
	part        func(w *cluster, which int) string
	inject      injector
}

// injector injects a fault into a part and returns what heals it.
type injector func(w *cluster, part string, span time.Duration, r *rand.Rand) (heal func() error)

func aggregators(_ *cluster, which int) string { return fmt.Sprintf("AGGREGATOR%d", 1+which%2) }
func ingests(_ *cluster, which int) string     { return fmt.Sprintf("INGEST%d", 1+which%2) }
func brokers(_ *cluster, which int) string     { return fmt.Sprintf("broker %d", which%3) }
func clickhouses(*cluster, int) string         { return "ClickHouse" }
func links(w *cluster, which int) string {
	return fmt.Sprintf("link %s %d", w.roles[which%4].door, which/4%4)
}

func (w *cluster) role(door string) *role {
	for _, r := range w.roles {
		if r.door == door {
			return r
		}
	}
	return nil
}

func killed(s syscall.Signal) injector {
	return func(w *cluster, part string, _ time.Duration, _ *rand.Rand) func() error {
		r := w.role(part)
		r.end(s)
		return r.start
	}
}

func stopped(w *cluster, part string, _ time.Duration, _ *rand.Rand) func() error {
	r := w.role(part)
	r.signal(syscall.SIGSTOP)
	return func() error { r.signal(syscall.SIGCONT); return nil }
}

func (w *cluster) broker(part string) *kafkatest.Node {
	var i int
	_, _ = fmt.Sscanf(part, "broker %d", &i)
	return w.kafka.Nodes[i]
}

// toxic disturbs the connections from a role to one broker, or to all.
func toxic(kind string, attributes func(*rand.Rand) string) injector {
	return func(w *cluster, part string, _ time.Duration, r *rand.Rand) func() error {
		var door string
		var node int
		_, _ = fmt.Sscanf(part, "link %s %d", &door, &node)
		proxies := w.proxies[door]
		if node < 3 {
			proxies = proxies[node : node+1]
		}
		a := attributes(r)
		var errs []error
		for _, p := range proxies {
			errs = append(errs, p.disturb(kind, json.RawMessage(a)))
		}
		return func() error {
			for _, p := range proxies {
				errs = append(errs, p.restore())
			}
			return errors.Join(errs...)
		}
	}
}

func fixed(attributes string) func(*rand.Rand) string {
	return func(*rand.Rand) string { return attributes }
}

// kinds are the kinds of faults; a kind that is listed twice is injected twice as often. A process that is
// stopped for longer than its session of 10 s continues as a zombie, with partitions that the group has
// assigned to another.
var kinds = []kind{
	{"kill -9", 0, 4 * time.Second, aggregators, killed(syscall.SIGKILL)},
	{"kill -9", 0, 4 * time.Second, aggregators, killed(syscall.SIGKILL)},
	{"SIGTERM", 0, 4 * time.Second, aggregators, killed(syscall.SIGTERM)},
	{"SIGSTOP", 500 * time.Millisecond, 16 * time.Second, aggregators, stopped},
	{"SIGSTOP", 500 * time.Millisecond, 16 * time.Second, aggregators, stopped},
	{"kill -9", 0, 4 * time.Second, ingests, killed(syscall.SIGKILL)},
	{"kill -9", 0, 4 * time.Second, ingests, killed(syscall.SIGKILL)},
	{"SIGTERM", 0, 4 * time.Second, ingests, killed(syscall.SIGTERM)},
	{"SIGSTOP", 200 * time.Millisecond, 14 * time.Second, ingests, stopped},
	{"kill -9", 0, 5 * time.Second, brokers, onBroker((*kafkatest.Node).Kill, (*kafkatest.Node).Start)},
	{"SIGTERM", 0, 5 * time.Second, brokers, onBroker((*kafkatest.Node).Term, (*kafkatest.Node).Start)},
	{"SIGSTOP", 500 * time.Millisecond, 9 * time.Second, brokers, onBroker((*kafkatest.Node).Pause, resume)},
	{"kill -9", 0, time.Second, clickhouses, onClickHouse(syscall.SIGKILL, 0)},
	{"SIGSTOP", 500 * time.Millisecond, 8 * time.Second, clickhouses,
		onClickHouse(syscall.SIGSTOP, syscall.SIGCONT)},
	{"cut off", 500 * time.Millisecond, 14 * time.Second, links, toxic("timeout", fixed(`{"timeout":0}`))},
	{"cut off", 500 * time.Millisecond, 14 * time.Second, links, toxic("timeout", fixed(`{"timeout":0}`))},
	{"connections reset", 200 * time.Millisecond, 3 * time.Second, links,
		toxic("reset_peer", fixed(`{"timeout":0}`))},
	{"delay", time.Second, 8 * time.Second, links, toxic("latency", func(r *rand.Rand) string {
		return fmt.Sprintf(`{"latency":%d,"jitter":%d}`, 10+r.IntN(600), r.IntN(100))
	})},
	{"narrow", time.Second, 6 * time.Second, links, toxic("bandwidth", func(r *rand.Rand) string {
		return fmt.Sprintf(`{"rate":%d}`, 2+r.IntN(40))
	})},
}

func resume(n *kafkatest.Node) error {
	n.Resume()
	return nil
}

func onBroker(inject func(*kafkatest.Node), heal func(*kafkatest.Node) error) injector {
	return func(w *cluster, part string, _ time.Duration, _ *rand.Rand) func() error {
		n := w.broker(part)
		inject(n)
		return func() error { return heal(n) }
	}
}

// onClickHouse sends a signal to ClickHouse, and another one to heal it; 0: none, its supervisor restarts it.
func onClickHouse(inject, heal syscall.Signal) injector {
	return func(w *cluster, _ string, _ time.Duration, _ *rand.Rand) func() error {
		pid := w.engine.PID()
		if pid > 0 {
			_ = syscall.Kill(pid, inject)
		}
		return func() error {
			if pid > 0 && heal != 0 {
				_ = syscall.Kill(pid, heal)
			}
			return nil
		}
	}
}

// ingestKinds are the faults that a beacon answered 202 has to survive: ingest is killed, and all brokers
// stop and start.
var ingestKinds = []kind{
	{"kill -9", 0, 3 * time.Second, ingests, killed(syscall.SIGKILL)},
	{"outage", 2 * time.Second, 8 * time.Second, brokersAll, allBrokers},
	{"outage", 2 * time.Second, 8 * time.Second, brokersAll, allBrokers},
}

func brokersAll(*cluster, int) string { return "brokers all" }

// allBrokers pauses or kills all brokers at once.
func allBrokers(w *cluster, _ string, _ time.Duration, r *rand.Rand) func() error {
	if r.IntN(2) == 0 {
		for _, n := range w.kafka.Nodes {
			n.Pause()
		}
		return func() error {
			for _, n := range w.kafka.Nodes {
				n.Resume()
			}
			return nil
		}
	}
	for _, n := range w.kafka.Nodes {
		n.Kill()
	}
	return func() error {
		errs := make([]error, len(w.kafka.Nodes))
		var all sync.WaitGroup
		for i, n := range w.kafka.Nodes {
			all.Go(func() { errs[i] = n.Start() })
		}
		all.Wait()
		return errors.Join(errs...)
	}
}

// settle waits until all faults are healed, all replicas in sync and all roles ready.
func (w *cluster) settle(t *testing.T) {
	t.Helper()
	w.healing.Wait()
	eventually(t, 90*time.Second, "all replicas are in sync", func(context.Context) error {
		if !w.inSync() {
			return errors.New("they aren't")
		}
		return nil
	})
	for _, r := range w.roles {
		if !r.alive() {
			b, _ := os.ReadFile(r.log)
			t.Fatalf("%s ended by itself:\n%s", r.door, b[max(0, len(b)-3000):])
		}
		eventually(t, 90*time.Second, r.door+" is ready", func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.ops+"/readyz", nil)
			if err != nil {
				return err
			}
			a, err := do(req)
			if err == nil && (a.status != http.StatusOK || !strings.Contains(a.body, `"degraded":{}`)) {
				err = fmt.Errorf("%d %s", a.status, a.body)
			}
			return err
		})
	}
}
