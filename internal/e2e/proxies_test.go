package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// proxyServer is a running toxiproxy, driven over its HTTP API. `make toxiproxy` builds the program.
type proxyServer struct{ url string }

// proxy is one listener of the server in front of a broker's.
type proxy struct {
	server *proxyServer
	name   string
}

func startProxies(t *testing.T) *proxyServer {
	t.Helper()
	bin, err := filepath.Abs("../../bin/toxiproxy")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin); err != nil {
		t.Fatalf("find toxiproxy: run `make toxiproxy` first (%v)", err)
	}
	addr := port(t)
	host, number, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	var out output
	cmd := exec.Command(bin, "-host", host, "-port", number)
	cmd.Env = append(os.Environ(), "LOG_LEVEL=error")
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			s := out.String()
			t.Logf("toxiproxy printed:\n%s", s[max(0, len(s)-2000):])
		}
	})
	s := &proxyServer{"http://" + addr}
	eventually(t, 10*time.Second, "toxiproxy answers", func(ctx context.Context) error {
		_, err := s.call(ctx, http.MethodGet, "/version", nil, http.StatusOK)
		return err
	})
	return s
}

// call asks the API. An answer with a status that isn't expected is an error.
func (s *proxyServer) call(
	ctx context.Context, method, path string, body any, expected ...int,
) (answer, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, bytes.NewReader(b))
	if err != nil {
		return answer{}, err
	}
	a, err := do(req)
	if err != nil {
		return answer{}, err
	}
	for _, status := range expected {
		if a.status == status {
			return a, nil
		}
	}
	return a, fmt.Errorf("ask toxiproxy %s %s: %d %s", method, path, a.status, a.body)
}

// listen starts a proxy and gives the address that it listens at.
func (s *proxyServer) listen(name, upstream string) (*proxy, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	body := map[string]any{"name": name, "listen": "127.0.0.1:0", "upstream": upstream, "enabled": true}
	a, err := s.call(ctx, http.MethodPost, "/proxies", body, http.StatusCreated)
	if err != nil {
		return nil, "", err
	}
	var made struct{ Listen string }
	if err := json.Unmarshal([]byte(a.body), &made); err != nil {
		return nil, "", fmt.Errorf("read toxiproxy's answer: %w", err)
	}
	return &proxy{s, name}, made.Listen, nil
}

// directions are the two directions of a proxy. Each can have a toxic, which has the direction's name.
var directions = [...]string{"upstream", "downstream"}

// disturb puts a toxic of a kind into both directions. A direction that has one already keeps it: two faults
// can hit the same proxy, and the first to end restores it.
func (p *proxy) disturb(kind string, attributes json.RawMessage) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	for _, s := range directions {
		body := map[string]any{"name": s, "type": kind, "stream": s, "attributes": attributes}
		_, err := p.server.call(ctx, http.MethodPost, "/proxies/"+p.name+"/toxics", body,
			http.StatusOK, http.StatusConflict)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// restore removes the toxics of both directions.
//
// Toxiproxy answers 503 after 25 s where a connection delays a removal, and continues with it.
// After a 503 restore asks again until the toxic is removed.
func (p *proxy) restore() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, s := range directions {
		for busy := true; busy; {
			a, err := p.server.call(ctx, http.MethodDelete, "/proxies/"+p.name+"/toxics/"+s, nil,
				http.StatusNoContent, http.StatusNotFound, http.StatusServiceUnavailable)
			if err != nil {
				return err
			}
			busy = a.status == http.StatusServiceUnavailable
		}
	}
	return nil
}

func TestProxies(t *testing.T) {
	upstream := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("here"))
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = upstream.Serve(l) }()
	t.Cleanup(func() { _ = upstream.Close() })
	p, addr, err := startProxies(t).listen("one", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	get := func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr, nil)
		if err != nil {
			return err
		}
		req.Close = true
		_, err = do(req)
		return err
	}
	if err := get(10 * time.Second); err != nil {
		t.Error(err)
	}
	if err := p.disturb("timeout", json.RawMessage(`{"timeout":0}`)); err != nil {
		t.Fatal(err)
	}
	if err := get(200 * time.Millisecond); err == nil {
		t.Error("an answer by a proxy that is cut off")
	}
	if err := p.disturb("latency", json.RawMessage(`{"latency":1}`)); err != nil {
		t.Errorf("a second fault: %v", err)
	}
	for range 2 { // also where there is nothing to restore
		if err := p.restore(); err != nil {
			t.Fatal(err)
		}
	}
	if err := get(10 * time.Second); err != nil {
		t.Error(err)
	}
	if err := p.disturb("nonsense", json.RawMessage(`{}`)); err == nil {
		t.Error("no error of a kind that doesn't exist")
	}
}
