package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
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
			// The data dir has one user. After that one was killed, its next start shouldn't wait for a ghost.
			"group.min.session.timeout.ms": "1000",
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
	if !c.sync {
		var syncing sync.WaitGroup
		defer syncing.Wait()
		syncing.Go(func() { syncLog(ctx, filepath.Join(c.dir, "log"), c.log) })
	}
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
		for i := range r.(*kmsg.CreateTopicsRequest).Topics {
			t := &r.(*kmsg.CreateTopicsRequest).Topics[i]
			if keep, err := strconv.ParseInt(requested(t, "retention.ms"), 10, 64); err != nil || keep < 0 || keep >= short.Milliseconds() {
				continue
			}
			if one := "1"; requested(t, "segment.bytes") == "" {
				t.Configs = append(t.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: "segment.bytes", Value: &one})
			}
		}
		return nil, nil, false
	})
}

func requested(t *kmsg.CreateTopicsRequestTopic, name string) string {
	for _, s := range t.Configs {
		if s.Name == name && s.Value != nil {
			return *s.Value
		}
	}
	return ""
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
