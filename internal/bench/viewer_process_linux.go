package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// viewerProcess is thousands of viewers on bare sockets and epoll: net/http's client costs more than the
// servers under test. It doesn't parse a message but searches it for its end, its second and its number of
// skipped frames.
type viewerProcess struct {
	viewerJob
	epoll int
	conns []viewerConn // by file descriptor
	buf   []byte

	next, pending int // the next viewer to connect, and how many are connecting
	report        viewerReport
}

// viewerJob is what a viewerProcess does.
type viewerJob struct {
	Addr     string // IPv4 and port
	First    int    // number of its first viewer, which gives the source address
	N        int
	Request  string
	Dialling int    // how many connect at a time
	JoinedBy string // text of the message that makes a viewer count as joined; "": the first message
}

// viewerReport counts since the start, or the command "reset" (Frames, Bytes, Skipped and Seconds).
type viewerReport struct {
	Joined, Failed, Lost   int
	Took                   time.Duration // until all had joined
	Frames, Bytes, Skipped int64
	Seconds                map[int64]arrival `json:",omitempty"` // by the second that a frame is of
}

// arrival is that of one frame at all viewers.
type arrival struct {
	N           int
	First, Last int64 // unix ns
}

type viewerConn struct {
	state connState
	fd    int
	rest  []byte // of a message that hasn't ended
}

type connState byte

const (
	connClosed connState = iota
	connDialling
	connWaiting // for the message that viewerJob.JoinedBy names
	connJoined
)

const defaultDialling = 128

// viewerProcessMain reads a viewerJob from the first line of stdin. Each further line is a command, which it
// answers with a viewerReport: "report", or "reset", which first sets the counts to zero.
func viewerProcessMain(ctx context.Context, _ []string) error {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	if !in.Scan() {
		return errors.New("read job: stdin is empty")
	}
	v := viewerProcess{buf: make([]byte, 256<<10), conns: make([]viewerConn, 1<<15)}
	if err := json.Unmarshal(in.Bytes(), &v.viewerJob); err != nil {
		return fmt.Errorf("read job: %w", err)
	}
	var err error
	if v.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return err
	}
	commands := make(chan string)
	go func() {
		defer close(commands)
		for in.Scan() {
			commands <- in.Text()
		}
	}()
	return v.run(ctx, commands)
}

// run connects and reads until ctx or the commands end.
func (v *viewerProcess) run(ctx context.Context, commands <-chan string) error {
	begin := time.Now()
	events := make([]syscall.EpollEvent, 1024)
	for ctx.Err() == nil {
		for v.pending < v.Dialling && v.next < v.N {
			v.dial()
		}
		n, err := syscall.EpollWait(v.epoll, events, 20)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return err
		}
		for _, e := range events[:max(0, n)] {
			v.ready(&v.conns[e.Fd])
		}
		if v.report.Took == 0 && v.next == v.N && v.pending == 0 {
			v.report.Took = time.Since(begin)
		}
		select {
		case command, open := <-commands:
			if !open {
				return nil
			}
			if command == "reset" {
				r := &v.report
				r.Frames, r.Bytes, r.Skipped, r.Seconds = 0, 0, 0, map[int64]arrival{}
			}
			if err := json.NewEncoder(os.Stdout).Encode(v.report); err != nil {
				return err
			}
		default:
		}
	}
	return nil
}

// dial begins a connection. A hundred viewers share a loopback address.
func (v *viewerProcess) dial() {
	n := v.First + v.next
	v.next++
	fd, err := syscall.Socket(syscall.AF_INET,
		syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil || fd >= len(v.conns) {
		v.report.Failed++
		if err == nil {
			_ = syscall.Close(fd)
		}
		return
	}
	const bindAddressNoPort = 24 // IP_BIND_ADDRESS_NO_PORT: the port is chosen by connect
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, bindAddressNoPort, 1)
	host := n / 100
	src := &syscall.SockaddrInet4{Addr: [4]byte{127, 1 + byte(host/250/250), byte(host / 250 % 250),
		1 + byte(host%250)}}
	dst, err := sockaddr(v.Addr)
	if err == nil {
		err = syscall.Bind(fd, src)
	}
	if err == nil {
		err = syscall.Connect(fd, dst)
	}
	if err != nil && !errors.Is(err, syscall.EINPROGRESS) {
		v.report.Failed++
		_ = syscall.Close(fd)
		return
	}
	v.pending++
	v.conns[fd] = viewerConn{state: connDialling, fd: fd}
	v.wait(syscall.EPOLL_CTL_ADD, fd, syscall.EPOLLOUT)
}

