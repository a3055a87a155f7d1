package embedded

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"nowcast/internal/topic"
)

// While the disk is full the broker refuses events, with an error that clients retry, and takes changes of
// sites. It takes events again once there is room.
func TestFullDisk(t *testing.T) {
	l := openLog(t, t.TempDir())
	defer l.close()
	var full atomic.Bool
	refuseOnFullDisk(l.cluster, func() string {
		if full.Load() {
			return "the disk is full"
		}
		return ""
	}, slog.New(slog.DiscardHandler))
	for _, name := range []string{topic.Events, topic.Sites} {
		l.create(name, nil)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(l.cluster.ListenAddrs()...), kgo.DisableIdempotentWrite(),
		kgo.RecordRetries(0), kgo.RequiredAcks(kgo.LeaderAck()),
		kgo.MaxVersions(kversion.V2_8_0())) // topics by name, as the program names them
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	put := func(name string) error {
		return client.ProduceSync(t.Context(), &kgo.Record{Topic: name, Value: []byte("x")}).FirstErr()
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	if err := put(topic.Events); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	until("events are taken on a full disk", func() bool { return put(topic.Events) != nil })
	if err := put(topic.Events); !errors.Is(err, kerr.KafkaStorageError) {
		t.Errorf("refused with %v", err)
	}
	if err := put(topic.Sites); err != nil {
		t.Errorf("a change of sites: %v", err)
	}
	full.Store(false)
	until("no events are taken though there is room", func() bool { return put(topic.Events) == nil })
	if r := fullReason(t.TempDir()); r != "" {
		t.Errorf("this disk: %s", r)
	}
}
