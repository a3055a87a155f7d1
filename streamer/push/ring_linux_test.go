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

// pair is a connection: our end's descriptor, and the viewer's end.
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
	ours, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	own, err := dup(ours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); _ = unix.Close(own) })
	return int32(own), c.(*net.TCPConn) //nolint:gosec // a descriptor
}

// A send is whole, or its failure says how much was taken and why.
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
	for range 3*ringEntries + 5 { // more than fit at once; the reader takes them meanwhile
		r.send(sending{1, good, frame[:8]})
	}
	r.flush()
	if len(r.failed) > 0 {
		t.Fatal(len(r.failed), r.failed[0].err)
	}
	got := make([]byte, (3*ringEntries+5)*8)
	_ = reader.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadFull(reader, got); err != nil || !bytes.Equal(got, bytes.Repeat(frame[:8], 3*ringEntries+5)) {
		t.Fatalf("%v: %q…", err, got[:30])
	}

	full, stalled := pair(t)
	_ = unix.SetsockoptInt(int(full), unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
	big := bytes.Repeat([]byte("x"), 8<<20)
	part := 0
	for n := -1; n != 0; part += n { // the kernel may move some on to the viewer's end, but not for long
		r.send(sending{1, good, frame})
		r.send(sending{2, full, big})
		r.send(sending{1, good, frame})
		r.flush()
		if len(r.failed) != 1 || r.failed[0].who != 2 || r.failed[0].err != nil || r.failed[0].n >= len(big) {
			t.Fatalf("%d failures", len(r.failed))
		}
		n = r.failed[0].n
		r.failed = nil
	}
	if part == 0 {
		t.Error("nothing was taken")
	}
	_ = stalled.SetReadDeadline(time.Now().Add(time.Second))
	if n, _ := io.Copy(io.Discard, stalled); n != int64(part) {
		t.Errorf("%d bytes came, %d were said", n, part)
	}

	gone, leaves := pair(t)
	_ = leaves.SetLinger(0)
	leaves.Close()
	for end := time.Now().Add(5 * time.Second); len(r.failed) == 0 && time.Now().Before(end); {
		r.send(sending{3, gone, frame})
		r.send(sending{4, -1, frame})
		r.flush()
		if len(r.failed) == 1 { // only the one that is none
			r.failed = nil
		}
	}
	if len(r.failed) != 2 || r.failed[0].err == nil || !errors.Is(r.failed[1].err, unix.EBADF) {
		t.Error(len(r.failed))
	}
}
