package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/testcontainers/testcontainers-go"
	"go.yaml.in/yaml/v3"
)

// The suite on containers of the project's image, as in the Compose file: Kafka, ingest, two aggregators
// and two streamers. They share the host's network and listen on loopback, so that they are not reachable
// from outside.
func TestContainers(t *testing.T) {
	t.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true") // not pullable everywhere; t.Cleanup stops containers
	t.Setenv("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
	if out, err := exec.CommandContext(t.Context(), "docker", "info").CombinedOutput(); err != nil {
		missing(t, fmt.Errorf("no Docker daemon answers: %w\n%.300s", err, out))
	}
	image := nowcastImage(t)
	kafka, controller := port(t), port(t)
	kafkaImage := kafkaImage(t)
	run(t, kafkaImage, nil, map[string]string{
		"KAFKA_NODE_ID":       "1",
		"KAFKA_PROCESS_ROLES": "broker,controller",
		"KAFKA_LISTENERS": "PLAINTEXT://" + kafka + ",CONTROLLER://" +
			controller,
		"KAFKA_ADVERTISED_LISTENERS":                     "PLAINTEXT://" + kafka,
		"KAFKA_CONTROLLER_LISTENER_NAMES":                "CONTROLLER",
		"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP":           "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"KAFKA_CONTROLLER_QUORUM_VOTERS":                 "1@" + controller,
		"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR":         "1",
		"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
		"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":            "1",
		"KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS":         "0",
		"KAFKA_AUTO_CREATE_TOPICS_ENABLE":                "false",
		"KAFKA_LOG_DIRS":                                 "/tmp/kafka-data",
	})
	topics := run(t, image, nil, map[string]string{"NOWCAST_KAFKA": kafka}, "topics", "--partitions", "4",
		"--replication", "1")
	eventually(t, time.Minute, "nowcast topics has ended", func(ctx context.Context) error {
		s, err := topics.State(ctx)
		if err == nil && (s.Running || s.ExitCode != 0) {
			err = fmt.Errorf("%s, exit code %d", s.Status, s.ExitCode)
		}
		return err
	})
	dsn, socket := sharedClickHouse(t)
	listen := []string{port(t), port(t), port(t)}
	var ops []string
	role := func(name string, args ...string) {
		o := port(t)
		ops = append(ops, o)
		env := map[string]string{"NOWCAST_KAFKA": kafka, "NOWCAST_OPS_LISTEN": o}
		run(t, image, []string{socket}, env, append([]string{name}, args...)...)
	}
	role("ingest", "--listen", listen[0])
	role("aggregator", "--clickhouse", dsn)
	role("aggregator", "--clickhouse", dsn)
	role("streamer", "--listen", listen[1], "--clickhouse", dsn, "--admin-key", clusterKey)
	role("streamer", "--listen", listen[2], "--clickhouse", dsn, "--admin-key", clusterKey)
	for _, o := range ops {
		ready(t, &proc{gone: make(chan struct{}), out: &output{}}, o)
	}
	suite(t, &world{ingest: "http://" + listen[0], key: clusterKey,
		streamers: []string{"http://" + listen[1], "http://" + listen[2]}})
}

// nowcastImage builds the project's image from the binary, on a base image that it builds as well.
func nowcastImage(t *testing.T) string {
	t.Helper()
	const base = "nowcast-base:bookworm"
	script(t, "../../deployments/base.sh", base)
	script(t, "../../deployments/image.sh", nowcastTag, base)
	return nowcastTag
}

const nowcastTag = "nowcast:test"

// harden gives a container the limits that docker-compose.yml gives to every container of the image.
func harden(t *testing.T, h *container.HostConfig) {
	t.Helper()
	b, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var compose struct {
		Nowcast struct {
			ReadOnly    bool     `yaml:"read_only"`
			CapDrop     []string `yaml:"cap_drop"`
			SecurityOpt []string `yaml:"security_opt"`
			PidsLimit   int64    `yaml:"pids_limit"`
			Tmpfs       []string
		} `yaml:"x-nowcast"`
	}
	if err := yaml.Unmarshal(b, &compose); err != nil {
		t.Fatal(err)
	}
	c := compose.Nowcast
	if !c.ReadOnly || len(c.CapDrop) == 0 || len(c.SecurityOpt) == 0 || c.PidsLimit == 0 {
		t.Fatalf("docker-compose.yml has no limits: %+v", c)
	}
	h.ReadonlyRootfs, h.CapDrop, h.SecurityOpt, h.PidsLimit = true, c.CapDrop, c.SecurityOpt, &c.PidsLimit
	h.Tmpfs = map[string]string{}
	for _, path := range c.Tmpfs {
		h.Tmpfs[path] = ""
	}
}

// A container with the image's own settings listens for operators on its loopback only, and its health check
// works. It has a network of its own.
func TestContainerHidesOps(t *testing.T) {
	t.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
	if out, err := exec.CommandContext(t.Context(), "docker", "info").CombinedOutput(); err != nil {
		missing(t, fmt.Errorf("no Docker daemon answers: %w\n%.300s", err, out))
	}
	image := nowcastImage(t)
	docker := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "docker", args...).CombinedOutput()
		return string(out), err
	}
	id, err := docker("run", "--detach", "--network", "none", "--read-only", "--cap-drop", "ALL", image,
		"ingest", "--kafka", "127.0.0.1:1", "--listen", "0.0.0.0:8080")
	if err != nil {
		t.Fatalf("%v: %s", err, id)
	}
	id = strings.TrimSpace(id)
	t.Cleanup(func() { _ = exec.Command("docker", "rm", "--force", id).Run() })
	eventually(t, 30*time.Second, "both addresses are open", func(context.Context) error {
		out, err := docker("exec", id, "cat", "/proc/net/tcp", "/proc/net/tcp6")
		if err == nil && (!strings.Contains(out, ":1F90 ") || !strings.Contains(out, " 0100007F:1F91 ")) {
			err = errors.New(out)
		}
		return err
	})
	out, _ := docker("exec", id, "cat", "/proc/net/tcp", "/proc/net/tcp6")
	if strings.Count(out, ":1F91 ") != 1 {
		t.Errorf("the address for operators is open elsewhere:\n%s", out)
	}
	out, err = docker("exec", id, "nowcast", "health")
	if err == nil || !strings.Contains(out, "not ready: ") {
		t.Errorf("the health check: %v, %s", err, out)
	}
	ports, err := docker("image", "inspect", "--format", "{{json .Config.ExposedPorts}}", image)
	if err != nil || strings.TrimSpace(ports) != `{"8080/tcp":{}}` {
		t.Errorf("the image exposes %s, %v", ports, err)
	}
}

