package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"nowcast/internal/e2e/kafkatest"
	"nowcast/internal/embedded"
)

func TestMain(m *testing.M) {
	if handled, code := embedded.Main(os.Args); handled {
		os.Exit(code)
	}
	if len(os.Args) == 2 && os.Args[1] == intruderCommand {
		intrude(os.Stdin, os.Stdout)
		os.Exit(0)
	}
	// Clients of Kafka and Docker keep connections of their own for reuse.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*connPool).discover"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// missing skips a test whose environment isn't available; with CI set it fails the test instead.
func missing(t *testing.T, why error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("CI must provide it: %v", why)
	}
	t.Skipf("LEFT OUT: %v", why)
}

// startKafka starts a real Kafka until the end of the test.
func startKafka(t *testing.T, cfg kafkatest.Config) *kafkatest.Cluster {
	t.Helper()
	k, err := kafkatest.Start(cfg)
	if errors.Is(err, kafkatest.ErrUnavailable) {
		missing(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Stop)
	return k
}

// makeTopics runs `nowcast topics` with four partitions.
func makeTopics(t *testing.T, kafka, replication string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary(t), "topics", "--kafka", kafka, "--partitions", "4",
		"--replication", replication)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nowcast topics: %v\n%s", err, out)
	}
}

// clickhouse is the DSN of an embedded ClickHouse that runs until the end of the test.
func clickhouse(t *testing.T) (dsn string) {
	t.Helper()
	return engine(t).DSN()
}

const clusterKey = "nck_the-operators-own-admin-key"

// The suite on real Apache Kafka: each role is a process of its own, with two aggregators and two streamers.
func TestRealKafka(t *testing.T) {
	k := startKafka(t, kafkatest.Config{Dir: t.TempDir(), Nodes: 1})
	kafka, ch := k.Addrs()[0], clickhouse(t)
	makeTopics(t, kafka, "1")
	listen := []string{port(t), port(t), port(t)}
	type part struct {
		ops  string
		proc *proc
	}
	var parts []part
	role := func(args ...string) {
		ops := port(t)
		parts = append(parts, part{ops, start(t, append(args, "--ops-listen", ops, "--kafka", kafka)...)})
	}
	role("ingest", "--listen", listen[0])
	for range 2 {
		role("aggregator", "--clickhouse", ch)
	}
	for _, l := range listen[1:] {
		role("streamer", "--listen", l, "--clickhouse", ch, "--admin-key", clusterKey)
	}
	for _, p := range parts {
		ready(t, p.proc, p.ops)
	}
	w := &world{ingest: "http://" + listen[0], key: clusterKey,
		streamers: []string{"http://" + listen[1], "http://" + listen[2]}}
	suite(t, w)

	// An aggregator is killed; the other takes over its partitions, and no event is lost.
	site := w.site(t, true)
	w.drip(t, site, 40, 1e9)
	parts[1].proc.kill(9)
	w.drip(t, site, 40, 1e9)
	w.total(t, site, "pageviews", 80)

	for i, p := range parts {
		if i == 1 {
			continue
		}
		if code := p.proc.stop(t); code != 0 {
			t.Errorf("%s: SIGTERM: exit %d", filepath.Base(p.proc.cmd.Args[1]), code)
		}
	}
}
