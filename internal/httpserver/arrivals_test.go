package httpserver

import (
	"crypto/tls"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// endlessListener accepts a new pipe at once.
type endlessListener struct{ net.Listener }

func (endlessListener) Accept() (net.Conn, error) {
	c, _ := net.Pipe()
	return c, nil
}

func TestCrowdIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newArrivals()
		l := &pacedListener{Listener: endlessListener{}, arrivals: a}
		var conns []net.Conn
		accept := func() (waited time.Duration) {
			begin := time.Now()
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			return time.Since(begin)
		}
		for i := range maxArrivals {
			if waited := accept(); waited != 0 {
				t.Fatalf("connection %d waited %v", i, waited)
			}
		}
		for range 3 { // clients that never send a request don't keep others out
			if waited := accept(); waited != arrivalWait {
				t.Errorf("a connection beyond the limit waited %v", waited)
			}
		}
		time.AfterFunc(arrivalWait/2, func() { a.connState(conns[0], http.StateHijacked) })
		if waited := accept(); waited != arrivalWait/2 {
			t.Errorf("waited %v, another left after %v", waited, arrivalWait/2)
		}
		a.connState(conns[1], http.StateActive)
		if waited := accept(); waited != arrivalWait {
			t.Errorf("waited %v, with a request that runs", waited)
		}
		for i, c := range conns[1:] {
			switch i % 3 {
			case 0:
				a.connState(tls.Server(c, nil), http.StateIdle)
			case 1:
				a.connState(c, http.StateClosed)
			case 2:
				a.leave(c)
				a.leave(c)
			}
		}
		if len(a.conns) != 0 {
			t.Errorf("%d of %d are still counted", len(a.conns), len(conns))
		}
	})
}
