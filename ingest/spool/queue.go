package spool

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// Envelope is one record of the log that isn't there yet.
type Envelope struct {
	At     int64 // the record's timestamp, ms
	Events int
	Data   []byte
}

// Queue is what one node has for one partition, in files of its own. One goroutine appends and one reads and shifts; they may be two.
type Queue struct {
	s         *Spool
	node      uint64
	partition int

	mu    sync.Mutex
	files []*file // the last one may grow
	next  int     // number of the next file
	held  int     // envelopes
	head  int64   // bytes of the one that Head gave
	grows bool    // the last file is being written
}

// file is a part of a queue: a prologue, then envelopes one after the other. It goes when all of them are in the log. The prologue says how far
// that had come. It isn't synced: after a loss of power some are sent again, which readers notice.
type file struct {
	f          *os.File
	name       string
	read, size int64 // where the next envelope begins, and where the last whole one ends
	held       int   // envelopes between
	at         int64 // of the next one, ms
	sealed     bool  // it doesn't grow any more
}

const (
	fileName = "%016x-%05d-%08d.spool" // node, partition, number
	fileSize = 16 << 20                // about; then the next one begins
	magic    = "nowcast1"
	prologue = int64(len(magic)) + 8 // and the offset of the first envelope that isn't in the log
	header   = 4 + 4 + 8 + 4         // checksum of the rest, length of the data, timestamp, events
	maxData  = 1 << 24               // of an envelope; a larger length is none
)

var table = crc32.MakeTable(crc32.Castagnoli)

// Partition that they are for.
func (q *Queue) Partition() int { return q.partition }

// Len is how many envelopes there are.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.held
}

func (q *Queue) oldest() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, f := range q.files {
		if f.held > 0 {
			return f.at
		}
	}
	return 0
}

// Append puts envelopes at the end, all or none, and returns when they are on the disk itself.
func (q *Queue) Append(envelopes []Envelope) error {
	if len(envelopes) == 0 {
		return nil
	}
	if err := q.s.Full(); err != nil {
		return err
	}
	var b []byte
	for _, e := range envelopes {
		start := len(b)
		b = append(b, 0, 0, 0, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Data)))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.At))
		b = binary.LittleEndian.AppendUint32(b, uint32(e.Events))
		b = append(b, e.Data...)
		binary.LittleEndian.PutUint32(b[start:], crc32.Checksum(b[start+4:], table))
	}
	f, err := q.tail()
	if err != nil {
		return err
	}
	if _, err = f.f.WriteAt(b, f.size); err == nil {
		err = f.f.Sync()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.grows = false
	if err != nil {
		// Nobody was told that they are there. After a failed sync it isn't known what the disk has, so nothing follows in this file.
		_ = f.f.Truncate(f.size)
		f.sealed = true
		q.tidy()
		return fmt.Errorf("write spool: %w", err)
	}
	if f.held == 0 {
		f.at = envelopes[0].At
	}
	f.size += int64(len(b))
	q.hold(f, len(envelopes), int64(len(b)))
	return nil
}

// tail is the file that grows.
func (q *Queue) tail() (*file, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.grows = true
	if n := len(q.files); n > 0 && !q.files[n-1].sealed && q.files[n-1].size < fileSize {
		return q.files[n-1], nil
	}
	name := filepath.Join(q.s.cfg.Dir, fmt.Sprintf(fileName, q.node, q.partition, q.next))
	h, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	f := &file{f: h, name: name, read: prologue, size: prologue}
	if err == nil {
		_, err = h.WriteAt([]byte(magic), 0)
	}
	if err == nil {
		err = f.mark()
	}
	if err == nil {
		err = syncDir(q.s.cfg.Dir)
	}
	if err != nil {
		q.grows = false
		h.Close()
		return nil, fmt.Errorf("make spool file: %w", err)
	}
	q.next++
	q.files = append(q.files, f)
	return f, nil
}

// hold counts envelopes that came to a file, or left it.
func (q *Queue) hold(f *file, n int, bytes int64) {
	f.held += n
	q.held += n
	q.s.bytes.Add(bytes)
	q.s.envelopes.Add(int64(n))
}

// Head is the oldest envelope; false when there is none. What can't be read is cut off.
func (q *Queue) Head() (e Envelope, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.look()
}

func (q *Queue) look() (e Envelope, ok bool) {
	for q.tidy(); q.held > 0; q.tidy() {
		f := q.files[0]
		e, n, err := f.envelope(io.NewSectionReader(f.f, f.read, f.size-f.read))
		if err == nil {
			f.at, q.head = e.At, n
			return e, true
		}
		q.cut(f, err)
	}
	return Envelope{}, false
}

