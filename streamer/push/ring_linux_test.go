package push

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair is a TCP connection: the server's descriptor, and the viewer's end.
func pair(t *testing.T) (fd int32, viewer *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	server, err := dup(accepted)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); _ = unix.Close(server) })
	return int32(server), c.(*net.TCPConn) //nolint:gosec // a descriptor
}

// A send is whole, or its failure says how much the socket took and why.
func TestRing(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, err := newRing()
	if err != nil {
		if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
			t.Skipf("LEFT OUT: this system has no io_uring (%v)", err)
		}
		t.Fatal(err)
	}
	defer r.close()
	frame := bytes.Repeat([]byte("frame "), 100)
	good, reader := pair(t)
	for range 3*ringEntries + 5 { // more than fit in the ring
		r.send(sendRequest{1, good, frame[:8]})
	}
	r.flush()
	if len(r.failed) > 0 {
		t.Fatal(len(r.failed), r.failed[0].err)
	}
	want := bytes.Repeat(frame[:8], 3*ringEntries+5)
	got := make([]byte, len(want))
	_ = reader.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadFull(reader, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%v: %q…", err, got[:30])
	}

	full, stalled := pair(t)
	_ = unix.SetsockoptInt(int(full), unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
	big := bytes.Repeat([]byte("x"), 8<<20)
	part := 0
	for n := -1; n != 0; part += n { // until the receive buffer is full too
		r.send(sendRequest{1, good, frame})
		r.send(sendRequest{2, full, big})
		r.send(sendRequest{1, good, frame})
		r.flush()
		if f := r.failed; len(f) != 1 || f[0].viewer != 2 || f[0].err != nil || f[0].n >= len(big) {
			t.Fatalf("%d failures", len(r.failed))
		}
		n = r.failed[0].n
		r.failed = nil
	}
	if part == 0 {
		t.Error("the socket took nothing")
	}
	_ = stalled.SetReadDeadline(time.Now().Add(time.Second))
	if n, _ := io.Copy(io.Discard, stalled); n != int64(part) {
		t.Errorf("%d bytes arrived, want %d", n, part)
	}

	closed, leaving := pair(t)
	_ = leaving.SetLinger(0)
	leaving.Close()
	for end := time.Now().Add(5 * time.Second); len(r.failed) == 0 && time.Now().Before(end); {
		r.send(sendRequest{3, closed, frame})
		r.send(sendRequest{4, -1, frame})
		r.flush()
		if len(r.failed) == 1 { // of the descriptor that isn't one
			r.failed = nil
		}
	}
	if len(r.failed) != 2 || r.failed[0].err == nil || !errors.Is(r.failed[1].err, unix.EBADF) {
		t.Error(len(r.failed))
	}
}

// hasIOURing reports whether this system has io_uring.
func hasIOURing() bool {
	r, err := newRing()
	if err != nil {
		return false
	}
	r.close()
	return true
}
