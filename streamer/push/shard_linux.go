package push

import (
	"fmt"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"nowcast/streamer/hub"
)

// How a viewer's socket is set. A small buffer bounds how old a slow reader's frames can be, and what the kernel keeps for it.
const (
	sendBuffer  = 4096
	userTimeout = 30_000 // ms without an acknowledgement
)

// entry is a viewer. It has no pointers, so that a hundred thousand cost the garbage collector nothing.
type entry struct {
	given      int64
	seat       Slot
	fd         int32 // -1: free
	turn       int32 // guards against events of the entry's former viewer
	feed       int32
	next, prev int32 // of the same feed; -1: none
	grant      int32
	missed     uint32
	until      uint32 // seconds of the shard's clock
	stuck      uint32 // when it last took nothing; 0: it takes all
}

// group are the viewers of a feed on this shard.
type group struct {
	feed         *hub.Feed
	head, n      int32
	frames       counter
	bytes, alive counter
}

// counter is a metric's part that is wanted.
type counter interface{ Add(float64) }

type opKind uint8

const (
	opFrames opKind = iota
	opEnter
	opRevoke
	opAnew
	opDrain
	opStop
)

// op is something that a shard is to do, in order.
type op struct {
	kind   opKind
	feed   *hub.Feed
	frames []hub.Frame
	missed uint32 // frames before these that nobody was sent
	grant  int32
	enter  *entering
}

type entering struct {
	fd    int
	head  []byte
	first hub.Snapshot
	v     Viewer
}

// shard is one thread that writes to many viewers.
type shard struct {
	e     *Engine
	epoll int
	event int // eventfd: there are ops
	start time.Time

	places chan struct{} // taken by viewers until they have entered

	mu      sync.Mutex
	ops     []op
	waiting map[*hub.Feed]int // where in ops its frames are
	stopped bool

	// The thread's own.
	entries []entry
	free    []int32
	pending map[int32][]byte // what a viewer's connection could not take yet, finished before anything else
	ring    *ring            // nil: there is none
	name    string           // of the transport
	groups  []group
	vacant  []int32
	of      map[*hub.Feed]int32
	drained int32 // where the drain is
	swept   uint32
}

func newShard(e *Engine) (*shard, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	ev, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, ev, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1})
	}
	if err != nil {
		return nil, err
	}
	return &shard{e: e, epoll: ep, event: ev, start: time.Now().Add(-time.Second), places: make(chan struct{}, doors),
		pending: map[int32][]byte{}, of: map[*hub.Feed]int32{}, waiting: map[*hub.Feed]int{}}, nil
}

// clock is the shard's own, in whole seconds; it is never 0.
func (s *shard) clock() uint32 { return uint32(time.Since(s.start) / time.Second) } //nolint:gosec // 136 years

// put gives the thread something to do; it is false when the thread has ended.
func (s *shard) put(o op) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	if o.enter != nil { // what its feed delivers from now on comes after it
		delete(s.waiting, o.enter.first.Feed)
	}
	s.add(o)
	return true
}

func (s *shard) add(o op) {
	if s.ops = append(s.ops, o); len(s.ops) == 1 {
		_, _ = unix.Write(s.event, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// Deliver is a feed's frames for this shard's viewers.
func (s *shard) Deliver(f *hub.Feed, frames []hub.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	at, ok := s.waiting[f]
	if !ok {
		s.waiting[f] = len(s.ops)
		s.add(op{kind: opFrames, feed: f, frames: frames})
		return
	}
	o := &s.ops[at]
	if fits(o.frames, frames) {
		o.frames = append(slices.Clip(o.frames), frames...)
		return
	}
	o.missed += count(o.frames) + count(frames[:len(frames)-1])
	o.frames = frames[len(frames)-1:]
}

// doors is how many viewers may stand before a shard's frames. The others wait outside, so that a crowd that comes at once delays nobody's frames.
const doors = 8

// adopt takes a viewer's connection from net/http. taken is false when it can't be taken and nothing was done.
func (s *shard) adopt(w http.ResponseWriter, h *hub.Hub, v Viewer) (taken bool, err error) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		return false, nil
	}
	s.places <- struct{}{}
	entered := false
	defer func() {
		if !entered { // else the thread does it
			<-s.places
		}
	}()
	lines := head(w.Header())
	conn, _, err := hijacker.Hijack()
	if err != nil {
		return false, nil //nolint:nilerr // then it is served by a handler
	}
	defer conn.Close()
	fd, err := dup(conn)
	if err != nil {
		return true, fmt.Errorf("take over connection: %w", err)
	}
	var feed *hub.Feed
	err = h.Join(v.Feed, v.Resume, s, func(first hub.Snapshot) {
		feed = first.Feed
		entered = s.put(op{kind: opEnter, enter: &entering{fd, lines, first, v}})
	})
	if entered {
		return true, nil
	}
	if err == nil {
		feed.Leave(s)
	}
	// The log begins anew just now, or the process ends: an answer that makes a browser try again.
	_, _ = unix.Write(fd, append(lines, retry()...))
	_ = unix.Close(fd)
	s.e.left(v.Slot)
	return true, nil
}

// dup is the connection's own file descriptor, which stays open when net/http's is closed.
func dup(conn net.Conn) (fd int, err error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return -1, fmt.Errorf("a %T is no TCP connection", conn)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return -1, err
	}
	fault := raw.Control(func(f uintptr) { fd, err = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 0) })
	if err == nil {
		err = fault
	}
	if err != nil {
		return -1, err
	}
	_ = unix.SetNonblock(fd, true) // it is; and the rest makes it better, not right
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeout)
	return fd, nil
}

