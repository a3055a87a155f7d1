package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"nowcast/internal/embedded"
)

func newClient(t *testing.T, addr string) *kafka.Client {
	t.Helper()
	tr := &kafka.Transport{MetadataTTL: time.Second, DialTimeout: 2 * time.Second,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, addr) }}
	t.Cleanup(tr.CloseIdleConnections)
	return &kafka.Client{Addr: kafka.TCP("embedded.invalid:9092"), Transport: tr, Timeout: 10 * time.Second}
}

// dial connects to the socket of an address as Broker.Addr returns it.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", strings.TrimPrefix(addr, "unix:"))
}

func create(t *testing.T, c *kafka.Client, topic string, settings ...kafka.ConfigEntry) {
	t.Helper()
	r, err := c.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{
		Topic: topic, NumPartitions: 1, ReplicationFactor: 1, ConfigEntries: settings}}})
	if err == nil {
		err = r.Errors[topic]
	}
	if err != nil {
		t.Fatal(err)
	}
}

func produce(t *testing.T, c *kafka.Client, topic string, at time.Time, value []byte) error {
	r, err := c.Produce(t.Context(), &kafka.ProduceRequest{Topic: topic, RequiredAcks: kafka.RequireAll,
		Records: kafka.NewRecordReader(kafka.Record{Time: at, Value: kafka.NewBytes(value)})})
	if err != nil {
		return err
	}
	return r.Error
}

// Logs how long a record's acknowledgement takes, with and without a sync of each batch.
func TestBrokerAcks(t *testing.T) {
	for _, sync := range []bool{false, true} {
		c := config(t, t.TempDir())
		c.Sync = sync
		b, err := embedded.NewBroker(c)
		if err != nil {
			t.Fatal(err)
		}
		run(t, b)
		k := newClient(t, b.Addr())
		create(t, k, "ev")
		took := make([]time.Duration, 300)
		for i := range took {
			start := time.Now()
			if err := produce(t, k, "ev", start, fmt.Appendf(nil, "%200d", i)); err != nil {
				t.Fatal(err)
			}
			took[i] = time.Since(start)
		}
		slices.Sort(took)
		t.Logf("sync=%v: p50 %v, p99 %v, %s",
			sync, took[len(took)/2], took[len(took)*99/100], memory(t, b.PID()))
	}
}

// A metadata request doesn't create a topic.
func TestBrokerDoesNotAutoCreateTopics(t *testing.T) {
	b := newBroker(t, t.TempDir())
	run(t, b)
	k := newClient(t, b.Addr())
	r, err := k.Metadata(t.Context(), &kafka.MetadataRequest{Topics: []string{"stray"}})
	if err != nil || len(r.Topics) != 1 || !errors.Is(r.Topics[0].Error, kafka.UnknownTopicOrPartition) {
		t.Errorf("got %+v, %v", r, err)
	}
}

// After a request with an unknown API key the broker has at most restarted, with its log.
func TestBrokerSurvivesUnknownRequest(t *testing.T) {
	b := newBroker(t, t.TempDir())
	run(t, b)
	k := newClient(t, b.Addr())
	create(t, k, "ev")
	if err := produce(t, k, "ev", time.Now(), []byte("kept")); err != nil {
		t.Fatal(err)
	}
	conn, err := dial(t.Context(), b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	old := b.PID()
	unknown := []byte{0, 0, 0, 10, 0x7f, 0x7f, 0, 0, 0, 0, 0, 0, 0xff, 0xff}
	if _, err := conn.Write(unknown); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() (bool, string) {
		ok, reason := b.Ready()
		return ok && b.PID() != old, reason
	})
	if v := fetch(t, newClient(t, b.Addr()), "ev", 0); len(v) != 1 || string(v[0]) != "kept" {
		t.Errorf("log has %q", v)
	}
}