func (v *viewerProcess) wait(op, fd int, events uint32) {
	_ = syscall.EpollCtl(v.epoll, op, fd, &syscall.EpollEvent{Events: events, Fd: int32(fd)})
}

// ready sends the request on a new connection, and reads from the others.
func (v *viewerProcess) ready(c *viewerConn) {
	if c.state == connDialling {
		if _, err := syscall.Write(c.fd, []byte(v.Request)); err != nil {
			v.drop(c)
			return
		}
		c.state = connWaiting
		v.wait(syscall.EPOLL_CTL_MOD, c.fd, syscall.EPOLLIN|syscall.EPOLLRDHUP)
		return
	}
	n, err := syscall.Read(c.fd, v.buf[copy(v.buf, c.rest):])
	if errors.Is(err, syscall.EAGAIN) {
		return
	}
	if n <= 0 || err != nil {
		v.drop(c)
		return
	}
	v.report.Bytes += int64(n)
	v.messages(c, v.buf[:len(c.rest)+n], time.Now().UnixNano())
}

func (v *viewerProcess) drop(c *viewerConn) {
	if c.state == connJoined {
		v.report.Joined--
		v.report.Lost++
	} else {
		v.pending--
		v.report.Failed++
	}
	_ = syscall.Close(c.fd)
	*c = viewerConn{}
}

// messages counts the whole messages in b and keeps the rest for the next read.
func (v *viewerProcess) messages(c *viewerConn, b []byte, now int64) {
	for {
		end := bytes.Index(b, []byte("\n\n"))
		if end < 0 {
			break
		}
		m := b[:end]
		b = b[end+2:]
		if c.state == connWaiting && (v.JoinedBy == "" || bytes.Contains(m, []byte(v.JoinedBy))) {
			c.state = connJoined
			v.pending--
			v.report.Joined++
			continue
		}
		if c.state == connJoined {
			v.message(m, now)
		}
	}
	if len(b) > 128<<10 { // a message this long is counted without its beginning
		b = b[len(b)-64:]
	}
	c.rest = append(c.rest[:0], b...)
	if len(b) == 0 && cap(c.rest) > 4096 {
		c.rest = nil
	}
}

func (v *viewerProcess) message(m []byte, now int64) {
	at := bytes.Index(m, []byte(`"second":{"at":"`))
	if at < 0 || len(m) < at+36 {
		return
	}
	v.report.Frames++
	if i := bytes.LastIndex(m, []byte(`"skipped":`)); i >= 0 && m[i+10] != '0' {
		j := i + 10
		for j < len(m) && m[j] >= '0' && m[j] <= '9' {
			j++
		}
		n, _ := strconv.ParseInt(string(m[i+10:j]), 10, 64)
		v.report.Skipped += n
	}
	if v.report.Seconds == nil {
		return
	}
	sec := secondOfDay(m[at+16 : at+36])
	a, ok := v.report.Seconds[sec]
	if !ok {
		a.First = now
	}
	a.N++
	a.Last = now
	v.report.Seconds[sec] = a
}

// secondOfDay is that of a time such as 2026-11-23T12:00:01Z; it tells the frames of a measurement apart.
func secondOfDay(t []byte) int64 {
	two := func(i int) int64 { return int64(t[i]-'0')*10 + int64(t[i+1]-'0') }
	return two(11)*3600 + two(14)*60 + two(17)
}

func sockaddr(addr string) (*syscall.SockaddrInet4, error) {
	var a syscall.SockaddrInet4
	var b [4]int
	if n, err := fmt.Sscanf(addr, "%d.%d.%d.%d:%d", &b[0], &b[1], &b[2], &b[3], &a.Port); n != 5 {
		return nil, fmt.Errorf("parse address %q: %w", addr, err)
	}
	for i := range b {
		a.Addr[i] = byte(b[i])
	}
	return &a, nil
}
