package embedded_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"nowcast/internal/embedded"
)

func client(t *testing.T, addr string) *kafka.Client {
	t.Helper()
	tr := &kafka.Transport{MetadataTTL: time.Second, DialTimeout: 2 * time.Second}
	t.Cleanup(tr.CloseIdleConnections)
	return &kafka.Client{Addr: kafka.TCP(addr), Transport: tr, Timeout: 10 * time.Second}
}

func create(t *testing.T, c *kafka.Client, topic string, settings ...kafka.ConfigEntry) {
	t.Helper()
	r, err := c.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: 1, ReplicationFactor: 1, ConfigEntries: settings}}})
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

func TestBrokerAcks(t *testing.T) {
	for _, sync := range []bool{false, true} {
		c := config(t, t.TempDir())
		c.Sync = sync
		b, err := embedded.NewBroker(c)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		run(t, b)
		t.Logf("sync=%v ready after %v, %s", sync, time.Since(begin), memory(t, b.PID()))
		k := client(t, b.Addr())
		create(t, k, "ev")
		var took []time.Duration
		for i := range 1000 {
			begin := time.Now()
			if err := produce(t, k, "ev", begin, fmt.Appendf(nil, "%200d", i)); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(begin))
		}
		slices.Sort(took)
		t.Logf("sync=%v ack p50 %v p99 %v max %v, %s", sync, took[500], took[990], took[999], memory(t, b.PID()))
	}
}
