package aggregator

import (
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"nowcast/internal/topic"
)

// TestRewindSpan checks that a rewind writes from the given time on, reads the warm-up before it, and
// begins later where retention has deleted that.
func TestRewindSpan(t *testing.T) {
	w := newWorld(t)
	begin := w.clock
	for range 120 { // one a minute
		w.clock += 60_000
		w.send(0, w.view(1, "/"))
	}
	d := &laneDeps{broker: w.kafka, log: slog.New(slog.NewTextHandler(testLog{t}, nil))}
	at := func(minute int64) time.Time { return time.UnixMilli(begin + minute*60_000) }
	check := func(from time.Time, want span) {
		t.Helper()
		want.limited = true
		if got, err := (Rewind{From: from}).span(t.Context(), d, topic.Events, 0); got != want || err != nil {
			t.Errorf("%+v %v, want %+v", got, err, want)
		}
	}
	// The record at minute m has offset m-1. The record at minute 60 needs a warm-up of the 21 minutes
	// before it.
	check(at(60), span{readFrom: 37, writeFrom: 59, end: 120})
	check(at(0), span{readFrom: 0, writeFrom: 0, end: 120})
	check(at(5), span{readFrom: 0, writeFrom: 4, end: 120})
	check(at(500), span{readFrom: 98, writeFrom: 120, end: 120})
	if got, err := (Rewind{From: at(0)}).span(t.Context(), d, topic.Events, 1); err != nil ||
		!got.ends(got.readFrom) {
		t.Errorf("an empty partition: %+v %v", got, err)
	}

	c, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	part := kmsg.NewDeleteRecordsRequestTopicPartition()
	part.Offset = 50
	name := kmsg.NewDeleteRecordsRequestTopic()
	name.Topic, name.Partitions = topic.Events, append(name.Partitions, part)
	q := kmsg.NewPtrDeleteRecordsRequest()
	q.Topics = append(q.Topics, name)
	if _, err := q.RequestWith(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	check(at(100), span{readFrom: 77, writeFrom: 99, end: 120})
	check(at(60), span{readFrom: 50, writeFrom: 71, end: 120}) // the oldest is of minute 51
	check(at(0), span{readFrom: 50, writeFrom: 71, end: 120})
}
