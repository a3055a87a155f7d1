package embedded

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"nowcast/internal/topic"
)

// While the broker runs, it has its files open, and its own compaction and retention delete files before
// they write them again. So compacted topics are compacted, and the newest salt is removed once its day is
// over, before the broker opens the log.

const (
	// tombstoneAge is how long a tombstone stays, for readers that have read the record which it removes.
	tombstoneAge = 24 * time.Hour
	// saltDayEnd is how long after a UTC day the salt of its date is needed: the date ends 12 hours later in
	// the last zone, and for the first minutes of a day an event has the visitor's id of the day before.
	saltDayEnd = 12*time.Hour + 15*time.Minute
	// A compacted topic that has grown above compactAbove, and above compactFactor times what it had after
	// its last compaction, is compacted by a restart of the broker.
	compactAbove  = 4 << 20
	compactFactor = 4

	replacementSuffix = ".replacement"
	topicsFile        = "topics.json"
)

// clean removes what may not stay on disk.
func (r *recovery) clean() error {
	errs := []error{r.alterSalts()}
	for name, p := range r.partitions {
		switch t := topicOf(name); {
		case t == topic.Salts:
			errs = append(errs, r.expireSalts(p))
		case r.isCompacted(t):
			errs = append(errs, r.compact(p))
		}
	}
	return errors.Join(errs...)
}