// kafkaImage is the image of Apache Kafka or, where it can't be pulled, one built from the jars.
func kafkaImage(t *testing.T) string {
	t.Helper()
	const official, local = "apache/kafka:4.3.0", "nowcast-kafka:4.3.0"
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if exec.CommandContext(ctx, "docker", "image", "inspect", local).Run() == nil {
		return local
	}
	if exec.CommandContext(ctx, "docker", "pull", "--quiet", official).Run() == nil {
		return official
	}
	libs, err := filepath.Abs("kafkatest/libs")
	if err != nil {
		t.Fatal(err)
	}
	script(t, "containers/kafka.sh", local, libs)
	return local
}

func script(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	if out, err := cmd.CombinedOutput(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			missing(t, fmt.Errorf("%v: %w\n%s", args, err, out))
		}
		t.Fatal(err)
	}
}

// sharedClickHouse is an embedded ClickHouse whose socket containers can use, with the socket's directory.
func sharedClickHouse(t *testing.T) (dsn, dir string) {
	t.Helper()
	dsn = clickhouse(t)
	dir = filepath.Dir(dsn[len("unix://"):])
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) { // the containers run as another user
		if err := os.Chmod(d, 0o755); err != nil { //nolint:gosec // a test's own folder
			t.Fatal(err)
		}
	}
	eventually(t, 30*time.Second, "the socket", func(context.Context) error {
		return os.Chmod(dsn[len("unix://"):], 0o777) //nolint:gosec // as above
	})
	return dsn, dir
}

// run starts a container on the host's network, with directories of the host mounted under their own paths.
func run(t *testing.T, image string, folders []string, env map[string]string,
	args ...string) testcontainers.Container {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c, err := testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{
		ContainerRequest: testcontainers.ContainerRequest{
			Image: image, Cmd: args, Env: env,
			HostConfigModifier: func(h *container.HostConfig) {
				h.NetworkMode = "host"
				if image == nowcastTag {
					harden(t, h)
				}
				for _, f := range folders {
					h.Binds = append(h.Binds, f+":"+f)
				}
			},
		},
		Started: true,
	})
	if err != nil {
		t.Fatalf("start %s %v: %v", image, args, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if t.Failed() {
			if log, err := c.Logs(ctx); err == nil {
				b, _ := io.ReadAll(log)
				t.Logf("%s %v printed:\n%s", image, args, b[max(0, len(b)-3000):])
			}
		}
		if err := c.Terminate(ctx); err != nil {
			t.Error(err)
		}
	})
	return c
}
