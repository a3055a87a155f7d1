package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	retainEvery = time.Minute
	// The broker holds about 80 bytes of memory for each record (an idle Nowcast writes 4 a second and
	// partition). The log has to keep what the aggregator reads at its start (fold.WarmUp, 16 minutes) and
	// what ClickHouse has missed.
	recordLimit    = 100_000   // records of a partition
	recordLimitAge = time.Hour // younger records stay, also above recordLimit
)

// retainer bounds the log. From each partition it deletes records that are older than the topic's
// retention.ms, records above recordLimit that are older than recordLimitAge, and the oldest records
// above partitionBytes. The newest record always stays: without any record the broker would forget the
// partition's end offset at its next start. Compacted topics stay whole; they grow only by an operator's
// changes.
type retainer struct {
	cluster        *kfake.Cluster
	socket         string // path of the broker's
	partitionBytes int64
	log            *slog.Logger
}

// run enforces the bounds once a minute until ctx ends.
func (r *retainer) run(ctx context.Context) {
	client, err := kgo.NewClient(kgo.SeedBrokers(advertised{}.String()), kgo.ClientID("retention"),
		kgo.Dialer(func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", r.socket)
		}))
	if err != nil {
		r.log.Error("open client for retention: the log grows without bounds", "error", err)
		<-ctx.Done()
		return
	}
	defer client.Close()
	tick := time.NewTicker(retainEvery)
	defer tick.Stop()
	for {
		if err := r.enforce(ctx, client); err != nil && ctx.Err() == nil {
			r.log.Error("delete expired records", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
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
	if p.HighWatermark-p.LogStartOffset > recordLimit {
		aged, err := offsetAt(ctx, client, t.Topic, p, now.Add(-recordLimitAge))
		if err != nil {
			return err
		}
		start = max(start, min(aged, p.HighWatermark-recordLimit))
	}
	if excess := p.NumBytes - r.partitionBytes; excess > 0 {
		share := float64(excess) / float64(p.NumBytes)
		start = max(start, p.LogStartOffset+int64(share*float64(p.HighWatermark-p.LogStartOffset)))
	}
	start = min(start, p.HighWatermark-1)
	if start <= p.LogStartOffset {
		return nil
	}
	return deleteRecords(ctx, client, t.Topic, p.Partition, start)
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