// alterSalts gives the topic of salts its retention, which was shorter in earlier versions.
func (r *recovery) alterSalts() error {
	const retention = "retention.ms"
	spec, _ := topic.Find(topic.Specs(1, 1), topic.Salts)
	name := filepath.Join(r.logDir(), topicsFile)
	old, ok := topicSettings(r.logDir())[topic.Salts]
	if !ok || old[retention] == spec.Settings[retention] {
		return nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var state map[string]any
	if err := json.Unmarshal(b, &state); err != nil {
		return err
	}
	topics, _ := state["topics"].([]any)
	for _, t := range topics {
		t, _ := t.(map[string]any)
		if configs, ok := t["configs"].(map[string]any); ok && t["name"] == topic.Salts {
			configs[retention] = spec.Settings[retention]
		}
	}
	if b, err = json.Marshal(state); err != nil {
		return err
	}
	return writeSynced(name, b)
}

// topicSettings returns the settings of the topics, by name.
func topicSettings(logDir string) map[string]map[string]string {
	var state struct {
		Topics []struct {
			Name    string            `json:"name"`
			Configs map[string]string `json:"configs"`
		} `json:"topics"`
	}
	b, err := os.ReadFile(filepath.Join(logDir, topicsFile))
	if err != nil || json.Unmarshal(b, &state) != nil {
		return nil // a new log
	}
	all := map[string]map[string]string{}
	for _, t := range state.Topics {
		all[t.Name] = t.Configs
	}
	return all
}

func (r *recovery) isCompacted(name string) bool {
	return strings.Contains(topicSettings(r.logDir())[name]["cleanup.policy"], "compact")
}

// expireSalts removes the salts of days that are over. Each has a segment of its own, see useBatchSegments.
// The offsets go on behind them.
func (r *recovery) expireSalts(p *partition) error {
	bases, err := segments(p.dir)
	if err != nil {
		return err
	}
	var expired []int64
	for i, base := range bases {
		over := true
		if err := eachRecordOf(segmentPath(p.dir, base), func(x record) {
			day, err := time.Parse(time.DateOnly, string(x.key))
			over = over && err == nil && r.now.After(day.Add(24*time.Hour+saltDayEnd))
		}); err != nil {
			return err
		}
		if !over {
			continue
		}
		if i < len(bases)-1 {
			expired = append(expired, base)
			continue
		}
		// Without any record the broker would give out the same offsets again.
		c := topic.LogCut{From: p.end - 1, After: p.time}
		mark := appendBatch(nil, p.end-1, r.now.UnixMilli(), c.Key(), []byte{})
		if err := writeSynced(segmentPath(p.dir, p.end-1), mark); err != nil {
			return err
		}
		if base != p.end-1 {
			expired = append(expired, base)
		}
	}
	if len(bases) == 0 || len(expired) == 0 {
		return nil
	}
	os.Remove(filepath.Join(p.dir, snapshotFile))
	for _, base := range expired {
		if err := removeSegment(p.dir, base); err != nil {
			return err
		}
	}
	return syncDir(p.dir)
}

// compact keeps the newest record of each key. The last record stays in any case, so that the offsets go on
// behind it.
func (r *recovery) compact(p *partition) error {
	newest := map[string]int64{}
	if err := p.eachRecord(func(x record) { newest[string(x.key)] = x.offset }); err != nil {
		return err
	}
	old := r.now.Add(-tombstoneAge).UnixMilli()
	return r.rewrite(p, func(x record) bool {
		superseded := x.key != nil && newest[string(x.key)] != x.offset
		return x.offset != p.end-1 && (superseded || x.value == nil && x.time < old)
	})
}

// rewrite replaces a partition's segments by one without the records that drop selects, if it selects any
// but not all. A crash leaves the old segments or the new one.
func (r *recovery) rewrite(p *partition, drop func(record) bool) error {
	var kept []byte
	dropped, first := 0, int64(-1)
	if err := p.eachRecord(func(x record) {
		if drop(x) {
			dropped++
			return
		}
		if first < 0 {
			first = x.offset
		}
		kept = appendBatchOf(kept, x.offset, x.time, x.raw)
	}); err != nil || dropped == 0 || first < 0 {
		return err
	}
	name := filepath.Join(p.dir, strconv.FormatInt(first, 10)+replacementSuffix)
	if err := writeSynced(name, kept); err != nil {
		return err
	}
	return finishReplacement(p.dir)
}

// finishReplacement puts a segment that was written whole into the place of all others.
func finishReplacement(dir string) error {
	found, err := filepath.Glob(filepath.Join(dir, "*"+replacementSuffix))
	if err != nil || len(found) == 0 {
		return err
	}
	bases, err := segments(dir)
	if err != nil {
		return err
	}
	os.Remove(filepath.Join(dir, snapshotFile))
	for _, base := range bases {
		if err := removeSegment(dir, base); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(found[0], strings.TrimSuffix(found[0], replacementSuffix)+segmentSuffix); err != nil {
		return err
	}
	return syncDir(dir)
}

// record is a record of a batch. raw is the encoded record with its timestamp and offset made the batch's.
type record struct {
	offset, time    int64
	key, value, raw []byte
}

// eachRecord calls f with each record of a partition, in order.
func (p *partition) eachRecord(f func(record)) error {
	bases, err := segments(p.dir)
	if err != nil {
		return err
	}
	for _, base := range bases {
		if err := eachRecordOf(segmentPath(p.dir, base), f); err != nil {
			return err
		}
	}
	return nil
}

// eachRecordOf calls f with each record of a segment, in order.
func eachRecordOf(segment string, f func(record)) error {
	b, err := os.ReadFile(segment)
	if err != nil {
		return err
	}
	all, _ := readBatches(b, 0)
	for _, x := range all {
		if err := x.eachRecord(f); err != nil {
			return fmt.Errorf("read record of %s at offset %d: %w", segment, x.first, err)
		}
	}
	return nil
}

var errRecord = errors.New("the record can't be read")

func (x *batch) eachRecord(f func(record)) error {
	const compression = 7 // bits of the attributes
	if binary.BigEndian.Uint16(x.raw[21:])&compression != 0 {
		return errRecord // no client of this program compresses
	}
	firstTime := int64(binary.BigEndian.Uint64(x.raw[27:]))
	d := recordDecoder{b: x.raw[batchHeaderSize:]}
	for len(d.b) > 0 && !d.failed {
		size := d.varint()
		if d.failed || size < 0 || size > int64(len(d.b)) {
			return errRecord
		}
		body := recordDecoder{b: d.b[:size]}
		d.b = d.b[size:]
		body.skip(1) // attributes
		at, delta := body.varint(), body.varint()
		y := record{offset: x.first + delta, time: firstTime + at, raw: []byte{0, 0, 0}}
		rest := body.b
		y.key, y.value = body.bytes(), body.bytes()
		if body.failed {
			return errRecord
		}
		y.raw = append(y.raw, rest...)
		y.raw = append(binary.AppendVarint(nil, int64(len(y.raw))), y.raw...)
		f(y)
	}
	if d.failed {
		return errRecord
	}
	return nil
}

// recordDecoder reads the parts of a record. After a part that isn't there, failed is set.
type recordDecoder struct {
	b      []byte
	failed bool
}

func (d *recordDecoder) skip(n int64) []byte {
	if n < 0 || n > int64(len(d.b)) {
		d.failed, d.b = true, nil
		return nil
	}
	part := d.b[:n:n]
	d.b = d.b[n:]
	return part
}

func (d *recordDecoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		n = -1
	}
	d.skip(int64(n))
	return v
}

// bytes reads a length and as many bytes; the length -1 is nil.
func (d *recordDecoder) bytes() []byte {
	n := d.varint()
	if n == -1 {
		return nil
	}
	return d.skip(n)
}
