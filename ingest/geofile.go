package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	geoEvery   = 5 * time.Second // looks at the file
	maxGeoFile = 1 << 30         // bytes: it is kept in memory, since one that is mapped and overwritten would end the process
)

// geoFile is an operator's database. It is looked at every 5 s and read again once it is another one and has stopped growing.
// While a new one can't be used, the one before stays.
type geoFile struct {
	path         string
	places       *places
	log          *slog.Logger
	used, looked stamp // of the file as it was read last, used or not; and as it was at the last look
	broken       atomic.Bool
	loads, fails prometheus.Counter
}

// stamp tells one file from the next one of the same name.
type stamp struct {
	at   time.Time
	size int64
}

// newGeoFile reads the file, which has to be there and usable at the start.
func newGeoFile(path string, p *places, log *slog.Logger, reg prometheus.Registerer) (*geoFile, error) {
	loads := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "nowcast_ingest_geo_file_loads_total", Help: "Times that --geo-file was read, by result."}, []string{"result"})
	g := &geoFile{path: path, places: p, log: log, loads: loads.WithLabelValues("used"), fails: loads.WithLabelValues("refused")}
	for _, c := range []prometheus.Collector{
		loads,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "nowcast_ingest_geo_file_broken", Help: "1 while what is at --geo-file can't be used, and the database before it is."}, func() float64 {
			if g.broken.Load() {
				return 1
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "nowcast_ingest_geo_file_built_timestamp_seconds", Help: "When the database in use was made by whoever publishes it."}, func() float64 {
			return float64(p.now.Load().built().Unix())
		}),
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	now, err := g.look()
	if err == nil {
		err = g.load(now)
	}
	if err != nil {
		return nil, fmt.Errorf("--geo-file: %w", err)
	}
	g.looked = now
	return g, nil
}

func (g *geoFile) look() (stamp, error) {
	info, err := os.Stat(g.path)
	if err != nil {
		return stamp{}, fmt.Errorf("look for %s: %w", g.path, errors.Unwrap(err))
	}
	switch {
	case !info.Mode().IsRegular():
		return stamp{}, fmt.Errorf("%s is no file", g.path)
	case info.Size() > maxGeoFile:
		return stamp{}, fmt.Errorf("%s has %d bytes, at most %d can be used", g.path, info.Size(), int64(maxGeoFile))
	}
	return stamp{info.ModTime(), info.Size()}, nil
}

// load puts the file into use.
func (g *geoFile) load(now stamp) error {
	g.used = now
	data, err := os.ReadFile(g.path)
	if err != nil {
		return fmt.Errorf("read %s: %w", g.path, err)
	}
	a, err := newAtlas(data)
	if err == nil {
		err = a.check()
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", g.path, err)
	}
	g.places.now.Store(a)
	g.loads.Inc()
	g.log.Info("countries, regions and cities come from the operator's database", "file", g.path, "type", a.db.Metadata.DatabaseType, "built", a.built().UTC().Format(time.DateOnly))
	return nil
}

// watch looks at the file until ctx ends.
func (g *geoFile) watch(ctx context.Context) {
	tick := time.NewTicker(geoEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			g.tick()
		}
	}
}

// tick reads the file if it is another one than was read last and the same as at the last look: half of one would be refused,
// loudly and for nothing.
func (g *geoFile) tick() {
	now, err := g.look()
	settled := now == g.looked
	g.looked = now
	if !settled || now == g.used && err == nil {
		return
	}
	if err == nil {
		err = g.load(now)
	}
	if err == nil {
		g.broken.Store(false)
		return
	}
	g.used = now
	if g.broken.Swap(true) && now == (stamp{}) {
		return // still away, and said
	}
	g.fails.Inc()
	g.log.Error("can't use the new database of places, keeping the one before", "error", err, "do", "put a whole one in its place")
}
