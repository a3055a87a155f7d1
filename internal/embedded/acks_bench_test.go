package embedded

import (
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"nowcast/internal/topic"
)

// BenchmarkSync measures what Config.Sync costs: envelopes of 5 KB, some 25 events, by four writers that each
// have a partition and wait for each acknowledgement, as ingest does. Slices of both settings take turns, so
// that whatever else the machine does slows both.
func BenchmarkSync(b *testing.B) {
	modes := []string{"1s", "always"}
	const slice = 250 * time.Millisecond
	writers := map[string]func(partition int) error{}
	for _, mode := range modes {
		dir := b.TempDir()
		known, err := createEnds(dir, "boot", nil)
		if err != nil {
			b.Fatal(err)
		}
		s := newSyncer(filepath.Join(dir, "log"))
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(s.dir),
			kfake.SeedTopics(4, topic.Events),
			kfake.ListenFn(func(network, addr string) (net.Listener, error) {
				l, err := net.Listen(network, addr)
				return &ackListener{Listener: l, syncer: s, ends: known, sync: mode == "always",
					log: slog.New(slog.DiscardHandler)}, err
			}))
		if err != nil {
			b.Fatal(err)
		}
		defer cluster.Close()
		ctx := b.Context()
		go syncLog(ctx, s, slog.New(slog.DiscardHandler))
		transport := &kafka.Transport{}
		defer transport.CloseIdleConnections()
		client := &kafka.Client{Addr: kafka.TCP(cluster.ListenAddrs()...), Transport: transport}
		value := make([]byte, 5000)
		writers[mode] = func(partition int) error {
			r, err := client.Produce(ctx, &kafka.ProduceRequest{Topic: topic.Events, Partition: partition,
				RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(kafka.Record{
					Value: kafka.NewBytes(value)})})
			if err == nil {
				err = r.Error
			}
			return err
		}
	}
	took := map[string][]time.Duration{}
	var spent [2]time.Duration
	var mu sync.Mutex
	for b.Loop() {
		for i, mode := range modes {
			var wg sync.WaitGroup
			start := time.Now()
			for p := range 4 {
				wg.Go(func() {
					for time.Since(start) < slice {
						at := time.Now()
						if err := writers[mode](p); err != nil {
							b.Error(err)
							return
						}
						mu.Lock()
						took[mode] = append(took[mode], time.Since(at))
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			spent[i] += time.Since(start)
		}
	}
	for i, mode := range modes {
		all := took[mode]
		slices.Sort(all)
		b.ReportMetric(float64(len(all))/spent[i].Seconds(), "envelopes/s:"+mode)
		for _, q := range []int{50, 99} {
			ms := float64(all[len(all)*q/100].Microseconds()) / 1000
			b.ReportMetric(ms, fmt.Sprintf("p%d-ms:%s", q, mode))
		}
	}
}
