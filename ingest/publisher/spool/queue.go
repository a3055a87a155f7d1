package spool

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// Queue holds the envelopes of one node for one partition, in files of its own. One goroutine may append
// while another reads and removes.
type Queue struct {
	s         *Spool
	node      uint64
	partition int

	mu         sync.Mutex
	files      []*file // in order; envelopes are appended to the last one
	nextNumber int     // of the next file
	envelopes  int
	headSize   int64 // bytes of the envelope that Head returned, 0 if none
	appending  bool  // Append writes to the last file
}

// Partition returns the partition that the envelopes are for.
func (q *Queue) Partition() int { return q.partition }

// Len returns the number of envelopes.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.envelopes
}

func (q *Queue) oldest() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, f := range q.files {
		if f.envelopes > 0 {
			return f.headAt
		}
	}
	return 0
}

// Append adds envelopes at the end, all or none. When it returns nil they are synced to disk.
func (q *Queue) Append(envelopes []Envelope) error {
	if len(envelopes) == 0 {
		return nil
	}
	if err := q.s.Full(); err != nil {
		return err
	}
	var b []byte
	for _, e := range envelopes {
		b = appendEnvelope(b, e)
	}
	f, err := q.lastFile()
	if err != nil {
		return err
	}
	if _, err = f.f.WriteAt(b, f.size); err == nil {
		err = q.s.cfg.sync(f.f)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.appending = false
	if err != nil {
		// After a failed sync the content of the disk is unknown, so nothing else is appended to this
		// file.
		_ = f.f.Truncate(f.size)
		f.sealed = true
		q.removeReadFiles()
		return fmt.Errorf("write spool: %w", err)
	}
	if f.envelopes == 0 {
		f.headAt = envelopes[0].At
	}
	f.size += int64(len(b))
	q.count(f, len(envelopes), int64(len(b)))
	return nil
}

// lastFile returns the file to append to, a new one if needed.
func (q *Queue) lastFile() (*file, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.appending = true
	if n := len(q.files); n > 0 && !q.files[n-1].sealed && q.files[n-1].size < fileSize {
		return q.files[n-1], nil
	}
	f, err := createFile(q.path(q.nextNumber))
	if err != nil {
		q.appending = false
		return nil, fmt.Errorf("make spool file: %w", err)
	}
	q.nextNumber++
	q.files = append(q.files, f)
	return f, nil
}

func (q *Queue) path(number int) string {
	return filepath.Join(q.s.cfg.Dir, fmt.Sprintf(fileName, q.node, q.partition, number))
}

// count adds envelopes and bytes to the totals of file, queue and spool.
func (q *Queue) count(f *file, envelopes int, bytes int64) {
	f.envelopes += envelopes
	q.envelopes += envelopes
	q.s.bytes.Add(bytes)
	q.s.envelopes.Add(int64(envelopes))
}

// Head returns the oldest envelope, or false if there is none. It cuts off what can't be read.
func (q *Queue) Head() (e Envelope, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.readHead()
}

func (q *Queue) readHead() (e Envelope, ok bool) {
	for q.removeReadFiles(); q.envelopes > 0; q.removeReadFiles() {
		f := q.files[0]
		e, n, err := readEnvelope(io.NewSectionReader(f.f, f.read, f.size-f.read))
		if err == nil {
			f.headAt, q.headSize = e.At, n
			return e, true
		}
		q.cutOff(f, err)
	}
	return Envelope{}, false
}

// Pop removes the oldest envelope, once it is in the log.
func (q *Queue) Pop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.headSize == 0 {
		if _, ok := q.readHead(); !ok {
			return
		}
	}
	f := q.files[0]
	f.read += q.headSize
	q.count(f, -1, -q.headSize)
	q.headSize = 0
	_ = f.saveReadOffset() // if it fails, the next process sends some envelopes again
	q.removeReadFiles()
}

// removeReadFiles removes files without an envelope. A removed file that is there again after a crash
// does no harm: readers of the log drop its envelopes as duplicates.
func (q *Queue) removeReadFiles() {
	for len(q.files) > 0 && q.files[0].envelopes == 0 && (!q.appending || len(q.files) > 1) {
		f := q.files[0]
		f.f.Close()
		if err := os.Remove(f.name); err != nil {
			q.s.cfg.Log.Warn("can't remove a part of the spool that is in the log",
				"file", f.name, "error", err)
		}
		q.files = q.files[1:]
	}
}

// cutOff gives up the unread rest of a file.
func (q *Queue) cutOff(f *file, cause error) {
	lost := f.size - f.read
	q.s.unreadable.Add(lost)
	q.s.cfg.Log.Error("a part of the spool can't be read and is left out",
		"file", f.name, "offset", f.read, "bytes", lost, "envelopes", f.envelopes, "error", cause)
	q.count(f, -f.envelopes, -lost)
	f.read = f.size
}

// recover adds a file of an earlier process, as far as it can be read.
func (q *Queue) recover(number int) error {
	f, savedOffset, err := q.openFile(q.path(number))
	if err != nil || f == nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.nextNumber = number + 1
	if err := q.scan(f, savedOffset); err != nil {
		f.f.Close()
		return fmt.Errorf("open spool file: %w", err)
	}
	if f.envelopes == 0 {
		f.f.Close()
		return os.Remove(f.name)
	}
	q.files = append(q.files, f)
	return nil
}

// openFile opens a file of an earlier process and returns its saved read offset. It returns nil for a
// file of another program, and for one without a whole prologue, which it removes: the process ended
// while it made the file.
func (q *Queue) openFile(name string) (f *file, savedOffset int64, err error) {
	h, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("open spool file: %w", err)
	}
	var prologue [prologueSize]byte
	n, err := io.ReadFull(h, prologue[:])
	switch {
	case err != nil:
		h.Close()
		q.s.unreadable.Add(int64(n))
		return nil, 0, os.Remove(name)
	case string(prologue[:len(magic)]) != magic:
		h.Close()
		q.s.cfg.Log.Error("a file in the spool was written by another program, "+
			"or another version of this one: it is ignored", "file", name)
		return nil, 0, nil
	}
	f = &file{f: h, name: name, read: prologueSize, size: prologueSize, sealed: true}
	return f, int64(binary.LittleEndian.Uint64(prologue[len(magic):])), nil
}

// scan reads a file to its end and counts the envelopes from the saved offset on, from the first if the
// offset isn't the end of an envelope.
func (q *Queue) scan(f *file, savedOffset int64) error {
	info, err := f.f.Stat()
	if err != nil {
		return err
	}
	r := bufio.NewReaderSize(f.f, 1<<20)
	for {
		e, n, err := readEnvelope(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			lost := info.Size() - f.size
			q.s.unreadable.Add(lost)
			q.s.cfg.Log.Error("the end of a spool file can't be read and is cut off: "+
				"it was being written when the process ended, or the disk is damaged",
				"file", f.name, "offset", f.size, "bytes", lost, "error", err)
			return nil
		}
		if f.envelopes == 0 {
			f.headAt = e.At
		}
		f.size += n
		q.count(f, 1, n)
		if f.size == savedOffset {
			q.count(f, -f.envelopes, -(savedOffset - f.read))
			f.read = savedOffset
		}
	}
}

func (q *Queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, f := range q.files {
		f.f.Close()
	}
	q.files, q.envelopes = nil, 0
}
