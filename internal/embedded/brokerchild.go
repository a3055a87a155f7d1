package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"nowcast/internal/topic"
)

// segmentBytes is the size of a segment of the log. The broker frees memory and disk by whole segments.
const segmentBytes = 4 << 20

const clusterID = "nowcast-embedded"

// runBroker is the main function of the broker's process.
func runBroker(ctx context.Context, c childConfig) error {
	l, err := inheritedListener()
	if err != nil {
		return err
	}
	recovered, ends, err := recoverLog(c.dir, time.Now(), c.log)
	if err != nil {
		l.Close()
		return err
	}
	logDir := recovered.logDir()
	files := newSyncer(logDir)
	acks := &ackListener{Listener: socketListener{l}, syncer: files, ends: ends, sync: c.sync, log: c.log,
		durable: []string{topic.Sites, topic.Salts, topic.Erasures}}
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.ClusterID(clusterID),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return acks, nil }),
		kfake.DataDir(logDir),
		kfake.WithLogger(brokerLog{c.log}),
		kfake.BrokerConfigs(map[string]string{
			"default.replication.factor": "1",
			"log.segment.bytes":          strconv.Itoa(segmentBytes),
			// The only member of each group is this program. After a kill, its next start waits for the
			// dead member's session to expire, so sessions may be short.
			"group.min.session.timeout.ms": "1000",
			// The log cleaner is off (every 10 years). kfake's compaction deletes segments before it
			// writes them again, so a kill between the two would lose the sites topic, and its retention
			// forgets the end offset of a partition that becomes empty. recoverLog compacts, and retainer
			// deletes expired records instead.
			"log.cleaner.backoff.ms":    "315360000000",
			"offsets.retention.minutes": "525600",
		}),
	)
	if err != nil {
		l.Close()
		return fmt.Errorf("open log: %w", err)
	}
	useBatchSegments(cluster)
	refuseOnFullDisk(cluster, func() string { return fullReason(c.dir) }, c.log)
	debug.FreeOSMemory() // that reading the log took
	syncing, stopSync := context.WithCancel(ctx)
	defer stopSync()
	var running sync.WaitGroup
	running.Go(func() { syncLog(syncing, files, c.log) })
	r := retainer{cluster: cluster, socket: l.Addr().String(), dir: logDir, partitionBytes: c.partitionBytes,
		holes: recovered.holes(), compacted: recovered.compactedSizes(), log: c.log}
	err = r.run(ctx)
	stopSync()
	running.Wait()
	cluster.Close()
	synced := files.syncAll()
	return errors.Join(err, synced, ends.close(synced == nil))
}

// socketListener gives the broker a host and port to advertise, which a socket lacks. Clients dial the socket
// whatever the address is; one that doesn't can't resolve the name.
type socketListener struct{ net.Listener }

// Addr implements net.Listener.
func (socketListener) Addr() net.Addr { return advertised{} }

type advertised struct{}

func (advertised) Network() string { return "unix" }
func (advertised) String() string  { return "embedded.invalid:9092" }

// useBatchSegments creates topics with a retention below three days with one segment a batch. Segments
// are deleted as a whole, so larger ones would keep expired records (the salts of visitors' ids) on
// disk.
func useBatchSegments(cluster *kfake.Cluster) {
	cluster.ControlKey(int16(kmsg.CreateTopics), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		for i := range r.(*kmsg.CreateTopicsRequest).Topics {
			t := &r.(*kmsg.CreateTopicsRequest).Topics[i]
			if !shortRetention(requestedSetting(t, "retention.ms")) {
				continue
			}
			if one := "1"; requestedSetting(t, "segment.bytes") == "" {
				t.Configs = append(t.Configs,
					kmsg.CreateTopicsRequestTopicConfig{Name: "segment.bytes", Value: &one})
			}
		}
		return nil, nil, false
	})
}

// shortRetention reports whether a value of retention.ms is below three days.
func shortRetention(ms string) bool {
	const maxRetention = 3 * 24 * time.Hour
	retention, err := strconv.ParseInt(ms, 10, 64)
	return err == nil && retention >= 0 && retention < maxRetention.Milliseconds()
}

func requestedSetting(t *kmsg.CreateTopicsRequestTopic, name string) string {
	for _, s := range t.Configs {
		if s.Name == name && s.Value != nil {
			return *s.Value
		}
	}
	return ""
}

// brokerLog passes kfake's warnings and errors on, and drops its other messages.
type brokerLog struct{ log *slog.Logger }

func (b brokerLog) Logf(level kfake.LogLevel, format string, args ...any) {
	switch level {
	case kfake.LogLevelError:
		b.log.Error(fmt.Sprintf(format, args...))
	case kfake.LogLevelWarn:
		b.log.Warn(fmt.Sprintf(format, args...))
	}
}
