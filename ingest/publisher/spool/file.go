package spool

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// Envelope is a record that isn't in the log yet.
type Envelope struct {
	At     int64 // ms, the record's timestamp
	Events int
	Data   []byte
}

// The format of a file: a prologue, then envelopes. The prologue has the magic and the offset of the
// first envelope that isn't in the log. An envelope has a header and the data; the header has the
// checksum (CRC-32C) of what follows it, the length of the data, the timestamp and the number of events.
// Numbers are little-endian.
const (
	fileName     = "%016x-%05d-%08d.spool" // node, partition, number
	fileSize     = 16 << 20                // when it is reached, a new file begins
	magic        = "nowcast1"
	prologueSize = int64(len(magic)) + 8
	headerSize   = 4 + 4 + 8 + 4
	maxData      = 1 << 24 // of an envelope; a larger length is damage
)

var errDamaged = errors.New("damaged")

// file is a part of a queue. It is removed when all its envelopes are in the log. Its read offset isn't
// synced: after a loss of power some envelopes are sent again, and readers of the log drop them as
// duplicates.
type file struct {
	f          *os.File
	name       string
	read, size int64 // offsets of the first envelope that isn't in the log, and of the end of the last one
	envelopes  int   // between them
	headAt     int64 // ms, timestamp of the first of them
	sealed     bool  // nothing else is appended
}

func createFile(name string) (*file, error) {
	h, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	f := &file{f: h, name: name, read: prologueSize, size: prologueSize}
	if _, err = h.WriteAt([]byte(magic), 0); err == nil {
		err = f.saveReadOffset()
	}
	if err == nil {
		err = syncDir(filepath.Dir(name))
	}
	if err != nil {
		h.Close()
		return nil, err
	}
	return f, nil
}

func (f *file) saveReadOffset() error {
	_, err := f.f.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(f.read)), int64(len(magic)))
	return err
}

func appendEnvelope(b []byte, e Envelope) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Data)))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.At))
	b = binary.LittleEndian.AppendUint32(b, uint32(e.Events))
	b = append(b, e.Data...)
	checksum := crc32.Checksum(b[start+4:], crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(b[start:], checksum)
	return b
}

// readEnvelope reads an envelope and returns its size on disk. At the end of the file the error is
// io.EOF.
func readEnvelope(r io.Reader) (e Envelope, size int64, err error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return e, 0, err
	}
	n := binary.LittleEndian.Uint32(h[4:])
	if n > maxData {
		return e, 0, errDamaged
	}
	e = Envelope{
		At: int64(binary.LittleEndian.Uint64(h[8:])), Events: int(binary.LittleEndian.Uint32(h[16:])),
		Data: make([]byte, n),
	}
	if _, err := io.ReadFull(r, e.Data); err != nil {
		return e, 0, errDamaged
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	if crc32.Update(crc32.Checksum(h[4:], table), table, e.Data) != binary.LittleEndian.Uint32(h[:]) {
		return e, 0, errDamaged
	}
	return e, headerSize + int64(n), nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
