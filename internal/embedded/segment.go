package embedded

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The broker keeps a partition in a directory of segments. A segment is a file of whole record batches in
// Kafka's wire format, named after its first offset.
// Source: https://kafka.apache.org/documentation/#recordbatch
const (
	batchHeaderSize = 61
	batchLengthEnd  = 12 // bytes before and including the batch's length
	batchCRCStart   = 21 // first byte that the checksum covers
	segmentSuffix   = ".dat"
	indexSuffix     = ".idx"
	snapshotFile    = "snapshot.json"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// batch is a record batch of a segment.
type batch struct {
	raw   []byte
	first int64 // offset of the first record
	end   int64 // offset after the last record
	time  int64 // highest timestamp, ms
}

// readBatch reads the batch at the start of b. It is false for one that is torn or damaged.
func readBatch(b []byte) (batch, bool) {
	if len(b) < batchHeaderSize {
		return batch{}, false
	}
	size := batchLengthEnd + int64(int32(binary.BigEndian.Uint32(b[8:])))
	if size < batchHeaderSize || size > int64(len(b)) || b[16] != 2 {
		return batch{}, false
	}
	x := batch{raw: b[:size], first: int64(binary.BigEndian.Uint64(b))}
	last := int64(int32(binary.BigEndian.Uint32(b[23:])))
	x.end, x.time = x.first+last+1, int64(binary.BigEndian.Uint64(b[35:]))
	if x.first < 0 || last < 0 || crc32.Checksum(x.raw[batchCRCStart:], castagnoli) !=
		binary.BigEndian.Uint32(b[17:]) {
		return batch{}, false
	}
	return x, true
}

// readBatches reads whole batches with rising offsets, from offset on, and returns how many bytes they have.
func readBatches(raw []byte, offset int64) (all []batch, valid int) {
	for {
		x, ok := readBatch(raw[valid:])
		if !ok || x.first < offset {
			return all, valid
		}
		all = append(all, x)
		offset, valid = x.end, valid+len(x.raw)
	}
}

// appendBatch appends a batch of one record without headers. A nil value is a tombstone.
func appendBatch(b []byte, offset, time int64, key, value []byte) []byte {
	r := binary.AppendVarint([]byte{0}, 0) // attributes, timestamp delta
	r = binary.AppendVarint(r, 0)          // offset delta
	r = append(binary.AppendVarint(r, int64(len(key))), key...)
	if value == nil {
		r = binary.AppendVarint(r, -1)
	} else {
		r = append(binary.AppendVarint(r, int64(len(value))), value...)
	}
	r = binary.AppendVarint(r, 0) // headers
	r = append(binary.AppendVarint(nil, int64(len(r))), r...)
	return appendBatchOf(b, offset, time, r)
}

// appendBatchOf appends a batch of one encoded record.
func appendBatchOf(b []byte, offset, time int64, record []byte) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint64(b, uint64(offset))
	b = binary.BigEndian.AppendUint32(b, uint32(batchHeaderSize-batchLengthEnd+len(record)))
	b = binary.BigEndian.AppendUint32(b, 0)            // leader epoch
	b = append(b, 2, 0, 0, 0, 0)                       // magic, checksum
	b = append(b, 0, 0)                                // attributes
	b = binary.BigEndian.AppendUint32(b, 0)            // last offset delta
	b = binary.BigEndian.AppendUint64(b, uint64(time)) // first timestamp
	b = binary.BigEndian.AppendUint64(b, uint64(time)) // highest timestamp
	b = binary.BigEndian.AppendUint64(b, 1<<64-1)      // producer id: none
	b = append(b, 0xff, 0xff)                          // producer epoch: none
	b = binary.BigEndian.AppendUint32(b, 1<<32-1)      // base sequence: none
	b = append(binary.BigEndian.AppendUint32(b, 1), record...)
	binary.BigEndian.PutUint32(b[start+17:], crc32.Checksum(b[start+batchCRCStart:], castagnoli))
	return b
}

// segments returns the first offsets of a partition's segments, in order.
func segments(dir string) (bases []int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list segments: %w", err)
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), segmentSuffix); ok {
			if base, err := strconv.ParseInt(name, 10, 64); err == nil {
				bases = append(bases, base)
			}
		}
	}
	slices.Sort(bases)
	return bases, nil
}

func segmentPath(dir string, base int64) string {
	return filepath.Join(dir, strconv.FormatInt(base, 10)+segmentSuffix)
}

// removeSegment removes a segment with its index.
func removeSegment(dir string, base int64) error {
	os.Remove(filepath.Join(dir, strconv.FormatInt(base, 10)+indexSuffix))
	return os.Remove(segmentPath(dir, base))
}

// writeSynced writes a file whole or not at all: it is on disk under its name when writeSynced returns nil.
func writeSynced(name string, b []byte) error {
	temp := name + ".tmp"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	f.Close()
	if err == nil {
		err = os.Rename(temp, name)
	}
	if err != nil {
		os.Remove(temp)
		return err
	}
	return syncDir(filepath.Dir(name))
}

// syncDir makes the names of a directory's files durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
