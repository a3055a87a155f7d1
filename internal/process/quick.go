package process

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// quick answers the requests of a few paths without net/http's server, at half of its cost: a POST that lies in the socket whole, alone and plain (see
// exchange.parse). Where a connection has anything else to say, net/http gets it for good, with every byte still unread, so that all that is hard about
// HTTP stays there. The handler is the same for both. A quick request's context doesn't end when its client goes away, its answer is sent
// when the handler returns, and its body's memory is another request's afterwards; so it is for handlers that answer with little and soon.
//
// It is the listener of the server that gets the rest.
type quick struct {
	net.Listener
	h       http.Handler
	paths   []string
	base    context.Context //nolint:containedctx // that of all requests, as http.Server.BaseContext is
	given   chan accepted
	closed  chan struct{}
	closing atomic.Bool
	once    sync.Once
	err     error     // of closing
	spare   sync.Pool // *exchange
	date    atomic.Pointer[date]

	mu    sync.Mutex
	conns map[*quickConn]struct{}
	open  sync.WaitGroup // of the conns, and of accept
}

// accepted is what a listener's Accept returns.
type accepted struct {
	conn net.Conn
	err  error
}

func newQuick(base context.Context, l net.Listener, h http.Handler, paths []string) *quick {
	q := &quick{Listener: l, h: h, paths: paths, base: base, given: make(chan accepted), closed: make(chan struct{}), conns: map[*quickConn]struct{}{}}
	q.spare.New = func() any { return newExchange(q) }
	q.open.Go(q.accept)
	return q
}

// accept begins a goroutine for each connection. What goes wrong is for the server to judge.
func (q *quick) accept() {
	for !q.closing.Load() {
		conn, err := q.Listener.Accept()
		tcp, ok := conn.(*net.TCPConn)
		if err != nil || !ok {
			q.give(conn, err)
			continue
		}
		c := &quickConn{q: q, tcp: tcp}
		q.mu.Lock()
		q.conns[c] = struct{}{}
		q.mu.Unlock()
		q.open.Go(c.serve)
	}
}

// give lets the server have a connection, or an error.
func (q *quick) give(conn net.Conn, err error) {
	select {
	case q.given <- accepted{conn, err}:
	case <-q.closed:
		if conn != nil {
			_ = conn.Close()
		}
	}
}

// Accept is net.Listener's, of what isn't quick.
func (q *quick) Accept() (net.Conn, error) {
	select {
	case a := <-q.given:
		return a.conn, a.err
	case <-q.closed:
		return nil, net.ErrClosed
	}
}

// Close takes no new connections and lets go of those that are idle; running requests are answered.
func (q *quick) Close() error {
	q.once.Do(func() {
		q.closing.Store(true)
		q.err = q.Listener.Close()
		close(q.closed)
		q.each(func(c *net.TCPConn) { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	})
	return q.err
}

// cut closes connections whatever runs on them.
func (q *quick) cut() { q.each(func(c *net.TCPConn) { _ = c.Close() }) }

func (q *quick) each(f func(*net.TCPConn)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for c := range q.conns {
		f(c.tcp)
	}
}

// quickConn is a connection that had nothing but quick requests so far. While it is idle it has no buffer.
type quickConn struct {
	q      *quick
	tcp    *net.TCPConn
	remote string
	armed  time.Time // when its deadline was set

	x   *exchange // the request that was read; nil: what is there is for net/http
	err error     // of reading
}

var errGone = errors.New("the client closed the connection")

// serve answers what is quick, and gives the connection away when something else comes.
func (c *quickConn) serve() {
	others := c.quick()
	c.q.mu.Lock()
	delete(c.q.conns, c)
	c.q.mu.Unlock()
	if others && c.tcp.SetReadDeadline(time.Time{}) == nil {
		c.q.give(c.tcp, nil)
	} else {
		_ = c.tcp.Close()
	}
}

// quick answers quick requests until the connection ends or, then it is true, has something else to say.
func (c *quickConn) quick() (others bool) {
	raw, err := c.tcp.SyscallConn()
	if err != nil {
		return false
	}
	c.remote = c.tcp.RemoteAddr().String()
	patience, read := headerTime, c.read
	for {
		if now := time.Now(); now.Sub(c.armed) > time.Second || patience == headerTime {
			c.armed = now
			if c.tcp.SetReadDeadline(now.Add(patience)) != nil {
				return false
			}
		}
		if c.q.closing.Load() { // after the deadline was set, since Close sets one too
			return false
		}
		if raw.Read(read) != nil || c.err != nil {
			return false
		}
		if c.x == nil {
			return true
		}
		if !c.answer() {
			return false
		}
		patience = idleTime
	}
}

// read takes a quick request out of the socket, and leaves anything else there. It is false when there is nothing yet.
func (c *quickConn) read(fd uintptr) bool {
	x := c.q.spare.Get().(*exchange)
	n, err := again(func() (int, error) {
		n, _, err := syscall.Recvfrom(int(fd), x.in[:], syscall.MSG_PEEK)
		return n, err
	})
	if err == nil && n > 0 && x.parse(x.in[:n], c.q.paths) {
		if n, err = again(func() (int, error) { return syscall.Read(int(fd), x.in[:n]) }); err == nil && n > 0 {
			c.x = x
			return true
		}
	}
	c.q.spare.Put(x)
	c.x = nil
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return false
	case err == nil && n == 0:
		c.err = errGone
	default:
		c.err = err
	}
	return true
}

// again calls f until no signal comes in between.
func again(f func() (int, error)) (n int, err error) {
	for {
		if n, err = f(); err != syscall.EINTR { //nolint:errorlint // it is the error itself
			return n, err
		}
	}
}

// answer has the request handled, and says whether the connection is good for another one.
func (c *quickConn) answer() (more bool) {
	x := c.x
	defer func() {
		if cause := recover(); cause != nil { // as net/http does; x isn't used again, for who knows who has it
			more = false
			if cause != http.ErrAbortHandler { //nolint:errorlint // the value itself is what is thrown
				log.Printf("http: panic serving %s: %v\n%s", c.remote, cause, debug.Stack())
			}
		}
	}()
	c.x = nil
	x.request.RemoteAddr = c.remote
	c.q.h.ServeHTTP(x, &x.request)
	out, more := x.answer(c.q.closing.Load())
	_, err := c.tcp.Write(out)
	x.reset()
	c.q.spare.Put(x)
	return more && err == nil
}

// date is a second as HTTP writes it.
type date struct {
	second int64
	text   string
}

func (q *quick) today() string {
	now := time.Now()
	d := q.date.Load()
	if d == nil || d.second != now.Unix() {
		d = &date{now.Unix(), now.UTC().Format(http.TimeFormat)}
		q.date.Store(d)
	}
	return d.text
}
