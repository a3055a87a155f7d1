package kafkatest_test

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha512"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"nowcast/internal/broker"
	"nowcast/internal/credential"
	"nowcast/internal/e2e/kafkatest"
)

// secured is a node whose doors have every kind of security.
type secured struct {
	*kafkatest.Cluster
	dir              string
	ca, other        *kafkatest.Authority
	caFile, otherCA  string // files with their certificates
	cert, key        string // files of a client's pair that the node accepts
	expired, expKey  string // files of a client's pair that has expired
	foreign, foreKey string // files of a client's pair of the other authority
}

const saslPassword = "se,cr=et \"pass\" ü"

// startSecured starts the node. The doors: TLS; MTLS asks for a client's certificate; EXPIRED and OTHERHOST
// have such certificates; PLAIN and SCRAM are SASL over TLS, OPEN is SASL without it.
func startSecured(t *testing.T) *secured {
	t.Helper()
	s := &secured{dir: t.TempDir()}
	s.ca, s.other = authority(t, "Kafka's"), authority(t, "another")
	s.caFile, s.otherCA = s.save(t, "ca.crt", s.ca.PEM), s.save(t, "other.crt", s.other.PEM)
	s.pair(t, s.ca, "127.0.0.1", "server", time.Hour)
	s.pair(t, s.ca, "127.0.0.1", "expired-server", -time.Minute)
	s.pair(t, s.ca, "kafka.example.com", "other-server", time.Hour)
	s.cert, s.key = s.pair(t, s.ca, "client", "client", time.Hour)
	s.expired, s.expKey = s.pair(t, s.ca, "client", "expired", -time.Minute)
	s.foreign, s.foreKey = s.pair(t, s.other, "client", "foreign", time.Hour)

	props := map[string]string{"group.initial.rebalance.delay.ms": "0"}
	set := func(door, name, value string) { props["listener.name."+strings.ToLower(door)+"."+name] = value }
	protocols := map[string]string{"TLS": "SSL", "MTLS": "SSL", "EXPIRED": "SSL", "OTHERHOST": "SSL",
		"PLAIN": "SASL_SSL", "SCRAM": "SASL_SSL", "OPEN": "SASL_PLAINTEXT"}
	for door, file := range map[string]string{"TLS": "server", "MTLS": "server", "EXPIRED": "expired-server",
		"OTHERHOST": "other-server", "PLAIN": "server", "SCRAM": "server"} {
		set(door, "ssl.keystore.type", "PEM")
		set(door, "ssl.keystore.location", filepath.Join(s.dir, file+".pem"))
	}
	set("MTLS", "ssl.client.auth", "required")
	set("MTLS", "ssl.truststore.type", "PEM")
	set("MTLS", "ssl.truststore.location", s.caFile)
	set("PLAIN", "sasl.enabled.mechanisms", "PLAIN")
	set("PLAIN", "plain.sasl.jaas.config",
		`org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="plain-secret";`)
	for _, door := range []string{"SCRAM", "OPEN"} {
		set(door, "sasl.enabled.mechanisms", "SCRAM-SHA-256,SCRAM-SHA-512")
		for _, m := range []string{"256", "512"} {
			set(door, "scram-sha-"+m+".sasl.jaas.config",
				"org.apache.kafka.common.security.scram.ScramLoginModule required;")
		}
	}
	set("OPEN", "connections.max.reauth.ms", "3000")
	s.Cluster = start(t, kafkatest.Config{Dir: filepath.Join(s.dir, "kafka"), Props: props,
		Doors:     []string{"TLS", "MTLS", "EXPIRED", "OTHERHOST", "PLAIN", "SCRAM", "OPEN"},
		Protocols: protocols,
		Format: []string{"--add-scram", "SCRAM-SHA-256=[name=alice,password=first-secret]",
			"--add-scram", "SCRAM-SHA-512=[name=alice,password=first-secret]"}})
	return s
}

