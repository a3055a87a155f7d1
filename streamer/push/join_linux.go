package push

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"nowcast/streamer/hub"
)

const (
	// maxPendingJoins is the number of viewers that wait in a shard's queue. Further requests wait in
	// adopt, so that a crowd that comes at once delays the frames of nobody by more than so many
	// snapshots.
	maxPendingJoins = 8

	// sendBuffer is SO_SNDBUF of a viewer's socket, in bytes. A small buffer bounds the age of the
	// frames that a slow client still gets, and the kernel's memory.
	sendBuffer = 4096

	// userTimeout is TCP_USER_TIMEOUT in ms: the longest time without an acknowledgement.
	userTimeout = 30_000
)

// adopt takes a viewer's connection from net/http and queues its join. It reports false when the
// connection can't be taken and nothing has been done.
func (s *shard) adopt(w http.ResponseWriter, h *hub.Hub, v Viewer) (adopted bool, err error) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		return false, nil
	}
	s.joinSlots <- struct{}{}
	queued := false
	defer func() {
		if !queued { // else the thread gives the slot back
			<-s.joinSlots
		}
	}()
	head := responseHead(w.Header())
	conn, _, err := hijacker.Hijack()
	if err != nil {
		return false, nil // a handler serves the viewer then
	}
	defer conn.Close()
	fd, err := dup(conn)
	if err != nil {
		return true, fmt.Errorf("take over connection: %w", err)
	}
	var feed *hub.Feed
	err = h.Join(v.Feed, v.Resume, &s.ops, func(snapshot hub.Snapshot) {
		feed = snapshot.Feed
		queued = s.ops.put(op{kind: opJoin, join: &pendingJoin{fd, head, snapshot, v}})
	})
	if queued {
		return true, nil
	}
	if err == nil {
		feed.Leave(&s.ops)
	}
	// The hub has ended, is behind, or the process stops: an empty stream makes an EventSource
	// reconnect, which an error status wouldn't.
	_, _ = unix.Write(fd, append(head, reconnectField()...))
	_ = unix.Close(fd)
	s.engine.release(v.Slot)
	return true, nil
}

// dup duplicates the connection's file descriptor, so that it stays open when net/http's is closed, and
// sets the socket's options.
func dup(conn net.Conn) (fd int, err error) {
	socket, ok := conn.(syscall.Conn) // of TCP or a unix socket
	if !ok {
		return none, fmt.Errorf("a %T is no socket", conn)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return none, err
	}
	controlErr := raw.Control(func(f uintptr) { fd, err = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(controlErr, err); err != nil {
		return none, err
	}
	// The stream works without these options, only less well.
	_ = unix.SetNonblock(fd, true)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeout)
	return fd, nil
}

// join adds a viewer to the table and writes the response's head and the snapshot. The socket's send
// buffer is made small only after that, so that a snapshot goes out in one write.
func (s *shard) join(j *pendingJoin) {
	lifetime := max(0, j.viewer.Deadline.Sub(s.engine.now()))
	e := entry{
		sentThrough:   j.snapshot.Through,
		slot:          j.viewer.Slot,
		fd:            int32(j.fd), //nolint:gosec // a descriptor
		group:         s.groupOf(j.snapshot.Feed),
		authorization: s.engine.authorizations.acquire(j.viewer.Authorization),
		deadline:      s.clock() + uint32(lifetime/time.Second), //nolint:gosec // see clock
	}
	i := s.viewers.insert(e)
	s.viewers.groups[e.group].viewers.Inc()
	ev := unix.EpollEvent{
		Events: unix.EPOLLRDHUP | unix.EPOLLOUT | unix.EPOLLET&0xffffffff,
		Fd:     i, Pad: s.viewers.entries[i].generation,
	}
	if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, j.fd, &ev); err != nil {
		s.end(i, reasonGone)
		return
	}
	sent, err := unix.Writev(j.fd, [][]byte{j.head, j.snapshot.Bytes})
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		s.end(i, reasonGone)
		return
	}
	_ = unix.SetsockoptInt(j.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
	if rest := unsent(j.head, j.snapshot.Bytes, max(sent, 0)); len(rest) > 0 {
		s.send(i, rest)
	}
}

// unsent returns what is left of a and b after their first n bytes.
func unsent(a, b []byte, n int) []byte {
	if n < len(a) {
		return append(a[n:], b...)
	}
	return b[n-len(a):]
}

// groupOf returns the index of a feed's group.
func (s *shard) groupOf(f *hub.Feed) int32 {
	k, created := s.viewers.groupOf(f)
	if created {
		m, g := s.engine.metrics, &s.viewers.groups[k]
		g.sent, g.viewers = m.ofRate(f.Rate()), m.viewers.WithLabelValues(s.transport, f.Rate())
	}
	return k
}
