package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// segmentBytes is the size of a file of the log. The broker frees memory and disk by whole files.
const segmentBytes = 4 << 20

// runBroker is the broker's process.
func runBroker(ctx context.Context, c childConfig) error {
	l, err := inherited()
	if err != nil {
		return err
	}
	opts := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.ClusterID("nowcast-embedded"),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return l, nil }),
		kfake.DataDir(filepath.Join(c.dir, "log")),
		kfake.WithLogger(brokerLog{c.log}),
		kfake.BrokerConfigs(map[string]string{
			"default.replication.factor": "1",
			"log.segment.bytes":          strconv.Itoa(segmentBytes),
			// Its own cleaning is off: a compaction deletes the files before it writes them anew, so a kill between the two would
			// lose the sites; and it forgets where a partition ended that became empty. See retain.
			"log.cleaner.backoff.ms":    "315360000000",
			"offsets.retention.minutes": "525600",
		}),
	}
	if c.sync {
		opts = append(opts, kfake.SyncWrites())
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		l.Close()
		return fmt.Errorf("open log: %w", err)
	}
	shortLived(cluster)
	debug.FreeOSMemory() // what reading the log took
	r := retainer{cluster: cluster, addr: l.Addr().String(), bytes: c.bytes, log: c.log}
	r.run(ctx)
	cluster.Close()
	return nil
}

// shortLived gives topics that are kept for less than three days one file a batch, since a file goes only as a whole: what has
// expired (the salts of visitors' ids) has then really left the disk.
func shortLived(cluster *kfake.Cluster) {
	const short = 3 * 24 * time.Hour
	cluster.ControlKey(int16(kmsg.CreateTopics), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		topics := r.(*kmsg.CreateTopicsRequest).Topics
		for i := range topics {
			for _, s := range topics[i].Configs {
				if s.Name != "retention.ms" || s.Value == nil {
					continue
				}
				if ms, err := strconv.ParseInt(*s.Value, 10, 64); err == nil && ms >= 0 && ms < short.Milliseconds() {
					one := "1"
					topics[i].Configs = append(topics[i].Configs, kmsg.CreateTopicsRequestTopicConfig{Name: "segment.bytes", Value: &one})
				}
			}
		}
		return nil, nil, false
	})
}

// brokerLog is kfake's log, of which only what goes wrong is news.
type brokerLog struct{ log *slog.Logger }

func (b brokerLog) Logf(level kfake.LogLevel, format string, args ...any) {
	switch level {
	case kfake.LogLevelError:
		b.log.Error(fmt.Sprintf(format, args...))
	case kfake.LogLevelWarn:
		b.log.Warn(fmt.Sprintf(format, args...))
	}
}
