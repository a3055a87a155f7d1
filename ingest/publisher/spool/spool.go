// Package spool is a write-ahead log on disk for envelopes that wait for the log.
//
// What Append returned without an error survives the end of the process and of the machine, in order and
// byte by byte, until Pop. Size, age and free disk bound a spool; Full tells before a write, and Append
// in it, that a bound is reached. What can't be read back (a tail torn by a crash, a flipped bit) is cut
// off to the end of its file, logged and counted; the rest stays readable.
//
// A spool has one directory and one process, by an exclusive file lock that the system releases when the
// process ends. A queue in it holds the envelopes of one ingest node for one partition. Open finds the
// queues of earlier processes.
package spool

import (
	"cmp"
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

// ErrFull says that a bound is reached and nothing is appended. It ends as the log takes envelopes.
var ErrFull = errors.New("the spool is full")

const (
	defaultMaxBytes     = 1 << 30
	defaultMaxAge       = 24 * time.Hour
	defaultMinFreeBytes = 256 << 20

	fullCheckInterval = 100 * time.Millisecond // for age and free disk
)

// Config of a spool.
type Config struct {
	Dir          string
	MaxBytes     int64         // of all queues; 0: 1 GiB
	MaxAge       time.Duration // of the oldest envelope; 0: a day. The windows of older ones are closed
	MinFreeBytes int64         // of the disk, for other programs; 0: 256 MiB
	Log          *slog.Logger

	sync func(*os.File) error // (*os.File).Sync when nil; a test counts
}

// Spool is a directory of queues. It is safe for concurrent use.
type Spool struct {
	cfg       Config
	lock      *os.File
	recovered []*Queue

	bytes, envelopes atomic.Int64
	unreadable       atomic.Int64 // bytes
	refused          refused

	mu        sync.Mutex
	queues    []*Queue
	checkedAt time.Time // when full was set
	full      error
}

// Open creates and locks the directory, and reads what earlier processes left in it. It fails while
// another process uses the directory.
func Open(cfg Config) (*Spool, error) {
	if cfg.sync == nil {
		cfg.sync = (*os.File).Sync
	}
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, defaultMaxBytes)
	cfg.MaxAge = cmp.Or(cfg.MaxAge, defaultMaxAge)
	cfg.MinFreeBytes = cmp.Or(cfg.MinFreeBytes, defaultMinFreeBytes)
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
			return nil, fmt.Errorf("spool %s is in use by another process: "+
				"stop that one or give each its own --spool-dir", cfg.Dir)
		}
		return nil, fmt.Errorf("lock spool: %w", err)
	}
	s := &Spool{cfg: cfg, lock: lock}
	if err := errors.Join(s.recover(), s.recoverRefused()); err != nil {
		lock.Close()
		return nil, err
	}
	return s, nil
}

// Close releases the directory. Call it when nothing uses the spool any more. It does nothing for a nil
// Spool.
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

// Recovered returns the queues of earlier processes. Each had at least one envelope when the spool was
// opened.
func (s *Spool) Recovered() []*Queue { return s.recovered }

// Dir returns the spool's directory.
func (s *Spool) Dir() string { return s.cfg.Dir }

// Bytes returns the size of all envelopes on disk.
func (s *Spool) Bytes() int64 { return s.bytes.Load() }

// Envelopes returns the number of envelopes on disk.
func (s *Spool) Envelopes() int64 { return s.envelopes.Load() }

// UnreadableBytes returns how many bytes couldn't be read back.
func (s *Spool) UnreadableBytes() int64 { return s.unreadable.Load() }

// Oldest returns the timestamp of the oldest envelope in ms, 0 if there is none.
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

// Full returns nil if envelopes may be appended, else ErrFull with the reason. It is called for each
// event, so it checks age and free disk at most ten times a second.
func (s *Spool) Full() error {
	if n := s.Bytes(); n >= s.cfg.MaxBytes {
		return fmt.Errorf("%w: %d MB wait on disk for the log", ErrFull, n>>20)
	}
	s.mu.Lock()
	fresh, full := time.Since(s.checkedAt) < fullCheckInterval, s.full
	s.mu.Unlock()
	if fresh {
		return full
	}
	full = s.checkAgeAndDisk()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checkedAt, s.full = time.Now(), full
	return full
}

func (s *Spool) checkAgeAndDisk() error {
	if at := s.Oldest(); at != 0 && time.Since(time.UnixMilli(at)) > s.cfg.MaxAge {
		age := time.Since(time.UnixMilli(at)).Round(time.Second)
		return fmt.Errorf("%w: its oldest event has waited for %s", ErrFull, age)
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(s.cfg.Dir, &fs); err != nil {
		return fmt.Errorf("%w: can't ask for free disk: %w", ErrFull, err)
	}
	free := int64(fs.Bavail) * fs.Bsize //nolint:gosec // no disk is that large
	if free < s.cfg.MinFreeBytes {
		return fmt.Errorf("%w: the disk has %d MB left, and %d MB have to stay free",
			ErrFull, free>>20, s.cfg.MinFreeBytes>>20)
	}
	return nil
}

// Queue returns a new queue for a node and a partition. It has no file before the first Append.
func (s *Spool) Queue(node uint64, partition int) *Queue {
	q := &Queue{s: s, node: node, partition: partition}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queues = append(s.queues, q)
	return q
}

// recover makes queues of the files of earlier processes. ReadDir sorts by name, so the files of a queue
// are in order.
func (s *Spool) recover() error {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("read spool: %w", err)
	}
	type key struct {
		node      uint64
		partition int
	}
	queues := map[key]*Queue{}
	for _, e := range entries {
		var k key
		var number int
		if _, err := fmt.Sscanf(e.Name(), fileName, &k.node, &k.partition, &number); err != nil {
			continue
		}
		q := queues[k]
		if q == nil {
			q = s.Queue(k.node, k.partition)
			queues[k] = q
			s.recovered = append(s.recovered, q)
		}
		if err := q.recover(number); err != nil {
			return err
		}
	}
	s.recovered = slices.DeleteFunc(s.recovered, func(q *Queue) bool { return q.Len() == 0 })
	return nil
}
