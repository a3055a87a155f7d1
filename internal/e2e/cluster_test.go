package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"nowcast/internal/e2e/kafkatest"
	"nowcast/internal/embedded"
)

func TestMain(m *testing.M) {
	if handled, code := embedded.Main(os.Args); handled {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// missing says that a world can't be had: loudly, and with CI set as a failure.
func missing(t *testing.T, why error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("CI has to have it: %v", why)
	}
	t.Skipf("LEFT OUT: %v", why)
}

// clickhouse is the address of an embedded one that is a server of its own.
func clickhouse(t *testing.T) (dsn string) {
	t.Helper()
	return engine(t).DSN()
}

const clusterKey = "nck_the-operators-own-admin-key"

// Each role a process of its own, two aggregators and two streamers, on real Apache Kafka.
func TestRealKafka(t *testing.T) {
	k, err := kafkatest.Start(kafkatest.Config{Dir: t.TempDir(), Nodes: 1})
	if errors.Is(err, kafkatest.ErrUnavailable) {
		missing(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Stop)
	kafka, ch := k.Addrs()[0], clickhouse(t)
	out, err := exec.CommandContext(t.Context(), binary(t), "topics", "--kafka", kafka, "--partitions", "4", "--replication", "1").CombinedOutput()
	if err != nil {
		t.Fatalf("nowcast topics: %v\n%s", err, out)
	}
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
	w := &world{ingest: "http://" + listen[0], streamers: []string{"http://" + listen[1], "http://" + listen[2]}, key: clusterKey}
	suite(t, w)

	// An aggregator goes without a word; the other takes its partitions over, and nothing is missing.
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
