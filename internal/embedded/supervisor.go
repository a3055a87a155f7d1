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
)

const (
	drainTime   = 10 * time.Second // from SIGTERM to SIGKILL
	firstDelay  = 100 * time.Millisecond
	lastDelay   = 5 * time.Second
	settledTime = 10 * time.Second // a child that was ready for as long is restarted at the first delay again

	probeFast = 20 * time.Millisecond // until it is ready
	probeSlow = time.Second
	probeTime = 3 * time.Second
	probeMiss = 3 // so many unanswered probes in a row and the child is killed; only once it has been ready
)

// supervisor keeps one child process running.
type supervisor struct {
	name     string // as people call it
	args     []string
	listener *os.File // given to every child; connections wait in it while there is none
	probe    func(context.Context) error
	log      *slog.Logger
	restarts prometheus.Counter
	up       prometheus.Gauge

	mu     sync.Mutex
	pid    int
	reason string // "" = ready
	said   string // the child's newest error
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

// Ready says whether the child answers and, if not, why.
func (s *supervisor) Ready() (ok bool, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason == "", s.reason
}

// PID is the child's process id, 0 while there is none.
func (s *supervisor) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pid
}

func (s *supervisor) set(pid int, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pid, s.reason = pid, reason
	up := 0.0
	if reason == "" {
		up = 1
	}
	s.up.Set(up)
}

// run keeps the child running until ctx ends, then has it drain. It returns an error only for what no restart mends.
func (s *supervisor) run(ctx context.Context) error {
	defer func() { s.set(0, s.name+" isn't running") }()
	for delay := firstDelay; ; delay = min(2*delay, lastDelay) {
		settled, err := s.once(ctx)
		if ctx.Err() != nil {
			break
		}
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == exitHopeless {
			return fmt.Errorf("start %s: %s", s.name, s.lastSaid())
		}
		if settled {
			delay = firstDelay
		}
		s.restarts.Inc()
		s.set(0, fmt.Sprintf("%s ended (%v) and starts again", s.name, err))
		s.log.Error(s.name+" ended, starting it again", "error", err, "delay", delay)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
	}
	return nil
}

// once runs one child to its end, which with ctx still alive is an error.
func (s *supervisor) once(ctx context.Context) (settled bool, err error) {
	program, err := os.Executable()
	if err != nil {
		return false, fmt.Errorf("find own program: %w", err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program, s.args...) // stop ends it, gently first
	cmd.ExtraFiles = []*os.File{s.listener}
	// A group of its own: Ctrl-C in a terminal reaches the parent only, which then stops things in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	alive, err := cmd.StdinPipe() // its end tells the child that this process is gone
	if err != nil {
		return false, fmt.Errorf("make pipe: %w", err)
	}
	defer alive.Close()
	output, err := cmd.StderrPipe()
	if err != nil {
		return false, fmt.Errorf("make pipe: %w", err)
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return false, fmt.Errorf("start process: %w", err)
	}
	s.set(cmd.Process.Pid, s.name+" is starting")

	var end error
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		s.relay(output)
		end = cmd.Wait()
	}()
	probing, stopProbing := context.WithCancel(ctx)
	defer stopProbing()
	readyAt := make(chan time.Time, 1)
	var probes sync.WaitGroup
	probes.Go(func() { s.watch(probing, cmd.Process, start, readyAt) })
	defer probes.Wait()
	defer stopProbing()

	select {
	case <-exited:
		if err = end; err == nil {
			err = errors.New("it ended by itself")
		}
	case <-ctx.Done():
		s.stop(cmd.Process, exited)
	}
	select {
	case t := <-readyAt:
		settled = time.Since(t) >= settledTime
	default:
	}
	return settled, err
}

// stop has the child drain, and kills it when that takes too long: what it has acknowledged survives that too.
func (s *supervisor) stop(p *os.Process, exited <-chan struct{}) {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.log.Warn("stop "+s.name, "error", err)
	}
	select {
	case <-exited:
		return
	case <-time.After(drainTime):
	}
	s.log.Warn(s.name+" didn't drain in time and is killed", "after", drainTime)
	_ = p.Kill() // it can only have ended meanwhile
	<-exited
}

// watch probes the child, says when it is ready and kills it when it no longer answers.
func (s *supervisor) watch(ctx context.Context, p *os.Process, start time.Time, readyAt chan<- time.Time) {
	pace, missed, ready := probeFast, 0, false
	for {
		err := s.ask(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if !ready || missed > 0 {
				s.set(p.Pid, "")
			}
			if !ready {
				ready, pace = true, probeSlow
				readyAt <- time.Now()
				s.log.Info(s.name+" is ready", "pid", p.Pid, "after", time.Since(start).Round(time.Millisecond))
			}
			missed = 0
		case ready:
			missed++
			s.set(p.Pid, fmt.Sprintf("%s doesn't answer: %v", s.name, err))
			if missed == probeMiss {
				s.log.Error(s.name+" doesn't answer, killing it", "error", err)
				_ = p.Kill() // it can only have ended meanwhile
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pace):
		}
	}
}

func (s *supervisor) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	return s.probe(ctx)
}
