package embedded

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"nowcast/internal/topic"
)

// recovery makes the broker's files readable before the broker opens them, and finds out whether the log has
// lost records that were acknowledged.
//
// What can't be read is set aside in the directory `corrupt`. A log that is shorter than it was known to be,
// or may be, is cut: each partition of the events and windows topics gets a record that says so, see
// topic.LogCut, behind an offset that no lost record can have had. So offsets are never given out twice,
// committed positions stay within the log, and readers learn which seconds lack events.
type recovery struct {
	dir string // the broker's
	log *slog.Logger
	now time.Time

	partitions map[string]*partition
	cut        bool
	reason     string // of the cut
}

// partition is what recovery knows of a partition.
type partition struct {
	dir        string
	start, end int64 // offsets; equal: it has no record
	time       int64 // highest timestamp, ms
	holes      []hole
}

// hole is a span of offsets, [from, to), without a record.
type hole struct{ from, to int64 }

// skippedOffsets is how many offsets a cut leaves out behind the highest known one after a loss of power:
// more than the records that a partition gets in the second that may be lost.
const skippedOffsets = 1 << 17

// recoverLog prepares the log in dir for the broker and returns what this run records its ends in.
func recoverLog(dir string, now time.Time, log *slog.Logger) (*recovery, *ends, error) {
	r := &recovery{dir: dir, log: log, now: now, partitions: map[string]*partition{}}
	last, err := readEnds(dir)
	if err != nil {
		return nil, nil, err
	}
	if err := r.repair(); err != nil {
		return nil, nil, fmt.Errorf("repair log: %w", err)
	}
	boot := bootID()
	r.judge(last, boot)
	if r.cut {
		if err := r.mark(); err != nil {
			return nil, nil, fmt.Errorf("mark cut log: %w", err)
		}
	}
	if err := r.clean(); err != nil {
		return nil, nil, fmt.Errorf("remove what has expired: %w", err)
	}
	known := map[string]int64{}
	for name, p := range r.partitions {
		known[name] = p.end
	}
	e, err := createEnds(dir, boot, known)
	return r, e, err
}

func (r *recovery) logDir() string { return filepath.Join(r.dir, "log") }

// repair makes every file readable.
func (r *recovery) repair() error {
	dirs, err := filepath.Glob(filepath.Join(r.logDir(), "partitions", "*"))
	if err != nil || len(dirs) == 0 {
		return err
	}
	for _, name := range []string{"groups.log", "pids.log"} {
		if err := r.repairEntries(filepath.Join(r.logDir(), name)); err != nil {
			return err
		}
	}
	for _, dir := range dirs {
		p, err := r.repairPartition(dir)
		if err != nil {
			return err
		}
		r.partitions[filepath.Base(dir)] = p
		if err := r.repairJSON(filepath.Join(dir, snapshotFile), nil); err != nil {
			return err
		}
	}
	return r.repairState()
}

// repairState repairs the files of the cluster's state.
func (r *recovery) repairState() error {
	for name, rebuilt := range map[string]func() any{
		"meta.json":           func() any { return map[string]any{"version": 1, "cluster_id": clusterID} },
		topicsFile:            r.rebuildTopics,
		"broker_configs.json": nil, "acls.json": nil, "sasl.json": nil, "quotas.json": nil,
		"seq_windows.json": nil, "session_state.json": nil,
	} {
		if err := r.repairJSON(filepath.Join(r.logDir(), name), rebuilt); err != nil {
			return err
		}
	}
	return nil
}

// repairJSON keeps the JSON value at the start of a file. A file that has none is set aside, and written
// from rebuilt, unless that is nil.
func (r *recovery) repairJSON(name string, rebuilt func() any) error {
	b, err := os.ReadFile(name)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return err
	}
	if json.Valid(b) || missing && rebuilt == nil {
		return nil
	}
	var value json.RawMessage
	if json.NewDecoder(strings.NewReader(string(b))).Decode(&value) != nil {
		value = nil
		if rebuilt != nil {
			if value, err = json.Marshal(rebuilt()); err != nil {
				return err
			}
		}
	}
	if !missing {
		if err := r.setAside(name, 0, b); err != nil {
			return err
		}
	}
	if value == nil {
		return os.Remove(name)
	}
	return writeSynced(name, value)
}

