package e2e

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	intruderCommand = "intruder"
	nobody          = 65534
)

// intrude is what a program of another user tries: it reads each path on its standard input, connects to it
// if it is a socket, and prints what succeeded.
func intrude(in io.Reader, out io.Writer) {
	paths, _ := io.ReadAll(in)
	for path := range strings.Lines(string(paths)) {
		path = strings.TrimSuffix(path, "\n")
		if _, err := os.Lstat(path); err == nil {
			fmt.Fprintln(out, "stat", path)
		}
		if _, err := os.ReadFile(path); err == nil {
			fmt.Fprintln(out, "read", path)
		}
		if _, err := os.ReadDir(path); err == nil {
			fmt.Fprintln(out, "list", path)
		}
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			c.Close()
			fmt.Fprintln(out, "connect", path)
		}
	}
}

// Another user of the machine gets nothing out of the data dir, which has the log, the salts, the cluster's
// secret and the admin key, and finds no port but the public ones.
func TestOtherUserGetsNothing(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("LEFT OUT: only root may start a process of another user")
	}
	l := &laptop{dir: filepath.Join(t.TempDir(), "data"), listen: port(t), ops: port(t)}
	if err := os.Mkdir(l.dir,
		0o755); err != nil { //nolint:gosec // an operator's mistake, which the start mends
		t.Fatal(err)
	}
	l.start(t)
	l.world = &world{ingest: "http://" + l.listen, streamers: []string{"http://" + l.listen},
		key: adminKey(t, l.dir)}
	l.view(t, "localhost", "/", 1)

	var all, sockets []string
	err := filepath.WalkDir(l.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != l.dir {
			all = append(all, path)
			if d.Type() == fs.ModeSocket {
				sockets = append(sockets, filepath.Base(path))
			}
		}
		return err
	})
	slices.Sort(sockets)
	if err != nil || !slices.Equal(sockets, []string{"broker.sock", "server.sock"}) {
		t.Fatalf("sockets %q, %v", sockets, err)
	}
	for _, user := range []struct {
		id   uint32
		gets bool
	}{{0, true}, {nobody, false}} { // the first shows that the attempt would succeed
		got := asUser(t, user.id, all)
		connected := strings.Contains(got, "connect "+filepath.Join(l.dir, "broker", "broker.sock"))
		if user.gets && (!connected || !strings.Contains(got, "read ")) || !user.gets && got != "" {
			t.Errorf("user %d gets:\n%s", user.id, got)
		}
	}
	pids := append(l.children(""), l.cmd.Process.Pid)
	if len(pids) != 3 {
		t.Fatalf("processes %v", pids)
	}
	want := []string{l.listen, l.ops}
	slices.Sort(want)
	if got := listening(t, pids); !slices.Equal(got, want) {
		t.Errorf("listening on %v, want %v", got, want)
	}
}

// asUser runs intrude as a user, over a copy of this program that the user may read.
func asUser(t *testing.T, id uint32, paths []string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "intruder")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	copied := filepath.Join(dir, "intruder")
	b, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(copied, b, 0o755) //nolint:gosec // a program
	}
	if err == nil {
		err = os.Chmod(dir, 0o755) //nolint:gosec // for the other user
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), copied, intruderCommand)
	cmd.Dir = "/"
	cmd.Stdin = strings.NewReader(strings.Join(paths, "\n"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("intruder: %v %s", err, &errs)
	}
	return string(out)
}

// listening returns the TCP addresses on which processes listen.
func listening(t *testing.T, pids []int) (addrs []string) {
	t.Helper()
	inodes := map[string]bool{}
	for _, pid := range pids {
		links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, link := range links {
			target, _ := os.Readlink(link)
			if n, ok := strings.CutPrefix(target, "socket:["); ok {
				inodes[strings.TrimSuffix(n, "]")] = true
			}
		}
	}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			// Source: https://docs.kernel.org/networking/proc_net_tcp.html; 0A is LISTEN
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != "0A" || !inodes[f[9]] {
				continue
			}
			host, hexPort, _ := strings.Cut(f[1], ":")
			n, err := strconv.ParseUint(hexPort, 16, 16)
			if err != nil {
				t.Fatal(err)
			}
			if host == "0100007F" {
				host = "127.0.0.1"
			}
			addrs = append(addrs, fmt.Sprintf("%s:%d", host, n))
		}
	}
	slices.Sort(addrs)
	return addrs
}
