package embedded

import (
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// testLog is a broker in this process with its log in dir, as runBroker opens it. Its topics have one
// partition.
type testLog struct {
	*testing.T
	dir     string
	cluster *kfake.Cluster
	client  *kgo.Client
}

func openLog(t *testing.T, dir string) *testLog {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(dir),
		kfake.BrokerConfigs(map[string]string{
			"log.segment.bytes": "65536", "log.cleaner.backoff.ms": "315360000000"}))
	if err != nil {
		t.Fatal(err)
	}
	useBatchSegments(cluster)
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableIdempotentWrite(),
		kgo.RequiredAcks(kgo.LeaderAck()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	return &testLog{t, dir, cluster, client}
}

func (l *testLog) close() { l.client.Close(); l.cluster.Close() }

func (l *testLog) create(topic string, settings map[string]string) {
	q := kmsg.NewPtrCreateTopicsRequest()
	c := kmsg.NewCreateTopicsRequestTopic()
	c.Topic, c.NumPartitions, c.ReplicationFactor = topic, 1, 1
	for k, v := range settings {
		c.Configs = append(c.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: k, Value: &v})
	}
	q.Topics = append(q.Topics, c)
	if _, err := q.RequestWith(l.Context(), l.client); err != nil {
		l.Fatal(err)
	}
}

// write appends n records a second apart, of which the last is as old as age.
func (l *testLog) write(topic string, n int, age time.Duration, size int) {
	l.Helper()
	for i := range n {
		at := time.Now().Add(-age - time.Duration(n-1-i)*time.Second)
		r := &kgo.Record{Topic: topic, Key: []byte("key"), Value: make([]byte, size), Timestamp: at}
		if err := l.client.ProduceSync(l.Context(), r).FirstErr(); err != nil {
			l.Fatal(err)
		}
	}
}

func (l *testLog) retain(partitionBytes int64) {
	r := retainer{cluster: l.cluster, dir: l.dir, partitionBytes: partitionBytes,
		log: slog.New(slog.DiscardHandler)}
	if err := r.enforce(l.Context(), l.client); err != nil {
		l.Fatal(err)
	}
}

// records returns the number of records of a topic.
func (l *testLog) records(topic string) int64 {
	p := l.cluster.PartitionInfo(topic, 0)
	return p.HighWatermark - p.LogStartOffset
}

// files returns the number of segments of a topic, and their size in bytes.
func (l *testLog) files(topic string) (n int, size int64) {
	names, err := filepath.Glob(filepath.Join(l.dir, "partitions", topic+"-0", "*.dat"))
	if err != nil {
		l.Fatal(err)
	}
	for _, f := range names {
		if info, err := os.Stat(f); err == nil {
			size += info.Size()
		}
	}
	return len(names), size
}

func TestRetention(t *testing.T) {
	l := openLog(t, t.TempDir())
	defer func() { l.close() }()
	hour := strconv.Itoa(60 * 60 * 1000)
	for topic, settings := range map[string]map[string]string{
		"aged":    {"retention.ms": hour},
		"sized":   {"retention.ms": "-1"},
		"warm-up": {"retention.ms": "-1"},
		"expired": {"retention.ms": hour},
		"sites":   {"cleanup.policy": "compact"},
		"salts":   {"retention.ms": hour},
	} {
		l.create(topic, settings)
	}
	l.write("aged", 50, 2*time.Hour, 10)
	l.write("aged", 30, time.Minute, 10)
	l.write("sized", 300, 3*time.Hour, 10_000)
	l.write("sized", 100, 2*time.Hour, 10_000)
	// What a start has to read stays, whatever its size: the newest 21 minutes of the log's time.
	l.write("warm-up", 20, 3*time.Hour, 10_000)
	l.write("warm-up", 400, 2*time.Hour, 10_000)
	l.write("expired", 5, 2*time.Hour, 10)
	l.write("sites", 5, 1000*time.Hour, 10)
	l.write("salts", 3, 2*time.Hour, 10)
	l.write("salts", 2, time.Minute, 10)
	l.retain(1 << 20)

	for topic, want := range map[string]int64{"aged": 30, "expired": 1, "sites": 5, "salts": 2,
		"warm-up": 400} {
		if got := l.records(topic); got != want {
			t.Errorf("%s: %d records are left, want %d", topic, got, want)
		}
	}
	if p := l.cluster.PartitionInfo("sized", 0); p.NumBytes > 1<<20+20_000 || p.NumBytes < 900_000 {
		t.Errorf("sized: %d bytes are left of at most 1 MiB", p.NumBytes)
	}
	if _, size := l.files("sized"); size > 1<<20+2*65536 {
		t.Errorf("sized: %d bytes are left on the disk", size)
	}
	if n, _ := l.files("salts"); n != 2 {
		t.Errorf("salts: %d files are left, want one for each of 2 records", n)
	}

	l.close() // after a restart, the partitions have the same end offsets
	l = openLog(t, l.dir)
	for topic, want := range map[string]int64{"aged": 80, "sized": 400, "expired": 5, "sites": 5} {
		if got := l.cluster.PartitionInfo(topic, 0).HighWatermark; got != want {
			t.Errorf("%s: end offset %d, want %d", topic, got, want)
		}
	}
}

func TestSyncChanged(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	l.create("ev", nil)
	l.write("ev", 20, 0, 10_000)
	s := newSyncer(dir)
	if err := s.syncAll(); err != nil {
		t.Fatal(err)
	}
	synced := s.files("ev-0").synced
	if n, _ := l.files("ev"); len(synced) != n || n < 2 {
		t.Errorf("%d of %d files are synced: %v", len(synced), n, synced)
	}
	l.close()
}
