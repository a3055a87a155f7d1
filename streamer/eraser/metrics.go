package eraser

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/internal/erasure"
)

// register registers the metrics of erasures.
func (w *Worker) register(reg prometheus.Registerer) error {
	err := reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "nowcast_streamer_oldest_erasure_seconds",
		Help: "Age of the oldest erasure that hasn't ended; 0: all have ended.",
	}, func() float64 { return w.oldest(time.Now()).Seconds() }))
	if err != nil {
		return fmt.Errorf("register metrics of erasures: %w", err)
	}
	return nil
}

// oldest returns the age of the oldest erasure that hasn't ended.
func (w *Worker) oldest(now time.Time) (age time.Duration) {
	for _, e := range w.erasures.All() {
		if e.State != erasure.Done {
			age = max(age, now.Sub(e.Requested))
		}
	}
	return age
}