// run is the thread.
func (s *shard) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s.name = "epoll"
	if !s.e.cfg.DisableIOURing {
		if r, err := newRing(); err == nil {
			s.ring, s.name = r, "io_uring"
			defer r.close()
		}
	}
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(s.epoll, events, 1000)
		if err != nil && err != unix.EINTR { //nolint:errorlint // an errno
			panic(fmt.Sprint("wait for viewers: ", err)) // a mistake of ours: the descriptor is gone
		}
		for _, ev := range events[:max(n, 0)] {
			if ev.Fd < 0 {
				var b [8]byte
				_, _ = unix.Read(s.event, b[:])
				continue
			}
			s.ready(ev)
		}
		s.mu.Lock()
		ops := s.ops
		s.ops = nil
		clear(s.waiting)
		s.mu.Unlock()
		for i := range ops {
			if !s.do(&ops[i]) {
				s.stop(ops[i+1:])
				return
			}
		}
		s.sweep()
	}
}

// ready is an event of a viewer's connection.
func (s *shard) ready(ev unix.EpollEvent) {
	e := &s.entries[ev.Fd]
	if e.fd < 0 || e.turn != ev.Pad {
		return
	}
	if ev.Events&(unix.EPOLLHUP|unix.EPOLLERR|unix.EPOLLRDHUP) != 0 {
		s.remove(ev.Fd, Gone)
		return
	}
	if ev.Events&unix.EPOLLOUT != 0 && e.stuck != 0 {
		s.resume(ev.Fd)
	}
}

// resume goes on where a viewer's connection was full, and then brings the viewer to where its feed is.
func (s *shard) resume(i int32) {
	e := &s.entries[i]
	n, err := write(e.fd, s.pending[i])
	if err != nil {
		s.remove(i, Gone)
		return
	}
	if n > 0 {
		e.stuck = s.clock()
	}
	if rest := s.pending[i][n:]; len(rest) > 0 {
		s.pending[i] = rest
		return
	}
	delete(s.pending, i)
	e.stuck = 0
	if e.missed == 0 {
		return
	}
	g := &s.groups[e.feed]
	at := hub.Cursor{SentThrough: e.given, Missed: e.missed}
	b := g.feed.CatchUp(&at)
	e.given, e.missed = at.SentThrough, at.Missed
	if b != nil {
		s.e.metrics.merged.Inc()
		g.frames.Add(1)
		g.bytes.Add(float64(len(b)))
		s.send(i, b)
	}
}

func (s *shard) do(o *op) (goesOn bool) {
	switch o.kind {
	case opFrames:
		s.deliver(o)
	case opEnter:
		s.enter(o.enter)
		<-s.places
	case opRevoke:
		s.removeAll(Revoked, func(e *entry) bool { return e.grant == o.grant })
	case opAnew:
		s.removeAll(reasonRestarted, func(*entry) bool { return true })
	case opDrain:
		s.drain()
	case opStop:
		return false
	}
	return true
}

