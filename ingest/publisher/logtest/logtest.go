// Package logtest reads the log in tests: envelopes decoded, and a Kafka-protocol cluster in this
// process.
package logtest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"nowcast/internal/broker"
	"nowcast/internal/event"
	"nowcast/internal/topic"
)

// Partitions of the topics of a Cluster.
const Partitions = 4

// Record is one envelope as it is in the log.
type Record struct {
	event.Header
	Partition int
	At        int64 // ms, the record's timestamp
	Events    []event.Event
	Tallies   []event.Tally
}

// Decode decodes an envelope. The record aliases value.
func Decode(t testing.TB, partition int, at int64, value []byte) Record {
	t.Helper()
	var d event.Decoder
	h, err := d.Reset(value)
	if err != nil {
		t.Fatal(err)
	}
	r := Record{Header: h, Partition: partition, At: at}
	for e := (event.Event{}); d.Next(&e); {
		r.Events = append(r.Events, e)
	}
	if d.Err() != nil {
		t.Fatal(d.Err())
	}
	r.Tallies = slices.Clone(d.Tallies())
	return r
}

// Cluster is a broker in this process, with the topics of the pipeline.
type Cluster struct {
	*kfake.Cluster
	Client *broker.Client
}

// Start starts a cluster. It ends with the test.
func Start(t testing.TB) *Cluster {
	t.Helper()
	k, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	c := &Cluster{k, broker.New(broker.Config{Addrs: k.ListenAddrs(), Timeout: 5 * time.Second})}
	t.Cleanup(c.Client.Close)
	if err := c.Client.Ensure(t.Context(), topic.Specs(Partitions, 1), nil); err != nil {
		t.Fatal(err)
	}
	return c
}

var errEnd = errors.New("read to the end")

// Records reads all events, partition by partition.
func (c *Cluster) Records(t testing.TB) (all []Record) {
	t.Helper()
	for p := range Partitions {
		_, end, err := c.Client.Bounds(t.Context(), topic.Events, p)
		if err != nil {
			t.Fatal(err)
		}
		if end == 0 {
			continue
		}
		err = c.Client.Follow(t.Context(), broker.Follower{
			Topic: topic.Events, Partition: p,
			Record: func(r broker.Record) error {
				all = append(all, Decode(t, p, r.Time, slices.Clone(r.Value)))
				if r.Offset+1 >= end {
					return errEnd
				}
				return nil
			},
		})
		if !errors.Is(err, errEnd) {
			t.Fatal(err)
		}
	}
	return all
}

// CheckTallies checks that the tallies of received beacons in a record equal its events plus the tallies
// of dropped ones, for each site and minute. It returns the sums of all records by "site reason".
func CheckTallies(t testing.TB, records []Record) map[string]uint64 {
	t.Helper()
	sums := map[string]uint64{}
	type minute struct {
		site string
		at   int64
	}
	for _, r := range records {
		balance := map[minute]int64{}
		for _, e := range r.Events {
			balance[minute{e.Site, e.Time / 60_000}]++
		}
		for _, x := range r.Tallies {
			sums[x.Site+" "+x.Reason] += x.Count
			if x.Reason == "" {
				balance[minute{x.Site, x.Minute}] -= int64(x.Count)
			} else {
				balance[minute{x.Site, x.Minute}] += int64(x.Count)
			}
		}
		for m, n := range balance {
			if n != 0 {
				t.Errorf("%+v: %v is off by %d", r.Header, m, n)
			}
		}
	}
	return sums
}

// Until polls a condition that another goroutine brings about, for at most 10 s.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not %s within 10 s", what)
		}
	}
}
