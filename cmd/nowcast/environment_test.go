package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// inEnvironment runs the program with more variables, for at most 20 s.
func inEnvironment(t *testing.T, variables []string, args ...string) (code int, out, errs string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	p := program(t, args...)
	cmd := exec.CommandContext(ctx, p.Path, args...)
	cmd.Dir, cmd.Env = p.Dir, append(p.Env, variables...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	_ = cmd.Run() // the caller looks at the exit code
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}

// A variable that is set to nothing is the default, not a random port and no empty value.
func TestEmptyVariables(t *testing.T) {
	if l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:8080"); err == nil {
		defer l.Close() // otherwise another program has the default address
	}
	code, _, errs := inEnvironment(
		t,
		[]string{"NOWCAST_LISTEN=", "NOWCAST_TRUSTED_PROXIES=", "NOWCAST_ADDRESS_RATE="},
		"ingest",
		"--kafka",
		free(t),
		"--ops-listen",
		"127.0.0.1:0",
	)
	if code != 1 || !strings.Contains(errs, "--listen: address 127.0.0.1:8080 is taken") {
		t.Errorf("%d %s", code, errs)
	}
	code, _, errs = inEnvironment(
		t,
		[]string{"NOWCAST_KAFKA=", "NOWCAST_ADMIN_KEY=", "NOWCAST_ADMIN_KEY_FILE="},
		"streamer",
		"--clickhouse",
		"clickhouse://127.0.0.1:1/x",
	)
	if code != 2 || !strings.Contains(errs, "missing flags: --kafka") {
		t.Errorf("%d %s", code, errs)
	}
}

// A misspelt variable is said at the start, without its value. What Kubernetes sets for a service of this
// name isn't.
func TestUnknownVariables(t *testing.T) {
	code, out, errs := inEnvironment(t, []string{"NOWCAST_LISTN=hush1", "NOWCAST_WHATEVER_ELSE=hush2",
		"NOWCAST_KAFKA_PASWORD_FILE=hush3", "NOWCAST_ADMIN_KEY_FILE=/run/x", "NOWCAST_SPOOL_DIR=/x",
		"NOWCAST_KAFKA_PASSWORD=x", "NOWCAST_SERVICE_HOST=10.0.0.1", "NOWCAST_PORT=tcp://10.0.0.1:8080",
		"NOWCAST_PORT_8080_TCP_ADDR=10.0.0.1", "NOWCAST_INGEST_SERVICE_PORT_HTTP=8080", "NOWCAST_EMPTY="},
		"version")
	if code != 0 || !strings.HasPrefix(out, "nowcast dev") {
		t.Errorf("%d %s", code, out)
	}
	want := []string{`"name":"NOWCAST_LISTN","nearest":"NOWCAST_LISTEN"`, `"name":"NOWCAST_WHATEVER_ELSE"}`,
		`"name":"NOWCAST_KAFKA_PASWORD_FILE","nearest":"NOWCAST_KAFKA_PASSWORD_FILE"`}
	for _, w := range want {
		if !strings.Contains(errs, w) {
			t.Errorf("no %s in\n%s", w, errs)
		}
	}
	if strings.Count(errs, "\n") != len(want) || strings.Contains(errs, "hush") {
		t.Errorf("printed\n%s", errs)
	}
}

// A secret comes from the file that its variable with _FILE names.
func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	server := "http://" + free(t)
	// The key of a client: with it the command gets as far as the server.
	code, _, errs := inEnvironment(t, []string{"NOWCAST_KEY_FILE=" + file("key", "nck_hush\n")},
		"site", "list", "--server", server)
	if code != 1 || !strings.Contains(errs, server+" doesn't answer") {
		t.Errorf("key from a file: %d %s", code, errs)
	}
	// The address of ClickHouse, a required flag: the command gets as far as its own address.
	used := taken(t)
	for _, name := range []string{"NOWCAST_CLICKHOUSE_FILE=" + file("dsn",
		"clickhouse://user:hush@127.0.0.1:1/x\n")} {
		code, _, errs := inEnvironment(t, []string{name}, "streamer", "--kafka", free(t), "--listen", used,
			"--ops-listen", "127.0.0.1:0")
		if code != 1 || !strings.Contains(errs, "is taken") {
			t.Errorf("%s: %d %s", name, code, errs)
		}
	}
	streamer := []string{"streamer", "--kafka", "127.0.0.1:1", "--clickhouse", "clickhouse://127.0.0.1:1/x"}
	for _, row := range []struct {
		variables []string
		want      string
	}{
		{[]string{"NOWCAST_ADMIN_KEY_FILE=" + file("empty", "\n")},
			"read NOWCAST_ADMIN_KEY_FILE: " + dir + "/empty is empty"},
		{[]string{"NOWCAST_ADMIN_KEY_FILE=" + dir + "/none"}, "no such file"},
		{[]string{"NOWCAST_ADMIN_KEY_FILE=" + file("key", "nck_hush\n"), "NOWCAST_ADMIN_KEY=nck_hush"},
			"NOWCAST_ADMIN_KEY and NOWCAST_ADMIN_KEY_FILE are both set: set one"},
		{[]string{"NOWCAST_KAFKA_SASL=scram-sha-512", "NOWCAST_KAFKA_USER=u", "NOWCAST_KAFKA_PASSWORD=hush",
			"NOWCAST_KAFKA_PASSWORD_FILE=" + file("password", "hush")}, "are both given: give one"},
		{[]string{"NOWCAST_KAFKA_SASL=scram-sha-512", "NOWCAST_KAFKA_USER=u",
			"NOWCAST_KAFKA_PASSWORD_FILE=/none"},
			"--kafka-password-file: open /none"},
	} {
		code, out, errs := inEnvironment(t, row.variables, streamer...)
		if code != 2 || out != "" || !strings.Contains(errs, row.want) || strings.Contains(errs, "hush") {
			t.Errorf("%s: %d, want 2 with %q\n%s", row.variables, code, row.want, errs)
		}
	}
}

// The help names no secret, and not the flags by which a secret would be on a command line.
func TestHelpHasNoSecrets(t *testing.T) {
	for _, command := range []string{"all", "streamer", "aggregator", "verify"} {
		_, out, _ := inEnvironment(t, []string{"NOWCAST_KAFKA_PASSWORD=hush", "NOWCAST_ADMIN_KEY=hush",
			"NOWCAST_CLICKHOUSE=clickhouse://user:hush@host:9000/x"}, command, "--help")
		if !strings.Contains(out, "--kafka-password-file") || strings.Contains(out, "hush") ||
			strings.Contains(out, "--kafka-password=") || strings.Contains(out, "--clickhouse-password=") {
			t.Errorf("%s --help:\n%s", command, out)
		}
	}
}
