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

// crowd is thousands of viewers in one process, on bare sockets and epoll: net/http's client costs more than the servers under test. Of what comes it
// looks at the end of each message, the second that it is of and what it says was skipped, and at nothing else.
type crowd struct {
	job
	epoll int
	conns []conn // by file descriptor
	buf   []byte

	next, pending int // the next viewer to connect, and how many are on their way
	report        tallied
}

// job is what a crowd is told at its start.
type job struct {
	Addr    string // IPv4 and port
	First   int    // number of its first viewer, which gives the source address
	N       int
	Request string
	Until   string // what has to have come before a viewer counts as there
}

// tallied is what a crowd says when it is asked.
type tallied struct {
	Up, Failed, Lost       int
	Took                   time.Duration // until all were there
	Frames, Bytes, Skipped int64
	Seconds                map[int64]burst `json:",omitempty"` // by the second that a frame is of
}

// burst is the arrival of one frame at all viewers.
type burst struct {
	N           int
	First, Last int64 // unix ns
}

type conn struct {
	state byte
	fd    int
	rest  []byte // of a message that hasn't ended
}

const (
	closed = iota
	dialling
	waiting // for what job.Until says
	following
)

const inFlight = 128 // connections being made at a time

// crowdMain runs a crowd: the job is a line on stdin, and so are the questions "mark" (begin to count anew) and "say".
func crowdMain(ctx context.Context) error {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	if !in.Scan() {
		return fmt.Errorf("no job")
	}
	c := crowd{buf: make([]byte, 256<<10), conns: make([]conn, 1<<15)}
	if err := json.Unmarshal(in.Bytes(), &c.job); err != nil {
		return err
	}
	var err error
	if c.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return err
	}
	asked := make(chan string)
	go func() {
		defer close(asked)
		for in.Scan() {
			asked <- in.Text()
		}
	}()
	begin := time.Now()
	events := make([]syscall.EpollEvent, 1024)
	for ctx.Err() == nil {
		for c.pending < inFlight && c.next < c.N {
			c.dial()
		}
		n, err := syscall.EpollWait(c.epoll, events, 20)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return err
		}
		for _, e := range events[:max(0, n)] {
			c.ready(&c.conns[e.Fd], e.Events)
		}
		if c.report.Took == 0 && c.next == c.N && c.pending == 0 {
			c.report.Took = time.Since(begin)
		}
		select {
		case q, open := <-asked:
			if !open {
				return nil
			}
			if q == "mark" {
				c.report.Frames, c.report.Bytes, c.report.Skipped, c.report.Seconds = 0, 0, 0, map[int64]burst{}
			}
			if err := json.NewEncoder(os.Stdout).Encode(c.report); err != nil {
				return err
			}
		default:
		}
	}
	return nil
}

// dial begins a connection from an address of loopback that a hundred others have too.
func (c *crowd) dial() {
	n := c.First + c.next
	c.next++
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil || fd >= len(c.conns) {
		c.report.Failed++
		if err == nil {
			_ = syscall.Close(fd)
		}
		return
	}
	const bindAddressNoPort = 24
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, bindAddressNoPort, 1)
	src := &syscall.SockaddrInet4{Addr: [4]byte{127, 1 + byte(n/100/250/250), byte(n / 100 / 250 % 250), 1 + byte(n/100%250)}}
	dst, err := sockaddr(c.Addr)
	if err == nil {
		err = syscall.Bind(fd, src)
	}
	if err == nil {
		err = syscall.Connect(fd, dst)
	}
	if err != nil && !errors.Is(err, syscall.EINPROGRESS) {
		c.report.Failed++
		_ = syscall.Close(fd)
		return
	}
	c.pending++
	c.conns[fd] = conn{state: dialling, fd: fd}
	_ = syscall.EpollCtl(c.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLOUT, Fd: int32(fd)})
}

func (c *crowd) ready(k *conn, events uint32) {
	if k.state == dialling {
		if _, err := syscall.Write(k.fd, []byte(c.Request)); err != nil {
			c.drop(k)
			return
		}
		k.state = waiting
		_ = syscall.EpollCtl(c.epoll, syscall.EPOLL_CTL_MOD, k.fd, &syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP, Fd: int32(k.fd)})
		return
	}
	n, err := syscall.Read(k.fd, c.buf[copy(c.buf, k.rest):])
	if errors.Is(err, syscall.EAGAIN) {
		return
	}
	if n <= 0 || err != nil {
		c.drop(k)
		return
	}
	c.report.Bytes += int64(n)
	c.messages(k, c.buf[:len(k.rest)+n], time.Now().UnixNano())
}

func (c *crowd) drop(k *conn) {
	if k.state == following {
		c.report.Up--
		c.report.Lost++
	} else {
		c.pending--
		c.report.Failed++
	}
	_ = syscall.Close(k.fd)
	*k = conn{}
}

func (c *crowd) messages(k *conn, b []byte, now int64) {
	for {
		end := bytes.Index(b, []byte("\n\n"))
		if end < 0 {
			break
		}
		m := b[:end]
		b = b[end+2:]
		if k.state == waiting && (c.Until == "" || bytes.Contains(m, []byte(c.Until))) {
			k.state = following
			c.pending--
			c.report.Up++
			continue
		}
		if k.state == following {
			c.message(m, now)
		}
	}
	// What comes before the first message, as the header, need not be kept.
	if len(b) > 128<<10 {
		b = b[len(b)-64:]
	}
	k.rest = append(k.rest[:0], b...)
	if len(b) == 0 && cap(k.rest) > 4096 {
		k.rest = nil
	}
}

func (c *crowd) message(m []byte, now int64) {
	at := bytes.Index(m, []byte(`"second":{"at":"`))
	if at < 0 || len(m) < at+36 {
		return
	}
	c.report.Frames++
	if i := bytes.LastIndex(m, []byte(`"skipped":`)); i >= 0 && m[i+10] != '0' {
		j := i + 10
		for j < len(m) && m[j] >= '0' && m[j] <= '9' {
			j++
		}
		n, _ := strconv.ParseInt(string(m[i+10:j]), 10, 64)
		c.report.Skipped += n
	}
	if c.report.Seconds == nil {
		return
	}
	sec := clock(m[at+16 : at+36])
	b, ok := c.report.Seconds[sec]
	if !ok {
		b.First = now
	}
	b.N++
	b.Last = now
	c.report.Seconds[sec] = b
}

// clock is the second of the day that a time as 2026-11-23T12:00:01Z names: enough to tell frames apart.
func clock(t []byte) int64 {
	two := func(i int) int64 { return int64(t[i]-'0')*10 + int64(t[i+1]-'0') }
	return two(11)*3600 + two(14)*60 + two(17)
}

func sockaddr(addr string) (*syscall.SockaddrInet4, error) {
	var a syscall.SockaddrInet4
	var b [4]int
	if n, err := fmt.Sscanf(addr, "%d.%d.%d.%d:%d", &b[0], &b[1], &b[2], &b[3], &a.Port); n != 5 {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	for i := range b {
		a.Addr[i] = byte(b[i])
	}
	return &a, nil
}
