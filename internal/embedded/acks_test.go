package embedded

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"nowcast/internal/topic"
)

// A write to the topics of sites and salts is acknowledged after it is on disk, and with Sync every write.
// The end that the log is known to have reached includes it.
func TestAcknowledgeAfterSync(t *testing.T) {
	for name, always := range map[string]bool{"always": true, "1s": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			known, err := createEnds(dir, "boot", nil)
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			synced := map[string]int64{} // size at the last sync, by topic
			s := newSyncer(filepath.Join(dir, "log"))
			var fail error
			s.syncFile = func(name string) error {
				mu.Lock()
				defer mu.Unlock()
				info, err := os.Stat(name)
				if err != nil || fail != nil {
					return errors.Join(err, fail)
				}
				synced[topicOf(filepath.Base(filepath.Dir(name)))] = info.Size()
				return nil
			}
			cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(s.dir),
				kfake.SeedTopics(1, topic.Events, topic.Sites, topic.Salts),
				kfake.ListenFn(func(network, addr string) (net.Listener, error) {
					l, err := net.Listen(network, addr)
					return &ackListener{Listener: l, syncer: s, ends: known, sync: always,
						durable: []string{topic.Sites, topic.Salts}, log: slog.New(slog.DiscardHandler)}, err
				}))
			if err != nil {
				t.Fatal(err)
			}
			defer cluster.Close()
			transport := &kafka.Transport{}
			defer transport.CloseIdleConnections()
			client := &kafka.Client{Addr: kafka.TCP(cluster.ListenAddrs()...), Transport: transport,
				Timeout: 5 * time.Second}
			produce := func(name string) error {
				r, err := client.Produce(t.Context(), &kafka.ProduceRequest{Topic: name,
					RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(kafka.Record{
						Value: kafka.NewBytes([]byte(strings.Repeat("x", 2000)))})})
				if err == nil {
					err = r.Error
				}
				return err
			}
			for range 20 {
				for _, name := range []string{topic.Sites, topic.Salts, topic.Events} {
					if err := produce(name); err != nil {
						t.Fatal(err)
					}
					mu.Lock()
					got := synced[name]
					mu.Unlock()
					want := partitionSize(filepath.Join(s.dir, "partitions", name+"-0"))
					if (got == want) != (always || name != topic.Events) {
						t.Fatalf("%s: %d of %d bytes are synced at the acknowledgement", name, got, want)
					}
				}
			}
			syncing, stop := context.WithCancel(t.Context())
			synced1s := make(chan struct{})
			go func() { defer close(synced1s); syncLog(syncing, s, slog.New(slog.DiscardHandler)) }()
			file := filepath.Join(s.dir, "partitions", topic.Events+"-0")
			for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
				mu.Lock()
				got := synced[topic.Events]
				mu.Unlock()
				if got == partitionSize(file) {
					break
				}
				if time.Now().After(end) {
					t.Fatal("the events aren't synced within 10 s")
				}
			}
			stop()
			<-synced1s
			_ = known.close(false)
			r, err := readEnds(dir)
			if err != nil || !r.known || r.ends[topic.Events+"-0"] != 20 || r.ends[topic.Sites+"-0"] != 20 {
				t.Errorf("known ends: %+v, %v", r, err)
			}
			mu.Lock()
			fail = errors.New("the disk is gone")
			mu.Unlock()
			if err := produce(topic.Sites); err == nil {
				t.Error("acknowledged, though it isn't on disk")
			}
		})
	}
}
