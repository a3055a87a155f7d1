package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Listen opens a TCP address. An address that can't be had gives one sentence that says what to do.
func Listen(addr string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("address %s is taken: stop the program that listens there or choose another one", addr)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("address %s needs more rights than this user has: choose a port above 1023", addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("address %s isn't one of this machine's: choose 127.0.0.1 or 0.0.0.0 with a port", addr)
	}
	return nil, fmt.Errorf("listen on %s: %w", addr, err)
}

const (
	headerTime = 10 * time.Second // for a request's header to arrive
	idleTime   = 2 * time.Minute  // of a connection between two requests
	headerSize = 16 << 10         // more gets 431; net/http adds 4 KB
	cutTime    = 2 * time.Second  // for handlers whose connection was cut to notice
)

// Serve answers requests on l until ctx ends. Then it takes no new ones, ends the context of those that run, so that endless ones
// end, and waits for them, but at most for drain; what still runs then has its connection cut. It closes l. Plain POST requests to the
// paths that are named cost half as much, where their handler can do without net/http's server; see quick.
func Serve(ctx context.Context, l net.Listener, h http.Handler, drain time.Duration, paths ...string) error {
	base, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var running sync.WaitGroup
	counted := func(h http.Handler) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			running.Add(1)
			defer running.Done()
			h.ServeHTTP(w, r)
		}
	}
	srv := &http.Server{
		Handler:           counted(hurry(h, bodyTime)),
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    headerSize,
	}
	addr := l.Addr()
	l = patient{l}
	q := &quick{}
	if len(paths) > 0 {
		q = newQuick(base, l, counted(h), paths)
		l = q
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		end()
		_ = srv.Close()
		q.cut()
		q.open.Wait()
		return fmt.Errorf("serve %s: %w", addr, err)
	case <-ctx.Done():
	}
	end()
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	err := srv.Shutdown(limited) // which closes l
	if closed := <-failed; err == nil && errors.Is(closed, http.ErrServerClosed) && ended(&q.open, limited.Done()) {
		return nil
	}
	_ = srv.Close()
	q.cut()
	limit := time.NewTimer(cutTime)
	defer limit.Stop()
	if ended(&running, limit.C) && ended(&q.open, limit.C) {
		return nil
	}
	return fmt.Errorf("serve %s: requests still run %s after their connections were cut", addr, cutTime)
}

// patient has everything that can run go on before it takes another connection. A crowd that comes at once then waits in the kernel's queue
// for new connections, and not in the scheduler's, where whoever is being served already would stand behind it.
type patient struct{ net.Listener }

func (p patient) Accept() (net.Conn, error) {
	runtime.Gosched()
	return p.Listener.Accept()
}

// ended waits for a group, until stop.
func ended[T any](g *sync.WaitGroup, stop <-chan T) bool {
	gone := make(chan struct{})
	go func() { g.Wait(); close(gone) }()
	select {
	case <-gone:
		return true
	case <-stop:
		return false
	}
}
