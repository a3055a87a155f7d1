package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	// The broker holds ~80 bytes of memory for each record (an idle Nowcast writes 4 a second and partition), and it must keep
	// what the aggregator reads again at its start (11 min) and what ClickHouse has missed.
	keepTime    = time.Hour
	keepRecords = 100_000
)

// retainer bounds the log: of each partition it deletes what is older than the topic's retention.ms, what is older than an
// hour beyond the newest 100,000 records, and what is beyond so many bytes. The newest record always stays, since the broker
// would otherwise forget the partition's end when it restarts. Compacted topics are left alone: they grow by hand only.
type retainer struct {
	cluster *kfake.Cluster
	addr    string
	bytes   int64
	log     *slog.Logger
}

// run works until ctx ends.
func (r *retainer) run(ctx context.Context) {
	client, err := kgo.NewClient(kgo.SeedBrokers(r.addr), kgo.ClientID("retention"))
	if err != nil {
		r.log.Error("log isn't bounded", "error", err)
		<-ctx.Done()
		return
	}
	defer client.Close()
	tick := time.NewTicker(retainEvery)
	defer tick.Stop()
	for {
		if err := r.once(ctx, client); err != nil && ctx.Err() == nil {
			r.log.Error("bound log", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (r *retainer) once(ctx context.Context, client *kgo.Client) error {
	ask := kmsg.NewPtrMetadataRequest() // no topics named means all
	answer, err := ask.RequestWith(ctx, client)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	now := time.Now()
	var errs []error
	for _, t := range answer.Topics {
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

func (r *retainer) trim(ctx context.Context, client *kgo.Client, t *kfake.TopicInfo, p *kfake.PartitionInfo, now time.Time) error {
	var to int64
	if ms, err := strconv.ParseInt(setting(t, "retention.ms"), 10, 64); err == nil && ms >= 0 {
		at, err := offsetAt(ctx, client, t.Topic, p, now.Add(-time.Duration(ms)*time.Millisecond))
		if err != nil {
			return err
		}
		to = at
	}
	if p.HighWatermark-p.LogStartOffset > keepRecords {
		at, err := offsetAt(ctx, client, t.Topic, p, now.Add(-keepTime))
		if err != nil {
			return err
		}
		to = max(to, min(at, p.HighWatermark-keepRecords))
	}
	if excess := p.NumBytes - r.bytes; excess > 0 {
		share := float64(excess) / float64(p.NumBytes)
		to = max(to, p.LogStartOffset+int64(share*float64(p.HighWatermark-p.LogStartOffset)))
	}
	to = min(to, p.HighWatermark-1)
	if to <= p.LogStartOffset {
		return nil
	}
	part := kmsg.NewDeleteRecordsRequestTopicPartition()
	part.Partition, part.Offset = p.Partition, to
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic, topic.Partitions = t.Topic, []kmsg.DeleteRecordsRequestTopicPartition{part}
	q := kmsg.NewPtrDeleteRecordsRequest()
	q.Topics = []kmsg.DeleteRecordsRequestTopic{topic}
	answer, err := q.RequestWith(ctx, client)
	if err == nil && len(answer.Topics) == 1 && len(answer.Topics[0].Partitions) == 1 {
		err = kerr.ErrorForCode(answer.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("delete records of %s-%d: %w", t.Topic, p.Partition, err)
	}
	return nil
}

// offsetAt is the first offset whose time is at or after at, or the partition's end.
func offsetAt(ctx context.Context, client *kgo.Client, topic string, p *kfake.PartitionInfo, at time.Time) (int64, error) {
	part := kmsg.NewListOffsetsRequestTopicPartition()
	part.Partition, part.Timestamp = p.Partition, at.UnixMilli()
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic, t.Partitions = topic, []kmsg.ListOffsetsRequestTopicPartition{part}
	q := kmsg.NewPtrListOffsetsRequest()
	q.ReplicaID, q.Topics = -1, []kmsg.ListOffsetsRequestTopic{t}
	answer, err := q.RequestWith(ctx, client)
	if err == nil && (len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 1) {
		err = errors.New("the answer names no partition")
	}
	if err == nil {
		err = kerr.ErrorForCode(answer.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		return 0, fmt.Errorf("list offsets of %s-%d: %w", topic, p.Partition, err)
	}
	if o := answer.Topics[0].Partitions[0].Offset; o >= 0 {
		return o, nil
	}
	return p.HighWatermark, nil
}