// rebuildTopics makes the list of topics from the partitions that there are.
func (r *recovery) rebuildTopics() any {
	type persisted struct {
		Name       string            `json:"name"`
		ID         []byte            `json:"id"` // 16 bytes
		Partitions int               `json:"partitions"`
		Replicas   int               `json:"replicas"`
		Configs    map[string]string `json:"configs"`
	}
	count := map[string]int{}
	for name := range r.partitions {
		count[topicOf(name)]++
	}
	var all []persisted
	for i, s := range topic.Specs(count[topic.Events], 1) {
		if count[s.Name] == 0 {
			continue
		}
		settings := s.Settings
		if shortRetention(settings["retention.ms"]) {
			settings["segment.bytes"] = "1"
		}
		id := [16]byte{0: 1, 15: byte(i + 1)}
		all = append(all, persisted{s.Name, id[:], count[s.Name], 1, settings})
	}
	return map[string]any{"version": 1, "topics": all}
}

// topicOf returns the topic of a partition's directory.
func topicOf(partition string) string {
	return partition[:max(0, strings.LastIndexByte(partition, '-'))]
}

// repairEntries cuts a log of entries off behind the last whole one: the broker would append behind it and
// find nothing of that at its next start. An entry has its length, its checksum, and a version with the data.
func (r *recovery) repairEntries(name string) error {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	valid, _ := readEntries(b)
	return r.truncate(name, b, valid)
}

// readEntries returns how many bytes of a log of entries are whole, and the entries' data.
func readEntries(b []byte) (valid int, all [][]byte) {
	const header, version = 8, 2
	for {
		rest := b[valid:]
		if len(rest) < header+version {
			return valid, all
		}
		size := int64(binary.LittleEndian.Uint32(rest))
		if size < version || header+size > int64(len(rest)) || crc32.Checksum(rest[header:header+size],
			castagnoli) != binary.LittleEndian.Uint32(rest[4:]) {
			return valid, all
		}
		all = append(all, rest[header+version:header+size])
		valid += header + int(size)
	}
}

// repairPartition cuts each segment off behind its last whole batch and removes empty ones.
func (r *recovery) repairPartition(dir string) (*partition, error) {
	p := &partition{dir: dir, start: -1}
	if err := finishReplacement(dir); err != nil {
		return nil, err
	}
	bases, err := segments(dir)
	if err != nil {
		return nil, err
	}
	for _, base := range bases {
		name := segmentPath(dir, base)
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all, valid := readBatches(b, max(base, p.end))
		if err := r.truncate(name, b, valid); err != nil {
			return nil, err
		}
		if valid == 0 {
			if err := removeSegment(dir, base); err != nil {
				return nil, err
			}
		}
		p.add(all)
	}
	p.start = max(p.start, 0)
	return p, nil
}

func (p *partition) add(all []batch) {
	for _, x := range all {
		if p.start < 0 {
			p.start = x.first
		} else if x.first > p.end {
			p.holes = append(p.holes, hole{p.end, x.first})
		}
		p.end, p.time = x.end, max(p.time, x.time)
	}
}

// truncate keeps the first valid bytes b[:valid] of a file and sets the rest aside.
func (r *recovery) truncate(name string, b []byte, valid int) error {
	if valid == len(b) {
		return nil
	}
	if err := r.setAside(name, int64(valid), b[valid:]); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(int64(valid)); err != nil {
		return err
	}
	return f.Sync()
}

// The directory of unreadable parts is bounded; the oldest go first.
const (
	corruptDir      = "corrupt"
	maxCorruptFiles = 64
	maxCorruptBytes = 8 << 20 // of one part
)

