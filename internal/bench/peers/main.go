// Command peers broadcasts a frame a second to all viewers by other libraries, so that `bench streamer` can
// measure them beside Nowcast. It is a module of its own, because these libraries are no dependencies of
// the project.
//
//	peers gin|go-sse|centrifuge|write ADDR OPS
//
// GET /stream at ADDR is the stream. A GET at OPS answers 200.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/centrifugal/centrifuge"
	"github.com/gin-gonic/gin"
	"github.com/tmaxmax/go-sse"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	kinds := map[string]func() (http.Handler, func(sec int64), error){
		"gin": ginFlush, "go-sse": goSSE, "centrifuge": centrifugal, "write": bare,
	}
	if len(args) != 3 || kinds[args[0]] == nil {
		return fmt.Errorf("usage: peers gin|go-sse|centrifuge|write ADDR OPS")
	}
	h, broadcast, err := kinds[args[0]]()
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	for addr, h := range map[string]http.Handler{args[1]: h, args[2]: http.HandlerFunc(alive)} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		go func() { failed <- http.Serve(l, h) }()
	}
	go func() {
		for {
			now := time.Now()
			time.Sleep(now.Truncate(time.Second).Add(time.Second).Sub(now))
			broadcast(time.Now().Unix())
		}
	}()
	return <-failed
}

// alive answers 200.
func alive(http.ResponseWriter, *http.Request) {}

// payload is the JSON of a frame of Nowcast, of a site with ten values in each list.
func payload(sec int64) string {
	list := func(name string) string {
		var b strings.Builder
		for i := range 10 {
			fmt.Fprintf(&b, `,["%s%d",%d]`, name, i, 440-4*i)
		}
		return b.String()[1:]
	}
	at := time.Unix(sec, 0).UTC().Format("2006-01-02T15:04:05Z")
	return fmt.Sprintf(`{"visitors":453,"timestamp":"%s","site":"bench.example.com","second":{"at":"%s",`+
		`"pageviews":81,"visitors":53,"events":92,"final":true,"revision":96},"now":{"pages":[%s],`+
		`"sources":[%s],"countries":[%s],"devices":[["Desktop",1200],["Mobile",800]],`+
		`"rest":{"pages":0,"sources":0,"countries":0,"devices":0}},"skipped":0}`,
		at, at, list("/articles/"), list("source-"), list("A"))
}

func message(sec int64) []byte {
	return fmt.Appendf(nil, "id: 1-%d-0\ndata: %s\n\n", sec, payload(sec))
}

func auth(c *gin.Context) {
	if !strings.HasPrefix(c.GetHeader("Authorization"), "Bearer ") {
		c.AbortWithStatus(http.StatusUnauthorized)
	}
}

// ginFlush is a usual gin handler: a goroutine and a channel for each viewer, Write and Flush.
func ginFlush() (http.Handler, func(int64), error) {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	var mu sync.Mutex
	subs := map[chan []byte]struct{}{}
	e.GET("/stream", auth, func(c *gin.Context) {
		h := c.Writer.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-cache")
		c.Status(http.StatusOK)
		rc := http.NewResponseController(c.Writer)
		if _, err := c.Writer.WriteString("retry: 1000\n\n"); err != nil || rc.Flush() != nil {
			return
		}
		ch := make(chan []byte, 1)
		mu.Lock()
		subs[ch] = struct{}{}
		mu.Unlock()
		defer func() {
			mu.Lock()
			delete(subs, ch)
			mu.Unlock()
		}()
		for {
			select {
			case <-c.Request.Context().Done():
				return
			case m := <-ch:
				_ = rc.SetWriteDeadline(time.Now().Add(5 * time.Second))
				if _, err := c.Writer.Write(m); err != nil || rc.Flush() != nil {
					return
				}
			}
		}
	})
	return e, func(sec int64) {
		m := message(sec)
		mu.Lock()
		defer mu.Unlock()
		for ch := range subs {
			select {
			case ch <- m:
			default:
			}
		}
	}, nil
}

func goSSE() (http.Handler, func(int64), error) {
	s := &sse.Server{}
	greet := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if _, err := w.Write([]byte("retry: 1000\n\n")); err == nil {
			s.ServeHTTP(w, r)
		}
	})
	return greet, func(sec int64) {
		m := &sse.Message{ID: sse.ID(fmt.Sprintf("1-%d-0", sec))}
		m.AppendData(payload(sec))
		if err := s.Publish(m); err != nil {
			fmt.Fprintln(os.Stderr, "peers: publish:", err)
		}
	}, nil
}

func centrifugal() (http.Handler, func(int64), error) {
	n, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		return nil, nil, err
	}
	n.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: "1"},
			Subscriptions: map[string]centrifuge.SubscribeOptions{"site": {}}}, nil
	})
	if err := n.Run(); err != nil {
		return nil, nil, err
	}
	noPings := centrifuge.PingPongConfig{PingInterval: -1, PongTimeout: -1}
	return centrifuge.NewSSEHandler(n, centrifuge.SSEConfig{PingPongConfig: noPings}), func(sec int64) {
		if _, err := n.Publish("site", []byte(payload(sec))); err != nil {
			fmt.Fprintln(os.Stderr, "peers: publish:", err)
		}
	}, nil
}

// bare is the lower bound: it hijacks the connection, keeps only a file descriptor, and needs one write(2)
// a frame and viewer.
func bare() (http.Handler, func(int64), error) {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	var mu sync.Mutex
	var fds []int
	e.GET("/stream", auth, func(c *gin.Context) {
		conn, _, err := c.Writer.Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		raw, err := conn.(syscall.Conn).SyscallConn()
		if err != nil {
			return
		}
		fd := -1
		_ = raw.Control(func(f uintptr) {
			if n, _, e := syscall.Syscall(syscall.SYS_FCNTL, f, syscall.F_DUPFD_CLOEXEC, 0); e == 0 {
				fd = int(n)
			}
		})
		if fd < 0 {
			return
		}
		_, _ = syscall.Write(fd, []byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"+
			"Cache-Control: no-cache\r\nConnection: close\r\n\r\nretry: 1000\n\n"))
		mu.Lock()
		defer mu.Unlock()
		fds = append(fds, fd)
	})
	return e, func(sec int64) {
		m := message(sec)
		mu.Lock()
		defer mu.Unlock()
		for i := 0; i < len(fds); i++ {
			if _, err := syscall.Write(fds[i], m); err != nil && err != syscall.EAGAIN {
				_ = syscall.Close(fds[i])
				fds[i] = fds[len(fds)-1]
				fds = fds[:len(fds)-1]
				i--
			}
		}
	}, nil
}