// enter begins with a viewer: the response's head and what it is to be given first are written at once, and only then is its buffer made
// small.
func (s *shard) enter(n *entering) {
	var i int32
	if k := len(s.free); k > 0 {
		i, s.free = s.free[k-1], s.free[:k-1]
	} else {
		i = int32(len(s.entries)) //nolint:gosec // bounded by the open files
		s.entries = append(s.entries, entry{})
	}
	e := &s.entries[i]
	until := max(0, time.Until(n.v.Deadline))
	*e = entry{given: n.first.Through, seat: n.v.Slot, fd: int32(n.fd), turn: e.turn + 1, feed: s.group(n.first.Feed), next: -1, prev: -1, //nolint:gosec // see above
		grant: s.e.grants.take(n.v.Credential), until: s.clock() + uint32(until/time.Second)} //nolint:gosec // see clock
	g := &s.groups[e.feed]
	if e.next = g.head; e.next >= 0 {
		s.entries[e.next].prev = i
	}
	g.head = i
	g.n++
	g.alive.Add(1)
	ev := unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLOUT | unix.EPOLLET&0xffffffff, Fd: i, Pad: e.turn}
	if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, n.fd, &ev); err != nil {
		s.remove(i, Gone)
		return
	}
	sent, err := unix.Writev(n.fd, [][]byte{n.head, n.first.Bytes})
	if err != nil && err != unix.EAGAIN { //nolint:errorlint // an errno
		s.remove(i, Gone)
		return
	}
	_ = unix.SetsockoptInt(n.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
	rest := n.first.Bytes
	if sent = max(sent, 0); sent < len(n.head) { // a connection that was full before it began
		rest = append(n.head[sent:], rest...)
	} else {
		rest = rest[sent-len(n.head):]
	}
	if len(rest) > 0 {
		s.send(i, rest)
	}
}

// group finds or makes a feed's.
func (s *shard) group(f *hub.Feed) int32 {
	if k, ok := s.of[f]; ok {
		return k
	}
	m := s.e.metrics
	g := group{feed: f, head: -1, frames: m.frames.WithLabelValues(f.Rate()), bytes: m.bytes.WithLabelValues(f.Rate()), alive: m.viewers.WithLabelValues(s.name, f.Rate())}
	var k int32
	if n := len(s.vacant); n > 0 {
		k, s.vacant = s.vacant[n-1], s.vacant[:n-1]
		s.groups[k] = g
	} else {
		k = int32(len(s.groups)) //nolint:gosec // bounded by the open files
		s.groups = append(s.groups, g)
	}
	s.of[f] = k
	return k
}

// deliver sends frames to all viewers of a feed. Whoever still has something on its way misses them for now.
func (s *shard) deliver(o *op) {
	f, frames := o.feed, o.frames
	k, ok := s.of[f]
	if !ok {
		return
	}
	g := &s.groups[k]
	m := s.e.metrics
	m.age.Observe(time.Since(frames[0].CreatedAt).Seconds())
	written, size, missed, merged := 0, 0, o.missed*uint32(g.n), 0 //nolint:gosec // counts
	for i := g.head; i >= 0 && o.missed > 0; i = s.entries[i].next {
		s.entries[i].missed += o.missed
	}
	for j := range frames {
		fr := &frames[j]
		for i := g.head; i >= 0; {
			e := &s.entries[i]
			next := e.next
			b := fr.Bytes
			switch {
			case e.stuck != 0:
				if fr.Through != 0 {
					e.missed++
					missed++
				}
				b = nil
			case e.given == fr.After && fr.Through != 0 && e.missed == 0:
				e.given = fr.Through
			default:
				at := hub.Cursor{SentThrough: e.given, Missed: e.missed}
				b = f.Next(&at, fr)
				if e.given, e.missed = at.SentThrough, at.Missed; b != nil && &b[0] != &fr.Bytes[0] {
					merged++
				}
			}
			if b != nil {
				written++
				size += len(b)
				s.queue(i, b)
			}
			i = next
		}
		s.flush() // before the next one: a viewer has one message on its way at a time
	}
	m.age.Observe(time.Since(frames[len(frames)-1].CreatedAt).Seconds())
	m.missed.Add(float64(missed))
	m.merged.Add(float64(merged))
	// The group may have gone with its last viewer; its counters are the rate's, and stay.
	g.frames.Add(float64(written))
	g.bytes.Add(float64(size))
}

// queue sends to a viewer that has nothing pending: where there is a ring, with those of others at the next flush.
func (s *shard) queue(i int32, b []byte) {
	if s.ring == nil {
		s.send(i, b)
		return
	}
	s.ring.send(sending{i, s.entries[i].fd, b})
}

