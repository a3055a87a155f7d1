// Package broker is the connection to Kafka that ingest, aggregator, streamer and the registry of sites
// share. It is the only package that knows the Kafka client library.
//
// A broker that is down or hangs is noticed within about a second. Retryable tells errors that a later
// attempt may cure from those that it can't. The package never retries a write by itself, because only the
// caller knows whether a second copy does harm. Records that retention removed before they were read are
// reported as a Gap.
package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
)

// Config says where Kafka is.
type Config struct {
	Addrs    []string      // host:port of brokers, or unix: and the path of an embedded one's socket
	Topics   []string      // topics whose metadata is cached; every topic's if none
	Timeout  time.Duration // of one request; 30 s when 0
	Security Security

	// Dial opens a connection, which Security then encrypts; a net.Dialer's DialContext when nil.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Client sends requests to Kafka. It is safe for concurrent use.
type Client struct {
	addrs       []string
	kafka       *kafka.Client
	transport   *kafka.Transport
	refreshedAt atomic.Int64 // unix ns of the newest Refresh that dropped connections

	withoutSASL bool
	dialError   atomic.Pointer[error] // of the newest connection; nil in it when that succeeded

	open  context.Context // ends with close
	close context.CancelFunc

	reloginMu sync.Mutex
	relogin   *time.Timer // of reconnectWithin; nil when none is set

	// See Follow: for how long an empty fetch is held at most, and how many times longer after an empty one.
	maxWait    time.Duration
	waitGrowth int

	// recheckAfter is the pause between fetches after which a topic may have been recreated and filled.
	recheckAfter time.Duration
}

// New makes a client and dials nothing.
func New(c Config) *Client {
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	addrs, metadataTTL, recheckAfter := slices.Clone(c.Addrs), time.Second, 2*time.Second
	longest, growth := maxWait, 2
	if len(addrs) == 1 {
		if path, ok := strings.CutPrefix(addrs[0], unixPrefix); ok {
			c.Dial, addrs = socketDialer(c.Dial, path), []string{embeddedAddr}
			// The only broker stays every partition's leader, nobody else deletes its topics, and its
			// supervisor notices when it hangs.
			metadataTTL, recheckAfter = time.Minute, time.Hour
			longest, growth = time.Minute, int(time.Minute/minWait)
			c.Timeout = max(c.Timeout, fetchTimeout(longest))
		}
	}
	t := &kafka.Transport{
		DialTimeout: 2 * time.Second,
		MetadataTTL: metadataTTL, MetadataTopics: c.Topics, ClientID: clientID,
	}
	client := &Client{
		addrs:     slices.Clone(c.Addrs),
		kafka:     &kafka.Client{Addr: kafka.TCP(addrs...), Timeout: c.Timeout, Transport: t},
		transport: t, maxWait: longest, waitGrowth: growth, recheckAfter: recheckAfter,
		withoutSASL: c.Security.SASL == nil,
	}
	client.open, client.close = context.WithCancel(context.Background())
	t.Dial = client.connecting(c.Dial, c.Security)
	if c.Security.TLS != nil || c.Security.SASL != nil {
		t.DialTimeout += secureDialTimeout
	}
	return client
}

const clientID = "nowcast"

// String returns the addresses, separated by commas.
func (c *Client) String() string { return strings.Join(c.addrs, ",") }

// Close drops all connections, and those that are being made.
func (c *Client) Close() {
	c.close()
	c.reloginMu.Lock()
	if c.relogin != nil {
		c.relogin.Stop()
	}
	c.reloginMu.Unlock()
	c.transport.CloseIdleConnections()
}

// Refresh drops the connections and with them the cached metadata, at most ten times a second: every
// partition's reader and writer calls it on an error, and would otherwise discard what another has just
// fetched.
func (c *Client) Refresh() {
	now := time.Now().UnixNano()
	if at := c.refreshedAt.Load(); now-at > int64(100*time.Millisecond) &&
		c.refreshedAt.CompareAndSwap(at, now) {
		c.transport.CloseIdleConnections()
	}
}

// promptTimeout bounds requests that a broker answers from memory. Without it a hung broker would hold such
// a request for Config.Timeout, which is long because of writes.
const promptTimeout = 3 * time.Second

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
		return 0, fmt.Errorf("produce to %s/%d: %w", topic, partition, c.explain(err))
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
