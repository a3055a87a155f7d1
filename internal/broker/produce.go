package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/segmentio/kafka-go"
)

// Produce appends values to a partition with the timestamp at, and returns the first one's offset once all
// in-sync replicas have them. It tries once. After an error the values may or may not be in the log. The
// values must not change afterwards: a request that was given up can still be on its way.
func (c *Client) Produce(
	ctx context.Context, topic string, partition int, at time.Time, values ...[]byte,
) (base int64, err error) {
	return c.produce(ctx, topic, partition, &records{at: at, values: values})
}

// ProduceKeyed appends one record with a key to partition 0, as Produce does; a nil value is a tombstone.
func (c *Client) ProduceKeyed(
	ctx context.Context,
	topic string,
	key, value []byte,
) (offset int64, err error) {
	return c.produce(ctx, topic, 0, &records{at: time.Now(), key: key, values: [][]byte{value}})
}

func (c *Client) produce(ctx context.Context, topic string, partition int, r *records) (int64, error) {
	answer, err := c.kafka.Produce(ctx, &kafka.ProduceRequest{
		Topic: topic, Partition: partition, RequiredAcks: kafka.RequireAll, Records: r})
	if err == nil {
		err = answer.Error
	}
	if errors.Is(err, kafka.NotEnoughReplicasAfterAppend) {
		err = fmt.Errorf("%w: %w", ErrNotEnoughReplicas, err)
	}
	if err != nil {
		return 0, fmt.Errorf("produce to %s/%d: %w", topic, partition, err)
	}
	return answer.BaseOffset, nil
}

// records is a kafka.RecordReader over values with one timestamp and one key.
type records struct {
	at     time.Time
	key    []byte
	values [][]byte
	next   int
}

func (r *records) ReadRecord() (*kafka.Record, error) {
	if r.next == len(r.values) {
		return nil, io.EOF
	}
	record := &kafka.Record{Time: r.at}
	if r.key != nil {
		record.Key = kafka.NewBytes(r.key)
	}
	if v := r.values[r.next]; v != nil {
		record.Value = kafka.NewBytes(v)
	}
	r.next++
	return record, nil
}
