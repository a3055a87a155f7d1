package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"nowcast/internal/broker"
	"nowcast/internal/credential"
	"nowcast/internal/e2e/kafkatest"
	"nowcast/internal/topic"
)

// guarded is a Kafka that asks for TLS and SASL and has an authorizer.
type guarded struct {
	*kafkatest.Cluster
	dir   string
	admin *kafka.Client // by a listener that may do everything
}

// aclUsers are the users of docs/operations.md. The password is the name with "-secret" behind it.
var aclUsers = []string{"admin", "ingest", "aggregator", "streamer", "verify"}

func startGuarded(t *testing.T) *guarded {
	t.Helper()
	g := &guarded{dir: t.TempDir()}
	ca, err := kafkatest.NewAuthority("Kafka's")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue("127.0.0.1", time.Hour)
	if err == nil {
		_, _, err = pair.Save(g.dir, "server")
	}
	if err == nil {
		err = os.WriteFile(g.ca(), ca.PEM, 0o600)
	}
	var format []string
	for _, u := range aclUsers {
		format = append(
			format,
			"--add-scram",
			fmt.Sprintf("SCRAM-SHA-512=[name=nowcast-%s,password=%[1]s-secret]", u),
		)
		if err == nil {
			err = os.WriteFile(filepath.Join(g.dir, u), []byte(u+"-secret\n"), 0o600)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	const door = "listener.name.guarded."
	g.Cluster = startKafka(t, kafkatest.Config{Dir: filepath.Join(g.dir, "kafka"), Format: format,
		Doors: []string{"GUARDED"}, Protocols: map[string]string{"GUARDED": "SASL_SSL"},
		Props: map[string]string{
			"authorizer.class.name":          "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
			"super.users":                    "User:ANONYMOUS",
			door + "ssl.keystore.type":       "PEM",
			door + "ssl.keystore.location":   filepath.Join(g.dir, "server.pem"),
			door + "sasl.enabled.mechanisms": "SCRAM-SHA-512",
			door + "scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram." +
				"ScramLoginModule required;",
		}})
	transport := &kafka.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	g.admin = &kafka.Client{Addr: kafka.TCP(g.Addrs()...), Timeout: 10 * time.Second, Transport: transport}
	return g
}

func (g *guarded) ca() string { return filepath.Join(g.dir, "ca.crt") }

// flags let a command log in as a user.
func (g *guarded) flags(user string) []string {
	return []string{"--kafka", g.Door("GUARDED")[0], "--kafka-tls", "--kafka-ca-file", g.ca(), "--kafka-sasl",
		"scram-sha-512", "--kafka-user", "nowcast-" + user, "--kafka-password-file", filepath.Join(g.dir,
			user)}
}

// password replaces what the file of a user's password has.
func (g *guarded) password(t *testing.T, user, password string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, user), []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// client logs in as a user.
func (g *guarded) client(t *testing.T, user string) *broker.Client {
	t.Helper()
	c, err := credential.OpenTLS(credential.Files{CA: g.ca()}, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	b := broker.New(
		broker.Config{Addrs: g.Door("GUARDED"), Timeout: 5 * time.Second, Security: broker.Security{
			TLS: c, SASL: &broker.SASL{Mechanism: "scram-sha-512", User: "nowcast-" + user,
				Password: credential.Fixed(user + "-secret")}}},
	)
	t.Cleanup(b.Close)
	return b
}

var aclOperations = map[string]kafka.ACLOperationType{"Read": kafka.ACLOperationTypeRead,
	"Write": kafka.ACLOperationTypeWrite, "Create": kafka.ACLOperationTypeCreate,
	"Describe": kafka.ACLOperationTypeDescribe, "DescribeConfigs": kafka.ACLOperationTypeDescribeConfigs}

// documentedACLs are what the kafka-acls.sh commands in docs/operations.md add for a user.
func documentedACLs(t *testing.T, user string) (acls []kafka.ACLEntry) {
	t.Helper()
	b, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		principal := "User:nowcast-" + user
		if len(words) == 0 || words[0] != "kafka-acls.sh" || !slices.Contains(words, principal) {
			continue
		}
		pattern := kafka.PatternTypeLiteral
		var operations []kafka.ACLOperationType
		var resources []kafka.ACLEntry
		for i := 1; i < len(words); i++ {
			if words[i] == "--add" {
				continue
			}
			flag, value := words[i], words[i+1]
			i++
			switch flag {
			case "--bootstrap-server", "--allow-principal":
			case "--operation":
				if aclOperations[value] == 0 {
					t.Fatalf("operation %s in %s", value, line)
				}
				operations = append(operations, aclOperations[value])
			case "--resource-pattern-type":
				if pattern = kafka.PatternTypePrefixed; value != "prefixed" {
					t.Fatalf("pattern %s in %s", value, line)
				}
			case "--topic":
				resources = append(
					resources,
					kafka.ACLEntry{ResourceType: kafka.ResourceTypeTopic, ResourceName: value},
				)
			case "--group":
				resources = append(
					resources,
					kafka.ACLEntry{ResourceType: kafka.ResourceTypeGroup, ResourceName: value},
				)
			default:
				t.Fatalf("flag %s in %s", flag, line)
			}
		}
		for _, r := range resources {
			for _, o := range operations {
				r.ResourcePatternType, r.Principal, r.Host = pattern, principal, "*"
				r.Operation, r.PermissionType = o, kafka.ACLPermissionTypeAllow
				acls = append(acls, r)
			}
		}
	}
	if len(acls) == 0 {
		t.Fatalf("no ACLs of %s in the documentation", user)
	}
	return acls
}

func (g *guarded) allow(t *testing.T, user string) {
	t.Helper()
	r, err := g.admin.CreateACLs(t.Context(), &kafka.CreateACLsRequest{ACLs: documentedACLs(t, user)})
	if err == nil {
		err = errors.Join(r.Errors...)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Each role does its whole work with exactly the ACLs that docs/operations.md lists, over TLS and SASL, and
// reads and writes nothing else. A role whose ACLs are missing, or whose password is wrong, says so, and goes
// on once that is mended.
func TestACLs(t *testing.T) {
	g := startGuarded(t)
	db := clickhouse(t)
	g.allow(t, "admin")
	topics := exec.CommandContext(t.Context(), binary(t),
		append([]string{"topics", "--partitions", "2", "--replication", "1"}, g.flags("admin")...)...)
	if out, err := topics.CombinedOutput(); err != nil {
		t.Fatalf("nowcast topics: %v\n%s", err, out)
	}
	for _, user := range []string{"ingest", "streamer", "verify"} {
		g.allow(t, user)
	}
	g.password(t, "ingest", "wrong")
	topics = exec.CommandContext(t.Context(), binary(t), append([]string{"topics"}, g.flags("ingest")...)...)
	began := time.Now()
	out, err := topics.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "refuses the user nowcast-ingest or its password") ||
		time.Since(began) > 30*time.Second {
		t.Errorf("nowcast topics with a wrong password: %v after %v\n%s", err, time.Since(began), out)
	}
	listen, stream := port(t), port(t)
	ops := map[string]string{"ingest": port(t), "aggregator": port(t), "streamer": port(t)}
	procs := map[string]*proc{}
	for role, more := range map[string][]string{
		"ingest":     {"--listen", listen},
		"aggregator": {"--clickhouse", db},
		"streamer":   {"--listen", stream, "--clickhouse", db, "--admin-key", clusterKey},
	} {
		procs[role] = start(
			t,
			slices.Concat([]string{role, "--ops-listen", ops[role]}, more, g.flags(role))...)
	}
	w := &world{ingest: "http://" + listen, streamers: []string{"http://" + stream}, key: clusterKey}
	for role, reason := range map[string]string{"aggregator": "ACLs", "ingest": "--kafka-password-file"} {
		eventually(t, 30*time.Second, role+" says what is wrong", func(ctx context.Context) error {
			a, err := w.call(ctx, http.MethodGet, "http://"+ops[role]+"/readyz", "", nil)
			if err == nil && !strings.Contains(a.body, reason) {
				err = errors.New(a.body)
			}
			return err
		})
	}
	g.allow(t, "aggregator")
	g.password(t, "ingest", "ingest-secret")
	for role, p := range procs {
		ready(t, p, ops[role])
	}
	site := w.site(t, true)
	s := w.follow(t, w.streamers[0], site)
	w.view(t, site, "/", 1)
	s.waitFor(t, 20*time.Second, "the page view", func(f frame) bool { return f.Visitors == 1 })
	w.total(t, site, "pageviews", 1)

	verify := exec.CommandContext(t.Context(), binary(t),
		append([]string{"verify", "--clickhouse", db, "--from", "10m"}, g.flags("verify")...)...)
	if out, err := verify.CombinedOutput(); err != nil {
		t.Errorf("nowcast verify: %v\n%s", err, out)
	}
	g.refuses(t)
}

// refuses checks what a role must not reach.
func (g *guarded) refuses(t *testing.T) {
	t.Helper()
	for user, forbidden := range map[string][]string{
		"ingest":     {topic.Windows, topic.DeadLetter},
		"aggregator": {topic.Sites, topic.Salts},
		"streamer":   {topic.Salts, topic.DeadLetter},
		"verify":     {topic.Sites, topic.Salts, topic.DeadLetter},
	} {
		c := g.client(t, user)
		for _, name := range forbidden {
			eventually(t, 20*time.Second, user+" is denied "+name, func(ctx context.Context) error {
				_, _, err := c.Bounds(ctx, name, 0)
				if !broker.Denied(err) {
					return fmt.Errorf("listing its offsets: %w", err)
				}
				return nil
			})
		}
	}
	streamer := g.client(t, "streamer") // may ask how far the events reach, for the end of an erasure
	eventually(t, 20*time.Second, "streamer may not read events", func(ctx context.Context) error {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		var failure error
		err := streamer.Follow(ctx, broker.Follower{Topic: topic.Events,
			Record: func(broker.Record) error { return errors.New("a record was read") },
			Fail:   func(err error) { failure = err; stop() }})
		if !broker.Denied(failure) {
			return fmt.Errorf("reading: %w, %w", err, failure)
		}
		return nil
	})
	ingest := g.client(t, "ingest")
	eventually(t, 20*time.Second, "ingest may not write a site", func(ctx context.Context) error {
		if _, err := ingest.ProduceKeyed(ctx, topic.Sites, []byte("k"), nil); !broker.Denied(err) {
			return fmt.Errorf("writing one: %w", err)
		}
		return nil
	})
}
