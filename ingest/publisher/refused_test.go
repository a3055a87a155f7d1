package publisher

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"nowcast/ingest/publisher/spool"
	"nowcast/internal/broker"
)

// TestRefused has the log refuse some envelopes on disk for good: of this process and of an earlier one. They
// are kept aside, counted and said, and all others come into the log.
func TestRefused(t *testing.T) {
	for _, refusal := range []error{broker.ErrTooLarge, broker.ErrInvalidRecord} {
		t.Run(refusal.Error(), func(t *testing.T) {
			withSpool(t, nil, func(t *testing.T, m *memory, open func() *spool.Spool) {
				sent := 0
				spooled := func(p *Publisher, n int) {
					m.set(0, errDown)
					for range n {
						e := p.mustAdd(t, 0)
						if <-e.done; e.err != nil {
							t.Fatal(e.err)
						}
						sent++
						time.Sleep(100 * time.Millisecond)
					}
				}
				disk := open()
				p, stop := m.publisher(t, disk, 1)
				time.Sleep(time.Second)
				spooled(p, 30)
				m.set(0, fmt.Errorf("produce: %w", refusal))
				time.Sleep(200 * time.Millisecond)
				m.set(0, errDown)
				stop() // the rest stays on disk
				_ = disk.Close()

				disk = open()
				first, events, _ := disk.RefusedCount()
				if first == 0 {
					t.Fatal("none was refused")
				}
				p, stop = m.publisher(t, disk, 1)
				time.Sleep(time.Second)
				m.set(0, fmt.Errorf("produce: %w", refusal))
				time.Sleep(300 * time.Millisecond)
				m.set(0, nil)
				for ; disk.Envelopes() > 0; time.Sleep(50 * time.Millisecond) {
				}
				synctest.Wait()
				all, refused, reason := disk.RefusedCount()
				if all <= first || refused <= events || !strings.Contains(reason, refusal.Error()) {
					t.Errorf("refused %d, then %d envelopes: %s", first, all, reason)
				}
				if got := m.events(t, 0); got+refused != sent {
					t.Errorf("%d events in the log and %d refused, of %d", got, refused, sent)
				}
				kept := testutil.ToFloat64(p.metrics.refused.WithLabelValues("yes"))
				if int(kept) != refused-events {
					t.Errorf("metric: %v kept, want %d", kept, refused-events)
				}
				if r := p.refusedReason(); !strings.Contains(r, fmt.Sprint(refused)+" events") {
					t.Errorf("reason: %s", r)
				}
				file := filepath.Join(disk.Dir(), spool.RefusedFile)
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				lines := strings.Split(strings.TrimSpace(string(b)), "\n")
				var x spool.Refused
				if err := json.Unmarshal([]byte(lines[0]), &x); err != nil || len(x.Data) == 0 ||
					len(lines) != all {
					t.Errorf("%d lines, the first %+v, %v", len(lines), x, err)
				}
				stop()
				_ = disk.Close()
			})
		})
	}
}
