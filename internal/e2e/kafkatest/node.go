package kafkatest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Node is a Kafka node, whether its process is running or not.
type Node struct {
	ID   int    // from 1
	Addr string // for clients, host:port
	Log  string // file with the output of the process; a start truncates it

	libs, props, data string
	heap              int
	doors             []door

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	held int           // a socket that reserves the port while no process runs; 0: none
}

// door is an additional listener of a node with the address of its proxy.
type door struct{ name, addr, advertised string }

var errPort = errors.New("port is taken")

// jvm are options for a fast start.
var jvm = []string{"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Djava.awt.headless=true"}

// startLimit bounds a start; a loaded machine with three nodes has needed 30 s.
const startLimit = 90 * time.Second

func newNode(c Config, id, port int) *Node {
	file := func(ext string) string { return filepath.Join(c.Dir, strconv.Itoa(id)+ext) }
	return &Node{ID: id, Addr: fmt.Sprintf("127.0.0.1:%d", port), Log: file(".log"), libs: c.Libs,
		props: file(".properties"), data: file(".data"), heap: c.HeapMB}
}

func (n *Node) java(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), "java", slices.Concat(jvm, args)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// format formats the data directory, unless it is formatted already.
func (n *Node) format(more []string) error {
	if exists(filepath.Join(n.data, "meta.properties")) {
		return nil
	}
	cmd := n.java(append([]string{"-cp", n.libs + "/*", "kafka.tools.StorageTool", "format", "-t", clusterID,
		"-c", n.props}, more...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("format Kafka's data directory: %w: %s", err, out)
	}
	return nil
}

// Start starts the process and waits until it has started.
func (n *Node) Start() error {
	if err := n.Launch(); err != nil {
		return err
	}
	return n.Wait()
}

// Launch starts the process without waiting.
func (n *Node) Launch() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd != nil {
		return fmt.Errorf("start Kafka node %d: already running", n.ID)
	}
	n.release()
	f, err := os.Create(n.Log)
	if err != nil {
		return fmt.Errorf("start Kafka node %d: %w", n.ID, err)
	}
	defer f.Close()
	const logger = "-Dorg.slf4j.simpleLogger."
	cmd := n.java(fmt.Sprintf("-Xmx%dm", n.heap), logger+"showDateTime=true",
		logger+"dateTimeFormat=HH:mm:ss.SSS", "-cp", n.libs+"/*", "kafka.Kafka", n.props)
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start Kafka node %d: %w", n.ID, err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = cmd.Wait() }()
	n.cmd, n.done = cmd, done
	return nil
}

// Wait waits until a launched process has started.
func (n *Node) Wait() error {
	n.mu.Lock()
	done := n.done
	n.mu.Unlock()
	for end := time.Now().Add(startLimit); time.Now().Before(end); {
		b, err := os.ReadFile(n.Log)
		if err != nil {
			return fmt.Errorf("read the log of Kafka node %d: %w", n.ID, err)
		}
		if bytes.Contains(b, []byte("Kafka Server started")) {
			return nil
		}
		select {
		case <-done:
			if bytes.Contains(b, []byte("Address already in use")) {
				return fmt.Errorf("start Kafka node %d: %w", n.ID, errPort)
			}
			return fmt.Errorf("start Kafka node %d: process ended: %s", n.ID, b[max(0, len(b)-2000):])
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("start Kafka node %d: not within %v, see %s", n.ID, startLimit, n.Log)
}

// Kill sends SIGKILL: the process ends at once, as in a power cut.
func (n *Node) Kill() { n.end(syscall.SIGKILL) }

// Term sends SIGTERM: the process moves the leadership of its partitions before it ends.
func (n *Node) Term() { n.end(syscall.SIGTERM) }

// Pause sends SIGSTOP: connections stay open without answers. It waits until all threads have stopped.
func (n *Node) Pause() {
	n.signal(syscall.SIGSTOP)
	for end := time.Now().Add(time.Second); !n.paused() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// paused reports whether all threads of the process have stopped; true without /proc.
func (n *Node) paused() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return true
	}
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", n.cmd.Process.Pid))
	for _, t := range threads {
		b, err := os.ReadFile(t)
		if _, state, ok := bytes.Cut(b, []byte(") ")); err == nil && ok && state[0] != 'T' {
			return false
		}
	}
	return true
}

// Resume continues a paused process.
func (n *Node) Resume() { n.signal(syscall.SIGCONT) }

func (n *Node) signal(s syscall.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd != nil {
		_ = n.cmd.Process.Signal(s)
	}
}

func (n *Node) end(s syscall.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(s)
	<-n.done
	n.cmd = nil
	n.hold()
}

// hold reserves the node's port by a socket that doesn't listen. Another Kafka on that port would receive
// the requests of this node's clients.
func (n *Node) hold() {
	addr, err := netip.ParseAddrPort(n.Addr)
	if err != nil {
		return
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: int(addr.Port()),
		Addr: addr.Addr().As4()}); err != nil {
		_ = syscall.Close(fd)
		return
	}
	n.held = fd
}

func (n *Node) release() {
	if n.held > 0 {
		_ = syscall.Close(n.held)
		n.held = 0
	}
}
