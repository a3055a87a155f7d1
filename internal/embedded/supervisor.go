package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/internal/retry"
)

const (
	drainTimeout = 10 * time.Second // from SIGTERM to SIGKILL
	minRestart   = 100 * time.Millisecond
	maxRestart   = 5 * time.Second
	settledTime  = 10 * time.Second // a child that was ready for so long is restarted after minRestart again

	startProbeEvery = 20 * time.Millisecond // until the child is ready
	probeEvery      = time.Second
	settledEvery    = 30 * time.Second // of a child that has been ready for settledTime
	probeTimeout    = 3 * time.Second
	maxFailedProbes = 3 // in a row, of a child that was ready; then it is killed
)

// supervisor keeps one child process running.
type supervisor struct {
	name     string // for messages
	args     []string
	listener *os.File // inherited by every child; connections wait in it while there is no child
	probe    func(context.Context) error
	log      *slog.Logger
	restarts prometheus.Counter
	up       prometheus.Gauge

	mu        sync.Mutex
	pid       int
	reason    string // why the child isn't ready; "" if it is
	lastError string // newest warning or error that the child logged
}

func newSupervisor(name, part string, c *Config) (*supervisor, error) {
	s := &supervisor{name: name, log: c.Log.With("part", part), reason: name + " isn't started yet"}
	labels := prometheus.Labels{"part": part}
	s.restarts = prometheus.NewCounter(prometheus.CounterOpts{Name: "nowcast_embedded_restarts_total",
		Help: "How often an embedded part ended unasked and was started again.", ConstLabels: labels})
	s.up = prometheus.NewGauge(prometheus.GaugeOpts{Name: "nowcast_embedded_up",
		Help: "1 while an embedded part answers.", ConstLabels: labels})
	if c.Metrics != nil {
		for _, m := range []prometheus.Collector{s.restarts, s.up} {
			if err := c.Metrics.Register(m); err != nil {
				return nil, fmt.Errorf("register metrics of %s: %w", name, err)
			}
		}
	}
	return s, nil
}

// Ready reports whether the child answers, and otherwise why not.
func (s *supervisor) Ready() (ok bool, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason == "", s.reason
}

// PID returns the child's process id, or 0 while there is no child.
func (s *supervisor) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pid
}

func (s *supervisor) setState(pid int, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pid, s.reason = pid, reason
	up := 0.0
	if reason == "" {
		up = 1
	}
	s.up.Set(up)
}

// run keeps a child running until ctx ends, then lets it drain. It fails only if a restart can't help.
func (s *supervisor) run(ctx context.Context) error {
	defer func() { s.setState(0, s.name+" isn't running") }()
	backoff := retry.Backoff{Min: minRestart, Max: maxRestart}
	for {
		settled, err := s.runChild(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == exitPermanent {
			return fmt.Errorf("start %s: %s", s.name, s.lastLoggedError())
		}
		if exit != nil && exit.ExitCode() == exitAgain {
			s.setState(0, s.name+" is being started again")
			continue
		}
		if settled {
			backoff.Reset()
		}
		s.restarts.Inc()
		s.setState(0, fmt.Sprintf("%s ended (%v) and is being restarted", s.name, err))
		delay := backoff.Next()
		s.log.Error(s.name+" ended, restarting it", "error", err, "delay", delay)
		if retry.Sleep(ctx, delay) != nil {
			return nil
		}
	}
}

// runChild runs one child to its end. It returns an error unless ctx ended. settled means that the child
// was ready for at least settledTime.
func (s *supervisor) runChild(ctx context.Context) (settled bool, err error) {
	program, err := os.Executable()
	if err != nil {
		return false, fmt.Errorf("find own program: %w", err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program, s.args...) // stop ends it, not ctx
	cmd.ExtraFiles = []*os.File{s.listener}
	// With a process group of its own, a child doesn't get a terminal's Ctrl-C: the parent stops all
	// parts in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe() // closed when this process ends; then the child drains
	if err != nil {
		return false, fmt.Errorf("open pipe to child: %w", err)
	}
	defer stdin.Close()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return false, fmt.Errorf("open pipe to child: %w", err)
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return false, fmt.Errorf("start process: %w", err)
	}
	s.setState(cmd.Process.Pid, s.name+" is starting")

	var exitErr error
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		s.relayLog(stderr)
		exitErr = cmd.Wait()
	}()
	probeCtx, stopProbes := context.WithCancel(ctx)
	readyAt := make(chan time.Time, 1)
	var probes sync.WaitGroup
	probes.Go(func() { s.watchChild(probeCtx, cmd.Process, start, readyAt) })
	defer probes.Wait()
	defer stopProbes()

	select {
	case <-exited:
		if err = exitErr; err == nil {
			err = errors.New("exit status 0")
		}
	case <-ctx.Done():
		s.stopChild(cmd.Process, exited)
	}
	select {
	case t := <-readyAt:
		settled = time.Since(t) >= settledTime
	default:
	}
	return settled, err
}

// stopChild lets the child drain, and kills it after drainTimeout. What the child has acknowledged
// survives both.
func (s *supervisor) stopChild(p *os.Process, exited <-chan struct{}) {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.log.Warn("stop "+s.name, "error", err)
	}
	timeout := time.NewTimer(drainTimeout)
	defer timeout.Stop()
	select {
	case <-exited:
		return
	case <-timeout.C:
	}
	s.log.Warn(s.name+" didn't drain in time, killing it", "after", drainTimeout)
	_ = p.Kill() // fails only if it has ended meanwhile
	<-exited
}

// watchChild probes the child, reports when it is ready, and kills it when it doesn't answer any more.
func (s *supervisor) watchChild(
	ctx context.Context, p *os.Process, start time.Time, readyAt chan<- time.Time,
) {
	interval, failed, ready := startProbeEvery, 0, false
	var readySince time.Time
	for {
		err := s.probeChild(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if !ready || failed > 0 {
				s.setState(p.Pid, "")
			}
			if !ready {
				ready, interval, readySince = true, probeEvery, time.Now()
				readyAt <- readySince
				took := time.Since(start).Round(time.Millisecond)
				s.log.Info(s.name+" is ready", "pid", p.Pid, "after", took)
			}
			if failed = 0; time.Since(readySince) >= settledTime {
				interval = retry.UntilNext(settledEvery)
			}
		case ready:
			failed, interval = failed+1, probeEvery
			s.setState(p.Pid, fmt.Sprintf("%s doesn't answer: %v", s.name, err))
			if failed == maxFailedProbes {
				s.log.Error(s.name+" doesn't answer, killing it", "error", err)
				_ = p.Kill() // fails only if it has ended meanwhile
				return
			}
		}
		if retry.Sleep(ctx, interval) != nil {
			return
		}
	}
}

func (s *supervisor) probeChild(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return s.probe(ctx)
}
