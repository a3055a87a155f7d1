package push

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"nowcast/streamer/hub"
)

// shard is one thread that writes to many viewers. Other goroutines talk to it through ops only.
type shard struct {
	engine *Engine
	epoll  int
	event  int // eventfd(2) that ends epoll_wait when ops come
	start  time.Time

	ops       opQueue
	joinSlots chan struct{} // one is held by each viewer from adopt until join

	// The fields below belong to the thread.
	viewers   table
	pending   map[int32][]byte // by viewer: the rest of the message that its connection didn't take whole
	openRing  func() (*ring, error)
	ring      *ring  // nil: frames are sent by write(2)
	transport string // label of the metrics
	drainFrom int32  // entries before it have been drained
	sweptAt   uint32 // time of the last sweep, on the shard's clock
}

func newShard(e *Engine) (*shard, error) {
	s := &shard{
		engine: e, epoll: none, event: none, start: e.now().Add(-time.Second),
		joinSlots: make(chan struct{}, maxPendingJoins),
		viewers:   table{groupIndex: map[*hub.Feed]int32{}}, pending: map[int32][]byte{},
	}
	s.openRing = newRing
	s.ops = opQueue{notify: s.notify, deliveries: map[*hub.Feed]int{}}
	var err error
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if s.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
		wake := unix.EpollEvent{Events: unix.EPOLLIN, Fd: none}
		err = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, s.event, &wake)
	}
	if err != nil {
		s.closeDescriptors()
		return nil, err
	}
	return s, nil
}

func (s *shard) closeDescriptors() {
	for _, fd := range []int{s.epoll, s.event} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

func (s *shard) notify() { _, _ = unix.Write(s.event, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

// clock is the shard's time in whole seconds. It starts at 1, since an entry's stalledAt of 0 means
// none.
func (s *shard) clock() uint32 {
	return uint32(s.engine.now().Sub(s.start) / time.Second) //nolint:gosec // 136 years
}

// run is the thread. It ends after opStop, or with an error of a system call that fails only because of
// a defect here.
func (s *shard) run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s.transport = "epoll"
	if !s.engine.cfg.DisableIOURing {
		if r, err := s.openRing(); err == nil {
			s.ring, s.transport = r, "io_uring"
			defer r.close()
		}
	}
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(s.epoll, events, 1000)
		if err != nil && !errors.Is(err, unix.EINTR) {
			s.stop(nil)
			return fmt.Errorf("wait for viewers: %w", err)
		}
		for _, ev := range events[:max(n, 0)] {
			s.handle(ev)
		}
		ops := s.ops.take()
		for i := range ops {
			if !s.do(&ops[i]) {
				s.stop(ops[i+1:])
				return nil
			}
		}
		s.sweep()
		if s.ring != nil && s.ring.err != nil {
			s.stop(nil)
			return s.ring.err
		}
	}
}

// handle takes one event of epoll.
func (s *shard) handle(ev unix.EpollEvent) {
	if ev.Fd == none {
		var count [8]byte
		_, _ = unix.Read(s.event, count[:])
		return
	}
	e := &s.viewers.entries[ev.Fd]
	if e.fd == none || e.generation != ev.Pad {
		return
	}
	if ev.Events&(unix.EPOLLHUP|unix.EPOLLERR|unix.EPOLLRDHUP) != 0 {
		s.end(ev.Fd, reasonGone)
		return
	}
	if ev.Events&unix.EPOLLOUT != 0 && e.stalledAt != 0 {
		s.resume(ev.Fd)
	}
}

// do carries out one op; it reports false when the thread is to end.
func (s *shard) do(o *op) bool {
	switch o.kind {
	case opDeliver:
		s.deliver(o)
	case opJoin:
		s.join(o.join)
		<-s.joinSlots
	case opRevoke:
		s.endAll(reasonRevoked, func(e *entry) bool { return e.authorization == o.authorization })
	case opEndAll:
		s.endAll(reasonRestarted, nil)
	case opEndOne:
		s.endOne()
	case opStop:
		return false
	}
	return true
}

// end closes a viewer's connection. A client that keeps up is told when to reconnect, unless it left by
// itself.
func (s *shard) end(i int32, reason endReason) {
	e := &s.viewers.entries[i]
	switch reason {
	case reasonGone:
	case reasonBlocked:
		discard := unix.Linger{Onoff: 1} // the kernel drops what it hasn't sent, and resets the connection
		_ = unix.SetsockoptLinger(int(e.fd), unix.SOL_SOCKET, unix.SO_LINGER, &discard)
	default:
		if e.stalledAt == 0 {
			_, _ = unix.Write(int(e.fd), reconnectField())
		}
	}
	_ = unix.Close(int(e.fd))
	delete(s.pending, i)
	g := &s.viewers.groups[e.group]
	g.viewers.Dec()
	feed, authorization, slot := g.feed, e.authorization, e.slot
	s.viewers.remove(i)
	feed.Leave(&s.ops)
	s.engine.metrics.countEnd(reason)
	s.engine.authorizations.release(authorization)
	s.engine.release(slot)
}

// endAll ends the viewers that match; a nil match is all.
func (s *shard) endAll(reason endReason, match func(*entry) bool) {
	for i := range s.viewers.entries {
		if e := &s.viewers.entries[i]; e.fd != none && (match == nil || match(e)) {
			s.end(int32(i), reason) //nolint:gosec // see table.insert
		}
	}
}

// endOne ends one viewer, to drain.
func (s *shard) endOne() {
	for ; int(s.drainFrom) < len(s.viewers.entries); s.drainFrom++ {
		if s.viewers.entries[s.drainFrom].fd != none {
			s.end(s.drainFrom, reasonDrained)
			return
		}
	}
	s.drainFrom = 0 // a viewer that joined since may have taken an entry before it
}

// sweep ends, once a second, the viewers that have reached their deadline or take nothing.
func (s *shard) sweep() {
	now := s.clock()
	if now == s.sweptAt {
		return
	}
	s.sweptAt = now
	limit := uint32(max(time.Second, s.engine.cfg.Stall) / time.Second) //nolint:gosec // see clock
	for i := range s.viewers.entries {
		e := &s.viewers.entries[i]
		switch {
		case e.fd == none:
		case e.stalledAt != 0 && now-e.stalledAt > limit:
			s.end(int32(i), reasonBlocked) //nolint:gosec // see table.insert
		case now >= e.deadline:
			s.end(int32(i), reasonLifetime) //nolint:gosec // see table.insert
		}
	}
}

// stop ends all viewers, also those whose join is among the ops that are left.
func (s *shard) stop(rest []op) {
	for _, o := range append(rest, s.ops.stop()...) {
		if o.join != nil {
			<-s.joinSlots
			_ = unix.Close(o.join.fd)
			o.join.snapshot.Feed.Leave(&s.ops)
			s.engine.release(o.join.viewer.Slot)
		}
	}
	s.endAll(reasonDrained, nil)
	s.closeDescriptors()
}