func authority(t *testing.T, name string) *kafkatest.Authority {
	t.Helper()
	a, err := kafkatest.NewAuthority(name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (s *secured) save(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (s *secured) pair(t *testing.T, a *kafkatest.Authority, host, name string, valid time.Duration) (
	cert, key string,
) {
	t.Helper()
	p, err := a.Issue(host, valid)
	if err == nil {
		cert, key, err = p.Save(s.dir, name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// reports are the errors that credentials report after they were opened.
type reports struct {
	mu  sync.Mutex
	all []string
}

func (r *reports) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, err.Error())
}

func (r *reports) has(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Contains(strings.Join(r.all, "\n"), text)
}

func (s *secured) tls(t *testing.T, f credential.Files, r *reports) *credential.TLS {
	t.Helper()
	c, err := credential.OpenTLS(f, r.add)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sasl(mechanism, password string) *broker.SASL {
	return &broker.SASL{Mechanism: mechanism, User: "alice", Password: credential.Fixed(password)}
}

// use makes a topic, writes a record and reads it.
func use(ctx context.Context, c *broker.Client, topic string) error {
	base, err := c.Produce(ctx, topic, 0, time.Now(), []byte("x"))
	if err != nil {
		return err
	}
	for _, err := range broker.ReadRange(ctx, c, broker.Range{Topic: topic, From: base, To: base + 1}) {
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *secured) client(t *testing.T, addrs []string, security broker.Security) *broker.Client {
	c := broker.New(broker.Config{Addrs: addrs, Security: security, Timeout: 5 * time.Second})
	t.Cleanup(c.Close)
	return c
}

// Every kind of security that a managed Kafka may ask for, and what people are told when it doesn't fit.
func TestSecurity(t *testing.T) {
	s := startSecured(t)
	makeTopic(t, client(t, s.Cluster), "secured", nil)
	good := &reports{}
	trusted := s.tls(t, credential.Files{CA: s.caFile}, good)
	mutual := s.tls(t, credential.Files{CA: s.caFile, Cert: s.cert, Key: s.key}, good)
	with := func(cert, key string) *credential.TLS {
		return s.tls(t, credential.Files{CA: s.caFile, Cert: cert, Key: key}, good)
	}
	for _, row := range []struct {
		name, door string
		security   broker.Security
		want       string // of the error
	}{
		{"TLS", "TLS", broker.Security{TLS: trusted}, ""},
		{"mTLS", "MTLS", broker.Security{TLS: mutual}, ""},
		{"plain", "PLAIN", broker.Security{TLS: trusted, SASL: sasl("plain", "plain-secret")}, ""},
		{"scram 256", "SCRAM", broker.Security{TLS: trusted, SASL: sasl("scram-sha-256", "first-secret")},
			""},
		{"scram 512", "SCRAM", broker.Security{TLS: trusted, SASL: sasl("scram-sha-512", "first-secret")},
			""},
		{"scram without TLS", "OPEN", broker.Security{SASL: sasl("scram-sha-512", "first-secret")}, ""},

		{"expired", "EXPIRED", broker.Security{TLS: trusted}, "expired on 20"},
		{"wrong host", "OTHERHOST", broker.Security{TLS: trusted},
			"is for kafka.example.com and not for 127.0.0.1"},
		{"other authority", "TLS", broker.Security{TLS: s.tls(t, credential.Files{CA: s.otherCA}, good)},
			"isn't trusted here: name the authority's certificate with --kafka-ca-file"},
		{"system's authorities", "TLS", broker.Security{TLS: s.tls(t, credential.Files{}, good)},
			"isn't trusted here"},
		{"no client certificate", "MTLS", broker.Security{TLS: trusted}, "refuses this client's certificate"},
		{"expired client", "MTLS", broker.Security{TLS: with(s.expired, s.expKey)},
			"refuses this client's certificate"},
		{"foreign client", "MTLS", broker.Security{TLS: with(s.foreign, s.foreKey)},
			"refuses this client's certificate"},
		{"no TLS", "TLS", broker.Security{}, "speaks TLS on this port: add --kafka-tls"},
		{"TLS where there is none", "OPEN", broker.Security{TLS: trusted}, "TLS"},
		{"no SASL", "SCRAM", broker.Security{TLS: trusted}, "as it does where --kafka-sasl is needed"},
		{"SASL where there is none", "TLS", broker.Security{TLS: trusted, SASL: sasl("scram-sha-512", "x")},
			"takes no SASL on this port"},
		{"wrong mechanism", "PLAIN", broker.Security{TLS: trusted, SASL: sasl("scram-sha-256",
			"plain-secret")},
			"takes the SASL mechanisms plain and not scram-sha-256"},
		{"wrong plain password", "PLAIN", broker.Security{TLS: trusted, SASL: sasl("plain", saslPassword)},
			"refuses the user alice or its password"},
		{"wrong password", "SCRAM", broker.Security{TLS: trusted, SASL: sasl("scram-sha-256", saslPassword)},
			"refuses the user alice or its password"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := s.client(t, s.Door(row.door), row.security)
			if row.want == "" {
				if err := use(t.Context(), c, "secured"); err != nil {
					t.Error(err)
				}
				return
			}
			_, _, err := c.Shape(t.Context(), "secured")
			if err == nil || !strings.Contains(err.Error(), row.want) || !broker.Retryable(err) ||
				strings.Contains(err.Error(), saslPassword) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %q", err, row.want)
			}
			if named := strings.Contains(err.Error(), "--kafka") || strings.Contains(err.Error(),
				"certificate of"); !named {
				t.Errorf("not a sentence for people: %v", err)
			}
		})
	}
	t.Run("RotatedCertificates", func(t *testing.T) { t.Parallel(); s.rotatedCertificates(t) })
	t.Run("RotatedPassword", func(t *testing.T) { t.Parallel(); s.rotatedPassword(t) })
	t.Run("LongSession", func(t *testing.T) { t.Parallel(); s.longSession(t) })
}

// replace writes a file as operators do: another one takes its place.
func replace(t *testing.T, path string, b []byte) {
	t.Helper()
	err := os.WriteFile(path+".new", b, 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// New connections of a running client use the certificates that are in the files now.
func (s *secured) rotatedCertificates(t *testing.T) {
	var r reports
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	ca := s.save(t, "rotated-ca.crt", read(s.otherCA))
	cert, key := s.save(t, "rotated.crt", read(s.cert)), s.save(t, "rotated.key", read(s.key))
	c := s.client(t, s.Door("MTLS"), broker.Security{
		TLS: s.tls(t, credential.Files{CA: ca, Cert: cert, Key: key}, &r)})
	becomes := func(what string, want string) {
		t.Helper()
		var err error
		within(t, what, func() bool {
			c.Refresh() // drops the connections
			_, _, err = c.Shape(t.Context(), "secured")
			return err == nil && want == "" || err != nil && want != "" && strings.Contains(err.Error(), want)
		})
	}
	becomes("the other authority is refused", "isn't trusted here")
	replace(t, ca, read(s.caFile))
	becomes("the right authority is trusted", "")
	replace(t, cert, read(s.foreign))
	within(t, "a certificate without its key isn't used, and reported", func() bool {
		c.Refresh()
		_, _, err := c.Shape(t.Context(), "secured")
		return err == nil && r.has("those before stay in use")
	})
	replace(t, key, read(s.foreKey))
	becomes("the foreign certificate is used, and refused", "refuses this client's certificate")
	replace(t, key, []byte("garbage"))
	replace(t, cert, read(s.cert))
	replace(t, key, read(s.key))
	becomes("the right certificate is used", "")
	if err := use(t.Context(), c, "secured"); err != nil {
		t.Error(err)
	}
}

// New connections of a running client use the password that is in the file now.
func (s *secured) rotatedPassword(t *testing.T) {
	var r reports
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	admin := &kafka.Client{Addr: kafka.TCP(s.Addrs()...), Timeout: 5 * time.Second, Transport: transport}
	set := func(password string) {
		t.Helper()
		salt := []byte("some salt of 16 ")
		salted, err := pbkdf2.Key(sha512.New, password, salt, 4096, sha512.Size)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := admin.AlterUserScramCredentials(t.Context(), &kafka.AlterUserScramCredentialsRequest{
			Upsertions: []kafka.UserScramCredentialsUpsertion{
				{Name: "bob", Mechanism: kafka.ScramMechanismSha512,
					Iterations: 4096, Salt: salt, SaltedPassword: salted},
			}})
		if err != nil || answer.Results[0].Error != nil {
			t.Fatal(err, answer)
		}
	}
	set("first")
	file := s.save(t, "password", []byte("first\n"))
	secret, err := credential.OpenSecret(file, r.add)
	if err != nil {
		t.Fatal(err)
	}
	c := s.client(t, s.Door("SCRAM"), broker.Security{
		TLS:  s.tls(t, credential.Files{CA: s.caFile}, &r),
		SASL: &broker.SASL{Mechanism: "scram-sha-512", User: "bob", Password: secret}})
	works := func() error { c.Refresh(); return use(t.Context(), c, "secured") }
	within(t, "the first password works", func() bool { return works() == nil })
	set("second")
	within(t, "the first one is refused", func() bool {
		err := works()
		return err != nil && strings.Contains(err.Error(), "refuses the user bob")
	})
	replace(t, file, []byte("second\n"))
	within(t, "the second one works", func() bool { return works() == nil })
	replace(t, file, nil)
	within(t, "an empty file is reported, the second one still works", func() bool {
		return works() == nil && r.has("is empty")
	})
}

// The broker ends a login after 3 s here. Requests don't notice, because the client has logged in again.
func (s *secured) longSession(t *testing.T) {
	c := s.client(t, s.Door("OPEN"), broker.Security{SASL: sasl("scram-sha-256", "first-secret")})
	n := 0
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); n++ {
		<-pace.C
		if _, err := c.Produce(t.Context(), "secured", 0, time.Now(), fmt.Appendf(nil, "%d", n)); err != nil {
			t.Fatalf("request %d: %v", n, err)
		}
		if _, _, err := c.Shape(t.Context(), "secured"); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("request %d: %v", n, err)
		}
	}
}
