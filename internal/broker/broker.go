// Package broker is the connection to Kafka that ingest, aggregator, streamer and the registry of sites share.
//
// It promises that a broker which is gone or hangs is noticed within about a second and that every error worth another try is known
// as such (Retryable); it never retries a write on its own, since only the caller knows whether a copy would do harm. What can't be
// kept (records that retention took before they were read) is reported as a Gap, never skipped in silence.
package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
)

// Config says where Kafka is.
type Config struct {
	Addrs   []string      // host:port of one or more brokers
	Topics  []string      // whose metadata is kept: each one that is used, or none to keep all
	Timeout time.Duration // of one request; 30 s when 0

	Dial func(ctx context.Context, network, addr string) (net.Conn, error) // a net.Dialer's when nil
}

// Client is a kafka.Client whose connections can be thrown away. It is safe for concurrent use.
type Client struct {
	*kafka.Client
	transport *kafka.Transport
	last      atomic.Int64 // when Refresh last did something, unix ns
}

// New makes a client and dials nothing.
func New(c Config) *Client {
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	t := &kafka.Transport{Dial: probing(c.Dial), DialTimeout: 2 * time.Second, MetadataTTL: time.Second, MetadataTopics: c.Topics, ClientID: "nowcast"}
	return &Client{Client: &kafka.Client{Addr: kafka.TCP(c.Addrs...), Timeout: c.Timeout, Transport: t}, transport: t}
}

// Close drops all connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Refresh drops the connections and with them the metadata, at most ten times a second: every lane calls it on an error, and each call
// would otherwise throw away what another has just fetched.
func (c *Client) Refresh() {
	now := time.Now().UnixNano()
	if last := c.last.Load(); now-last > int64(100*time.Millisecond) && c.last.CompareAndSwap(last, now) {
		c.transport.CloseIdleConnections()
	}
}

// How long a broker may take for an answer that it has at hand. A hung one would hold a request for the client's whole time-out, which is
// long because of writes.
const patience = 3 * time.Second

type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// probing makes a dialer that connects and asks for the API versions within a second. A hung broker still accepts connections, because its
// kernel does, and kafka-go goes on to the next address only when dialling fails.
func probing(dial dialer) dialer {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if err := probe(ctx, conn); err != nil {
			conn.Close()
			return nil, fmt.Errorf("ask %s for its API versions: %w", addr, err)
		}
		return conn, nil
	}
}

func probe(ctx context.Context, conn net.Conn) error {
	end, _ := ctx.Deadline()
	if err := conn.SetDeadline(end); err != nil {
		return err
	}
	// size 10, API key 18 (ApiVersions), version 0, correlation id 0, no client id
	if _, err := conn.Write([]byte{0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 0, 0xff, 0xff}); err != nil {
		return err
	}
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, conn, int64(min(binary.BigEndian.Uint32(size[:]), 1<<16))); err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}

// Retryable says whether the same request may succeed later: while a leader moves, a coordinator loads, a broker is away. Errors that
// aren't Kafka's own (connections, "topic not found" while no broker is up) are.
func Retryable(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	var k kafka.Error
	if !errors.As(err, &k) {
		return true
	}
	switch k {
	case kafka.UnknownTopicOrPartition, kafka.LeaderNotAvailable, kafka.NotLeaderForPartition, kafka.RequestTimedOut, kafka.BrokerNotAvailable,
		kafka.ReplicaNotAvailable, kafka.NetworkException, kafka.GroupLoadInProgress, kafka.GroupCoordinatorNotAvailable,
		kafka.NotCoordinatorForGroup, kafka.NotEnoughReplicas, kafka.NotEnoughReplicasAfterAppend, kafka.KafkaStorageError,
		kafka.NotController, kafka.FencedLeaderEpoch, kafka.UnknownLeaderEpoch, kafka.OffsetNotAvailable, kafka.ThrottlingQuotaExceeded, kafka.Unknown:
		return true
	}
	return false
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// backoff doubles from 10 to 200 ms.
func backoff(d time.Duration) time.Duration {
	return min(max(2*d, 10*time.Millisecond), 200*time.Millisecond)
}

// Partitions is how many a topic has.
func (c *Client) Partitions(ctx context.Context, topic string) (int, error) {
	r, err := c.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return 0, fmt.Errorf("read metadata of %s: %w", topic, err)
	}
	for _, t := range r.Topics {
		if t.Name == topic {
			if t.Error != nil {
				return 0, fmt.Errorf("read metadata of %s: %w", topic, t.Error)
			}
			return len(t.Partitions), nil
		}
	}
	return 0, fmt.Errorf("read metadata of %s: %w", topic, kafka.UnknownTopicOrPartition)
}

// Bounds are a partition's first offset and the one that its next record will get.
func (c *Client) Bounds(ctx context.Context, topic string, partition int) (first, end int64, err error) {
	o, err := c.offsets(ctx, topic, partition, kafka.FirstOffsetOf(partition), kafka.LastOffsetOf(partition))
	return o.FirstOffset, o.LastOffset, err
}

// OffsetAt is the first offset whose record's timestamp is at or after at; the partition's end when there is none.
func (c *Client) OffsetAt(ctx context.Context, topic string, partition int, at time.Time) (int64, error) {
	o, err := c.offsets(ctx, topic, partition, kafka.TimeOffsetOf(partition, at))
	if err != nil {
		return 0, err
	}
	for off := range o.Offsets { // kafka-go keys the answer by offset; -1: nothing that new
		if off >= 0 {
			return off, nil
		}
	}
	_, end, err := c.Bounds(ctx, topic, partition)
	return end, err
}

func (c *Client) offsets(ctx context.Context, topic string, partition int, ask ...kafka.OffsetRequest) (kafka.PartitionOffsets, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := c.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: ask}})
	if err == nil {
		err = kafka.UnknownTopicOrPartition
		for _, o := range r.Topics[topic] {
			if o.Partition == partition {
				if o.Error == nil {
					return o, nil
				}
				err = o.Error
			}
		}
	}
	return kafka.PartitionOffsets{}, fmt.Errorf("list offsets of %s/%d: %w", topic, partition, err)
}
