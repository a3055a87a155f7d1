package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// servesWithoutClickHouse waits until a process without ClickHouse is ready and tries what it does.
func servesWithoutClickHouse(t *testing.T, listen, ops, key string) {
	t.Helper()
	get(t, "http://"+ops+"/readyz", func(status int, body string) bool {
		var r struct{ Degraded map[string]string }
		err := json.Unmarshal([]byte(body), &r)
		return err == nil && status == http.StatusOK &&
			strings.Contains(r.Degraded["history"], "ClickHouse") && r.Degraded["store"] != "" &&
			!strings.Contains(body, "127.0.0.1")
	})
	get(t, "http://"+listen+"/readyz", func(status int, body string) bool {
		return status == http.StatusOK && body == `{"ready":true,"degraded":["history","store"]}`+"\n"
	})
	get(t, "http://"+listen+"/healthz", func(status int, _ string) bool { return status == http.StatusOK })
	if code, out, errs := nowcast(t, "health", "--ops-listen", ops); code != 0 ||
		!strings.Contains(out, "ready, without history: ") {
		t.Errorf("health: %d %s%s", code, out, errs)
	}
	req := func(method, path, body string) (*http.Response, string) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		t.Cleanup(cancel)
		r, err := http.NewRequestWithContext(ctx, method, "http://"+listen+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		b := make([]byte, 4096)
		n, _ := res.Body.Read(b)
		return res, string(b[:n])
	}
	res, body := req(http.MethodPost, "/api/v2/query",
		`{"site_id":"localhost","metrics":["visitors"],"date_range":"day"}`)
	const unavailable = `{"error":"history is unavailable at the moment; try again in a few seconds"`
	if res.StatusCode != http.StatusServiceUnavailable || !strings.HasPrefix(body, unavailable) {
		t.Errorf("a question about history: %d %s", res.StatusCode, body)
	}
	res, body = req(http.MethodGet, "/api/events?site=localhost", "")
	if res.StatusCode != http.StatusOK || !strings.Contains(body, "event: snapshot") {
		t.Errorf("a stream: %d %s", res.StatusCode, body)
	}
}

// Without ClickHouse the rest goes on: after a short wait for it the process is ready and says what it does
// without, beacons are taken, the live view is served, history answers 503, and SIGTERM is no failure. The
// next start finds the same key.
func TestAllWithoutClickHouse(t *testing.T) {
	dir, listen, ops := t.TempDir(), free(t), free(t)
	var keys [2]string
	for i := range keys {
		var errs bytes.Buffer
		cmd := program(t, "all", "--listen", listen, "--ops-listen", ops, "--data-dir", dir, "--clickhouse",
			"clickhouse://"+free(t)+"/default")
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		get(t, "http://"+ops+"/readyz", func(status int, body string) bool {
			var r struct{ Reasons map[string]string }
			err := json.Unmarshal([]byte(body), &r)
			return err == nil && status == http.StatusServiceUnavailable &&
				strings.Contains(r.Reasons["clickhouse"], "ClickHouse") &&
				r.Reasons["ingest"]+r.Reasons["sites"]+r.Reasons["first start"]+r.Reasons["kafka"] == ""
		})
		var err error
		if keys[i], err = readAdminKey(dir); err != nil || !strings.HasPrefix(keys[i], "nck_") {
			t.Errorf("admin key %q: %v", keys[i], err)
		}
		if info, err := os.Stat(filepath.Join(dir, adminKeyFile)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", info, err)
		}
		if b, err := exec.CommandContext(t.Context(), "sh", "-c",
			curl("http://"+listen, "localhost")).Output(); err != nil ||
			!strings.Contains(string(b), "202 Accepted") ||
			strings.Contains(string(b), "x-plausible-dropped: ") {
			t.Errorf("the printed curl line: %v %s", err, b)
		}
		if code, _, errs := nowcast(t, "all", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0",
			"--data-dir", dir); code != 1 ||
			!strings.Contains(errs, "in use by another nowcast") {
			t.Errorf("a second one on the same data dir: %d %s", code, errs)
		}
		if i == 0 {
			servesWithoutClickHouse(t, listen, ops, keys[0])
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("SIGTERM: %v\n%s", err, &errs)
		}
		if _, err := os.Stat(filepath.Join(dir, "endpoints.json")); err == nil {
			t.Error("endpoints.json is there after the end")
		}
	}
	if keys[0] != keys[1] {
		t.Error("the second start made another admin key")
	}
}
