package httpserver

import (
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

// progressConn is a connection whose Write fails when the peer has taken no byte for timeout, or a quarter
// more. A peer that takes bytes, however slowly, has as much time as it needs. A write deadline that its user
// sets counts instead, until the user removes it: a stream sets its own.
type progressConn struct {
	net.Conn
	timeout time.Duration

	mu       sync.Mutex
	deadline time.Time // of writes, set by Write
	manual   bool      // the deadline in force is the user's
}

// progressChecks is how often a write that waits looks for progress within its time-out.
const progressChecks = 4

// Write writes b in as many parts as the peer takes it. Progress is bytes that the connection took, or that
// left the kernel's send buffer.
func (c *progressConn) Write(b []byte) (n int, err error) {
	queued, still := 0, 0 // bytes in the send buffer; checks without progress
	for {
		manual := c.renew()
		k, err := c.Conn.Write(b[n:])
		n += k
		if err == nil || manual || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		left := unsentBytes(c.Conn)
		if k > 0 || left < queued {
			still = 0
		} else if still++; still == progressChecks {
			return n, err
		}
		queued = left
	}
}

// renew sets the deadline of the next write, unless the user has set one. Setting a deadline costs a timer,
// so a busy connection's is renewed only after 1/64 of its time.
func (c *progressConn) renew() (manual bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	step := c.timeout / progressChecks
	if want := time.Now().Add(step); !c.manual && want.Sub(c.deadline) > step/64 {
		c.deadline = want
		_ = c.Conn.SetWriteDeadline(want) // fails only on a closed connection
	}
	return c.manual
}

// SetWriteDeadline is net.Conn's; the zero time brings the time-out back.
func (c *progressConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.manual, c.deadline = !t.IsZero(), time.Time{}
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline is net.Conn's, for reads and writes as SetWriteDeadline.
func (c *progressConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// NetConn is the wrapped connection, as tls.Conn has it.
func (c *progressConn) NetConn() net.Conn { return c.Conn }

// SyscallConn is syscall.Conn's, for a handler that takes the connection over.
func (c *progressConn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// CloseWrite lets net/http end a response before it closes the connection, so that the client can read the
// response.
func (c *progressConn) CloseWrite() error {
	if s, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return s.CloseWrite()
	}
	return nil
}

// progressListener gives connections a time-out of writes.
type progressListener struct {
	net.Listener
	timeout time.Duration
}

func (l progressListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &progressConn{Conn: c, timeout: l.timeout}, nil
}

// limitWriteTime does for an HTTP/2 response what progressConn does for a connection: a client that opens
// no flow-control window takes nothing from the response, while the connection lives.
func limitWriteTime(h http.Handler, timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 {
			w = &progressWriter{ResponseWriter: w, control: http.NewResponseController(w), timeout: timeout}
		}
		h.ServeHTTP(w, r)
	})
}

// progressWriter renews the write deadline of its HTTP/2 stream before each part of a response, unless the
// handler has set one.
type progressWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	manual  bool
}

const progressPart = 16 << 10 // bytes that a client has to take within the time-out

// Write is http.ResponseWriter's.
func (w *progressWriter) Write(b []byte) (n int, err error) {
	for {
		part := b[n:min(len(b), n+progressPart)]
		w.renew()
		k, err := w.ResponseWriter.Write(part)
		if n += k; err != nil || n == len(b) {
			return n, err
		}
	}
}

// Flush is http.Flusher's.
func (w *progressWriter) Flush() { _ = w.FlushError() }

// FlushError is what http.ResponseController calls to flush.
func (w *progressWriter) FlushError() error {
	w.renew()
	return w.control.Flush()
}

// SetWriteDeadline is what http.ResponseController calls; the zero time brings the time-out back.
func (w *progressWriter) SetWriteDeadline(t time.Time) error {
	w.manual = !t.IsZero()
	return w.control.SetWriteDeadline(t)
}

// Unwrap gives http.ResponseController the wrapped one.
func (w *progressWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *progressWriter) renew() {
	if !w.manual {
		_ = w.control.SetWriteDeadline(time.Now().Add(w.timeout)) // fails only on a closed connection
	}
}
