package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nowcast/internal/process"
	"nowcast/streamer/streamertest"
)

// terminal opens a pseudo-terminal: a program's side and a person's.
func terminal(t *testing.T) (program, person *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return program, person
}

// A terminal is greeted with a login code that works, anything else without a secret; neither with the key.
func TestGreeting(t *testing.T) {
	log := streamertest.NewLog(t)
	sites := log.Sites()
	dir, err := openDataDir(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.close()
	if err := firstStart(t.Context(), dir, sites); err != nil {
		t.Fatal(err)
	}
	key, err := readAdminKey(dir.path)
	if err != nil || key == "" {
		t.Fatal(key, err)
	}
	greeting := func(w io.Writer, r io.Reader) string {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		done := make(chan error, 1)
		go func() {
			h := &host{health: process.NewHealth()}
			done <- greet(ctx, h, w, dir, sites, "http://stats.example.com/s")
		}()
		var out strings.Builder
		for lines := bufio.NewScanner(r); lines.Scan(); {
			out.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), "Page view") {
				break
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		return out.String()
	}
	program, person := terminal(t)
	shown := greeting(program, person)
	_, code, ok := strings.Cut(shown, "Dashboard   http://stats.example.com/s/login?code=")
	code, _, _ = strings.Cut(code, "\n")
	if !ok || strings.Contains(shown, "nck_") {
		t.Fatalf("on a terminal: %s", shown)
	}
	used, err := sites.RedeemCode(t.Context(), strings.TrimSpace(code))
	if k, found := sites.Key(used.Key); err != nil || !found || !k.Admin {
		t.Errorf("the code %q: %+v %v", code, used, err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	piped := greeting(write, read)
	for _, want := range []string{"Dashboard   http://stats.example.com/s\n", "nowcast login --server",
		`src="http://stats.example.com/s/js/script.js"`, "curl -i http://stats.example.com/s/api/event"} {
		if !strings.Contains(piped, want) {
			t.Errorf("no %q in a pipe: %s", want, piped)
		}
	}
	for _, secret := range []string{"nck_", "ncc_", key} {
		if strings.Contains(piped, secret) {
			t.Errorf("a pipe is shown %s: %s", secret, piped)
		}
	}
	if isTerminal(&bytes.Buffer{}) {
		t.Error("a buffer is a terminal")
	}
}
