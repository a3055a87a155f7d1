package embedded

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"nowcast/internal/topic"
)

// brokenLog is a data dir with a log that a killed broker has left: 20 events, windows, two salts and sites.
type brokenLog struct {
	*testing.T
	dir  string // of the broker
	ends *ends
}

func newBrokenLog(t *testing.T) *brokenLog {
	b := &brokenLog{T: t, dir: t.TempDir()}
	r, e, err := recoverLog(b.dir, time.Now(), slog.New(slog.DiscardHandler))
	if err != nil || r.cut {
		t.Fatal(err, r.cut)
	}
	b.ends = e
	l := openLog(t, filepath.Join(b.dir, "log"))
	for _, s := range topic.Specs(1, 1) {
		l.create(s.Name, s.Settings)
	}
	for _, name := range []string{topic.Events, topic.Windows} {
		l.write(name, 20, time.Minute, 50)
		e.reached(name+"-0", 20)
	}
	for i, key := range []string{"a", "b", "a", "c", "b", "a"} {
		b.put(l, topic.Sites, key, fmt.Sprint("old value ", i))
	}
	b.put(l, topic.Sites, "secret", "gone")
	b.put(l, topic.Sites, "secret", "new")
	l.close()
	os.Remove(filepath.Join(b.dir, "log", "partitions", topic.Events+"-0", snapshotFile)) // as after a kill
	return b
}

func (b *brokenLog) put(l *testLog, name, key, value string) {
	b.Helper()
	r := &kgo.Record{Topic: name, Key: []byte(key), Value: []byte(value)}
	if err := l.client.ProduceSync(b.Context(), r).FirstErr(); err != nil {
		b.Fatal(err)
	}
}

func (b *brokenLog) file(name string) string { return filepath.Join(b.dir, "log", name) }

