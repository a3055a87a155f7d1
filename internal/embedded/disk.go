package embedded

import (
	"fmt"
	"log/slog"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"nowcast/internal/topic"
)

// minFree is what the broker leaves of the disk, in bytes: a partition's log is bounded by size, but never
// below what a start has to read. With less it refuses records, so that beacons are answered 503, instead of
// losing records that it can't write. Changes of sites, keys and salts are small and go on.
const minFree = 128 << 20

// freeDisk returns the free bytes of the disk of a directory.
func freeDisk(dir string) (int64, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("ask for free disk: %w", err)
	}
	return int64(fs.Bavail) * fs.Bsize, nil //nolint:gosec // no disk is that large
}

// fullReason says that the disk of a directory has less than minFree, "" if it has more.
func fullReason(dir string) string {
	free, err := freeDisk(dir)
	if err != nil || free >= minFree {
		return ""
	}
	return fmt.Sprintf("the disk of %s has %d MB left, and the log leaves %d MB: it takes no events until "+
		"there is more room", dir, free>>20, minFree>>20)
}

// refuseOnFullDisk answers writes with an error that clients retry while fullReason returns one.
func refuseOnFullDisk(cluster *kfake.Cluster, fullReason func() string, log *slog.Logger) {
	const interval = 100 * time.Millisecond
	var checked time.Time
	full := false
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if now := time.Now(); now.Sub(checked) >= interval {
			checked = now
			reason := fullReason()
			if reason != "" && !full {
				log.Error(reason)
			}
			full = reason != ""
		}
		if !full {
			return nil, nil, false
		}
		r := request.(*kmsg.ProduceRequest)
		if r.Acks == 0 || len(r.Topics) == 1 && (r.Topics[0].Topic == topic.Sites ||
			r.Topics[0].Topic == topic.Salts || r.Topics[0].Topic == topic.Erasures) {
			return nil, nil, false
		}
		return refusal(r), nil, true
	})
}

func refusal(r *kmsg.ProduceRequest) kmsg.Response {
	response := r.ResponseKind().(*kmsg.ProduceResponse)
	for i := range r.Topics {
		t := kmsg.NewProduceResponseTopic()
		t.Topic, t.TopicID = r.Topics[i].Topic, r.Topics[i].TopicID
		for _, p := range r.Topics[i].Partitions {
			x := kmsg.NewProduceResponseTopicPartition()
			x.Partition, x.ErrorCode, x.BaseOffset = p.Partition, kerr.KafkaStorageError.Code, -1
			t.Partitions = append(t.Partitions, x)
		}
		response.Topics = append(response.Topics, t)
	}
	return response
}
