package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// ends is a file with the offset that each partition's log is known to have reached. It is written with each
// acknowledgement and isn't synced then: it tells a start after a kill -9, which loses no write, whether the
// log is as long as it was. After a loss of power the boot id tells that the file knows nothing.
//
// The file has a header with the boot id and whether the broker was stopped in order, then a slot a
// partition.
type ends struct {
	f *os.File

	mu    sync.Mutex
	slots map[string]int // by the name of the partition's directory
	known map[string]int64
}

const (
	endsFile       = "ends"
	endsMagic      = "nowcast-ends-1\n"
	endsHeaderSize = 64
	endsSlotSize   = 128
	maxEndsSlots   = 2048 // 256 partitions of two topics and the small ones; others aren't recorded
	maxEnd         = 1 << 50
)

// lastRun is what the file tells of the run before.
type lastRun struct {
	known   bool // there was a run, and the file is readable
	lost    bool // there was a run, and nothing is known of its end
	ends    map[string]int64
	ordered bool   // it was stopped in order, and everything was synced
	boot    string // the machine's boot in which it ran
}

// readEnds reads the file that the run before has left. No file is an empty lastRun: a new data dir, or one
// of a version without the file.
func readEnds(dir string) (r lastRun, err error) {
	b, err := os.ReadFile(filepath.Join(dir, endsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("read known ends of the log: %w", err)
	}
	if len(b) < endsHeaderSize || string(b[:len(endsMagic)]) != endsMagic || b[endsHeaderSize-1] > 1 {
		return lastRun{lost: true}, nil
	}
	r.known, r.ordered, r.ends = true, b[endsHeaderSize-1] == 1, map[string]int64{}
	r.boot = strings.TrimRight(string(b[len(endsMagic):endsHeaderSize-1]), "\x00")
	for b = b[endsHeaderSize:]; len(b) > 0; b = b[endsSlotSize:] {
		if len(b) < endsSlotSize || int(b[8]) > endsSlotSize-9 {
			return lastRun{lost: true}, nil
		}
		end := binary.LittleEndian.Uint64(b)
		if end > maxEnd {
			return lastRun{lost: true}, nil
		}
		r.ends[string(b[9:9+int(b[8])])] = int64(end)
	}
	return r, nil
}

// createEnds begins the file of this run.
func createEnds(dir, boot string, known map[string]int64) (*ends, error) {
	e := &ends{slots: map[string]int{}, known: map[string]int64{}}
	header := make([]byte, endsHeaderSize)
	copy(header, endsMagic)
	copy(header[len(endsMagic):endsHeaderSize-1], boot)
	name := filepath.Join(dir, endsFile)
	if err := writeSynced(name, header); err != nil {
		return nil, fmt.Errorf("write known ends of the log: %w", err)
	}
	var err error
	if e.f, err = os.OpenFile(name, os.O_RDWR, 0); err != nil {
		return nil, fmt.Errorf("write known ends of the log: %w", err)
	}
	for partition, end := range known {
		e.reached(partition, end)
	}
	return e, nil
}

// reached records that a partition's log has reached an offset.
func (e *ends) reached(partition string, end int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if end <= e.known[partition] || len(partition) > endsSlotSize-9 {
		return
	}
	i, has := e.slots[partition]
	if !has && len(e.slots) >= maxEndsSlots {
		return
	}
	e.known[partition] = end
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, endsSlotSize), uint64(end))
	if !has {
		i = len(e.slots)
		e.slots[partition] = i
		b = append(append(b, byte(len(partition))), partition...)
		b = b[:endsSlotSize]
	}
	// An error only makes the next start see less.
	_, _ = e.f.WriteAt(b, endsHeaderSize+int64(i)*endsSlotSize)
}

// close records that the broker was stopped in order. The log has to be synced before.
func (e *ends) close(ordered bool) error {
	defer e.f.Close()
	if !ordered {
		return nil
	}
	if _, err := e.f.WriteAt([]byte{1}, endsHeaderSize-1); err != nil {
		return fmt.Errorf("write known ends of the log: %w", err)
	}
	return e.f.Sync()
}

// bootID returns an id of the machine's current boot, "" where it isn't known.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