func (b *brokenLog) recover() *recovery {
	b.Helper()
	_ = b.ends.close(false)
	r, e, err := recoverLog(b.dir, time.Now(), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.ends = e
	return r
}

// end opens the log as the broker does and returns a partition's end.
func (b *brokenLog) end(name string) int64 {
	b.Helper()
	l := openLog(b.T, filepath.Join(b.dir, "log"))
	defer l.close()
	return l.cluster.PartitionInfo(name, 0).HighWatermark
}

func TestRecoverIntact(t *testing.T) {
	b := newBrokenLog(t)
	if r := b.recover(); r.cut {
		t.Errorf("a kill loses nothing: %s", r.reason)
	}
	if end := b.end(topic.Events); end != 20 {
		t.Errorf("end %d", end)
	}
	if kept, _ := os.ReadDir(filepath.Join(b.dir, corruptDir)); len(kept) > 0 {
		t.Errorf("set aside %v", kept)
	}
}

// A log that is shorter than known is cut: the offsets go on behind all that were given out.
func TestRecoverCut(t *testing.T) {
	events := "partitions/" + topic.Events + "-0/0.dat"
	for name, harm := range map[string]func(b *brokenLog){
		"torn":        func(b *brokenLog) { b.truncate(events, -30) },
		"whole batch": func(b *brokenLog) { b.truncate(events, -b.batchSize(events)) },
		"empty":       func(b *brokenLog) { b.truncate(events, 0) },
		"no file":     func(b *brokenLog) { os.RemoveAll(filepath.Dir(b.file(events))) },
		"zeros at the end": func(b *brokenLog) {
			b.truncate(events, -100)
			b.append(events, make([]byte, 100))
		},
		"no known ends": func(b *brokenLog) {
			_ = os.WriteFile(filepath.Join(b.dir, endsFile), []byte("x"), 0o600)
		},
		"another boot": func(b *brokenLog) {
			_, _ = b.ends.f.WriteAt([]byte("another boot"), int64(len(endsMagic)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBrokenLog(t)
			harm(b)
			r := b.recover()
			if !r.cut {
				t.Fatal("isn't cut")
			}
			for _, name := range []string{topic.Events, topic.Windows} {
				if end := b.end(name); end <= 20+skippedOffsets-1 {
					t.Errorf("%s ends at %d", name, end)
				}
			}
			if end := b.end(topic.Sites); end != 8 {
				t.Errorf("sites end at %d", end)
			}
			if again := b.recover(); again.cut {
				t.Errorf("cut again: %s", again.reason)
			}
		})
	}
}

func (b *brokenLog) truncate(name string, size int64) {
	b.Helper()
	info, err := os.Stat(b.file(name))
	if err == nil {
		if size < 0 {
			size += info.Size()
		}
		err = os.Truncate(b.file(name), size)
	}
	if err != nil {
		b.Fatal(err)
	}
}

func (b *brokenLog) batchSize(name string) int64 {
	raw, err := os.ReadFile(b.file(name))
	if err != nil {
		b.Fatal(err)
	}
	all, _ := readBatches(raw, 0)
	return int64(len(all[len(all)-1].raw))
}

func (b *brokenLog) append(name string, tail []byte) {
	b.Helper()
	f, err := os.OpenFile(b.file(name), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(tail); err != nil {
		b.Fatal(err)
	}
}

// Garbage behind what was acknowledged is set aside, in every file, and nothing is cut.
func TestRecoverGarbage(t *testing.T) {
	b := newBrokenLog(t)
	r := rand.New(rand.NewPCG(1, 2))
	var files []string
	for _, pattern := range []string{"*.json", "*.log", "partitions/*/*.dat", "partitions/*/*.json"} {
		found, _ := filepath.Glob(b.file(pattern))
		files = append(files, found...)
	}
	for _, f := range files {
		garbage := make([]byte, 1+r.IntN(200))
		for i := range garbage {
			garbage[i] = byte(r.Uint32())
		}
		rel, _ := filepath.Rel(b.file(""), f)
		b.append(rel, garbage)
	}
	if r := b.recover(); r.cut {
		t.Errorf("cut: %s", r.reason)
	}
	if kept, _ := os.ReadDir(filepath.Join(b.dir, corruptDir)); len(kept) < len(files)*3/4 {
		t.Errorf("%d of %d set aside", len(kept), len(files))
	}
	for name, want := range map[string]int64{topic.Events: 20, topic.Windows: 20, topic.Sites: 8} {
		if end := b.end(name); end != want {
			t.Errorf("%s ends at %d", name, end)
		}
	}
	// The list of topics is made from the partitions if it is lost.
	for _, name := range []string{"topics.json", "meta.json"} {
		_ = os.WriteFile(b.file(name), []byte("{"), 0o600)
	}
	b.recover()
	l := openLog(t, b.file(""))
	defer l.close()
	info := l.cluster.TopicInfo(topic.Sites)
	if info == nil || setting(info, "cleanup.policy") != "compact" ||
		l.cluster.PartitionInfo(topic.Events, 0).HighWatermark != 20 {
		t.Errorf("topic %+v", info)
	}
}

// Positions behind garbage in the log of groups would be lost at the next start.
func TestRecoverGroups(t *testing.T) {
	b := newBrokenLog(t)
	b.append("groups.log", []byte("garbage"))
	b.recover()
	commit := func(offset int64) {
		l := openLog(t, b.file(""))
		q := kmsg.NewPtrOffsetCommitRequest()
		q.Group, q.Generation = "g", -1
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Offset = offset
		x := kmsg.NewOffsetCommitRequestTopic()
		x.TopicID = l.cluster.TopicInfo(topic.Events).TopicID
		x.Topic, x.Partitions = topic.Events, []kmsg.OffsetCommitRequestTopicPartition{p}
		q.Topics = []kmsg.OffsetCommitRequestTopic{x}
		response, err := q.RequestWith(t.Context(), l.client)
		if err != nil || response.Topics[0].Partitions[0].ErrorCode != 0 {
			t.Fatal(response, err)
		}
		b.keepGroups(l)
	}
	commit(15)
	if r := b.recover(); r.cut || r.committed()[topic.Events+"-0"] != 15 {
		t.Errorf("positions %v", r.committed())
	}
	commit(25)
	_ = os.Remove(filepath.Join(b.dir, endsFile)) // a data dir of an earlier version
	if r := b.recover(); !r.cut || b.end(topic.Events) < 25+skippedOffsets {
		t.Errorf("a position behind the log's end: cut %v", r.cut)
	}
}

// keepGroups closes a broker and keeps its log of groups as a kill leaves it.
func (b *brokenLog) keepGroups(l *testLog) {
	raw, err := os.ReadFile(b.file("groups.log"))
	if err != nil {
		b.Fatal(err)
	}
	l.close()
	if err := os.WriteFile(b.file("groups.log"), raw, 0o600); err != nil {
		b.Fatal(err)
	}
}

// Compaction leaves the newest record of each key at its offset, and nothing of the others on the disk.
func TestCompact(t *testing.T) {
	b := newBrokenLog(t)
	b.recover()
	dir := b.file("partitions/" + topic.Sites + "-0")
	onDisk := func() (all string) {
		files, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, f := range files {
			raw, _ := os.ReadFile(f)
			all += string(raw)
		}
		return all
	}
	if s := onDisk(); strings.Contains(s, "gone") || strings.Contains(s, "old value 0") ||
		!strings.Contains(s, "old value 5") {
		t.Errorf("on disk: %q", s)
	}
	l := openLog(t, b.file(""))
	got := l.consume(topic.Sites)
	l.close()
	want := []string{"3 c=old value 3", "4 b=old value 4", "5 a=old value 5", "7 secret=new"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	// Crashes in the middle of a replacement.
	whole, err := os.ReadFile(filepath.Join(dir, "3.dat"))
	if err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string][]string{
		"before the old is removed": {"0.dat", "3.dat.tmp", "3.replacement"}, "after": {"3.replacement"},
	} {
		os.RemoveAll(dir)
		_ = os.MkdirAll(dir, 0o700)
		for _, f := range files {
			content := whole
			if f == "0.dat" {
				content = appendBatch(nil, 0, 1, []byte("a"), []byte("gone"))
			}
			if f == "3.dat.tmp" {
				content = whole[:10]
			}
			_ = os.WriteFile(filepath.Join(dir, f), content, 0o600)
		}
		b.recover()
		if s := onDisk(); strings.Contains(s, "gone") || !bytes.Contains([]byte(s), whole) {
			t.Errorf("%s: on disk %q", name, s)
		}
	}
}

// consume returns all records of a topic.
func (l *testLog) consume(name string) (all []string) {
	l.Helper()
	end := l.cluster.PartitionInfo(name, 0).HighWatermark
	c, err := kgo.NewClient(kgo.SeedBrokers(l.cluster.ListenAddrs()...), kgo.ConsumePartitions(
		map[string]map[int32]kgo.Offset{name: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		l.Fatal(err)
	}
	defer c.Close()
	for last := int64(-1); last < end-1; {
		for r := range c.PollFetches(l.Context()).RecordsAll() {
			all, last = append(all, fmt.Sprintf("%d %s=%s", r.Offset, r.Key, r.Value)), r.Offset
		}
	}
	return all
}

// The salt of a day that is over is gone from the disk before the broker opens the log, the newest one too.
func TestExpireSalts(t *testing.T) {
	b := newBrokenLog(t)
	now := time.Now().UTC()
	day := func(d int) string { return now.AddDate(0, 0, d).Format(time.DateOnly) }
	l := openLog(t, b.file(""))
	for d := -3; d <= 0; d++ {
		b.put(l, topic.Salts, day(d), "salt of "+day(d))
	}
	l.close()
	left := func() (all []string) {
		files, _ := filepath.Glob(b.file("partitions/" + topic.Salts + "-0/*"))
		for _, f := range files {
			raw, _ := os.ReadFile(f)
			for d := -3; d <= 0; d++ {
				if strings.Contains(string(raw), "salt of "+day(d)) {
					all = append(all, day(d))
				}
			}
		}
		slices.Sort(all)
		return all
	}
	at := func(when time.Time) {
		_ = b.ends.close(false)
		_, e, err := recoverLog(b.dir, when, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		b.ends = e
	}
	midnight := now.Truncate(24 * time.Hour)
	noon := midnight.Add(12 * time.Hour)
	at(midnight.Add(20 * time.Minute)) // west of UTC it is yesterday
	if got := left(); !slices.Equal(got, []string{day(-1), day(0)}) {
		t.Errorf("after midnight UTC: %v", got)
	}
	at(noon.Add(5 * time.Minute)) // within the seam of the last zone
	if got := left(); !slices.Equal(got, []string{day(-1), day(0)}) {
		t.Errorf("within the last seam: %v", got)
	}
	at(noon.Add(20 * time.Minute))
	if got := left(); !slices.Equal(got, []string{day(0)}) {
		t.Errorf("behind it: %v", got)
	}
	at(midnight.AddDate(0, 0, 2))
	if got := left(); len(got) > 0 {
		t.Errorf("two days later: %v", got)
	}
	if end := b.end(topic.Salts); end != 4 {
		t.Errorf("the offsets go on at %d", end)
	}
	l = openLog(t, b.file(""))
	b.put(l, topic.Salts, day(2), "salt of "+day(2))
	if got := l.consume(topic.Salts); len(got) != 2 || !strings.HasPrefix(got[1], "4 "+day(2)) {
		t.Errorf("consumed %q", got)
	}
	l.close()
}

// The salts of a data dir from before a date lasted for two days get their retention at a start.
func TestOldSaltRetention(t *testing.T) {
	b := newBrokenLog(t)
	file := b.file(topicsFile)
	before := topicSettings(b.file(""))
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	spec, _ := topic.Find(topic.Specs(1, 1), topic.Salts)
	current := spec.Settings["retention.ms"]
	old := strings.ReplaceAll(string(raw), `"`+current+`"`, `"172800000"`)
	if old == string(raw) {
		t.Fatalf("no topic has the retention %s:\n%s", current, raw)
	}
	if err := os.WriteFile(file, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	b.recover()
	after := topicSettings(b.file(""))
	for name, settings := range before {
		if !maps.Equal(settings, after[name]) {
			t.Errorf("%s has the settings %v, want %v", name, after[name], settings)
		}
	}
	l := openLog(t, b.file(""))
	defer l.close()
	r := kmsg.NewPtrDescribeConfigsRequest()
	resource := kmsg.NewDescribeConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, topic.Salts
	resource.ConfigNames = []string{"retention.ms"}
	r.Resources = append(r.Resources, resource)
	got, err := r.RequestWith(t.Context(), l.client)
	if err != nil || len(got.Resources) != 1 || len(got.Resources[0].Configs) != 1 ||
		*got.Resources[0].Configs[0].Value != current {
		t.Errorf("the broker says %+v, %v", got, err)
	}
}
