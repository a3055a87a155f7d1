// Package spool keeps envelopes on disk while the log is away.
//
// It promises that what Append has returned without an error survives the end of the process and of the machine, in its order and with every
// byte as it was, until Shift. It is bounded by size, age and free disk, and says so before a write (Full) as well as in it. What can't be read
// back (a tail torn by a crash, a flipped bit) is cut off to the end of its file, said and counted; the rest is given.
//
// A spool has one directory and one process: an exclusive lock, which the system gives back when the process ends, however it ends. In it a
// queue is one ingest node's envelopes of one partition. Whoever opens the directory finds the queues of the processes before.
package spool

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrFull says that nothing may be appended now. What is there stays, and leaves as the log takes it.
var ErrFull = errors.New("the spool is full")

// Config of a spool.
type Config struct {
	Dir  string
	Size int64         // bytes of all queues; 0: 1 GiB
	Age  time.Duration // of the oldest envelope; 0: a day. An older one would be in no window and hardly of use
	Free int64         // bytes of the disk that stay free; 0: 256 MiB
	Log  *slog.Logger
}

// Spool is a directory of queues. It is safe for concurrent use.
type Spool struct {
	cfg  Config
	lock *os.File
	left []*Queue

	bytes, envelopes atomic.Int64
	cut              atomic.Int64 // bytes

	mu      sync.Mutex
	queues  []*Queue
	checked time.Time // when full was
	full    error
}

// Open makes and locks the directory, and finds what earlier processes have left there. It fails when another process has it.
func Open(cfg Config) (*Spool, error) {
	setDefault(&cfg.Size, 1<<30)
	setDefault(&cfg.Age, 24*time.Hour)
	setDefault(&cfg.Free, 256<<20)
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make spool: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(cfg.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("spool %s is in use by another process: stop that one or give each its own --spool-dir", cfg.Dir)
		}
		return nil, fmt.Errorf("lock spool: %w", err)
	}
	s := &Spool{cfg: cfg, lock: lock}
	if err := s.find(); err != nil {
		lock.Close()
		return nil, err
	}
	return s, nil
}

func setDefault[T int64 | time.Duration](v *T, to T) {
	if *v == 0 {
		*v = to
	}
}

// Close gives the directory back. Nothing may be in use then. A nil Spool is closed.
func (s *Spool) Close() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		q.close()
	}
	return s.lock.Close()
}

// Left are the queues of earlier processes, each with at least one envelope.
func (s *Spool) Left() []*Queue { return s.left }

// Bytes are those of all queues on disk.
func (s *Spool) Bytes() int64 { return s.bytes.Load() }

// Envelopes is how many are on disk.
func (s *Spool) Envelopes() int64 { return s.envelopes.Load() }

// Cut is how many bytes could not be read back.
func (s *Spool) Cut() int64 { return s.cut.Load() }

// Oldest is the time of the oldest envelope, ms; 0 when there is none.
func (s *Spool) Oldest() (at int64) {
	s.mu.Lock()
	queues := slices.Clone(s.queues)
	s.mu.Unlock()
	for _, q := range queues {
		if o := q.oldest(); o != 0 && (at == 0 || o < at) {
			at = o
		}
	}
	return at
}

// Full says why nothing may be appended, with ErrFull, or nil. It is asked for each event, so age and disk are looked at ten times a second.
func (s *Spool) Full() error {
	if n := s.Bytes(); n >= s.cfg.Size {
		return fmt.Errorf("%w: %d MB wait on disk for the log", ErrFull, n>>20)
	}
	s.mu.Lock()
	fresh, full := time.Since(s.checked) < 100*time.Millisecond, s.full
	s.mu.Unlock()
	if fresh {
		return full
	}
	full = s.look()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked, s.full = time.Now(), full
	return full
}

// look asks queues and disk.
func (s *Spool) look() error {
	if at := s.Oldest(); at != 0 && time.Since(time.UnixMilli(at)) > s.cfg.Age {
		return fmt.Errorf("%w: its oldest event has waited for %s", ErrFull, time.Since(time.UnixMilli(at)).Round(time.Second))
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(s.cfg.Dir, &fs); err != nil {
		return fmt.Errorf("%w: can't ask for free disk: %w", ErrFull, err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < s.cfg.Free { //nolint:gosec // no disk is that large
		return fmt.Errorf("%w: the disk has %d MB left, and %d MB have to stay free", ErrFull, free>>20, s.cfg.Free>>20)
	}
	return nil
}

// Queue makes the queue of a node and a partition. Nothing is on disk until something is appended.
func (s *Spool) Queue(node uint64, partition int) *Queue {
	q := &Queue{s: s, node: node, partition: partition}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queues = append(s.queues, q)
	return q
}

// find gathers the files of earlier processes into queues.
func (s *Spool) find() error {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("read spool: %w", err)
	}
	type key struct {
		node      uint64
		partition int
	}
	found := map[key]*Queue{}
	for _, e := range entries { // by name, and so in order
		var k key
		var n int
		if _, err := fmt.Sscanf(e.Name(), fileName, &k.node, &k.partition, &n); err != nil {
			continue
		}
		q := found[k]
		if q == nil {
			q = s.Queue(k.node, k.partition)
			found[k] = q
			s.left = append(s.left, q)
		}
		if err := q.adopt(n); err != nil {
			return err
		}
	}
	s.left = slices.DeleteFunc(s.left, func(q *Queue) bool { return q.Len() == 0 })
	return nil
}
