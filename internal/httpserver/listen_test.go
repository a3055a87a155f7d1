package httpserver

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// dialUnix connects to a unix socket.
func dialUnix(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A unix socket serves both ways, has its mode, and leaves no file behind.
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "http.sock")
	l, err := ListenUnix(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if l.Addr().String() != path {
		t.Errorf("address %s", l.Addr())
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, http.HandlerFunc(echo), 5*time.Second, "/q") }()
	if f, err := os.Lstat(path); err != nil || f.Mode().Perm() != 0o600 || f.Mode().Type() != fs.ModeSocket {
		t.Errorf("file: %v, %v", f.Mode(), err)
	}
	c := dialUnix(t, path)
	in := bufio.NewReader(c)
	for _, row := range []struct{ request, fast string }{
		{plain + "Content-Length: 1\r\n\r\na", "true"},
		{plain + "Content-Length: 1\r\n\r\nb", "true"},
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "false"},
	} {
		res := exchange(t, c, in, row.request)
		if res.StatusCode != 200 || res.Header.Get("X-Fast") != row.fast {
			t.Errorf("%.4s: %s, fast is %s", row.request, res.Status, res.Header.Get("X-Fast"))
		}
	}
	if stop(); <-ended != nil {
		t.Error("serve ended with an error")
	}
	if names, _ := os.ReadDir(filepath.Dir(path)); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

// stale leaves the file of a socket on which nobody listens.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
}

func TestUnixSocketReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.sock")
	stale(t, path)
	first, err := Listen("unix:" + path)
	if err != nil {
		t.Fatalf("in the place of a dead process's: %v", err)
	}
	if f, err := os.Lstat(path); err != nil || f.Mode().Perm() != SocketMode {
		t.Errorf("mode %v, %v", f.Mode(), err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ path, want string }{
		{path, "is taken: stop the program that listens there"},
		{filepath.Join(dir, "file"), "is a file that isn't a socket: remove it"},
		{filepath.Join(dir, "none", "a.sock"), "make it, and let this user write to it"},
		{filepath.Join(dir, strings.Repeat("a", 108)), "is too long: choose a directory"},
		{dir + "/", "names no file"},
		{"", "names no file"},
	} {
		if l, err := Listen("unix:" + row.path); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %s", row.path, err, row.want)
			if err == nil {
				l.Close()
			}
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(b) != "a" {
		t.Errorf("the file is %q, %v", b, err)
	}
	// One that another process has replaced is not this one's to remove.
	os.Remove(path)
	second, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	dialUnix(t, path).Close()
	second.Close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after close: %v", err)
	}
}

// Of several processes that start at the same time, with a dead one's socket there, one listens.
func TestUnixSocketOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	stale(t, path)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var opened []net.Listener
	for range 20 {
		wg.Go(func() {
			l, err := Listen("unix:" + path)
			if err == nil {
				mu.Lock()
				opened = append(opened, l)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(opened) != 1 {
		t.Errorf("%d listen", len(opened))
	}
	for _, l := range opened {
		l.Close()
	}
}

// A client of a unix socket that never reads is disconnected as one of TCP is.
func TestUnixSocketStalledReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	l, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	limits := defaultTimeouts
	limits.write = 200 * time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	ended, written := make(chan error, 1), make(chan error, 1)
	s := newServer(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, err := w.Write(make([]byte, 8<<20))
		written <- err
	}), limits, nil)
	go func() { ended <- s.run(ctx, time.Second) }()
	c := dialUnix(t, path)
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, written); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the handler's write: %v", err)
	}
	if stop(); <-ended != nil {
		t.Error("serve ended with an error")
	}
}
