package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An address that can't be is refused in one sentence, which doesn't repeat it: it may have a password in it.
func TestKafkaAddresses(t *testing.T) {
	for _, row := range []struct{ addr, want string }{
		{"kafka://hush:9092", "is a URL"}, {"hush@kafka:9092", "has a user in it"},
		{"user:hush@kafka:9092", "has a user in it"}, {"sasl://user:hush@kafka:9092", "is a URL"},
		{"hush", "has no port"}, {"hush:", "has no port"}, {"hush:0", "has no port of"}, {"hush:65536",
			"has no port of"},
		{"hush:kafka", "has no port of"}, {":9092", "has no host"}, {"hush/x:9092", "has no host"},
		{"hush 1:9092", "has a space"}, {"a:1, hush:9092", "(number 2) has a space"}, {"a:1,hush",
			"(number 2) has no port"},
		{"::1:9092", "has no port"}, {"unix:relative.sock", "has no port"}, {"unix:/hush.sock,a:1",
			"the only one"},
	} {
		for command, more := range map[string][]string{
			"ingest": nil, "topics": nil, "verify": nil, "all": nil,
			"streamer":   {"--clickhouse", "clickhouse://127.0.0.1:1/x"},
			"aggregator": {"--clickhouse", "clickhouse://127.0.0.1:1/x"},
		} {
			code, out, errs := nowcast(t, append([]string{command, "--kafka", row.addr}, more...)...)
			if code != 2 || out != "" || !strings.Contains(errs, row.want) ||
				strings.Contains(errs, "hush") ||
				strings.Count(errs, "\n") != 2 {
				t.Errorf(
					"%s --kafka %s: %d, want 2 with %q\n%s%s",
					command,
					row.addr,
					code,
					row.want,
					out,
					errs,
				)
			}
		}
	}
}

// Flags that don't go together are refused before anything starts.
func TestKafkaFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	login := " --kafka-user u --kafka-password-file " + file
	for _, row := range []struct{ args, want string }{
		{"--kafka-cert-file x", "add --kafka-tls"},
		{"--kafka-tls --kafka-cert-file x", "needed together"},
		{"--kafka-tls --kafka-ca-file /none", "certificates for Kafka: open /none"},
		{"--kafka-tls --kafka-ca-file " + file, "no certificate in PEM"},
		{"--kafka-user u", "give one of plain, scram-sha-256, scram-sha-512"},
		{"--kafka-sasl plain", "needs --kafka-user"},
		{"--kafka-sasl plain --kafka-user u", "needs --kafka-password-file"},
		{"--kafka-sasl plain" + login, "sends the password as it is: add --kafka-tls"},
		{"--kafka-sasl gssapi" + login, "no such mechanism: give one of"},
		{"--kafka-sasl scram-sha-512 --kafka-user u --kafka-password-file /none",
			"--kafka-password-file: open /none"},
	} {
		args := strings.Fields("ingest --kafka kafka.example.com:9092 " + row.args)
		code, _, errs := nowcast(t, args...)
		if code != 2 || !strings.Contains(errs, row.want) || strings.Contains(errs, "hush") {
			t.Errorf("%s: %d, want 2 with %q\n%s", row.args, code, row.want, errs)
		}
	}
	for _, row := range []struct{ args, want string }{
		{"all --kafka-tls", "don't apply to an embedded broker"},
		{"all --clickhouse-ca-file x", "don't apply to an embedded ClickHouse"},
		{"all --clickhouse localhost", "give it as clickhouse://"},
		{"all --clickhouse clickhouse://user:hush@host:bad/x", "read ClickHouse address"},
		{"streamer --kafka a:1 --clickhouse clickhouse://a:1/x --clickhouse-password-file /none",
			"open /none"},
		{"streamer --kafka a:1 --clickhouse clickhouse://user:hush@a:1/x --clickhouse-password-file " + file,
			"apart from it too"},
		{"verify --kafka a:1 --clickhouse clickhouse://a:1/x --kafka-user u", "--kafka-sasl"},
	} {
		code, _, errs := nowcast(t, strings.Fields(row.args)...)
		if code != 2 || !strings.Contains(errs, row.want) || strings.Contains(errs, "hush") {
			t.Errorf("%s: %d, want 2 with %q\n%s", row.args, code, row.want, errs)
		}
	}
}
