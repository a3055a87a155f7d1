package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// server is a `nowcast all` on a data directory of its own.
type server struct {
	pid       int
	dir, url  string
	key       string
	startTime time.Duration // from the start of the process until it was ready
	end       func()
}

// startServer starts a server with further flags and waits until it is ready.
func startServer(ctx context.Context, flags ...string) (*server, error) {
	dir, err := os.MkdirTemp("", "nowcast-bench-")
	if err != nil {
		return nil, err
	}
	addrs, err := freeAddrs(ctx, "127.0.0.1", 2)
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, url: "http://" + addrs[0]}
	begin := time.Now()
	args := []string{"all", "--listen", addrs[0], "--ops-listen", addrs[1], "--data-dir", dir,
		"--log-level", "warn"}
	s.pid, s.end, err = startProcess(nowcastBinary, append(args, flags...)...)
	if err != nil {
		return nil, fmt.Errorf("%w (make build makes it)", err)
	}
	if err := waitReady(ctx, addrs[1]); err != nil {
		s.stop()
		return nil, fmt.Errorf("nowcast isn't ready: %w", err)
	}
	s.startTime = time.Since(begin)
	key, err := os.ReadFile(filepath.Join(dir, "admin.key"))
	s.key = strings.TrimSpace(string(key))
	return s, err
}

func (s *server) stop() {
	s.end()
	_ = os.RemoveAll(s.dir)
}

// addSite makes a public site.
func (s *server) addSite(ctx context.Context, domain string) error {
	body := fmt.Sprintf(`{"domain":%q,"public":true}`, domain)
	status, err := s.post(ctx, http.DefaultClient, "/api/v1/sites", body, s.key)
	if err != nil || status != http.StatusCreated {
		return fmt.Errorf("make site %s: %d %w", domain, status, err)
	}
	return nil
}

// post sends JSON, with a key unless it is "", and returns the status of the answer.
func (s *server) post(ctx context.Context, c *http.Client, path, body, key string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

// endpoints are the addresses of the embedded Kafka and ClickHouse.
func (s *server) endpoints() (e struct{ Kafka, Clickhouse string }, err error) {
	b, err := os.ReadFile(filepath.Join(s.dir, "endpoints.json"))
	if err == nil {
		err = json.Unmarshal(b, &e)
	}
	return e, err
}

// postBeacon sends a page view of a visitor.
func postBeacon(ctx context.Context, c *http.Client, url, site, page string, visitor int) error {
	body := fmt.Sprintf(`{"n":"pageview","d":"%s","u":"https://%s%s"}`, site, site, page)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/event", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", fmt.Sprintf("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 "+
		"(KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Visitor/%d", visitor))
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	if res.StatusCode != http.StatusAccepted || res.Header.Get("x-plausible-dropped") != "" {
		return fmt.Errorf("post beacon: %s", res.Status)
	}
	return nil
}
