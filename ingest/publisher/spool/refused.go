package spool

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// RefusedFile is the name of the file, in the spool's directory, with the envelopes that the log has refused
// for good. It has a JSON object a line. Who has read it may remove it while the process isn't running.
const RefusedFile = "refused.jsonl"

// maxRefusedBytes bounds the file. What doesn't fit is counted and not kept.
const maxRefusedBytes = 64 << 20

// ErrRefusedFull says that the file of refused envelopes has reached its bound.
var ErrRefusedFull = errors.New("the file of refused envelopes is full")

// Refused is an envelope that the log has refused for good.
type Refused struct {
	At        time.Time `json:"at"` // the record's timestamp
	Partition int       `json:"partition"`
	Events    int       `json:"events"`
	Reason    string    `json:"reason"`
	Data      []byte    `json:"data"` // base64 of the record's value
}

// refused is the file of refused envelopes.
type refused struct {
	mu                sync.Mutex
	bytes             int64
	envelopes, events int
	reason            string // of the newest
}

// Refuse keeps an envelope that the log has refused for good. It is synced to disk when Refuse returns nil.
func (s *Spool) Refuse(x Refused) error {
	line, err := json.Marshal(x)
	if err != nil {
		return fmt.Errorf("keep refused envelope: %w", err)
	}
	line = append(line, '\n')
	r := &s.refused
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bytes+int64(len(line)) > maxRefusedBytes {
		return fmt.Errorf("keep refused envelope: %w", ErrRefusedFull)
	}
	f, err := os.OpenFile(filepath.Join(s.cfg.Dir, RefusedFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("keep refused envelope: %w", err)
	}
	defer f.Close()
	_, err = f.Write(line)
	if err == nil {
		err = f.Sync()
	}
	if err == nil && r.bytes == 0 {
		err = syncDir(s.cfg.Dir)
	}
	if err != nil {
		_ = f.Truncate(r.bytes)
		return fmt.Errorf("keep refused envelope: %w", err)
	}
	r.add(x, int64(len(line)))
	return nil
}

func (r *refused) add(x Refused, bytes int64) {
	r.bytes += bytes
	r.envelopes++
	r.events += x.Events
	r.reason = x.Reason
}

// RefusedCount returns how many envelopes and events are in the file of refused envelopes, and why the newest
// was refused.
func (s *Spool) RefusedCount() (envelopes, events int, reason string) {
	s.refused.mu.Lock()
	defer s.refused.mu.Unlock()
	return s.refused.envelopes, s.refused.events, s.refused.reason
}

// recoverRefused counts what is in the file. A torn line at its end is cut off.
func (s *Spool) recoverRefused() error {
	name := filepath.Join(s.cfg.Dir, RefusedFile)
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read refused envelopes: %w", err)
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	for {
		line, err := r.ReadBytes('\n')
		var x Refused
		if err != nil || json.Unmarshal(line, &x) != nil {
			break
		}
		s.refused.add(x, int64(len(line)))
	}
	if err := os.Truncate(name, s.refused.bytes); err != nil {
		return fmt.Errorf("read refused envelopes: %w", err)
	}
	return nil
}
