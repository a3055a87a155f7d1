package httpserver

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

// fastPath serves POST requests to a few paths without net/http's server, at half its CPU cost. A
// request takes the fast path if the socket's buffer holds exactly that request, in plain form
// (fastRequest.parse decides). For any other bytes, net/http's server gets the connection for good, with
// the bytes still unread: the hard parts of HTTP stay in net/http. Both ways call the same handler.
//
// Three of net/http's guarantees don't hold for the handler of a fast-path request: its context doesn't
// end when the client disconnects, the response isn't sent before the handler returns, and the body's
// memory is reused after that. So the fast path suits handlers with short responses that return soon.
//
// A fastPath is also the net.Listener of net/http's server: Accept returns the connections that left the
// fast path.
type fastPath struct {
	net.Listener
	handler    http.Handler
	paths      []string
	limits     timeouts
	base       context.Context   //nolint:containedctx // of all requests, as http.Server.BaseContext is
	handedOver chan acceptResult // for net/http's server
	settled    func(net.Conn)    // is called when a connection's first request is answered, or it is closed
	buffers    sync.Pool         // of *exchangeBuffers
	dates      dateCache

	closing   atomic.Bool
	closed    chan struct{}
	closeOnce sync.Once
	closeErr  error

	mu         sync.Mutex
	conns      map[*fastConn]struct{}
	goroutines sync.WaitGroup // one a connection, and acceptLoop
}

// acceptResult is the result of a listener's Accept.
type acceptResult struct {
	conn net.Conn
	err  error
}

// exchangeBuffers holds one fast-path request and its response.
type exchangeBuffers struct {
	in       [maxFastRequest]byte // the request as it arrived
	request  fastRequest
	response fastResponse
}

func newFastPath(
	base context.Context, l net.Listener, h http.Handler, limits timeouts, paths []string,
	settled func(net.Conn),
) *fastPath {
	f := &fastPath{Listener: l, handler: h, paths: paths, limits: limits, base: base, settled: settled,
		handedOver: make(chan acceptResult), closed: make(chan struct{}), conns: map[*fastConn]struct{}{}}
	f.buffers.New = func() any {
		b := &exchangeBuffers{response: fastResponse{header: http.Header{}}}
		b.request.init(f.base)
		return b
	}
	return f
}

// start begins to accept connections. Close ends that; then goroutines counts down to zero.
func (f *fastPath) start() {
	if f.Listener != nil {
		f.goroutines.Go(f.acceptLoop)
	}
}

// acceptLoop starts a goroutine for each connection. It passes errors on: net/http's server decides
// about them.
func (f *fastPath) acceptLoop() {
	for !f.closing.Load() {
		conn, err := f.Listener.Accept()
		if err != nil {
			f.handOver(nil, err)
			continue
		}
		limited := &progressConn{Conn: conn, timeout: f.limits.write}
		raw, err := limited.SyscallConn()
		if err != nil { // no socket
			f.handOver(limited, nil)
			continue
		}
		c := &fastConn{fast: f, conn: limited, raw: raw}
		f.mu.Lock()
		f.conns[c] = struct{}{}
		f.mu.Unlock()
		f.goroutines.Go(c.serve)
	}
}

// handOver passes a connection or an error to the caller of Accept.
func (f *fastPath) handOver(conn net.Conn, err error) {
	select {
	case f.handedOver <- acceptResult{conn, err}:
	case <-f.closed:
		if conn != nil {
			_ = conn.Close()
		}
	}
}