func (s *shard) flush() {
	if s.ring == nil {
		return
	}
	s.ring.flush()
	for _, f := range s.ring.failed {
		if f.err != nil {
			s.remove(f.who, Gone)
		} else {
			s.stall(f.who, f.b[f.n:])
		}
	}
	clear(s.ring.failed)
	s.ring.failed = s.ring.failed[:0]
}

// send writes to a viewer that has nothing pending, which may be gone then.
func (s *shard) send(i int32, b []byte) {
	n, err := write(s.entries[i].fd, b)
	switch {
	case err != nil:
		s.remove(i, Gone)
	case n < len(b):
		s.stall(i, b[n:])
	}
}

// stall keeps what a viewer's connection could not take.
func (s *shard) stall(i int32, rest []byte) {
	s.e.metrics.blocking.Inc()
	s.pending[i] = rest
	s.entries[i].stuck = s.clock()
}

// write is write(2) until it is whole, or the connection takes no more.
func write(fd int32, b []byte) (n int, err error) {
	for n < len(b) {
		k, err := unix.Write(int(fd), b[n:])
		switch err { //nolint:errorlint // an errno
		case nil:
			n += k
		case unix.EINTR:
		case unix.EAGAIN:
			return n, nil
		default:
			return n, err
		}
	}
	return n, nil
}

// remove closes a viewer's connection.
func (s *shard) remove(i int32, reason string) {
	e := &s.entries[i]
	switch reason {
	case Gone:
	case Blocked:
		_ = unix.SetsockoptLinger(int(e.fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &unix.Linger{Onoff: 1}) // what it has not taken is of no use
	default:
		if e.stuck == 0 {
			_, _ = unix.Write(int(e.fd), retry())
		}
	}
	_ = unix.Close(int(e.fd))
	delete(s.pending, i)
	g := &s.groups[e.feed]
	if e.next >= 0 {
		s.entries[e.next].prev = e.prev
	}
	if e.prev >= 0 {
		s.entries[e.prev].next = e.next
	} else {
		g.head = e.next
	}
	g.alive.Add(-1)
	feed := g.feed
	if g.n--; g.n == 0 {
		delete(s.of, feed)
		s.vacant = append(s.vacant, e.feed)
		g.feed = nil
	}
	feed.Leave(s)
	s.e.metrics.ended.WithLabelValues(reason).Inc()
	s.e.grants.leave(e.grant)
	s.e.left(e.seat)
	e.fd = -1
	s.free = append(s.free, i)
}

func (s *shard) removeAll(reason string, which func(*entry) bool) {
	for i := range s.entries {
		if e := &s.entries[i]; e.fd >= 0 && which(e) {
			s.remove(int32(i), reason) //nolint:gosec // see enter
		}
	}
}

// drain lets one viewer go.
func (s *shard) drain() {
	for ; int(s.drained) < len(s.entries); s.drained++ {
		if s.entries[s.drained].fd >= 0 {
			s.remove(s.drained, Drained)
			return
		}
	}
	s.drained = 0 // somebody may have come since
}

// sweep lets those go, once a second, whose time is over or who take nothing.
func (s *shard) sweep() {
	now := s.clock()
	if now == s.swept {
		return
	}
	s.swept = now
	limit := uint32(max(time.Second, s.e.cfg.Stall) / time.Second) //nolint:gosec // see clock
	for i := range s.entries {
		e := &s.entries[i]
		switch {
		case e.fd < 0:
		case e.stuck != 0 && now-e.stuck > limit:
			s.remove(int32(i), Blocked) //nolint:gosec // see enter
		case now >= e.until:
			s.remove(int32(i), Lifetime) //nolint:gosec // see enter
		}
	}
}

// stop closes all, and whatever else would have been done.
func (s *shard) stop(rest []op) {
	s.mu.Lock()
	s.stopped = true // from here on nobody writes to event
	rest = append(rest, s.ops...)
	s.ops = nil
	s.mu.Unlock()
	for _, o := range rest {
		if o.enter != nil {
			<-s.places
			_ = unix.Close(o.enter.fd)
			o.enter.first.Feed.Leave(s)
			s.e.left(o.enter.v.Slot)
		}
	}
	s.removeAll(Drained, func(*entry) bool { return true })
	_ = unix.Close(s.epoll)
	_ = unix.Close(s.event)
}
