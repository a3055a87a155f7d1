package broker

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/segmentio/kafka-go"
)

// Produce appends values to a partition with the timestamp at, and returns the first one's offset once all in-sync replicas have them.
// It tries once. After an error the values may or may not be in the log. The values must not change afterwards: a request that was
// given up can still be on its way.
func (c *Client) Produce(ctx context.Context, topic string, partition int, at time.Time, values ...[]byte) (base int64, err error) {
	return c.produce(ctx, topic, partition, &records{at: at, values: values})
}

// ProduceKeyed appends one record with a key to partition 0; a nil value is a tombstone. As Produce otherwise.
func (c *Client) ProduceKeyed(ctx context.Context, topic string, key, value []byte) (offset int64, err error) {
	return c.produce(ctx, topic, 0, &records{at: time.Now(), key: key, values: [][]byte{value}})
}

func (c *Client) produce(ctx context.Context, topic string, partition int, r *records) (int64, error) {
	res, err := c.Client.Produce(ctx, &kafka.ProduceRequest{Topic: topic, Partition: partition, RequiredAcks: kafka.RequireAll, Records: r})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		return 0, fmt.Errorf("produce to %s/%d: %w", topic, partition, err)
	}
	return res.BaseOffset, nil
}

// records hands values to kafka-go.
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
	rec := &kafka.Record{Time: r.at}
	if r.key != nil {
		rec.Key = kafka.NewBytes(r.key)
	}
	if v := r.values[r.next]; v != nil {
		rec.Value = kafka.NewBytes(v)
	}
	r.next++
	return rec, nil
}