// setAside keeps an unreadable part of a file, from an offset on, so that an operator can look at it.
func (r *recovery) setAside(name string, offset int64, b []byte) error {
	dir := filepath.Join(r.dir, corruptDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	base := filepath.Base(name)
	if parent := filepath.Base(filepath.Dir(name)); parent != filepath.Base(r.logDir()) {
		base = parent + "." + base
	}
	stamp := r.now.UTC().Format("20060102T150405.000")
	kept := filepath.Join(dir, fmt.Sprintf("%s.%s.%d.corrupt", stamp, base, offset))
	r.log.Warn("a part of a file of the log can't be read and is set aside: it was being written when the "+
		"machine or the broker ended, or the disk is damaged",
		"file", name, "offset", offset, "bytes", len(b), "kept as", kept)
	files, err := os.ReadDir(dir) // in order of their times
	if err != nil {
		return err
	}
	for i := 0; i <= len(files)-maxCorruptFiles; i++ {
		os.Remove(filepath.Join(dir, files[i].Name()))
	}
	return os.WriteFile(kept, b[:min(len(b), maxCorruptBytes)], 0o600)
}

// judge decides whether the log is cut: it is shorter than what was known to be acknowledged or committed,
// or the machine has lost its power and nothing is known.
func (r *recovery) judge(last lastRun, boot string) {
	known := last.ends
	if known == nil {
		known = map[string]int64{}
	}
	for name, end := range r.committed() {
		known[name] = max(known[name], end)
	}
	switch {
	case last.lost:
		r.cut, r.reason = true, "it isn't known how long the log was"
	case last.known && !last.ordered && (boot == "" || boot != last.boot):
		r.cut, r.reason = true, "the machine stopped without warning"
	}
	for name, end := range known {
		if !marksCuts(topicOf(name)) {
			continue
		}
		p := r.partitions[name]
		if p == nil {
			p = &partition{dir: filepath.Join(r.logDir(), "partitions", name)}
			r.partitions[name] = p
		}
		if p.end < end {
			r.cut, r.reason = true, fmt.Sprintf("%s ends at offset %d and had reached %d", name, p.end, end)
			// What mark leaves out begins behind everything known.
			p.end, p.holes = end, append(p.holes, hole{p.end, end})
		}
	}
}

func marksCuts(name string) bool { return name == topic.Events || name == topic.Windows }

// committed returns the highest position that any group has committed in each partition.
func (r *recovery) committed() map[string]int64 {
	b, err := os.ReadFile(filepath.Join(r.logDir(), "groups.log"))
	if err != nil {
		return nil
	}
	all := map[string]int64{}
	_, entries := readEntries(b)
	for _, data := range entries {
		var e struct {
			Type      string `json:"type"`
			Topic     string `json:"t"`
			Partition int32  `json:"p"`
			Offset    int64  `json:"o"`
		}
		if json.Unmarshal(data, &e) == nil && e.Type == "commit" && e.Offset <= maxEnd {
			name := fmt.Sprintf("%s-%d", e.Topic, e.Partition)
			all[name] = max(all[name], e.Offset)
		}
	}
	return all
}

// mark appends the record of the cut to the partitions of the events and windows topics.
func (r *recovery) mark() error {
	r.log.Error("the log has lost its newest records: seconds shortly before the stop may lack events; "+
		"`nowcast verify` lists them", "reason", r.reason)
	for name, p := range r.partitions {
		if !marksCuts(topicOf(name)) {
			continue
		}
		from := p.end
		if n := len(p.holes); n > 0 && p.holes[n-1].to == p.end {
			from = p.holes[n-1].from // lost, though known
			p.holes = p.holes[:n-1]
		}
		c := topic.LogCut{From: from, After: p.time}
		if err := r.appendMark(p, from, p.end+skippedOffsets, c); err != nil {
			return err
		}
	}
	return nil
}

// appendMark appends a segment with the record of a cut at an offset. The offsets from from on are left out.
func (r *recovery) appendMark(p *partition, from, offset int64, c topic.LogCut) error {
	at := max(r.now.UnixMilli(), p.time)
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	mark := appendBatch(nil, offset, at, c.Key(), []byte{})
	if err := writeSynced(segmentPath(p.dir, offset), mark); err != nil {
		return err
	}
	os.Remove(filepath.Join(p.dir, snapshotFile)) // it describes other segments
	p.holes = append(slices.Clip(p.holes), hole{from, offset})
	p.end, p.time = offset+1, at
	return nil
}

// holes returns the spans without records, by partition.
func (r *recovery) holes() map[string][]hole {
	all := map[string][]hole{}
	for name, p := range r.partitions {
		if len(p.holes) > 0 {
			all[name] = p.holes
		}
	}
	return all
}

// compactedSizes returns the sizes of the compacted partitions.
func (r *recovery) compactedSizes() map[string]int64 {
	all := map[string]int64{}
	for name, p := range r.partitions {
		if r.isCompacted(topicOf(name)) {
			all[name] = partitionSize(p.dir)
		}
	}
	return all
}
