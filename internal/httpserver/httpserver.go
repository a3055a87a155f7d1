// Package httpserver serves HTTP and HTTPS on a TCP address or a unix socket until a context ends. It bounds
// what a slow or hostile client can hold, and serves plain beacons on a fast path past net/http's server.
//
// Serve promises that requests which run when its context ends are answered if they end within the drain
// time, that no request runs and no connection is open after it has returned nil, and that every request
// has a bounded time for its header and its body. The package knows nothing of what the handlers do.
package httpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	maxHeaderBytes = 16 << 10        // a longer header gets 431; net/http adds 4 KiB
	closeGrace     = 2 * time.Second // for handlers to return after their connections were closed
)

// timeouts bound what a client can make the server wait for.
type timeouts struct {
	header time.Duration // from a connection's first byte to the end of the request's header
	body   time.Duration // from the start of the handler to the end of the request's body
	idle   time.Duration // between two requests of a connection
	write  time.Duration // in which the client takes no byte of a response
}

// defaultTimeouts are documented in docs/operations.md.
var defaultTimeouts = timeouts{
	header: 10 * time.Second, body: 10 * time.Second, idle: 2 * time.Minute, write: 30 * time.Second,
}

// Serve answers requests on l until ctx ends, and closes l. When ctx ends, Serve accepts no more
// connections, cancels the contexts of the running requests, and waits for those requests for at most
// drain; then it closes their connections. POST requests to fastPaths cost about half the CPU time;
// see fastPath for the guarantees that a handler loses. A *TLSListener serves HTTPS, without a fast path.
func Serve(
	ctx context.Context, l net.Listener, h http.Handler, drain time.Duration, fastPaths ...string,
) error {
	return newServer(ctx, l, h, defaultTimeouts, fastPaths).run(ctx, drain)
}

type server struct {
	addr           net.Addr
	listener       net.Listener // of http: the fast path, or the one that Serve was given
	http           *http.Server
	fast           *fastPath      // the zero value, without connections, if there are no fast paths
	running        sync.WaitGroup // handlers
	cancelRequests context.CancelFunc
}

func newServer(
	ctx context.Context, l net.Listener, h http.Handler, limits timeouts, fastPaths []string,
) *server {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	crowd := newArrivals()
	s := &server{addr: l.Addr(), listener: &pacedListener{Listener: l, arrivals: crowd}, fast: &fastPath{},
		cancelRequests: cancel}
	s.http = &http.Server{
		Handler:           s.counted(limitBodyTime(limitWriteTime(h, limits.write), limits.body)),
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: limits.header,
		IdleTimeout:       limits.idle,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnState:         crowd.connState,
		ErrorLog:          quietLog(),
	}
	if t, ok := l.(*TLSListener); ok {
		s.http.TLSConfig = t.Config
		plain := &pacedListener{Listener: t.Listener, arrivals: crowd}
		s.listener = tls.NewListener(progressListener{plain, limits.write}, t.Config)
	} else if len(fastPaths) > 0 {
		s.fast = newFastPath(base, s.listener, s.counted(h), limits, fastPaths, crowd.leave)
		s.listener = s.fast
	} else {
		s.listener = progressListener{s.listener, limits.write}
	}
	return s
}

// counted counts the running handlers.
func (s *server) counted(h http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.running.Add(1)
		defer s.running.Done()
		h.ServeHTTP(w, r)
	}
}

func (s *server) run(ctx context.Context, drain time.Duration) error {
	defer s.cancelRequests()
	s.fast.start()
	ended := make(chan error, 1)
	go func() { ended <- s.http.Serve(s.listener) }()
	select {
	case err := <-ended:
		s.cancelRequests()
		s.closeConnections()
		s.fast.goroutines.Wait()
		return fmt.Errorf("serve %s: %w", s.addr, err)
	case <-ctx.Done():
	}
	s.cancelRequests()
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	err := s.http.Shutdown(limited)
	closed := errors.Is(<-ended, http.ErrServerClosed)
	if err == nil && closed && waitUntil(&s.fast.goroutines, limited.Done()) {
		return nil
	}
	s.closeConnections()
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	if waitUntil(&s.running, grace.C) && waitUntil(&s.fast.goroutines, grace.C) {
		return nil
	}
	return fmt.Errorf("serve %s: requests still run %s after their connections were closed",
		s.addr, closeGrace)
}

func (s *server) closeConnections() {
	_ = s.http.Close()
	s.fast.closeConnections()
}

// waitUntil waits for g until stop is ready, and reports whether g's count reached zero.
func waitUntil[T any](g *sync.WaitGroup, stop <-chan T) bool {
	done := make(chan struct{})
	go func() { g.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-stop:
		return false
	}
}
