package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"nowcast/internal/retry"
)

const (
	retainEvery = time.Minute
	// The broker holds about 80 bytes of memory for each record (an idle Nowcast writes 4 a second and
	// partition). The log has to keep what the aggregator reads at its start (fold.WarmUp, 16 minutes) and
	// what ClickHouse has missed.
	recordLimit    = 100_000   // records of a partition
	recordLimitAge = time.Hour // younger records stay, also above recordLimit
)

// keptAlways is the newest part of each partition, in log time, that stays above partitionBytes too: the
// aggregator's warm-up, and five minutes by which its watermark and its commits may lag behind.
const keptAlways = 16*time.Minute + 5*time.Minute

// errGrown ends a broker whose next start compacts a topic that has grown, see clean.
var errGrown = errors.New("a compacted topic has grown")

// retainer bounds the log. From each partition it deletes records that are older than the topic's
// retention.ms, records above recordLimit that are older than recordLimitAge, and above partitionBytes the
// oldest records, except those of keptAlways. The newest record always stays: without any record the broker
// would forget the partition's end offset at its next start. Compacted topics stay whole until the next
// start.
type retainer struct {
	cluster        *kfake.Cluster
	socket         string // path of the broker's
	dir            string // of the log
	partitionBytes int64
	holes          map[string][]hole // by the name of the partition's directory
	compacted      map[string]int64  // size of each compacted partition at the start
	log            *slog.Logger
}

// run enforces the bounds once a minute until ctx ends. It fails with errGrown.
func (r *retainer) run(ctx context.Context) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(advertised{}.String()), kgo.ClientID("retention"),
		kgo.Dialer(func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", r.socket)
		}))
	if err != nil {
		r.log.Error("open client for retention: the log grows without bounds", "error", err)
		<-ctx.Done()
		return nil
	}
	defer client.Close()
	for {
		if err := r.enforce(ctx, client); err != nil && ctx.Err() == nil {
			r.log.Error("delete expired records", "error", err)
		}
		if r.grown() {
			return errGrown
		}
		if retry.Sleep(ctx, retry.UntilNext(retainEvery)) != nil {
			return nil
		}
	}
}

// enforce bounds all partitions once.
func (r *retainer) enforce(ctx context.Context, client *kgo.Client) error {
	request := kmsg.NewPtrMetadataRequest() // without names: all topics
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	now := time.Now()
	var errs []error
	for _, t := range response.Topics {
		if t.Topic == nil {
			continue
		}
		info := r.cluster.TopicInfo(*t.Topic)
		if info == nil || strings.Contains(setting(info, "cleanup.policy"), "compact") {
			continue
		}
		for _, p := range r.cluster.PartitionInfos(*t.Topic) {
			errs = append(errs, r.trim(ctx, client, info, p, now))
		}
	}
	return errors.Join(errs...)
}

func setting(t *kfake.TopicInfo, name string) string {
	if v := t.Configs[name]; v != nil {
		return *v
	}
	return ""
}

// trim deletes the expired records of a partition.
func (r *retainer) trim(
	ctx context.Context, client *kgo.Client, t *kfake.TopicInfo, p *kfake.PartitionInfo, now time.Time,
) error {
	var start int64 // the new first offset
	if ms, err := strconv.ParseInt(setting(t, "retention.ms"), 10, 64); err == nil && ms >= 0 {
		expired := now.Add(-time.Duration(ms) * time.Millisecond)
		if start, err = offsetAt(ctx, client, t.Topic, p, expired); err != nil {
			return err
		}
	}
	holes := r.holes[fmt.Sprintf("%s-%d", t.Topic, p.Partition)]
	if newest := behindRecords(p, holes, recordLimit); newest > p.LogStartOffset {
		aged, err := offsetAt(ctx, client, t.Topic, p, now.Add(-recordLimitAge))
		if err != nil {
			return err
		}
		start = max(start, min(aged, newest))
	}
	if excess := p.NumBytes - r.partitionBytes; excess > 0 {
		behind, err := r.behindBytes(t.Topic, p, excess)
		if err != nil {
			return err
		}
		kept, err := offsetAt(ctx, client, t.Topic, p, time.UnixMilli(p.MaxTimestamp).Add(-keptAlways))
		if err != nil {
			return err
		}
		start = max(start, min(behind, kept))
	}
	start = min(start, p.HighWatermark-1)
	if start <= p.LogStartOffset {
		return nil
	}
	return deleteRecords(ctx, client, t.Topic, p.Partition, start)
}