// Shift lets go of the envelope that Head gives: it is in the log.
func (q *Queue) Shift() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.head == 0 {
		if _, ok := q.look(); !ok {
			return
		}
	}
	f := q.files[0]
	f.read += q.head
	q.hold(f, -1, -q.head)
	q.head = 0
	_ = f.mark() // at worst some are sent again
	q.tidy()
}

// mark writes how far the file is in the log.
func (f *file) mark() error {
	_, err := f.f.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(f.read)), int64(len(magic)))
	return err
}

// tidy removes files from which nothing is left to read. That one comes back after a crash does no harm: readers know its envelopes.
func (q *Queue) tidy() {
	for len(q.files) > 0 && q.files[0].held == 0 && (!q.grows || len(q.files) > 1) {
		f := q.files[0]
		f.f.Close()
		if err := os.Remove(f.name); err != nil {
			q.s.cfg.Log.Warn("can't remove a part of the spool that is in the log", "file", f.name, "error", err)
		}
		q.files = q.files[1:]
	}
}

// cut gives up what is left of a file.
func (q *Queue) cut(f *file, why error) {
	lost := f.size - f.read
	q.s.cut.Add(lost)
	q.s.cfg.Log.Error("a part of the spool can't be read and is left out", "file", f.name, "offset", f.read, "bytes", lost, "envelopes", f.held, "error", why)
	q.hold(f, -f.held, -lost)
	f.read = f.size
}

// adopt takes a file of an earlier process, as far as it can be read.
func (q *Queue) adopt(number int) error {
	name := filepath.Join(q.s.cfg.Dir, fmt.Sprintf(fileName, q.node, q.partition, number))
	h, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open spool file: %w", err)
	}
	info, err := h.Stat()
	if err != nil {
		h.Close()
		return fmt.Errorf("open spool file: %w", err)
	}
	f := &file{f: h, name: name, read: prologue, size: prologue, sealed: true}
	r := bufio.NewReaderSize(h, 1<<20)
	var begin [prologue]byte
	if n, err := io.ReadFull(r, begin[:]); err == nil && string(begin[:len(magic)]) != magic {
		h.Close()
		q.s.cfg.Log.Error("a file in the spool was written by another program, or another version of this one: it is left alone", "file", name)
		return nil
	} else if err != nil { // the process ended while it made the file
		h.Close()
		q.s.cut.Add(int64(n))
		return os.Remove(name)
	}
	mark := int64(binary.LittleEndian.Uint64(begin[len(magic):]))
	q.mu.Lock()
	defer q.mu.Unlock()
	q.files = append(q.files, f)
	q.next = number + 1
	for {
		e, n, err := f.envelope(r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			lost := info.Size() - f.size
			q.s.cut.Add(lost)
			q.s.cfg.Log.Error("the end of a spool file can't be read and is cut off: it was being written when the process ended, or the disk is damaged",
				"file", name, "offset", f.size, "bytes", lost, "error", err)
			break
		}
		if f.held == 0 {
			f.at = e.At
		}
		f.size += n
		q.hold(f, 1, n)
		if f.size == mark {
			q.hold(f, -f.held, -(mark - f.read))
			f.read = mark
		}
	}
	if f.held == 0 {
		q.files = q.files[:len(q.files)-1]
		h.Close()
		return os.Remove(name)
	}
	return nil
}

var errDamaged = errors.New("damaged")

// envelope reads the next one and says how long it is on disk. At a clean end the error is io.EOF.
func (f *file) envelope(r io.Reader) (e Envelope, size int64, err error) {
	var h [header]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return e, 0, err
	}
	n := binary.LittleEndian.Uint32(h[4:])
	if n > maxData {
		return e, 0, errDamaged
	}
	e = Envelope{At: int64(binary.LittleEndian.Uint64(h[8:])), Events: int(binary.LittleEndian.Uint32(h[16:])), Data: make([]byte, n)}
	if _, err := io.ReadFull(r, e.Data); err != nil {
		return e, 0, errDamaged
	}
	if crc32.Update(crc32.Checksum(h[4:], table), table, e.Data) != binary.LittleEndian.Uint32(h[:]) {
		return e, 0, errDamaged
	}
	return e, header + int64(n), nil
}

func (q *Queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, f := range q.files {
		f.f.Close()
	}
	q.files, q.held = nil, 0
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
