package httpserver

import (
	"net"
	"net/http"
	"runtime"
	"sync"
	"time"
)

const (
	// maxArrivals is the number of connections that may be in their first request before further ones wait
	// in the kernel's accept queue. A connection needs tens of KB in its first request, and the runtime keeps
	// the goroutine descriptors of a crowd for ever.
	maxArrivals = 2048

	// arrivalWait bounds that wait. Clients that send nothing for as long as they may thus slow others down
	// to 1,000 new connections a second, and no further.
	arrivalWait = time.Millisecond
)

// arrivals counts the connections that are in their first request.
type arrivals struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{}
	freed chan struct{} // has a value when one has left since the last wait
}

func newArrivals() *arrivals {
	return &arrivals{conns: map[net.Conn]struct{}{}, freed: make(chan struct{}, 1)}
}

// enter adds a connection that was accepted, and returns how many there are.
func (a *arrivals) enter(c net.Conn) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conns[c] = struct{}{}
	return len(a.conns)
}

// leave removes a connection whose first request is answered or taken over, or that is closed.
func (a *arrivals) leave(c net.Conn) {
	for { // out of a tls.Conn and a progressConn
		wrapped, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = wrapped.NetConn()
	}
	a.mu.Lock()
	_, ok := a.conns[c]
	delete(a.conns, c)
	a.mu.Unlock()
	if ok {
		select {
		case a.freed <- struct{}{}:
		default:
		}
	}
}

// connState is an http.Server's ConnState.
func (a *arrivals) connState(c net.Conn, s http.ConnState) {
	if s != http.StateNew && s != http.StateActive {
		a.leave(c)
	}
}

// wait waits for one to leave, at most for arrivalWait.
func (a *arrivals) wait() {
	timeout := time.NewTimer(arrivalWait)
	defer timeout.Stop()
	select {
	case <-a.freed:
	case <-timeout.C:
	}
}

// pacedListener paces Accept by the arrivals. It also yields the processor before each Accept: connections
// that arrive in a crowd then wait in the kernel's accept queue instead of the scheduler's run queue, where
// they would delay requests that are being served.
type pacedListener struct {
	net.Listener
	arrivals *arrivals
	full     bool // used by Accept only, which has one caller
}

// Accept implements net.Listener.
func (l *pacedListener) Accept() (net.Conn, error) {
	if l.full {
		l.arrivals.wait()
	}
	runtime.Gosched()
	c, err := l.Listener.Accept()
	if err == nil {
		l.full = l.arrivals.enter(c) >= maxArrivals
	}
	return c, err
}