// behindRecords returns the offset of the n-th newest record of a partition, whose holes are in order.
func behindRecords(p *kfake.PartitionInfo, holes []hole, n int64) int64 {
	end := p.HighWatermark
	for i := len(holes) - 1; i >= 0 && holes[i].to <= end; i-- {
		if end-holes[i].to >= n {
			break
		}
		n -= end - holes[i].to
		end = holes[i].from
	}
	return end - n
}

// behindBytes returns the offset behind the oldest bytes of a partition.
func (r *retainer) behindBytes(topic string, p *kfake.PartitionInfo, bytes int64) (int64, error) {
	dir := filepath.Join(r.dir, "partitions", fmt.Sprintf("%s-%d", topic, p.Partition))
	bases, err := segments(dir)
	if err != nil {
		return 0, err
	}
	for _, base := range bases {
		b, err := os.ReadFile(segmentPath(dir, base)) // segments are small
		if err != nil {
			return 0, fmt.Errorf("read segment: %w", err)
		}
		all, _ := readBatches(b, base)
		for _, x := range all {
			if x.end <= p.LogStartOffset {
				continue // deleted, in a segment that has other records
			}
			if bytes -= int64(len(x.raw)); bytes <= 0 {
				return x.end, nil
			}
		}
	}
	return p.HighWatermark, nil
}

// grown reports whether a compacted topic is worth a compaction.
func (r *retainer) grown() bool {
	for name, before := range r.compacted {
		if size := partitionSize(filepath.Join(r.dir, "partitions", name)); size > compactAbove &&
			size > compactFactor*before {
			r.log.Info("restarting the broker to compact a topic", "partition", name, "bytes", size,
				"after the last compaction", before)
			return true
		}
	}
	return false
}

// partitionSize returns the size of a partition's segments in bytes.
func partitionSize(dir string) (size int64) {
	bases, err := segments(dir)
	if err != nil {
		return 0
	}
	for _, base := range bases {
		if info, err := os.Stat(segmentPath(dir, base)); err == nil {
			size += info.Size()
		}
	}
	return size
}

// deleteRecords deletes the records of a partition before an offset.
func deleteRecords(
	ctx context.Context, client *kgo.Client, topic string, partition int32, before int64,
) error {
	part := kmsg.NewDeleteRecordsRequestTopicPartition()
	part.Partition, part.Offset = partition, before
	t := kmsg.NewDeleteRecordsRequestTopic()
	t.Topic, t.Partitions = topic, []kmsg.DeleteRecordsRequestTopicPartition{part}
	request := kmsg.NewPtrDeleteRecordsRequest()
	request.Topics = []kmsg.DeleteRecordsRequestTopic{t}
	response, err := request.RequestWith(ctx, client)
	if err == nil && len(response.Topics) == 1 && len(response.Topics[0].Partitions) == 1 {
		err = kerr.ErrorForCode(response.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("delete records of %s-%d: %w", topic, partition, err)
	}
	return nil
}

// offsetAt returns the first offset with a timestamp of at or later, or the partition's end offset if
// there is none.
func offsetAt(
	ctx context.Context, client *kgo.Client, topic string, p *kfake.PartitionInfo, at time.Time,
) (int64, error) {
	part := kmsg.NewListOffsetsRequestTopicPartition()
	part.Partition, part.Timestamp = p.Partition, at.UnixMilli()
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic, t.Partitions = topic, []kmsg.ListOffsetsRequestTopicPartition{part}
	request := kmsg.NewPtrListOffsetsRequest()
	request.ReplicaID, request.Topics = -1, []kmsg.ListOffsetsRequestTopic{t}
	response, err := request.RequestWith(ctx, client)
	if err == nil && (len(response.Topics) != 1 || len(response.Topics[0].Partitions) != 1) {
		err = errors.New("the response names no partition")
	}
	if err == nil {
		err = kerr.ErrorForCode(response.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		return 0, fmt.Errorf("list offsets of %s-%d: %w", topic, p.Partition, err)
	}
	if offset := response.Topics[0].Partitions[0].Offset; offset >= 0 {
		return offset, nil
	}
	return p.HighWatermark, nil
}