// Accept returns the next connection that left the fast path.
func (f *fastPath) Accept() (net.Conn, error) {
	select {
	case a := <-f.handedOver:
		return a.conn, a.err
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

// Close stops accepting and closes idle connections. Running requests are still answered.
func (f *fastPath) Close() error {
	f.closeOnce.Do(func() {
		f.closing.Store(true)
		f.closeErr = f.Listener.Close()
		close(f.closed)
		f.each(func(c net.Conn) { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	})
	return f.closeErr
}

// closeConnections closes all connections, with or without a running request.
func (f *fastPath) closeConnections() { f.each(func(c net.Conn) { _ = c.Close() }) }

func (f *fastPath) each(do func(net.Conn)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		do(c.conn)
	}
}

// fastConn is a connection on which every request so far took the fast path. It holds no buffer while it
// is idle.
type fastConn struct {
	fast       *fastPath
	conn       *progressConn
	raw        syscall.RawConn // of conn
	remoteAddr string
	deadline   time.Time // of reading
	served     bool      // a request was answered
	lineEnds   int       // bytes skipped since then

	buffers *exchangeBuffers // of the request that was read; nil if the socket holds something else
	err     error            // of reading
}

var errClientClosed = errors.New("the client closed the connection")

// serve serves fast-path requests, then closes the connection or hands it over.
func (c *fastConn) serve() {
	other := c.serveRequests()
	c.fast.mu.Lock()
	delete(c.fast.conns, c)
	c.fast.mu.Unlock()
	if other && c.conn.SetReadDeadline(time.Time{}) == nil {
		c.fast.handOver(c.conn, nil)
	} else {
		_ = c.conn.Close()
		c.fast.settled(c.conn)
	}
}

// serveRequests serves requests until the connection ends (false) or another kind of request arrives
// (true).
func (c *fastConn) serveRequests() (other bool) {
	c.remoteAddr = c.conn.RemoteAddr().String()
	timeout, tryRead := c.fast.limits.header, c.tryRead
	for {
		// Setting a deadline costs a timer, so a busy connection's is renewed only after 1/64 of its time.
		if want := time.Now().Add(timeout); want.Sub(c.deadline) > timeout/64 {
			c.deadline = want
			if c.conn.SetReadDeadline(want) != nil {
				return false
			}
		}
		if c.fast.closing.Load() { // checked after the deadline was set, because Close sets one too
			return false
		}
		if c.raw.Read(tryRead) != nil || c.err != nil {
			return false
		}
		if c.buffers == nil {
			return true
		}
		if !c.answer() {
			return false
		}
		if !c.served {
			c.fast.settled(c.conn)
		}
		timeout = c.fast.limits.idle
		c.served, c.lineEnds = true, 0
	}
}

// maxLineEnds is how many bytes of CR and LF before a request are ignored (RFC 9112, section 2.2). As in
// net/http's server, they are ignored only after another request with a body.
const maxLineEnds = 4

// skipLineEnds returns how many of the bytes at the start of in are to be ignored.
func (c *fastConn) skipLineEnds(in []byte) (n int) {
	for c.served && n < len(in) && c.lineEnds+n < maxLineEnds && (in[n] == '\r' || in[n] == '\n') {
		n++
	}
	return n
}

// tryRead takes a fast-path request out of the socket, and leaves any other bytes in it. It returns
// false if the socket is empty: then RawConn.Read waits and calls it again.
func (c *fastConn) tryRead(fd uintptr) bool {
	b := c.fast.buffers.Get().(*exchangeBuffers)
	n, err := c.peek(fd, b.in[:])
	if err == nil && n > 0 && b.request.parse(b.in[:n], c.fast.paths) {
		n, err = ignoringEINTR(func() (int, error) { return syscall.Read(int(fd), b.in[:n]) })
		if err == nil && n > 0 {
			c.buffers = b
			return true
		}
	}
	c.fast.buffers.Put(b)
	c.buffers = nil
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return false
	case err == nil && n == 0:
		c.err = errClientClosed
	default:
		c.err = err
	}
	return true
}

// peek copies what the socket holds into in, without line ends to ignore, which it takes out of the socket.
func (c *fastConn) peek(fd uintptr, in []byte) (n int, err error) {
	for {
		n, err = ignoringEINTR(func() (int, error) {
			n, _, err := syscall.Recvfrom(int(fd), in, syscall.MSG_PEEK)
			return n, err
		})
		skip := 0
		if err == nil {
			skip = c.skipLineEnds(in[:n])
		}
		if skip == 0 {
			return n, err
		}
		n, err = ignoringEINTR(func() (int, error) { return syscall.Read(int(fd), in[:skip]) })
		if err != nil || n == 0 {
			return n, err
		}
		c.lineEnds += n
	}
}

// ignoringEINTR repeats a system call that a signal interrupted.
func ignoringEINTR(call func() (int, error)) (n int, err error) {
	for {
		if n, err = call(); err != syscall.EINTR { //nolint:errorlint // a system call doesn't wrap its error
			return n, err
		}
	}
}

// answer calls the handler, sends the response, and reports whether the connection can serve another
// request.
func (c *fastConn) answer() (keepAlive bool) {
	b := c.buffers
	defer func() {
		// A panic costs the connection, as in net/http. The buffers aren't reused, since the handler may
		// have passed them to another goroutine.
		if cause := recover(); cause != nil {
			keepAlive = false
			if cause != http.ErrAbortHandler { //nolint:errorlint // panics with the value itself
				log.Printf("http: panic serving %s: %v\n%s", c.remoteAddr, cause, debug.Stack())
			}
		}
	}()
	c.buffers = nil
	b.request.http.RemoteAddr = c.remoteAddr
	c.fast.handler.ServeHTTP(&b.response, &b.request.http)
	out, keepAlive := b.response.encode(c.fast.dates.now(), c.fast.closing.Load())
	_, err := c.conn.Write(out)
	b.request.reset()
	b.response.reset()
	c.fast.buffers.Put(b)
	return keepAlive && err == nil
}

// dateCache formats the Date field once a second.
type dateCache struct{ newest atomic.Pointer[httpDate] }

type httpDate struct {
	second int64 // Unix
	text   string
}

func (c *dateCache) now() string {
	now := time.Now()
	d := c.newest.Load()
	if d == nil || d.second != now.Unix() {
		d = &httpDate{now.Unix(), now.UTC().Format(http.TimeFormat)}
		c.newest.Store(d)
	}
	return d.text
}
