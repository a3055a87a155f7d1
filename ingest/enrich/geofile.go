package enrich

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
	geoFilePoll = 5 * time.Second

	// maxGeoFile is in bytes. The file is read into memory: overwriting a mapped one would crash the
	// process.
	maxGeoFile = 1 << 30
)

// geoFile is the operator's database of places. It is polled every 5 s and loaded again once it has
// changed and stays the same for two polls. While the new file can't be used, the database before it
// stays in use.
type geoFile struct {
	path         string
	places       *places
	log          *slog.Logger
	lastLoaded   fileVersion // usable or not
	lastPolled   fileVersion
	broken       atomic.Bool
	loads, fails prometheus.Counter
}

// fileVersion tells versions of a file apart. The zero value means that there is no usable file.
type fileVersion struct {
	modTime time.Time
	size    int64
}

// newGeoFile loads the file. It fails if there is none or it can't be used.
func newGeoFile(path string, p *places, log *slog.Logger, reg prometheus.Registerer) (*geoFile, error) {
	g := &geoFile{path: path, places: p, log: log}
	if err := g.register(reg); err != nil {
		return nil, err
	}
	version, err := g.stat()
	if err == nil {
		err = g.load(version)
	}
	if err != nil {
		return nil, fmt.Errorf("--geo-file: %w", err)
	}
	g.lastPolled = version
	return g, nil
}

func (g *geoFile) register(reg prometheus.Registerer) error {
	loads := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "nowcast_ingest_geo_file_loads_total", Help: "Times that --geo-file was read, by result.",
	}, []string{"result"})
	g.loads, g.fails = loads.WithLabelValues("used"), loads.WithLabelValues("refused")
	for _, c := range []prometheus.Collector{
		loads,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "nowcast_ingest_geo_file_broken",
			Help: "1 while what is at --geo-file can't be used, and the database before it is.",
		}, func() float64 {
			if g.broken.Load() {
				return 1
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "nowcast_ingest_geo_file_built_timestamp_seconds",
			Help: "When the database in use was built by its publisher.",
		}, func() float64 { return float64(g.places.current.Load().builtAt().Unix()) }),
	} {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

func (g *geoFile) stat() (fileVersion, error) {
	info, err := os.Stat(g.path)
	if err != nil {
		return fileVersion{}, fmt.Errorf("look for %s: %w", g.path, errors.Unwrap(err))
	}
	switch {
	case !info.Mode().IsRegular():
		return fileVersion{}, fmt.Errorf("%s is no file", g.path)
	case info.Size() > maxGeoFile:
		return fileVersion{}, fmt.Errorf("%s has %d bytes, at most %d can be used",
			g.path, info.Size(), int64(maxGeoFile))
	}
	return fileVersion{info.ModTime(), info.Size()}, nil
}

// load makes the file the current database.
func (g *geoFile) load(version fileVersion) error {
	g.lastLoaded = version
	data, err := os.ReadFile(g.path)
	if err != nil {
		return fmt.Errorf("read %s: %w", g.path, err)
	}
	db, err := openPlaceDatabase(data)
	if err == nil {
		err = db.verify()
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", g.path, err)
	}
	g.places.current.Store(db)
	g.loads.Inc()
	g.log.Info("countries, regions and cities come from the operator's database", "file", g.path,
		"type", db.reader.Metadata.DatabaseType, "built", db.builtAt().UTC().Format(time.DateOnly))
	return nil
}

// watch polls the file until ctx ends.
func (g *geoFile) watch(ctx context.Context) {
	ticker := time.NewTicker(geoFilePoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			g.poll()
		}
	}
}

// poll loads a version of the file that is new and was there at the poll before: a file that is still
// being written would be refused and logged as an error.
func (g *geoFile) poll() {
	version, err := g.stat()
	settled := version == g.lastPolled
	g.lastPolled = version
	if !settled || version == g.lastLoaded && err == nil {
		return
	}
	if err == nil {
		err = g.load(version)
	}
	if err == nil {
		g.broken.Store(false)
		return
	}
	g.lastLoaded = version
	if g.broken.Swap(true) && version == (fileVersion{}) {
		return // a missing file is logged once
	}
	g.fails.Inc()
	g.log.Error("can't use the new database of places, keeping the one before",
		"error", err, "do", "put a whole one in its place")
}
