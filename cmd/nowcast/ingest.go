package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"nowcast/frontend"
	"nowcast/ingest"
	"nowcast/ingest/publisher/spool"
)

type ingestCmd struct {
	webFlags
	geoFlags
	limitFlags
	opsFlags
	kafkaFlags
	SpoolDir string `placeholder:"DIR" help:"Where events are kept while Kafka is down, one directory for each instance; without it, beacons get 503 then."`
	spoolFlags
}

// Help implements kong.HelpProvider.
func (ingestCmd) Help() string {
	return `Answers 202 when every in-sync replica of the log has the beacon. Any number of ingest
processes can run side by side.

With --spool-dir a beacon is also safe while Kafka is down: after two seconds ingest writes it to this
machine's disk, answers 202, and sends it when Kafka is back. The next process that starts with the same
directory sends what the last one left there. When the spool is nearly full, beacons get 503 with
Retry-After before anything is lost.

Examples:

	nowcast ingest --kafka kafka-1:9092,kafka-2:9092 --listen 0.0.0.0:8080 --trusted-proxies 10.0.0.0/8
	nowcast ingest --kafka kafka-1:9092 --spool-dir /data/spool --spool-size 20480 --spool-age 6h`
}

// Validate implements kong's validation.
func (f *spoolFlags) Validate() error {
	if f.SpoolSize < 16 || f.SpoolFree < 0 || f.SpoolAge < time.Minute {
		return fmt.Errorf("the spool needs a --spool-size of at least 16 MB, a --spool-free of at least 0 " +
			"and a --spool-age of at least 1m")
	}
	return nil
}

// openSpool opens the spool in dir; without a dir there is none.
func (f *spoolFlags) openSpool(dir string, log *slog.Logger) (*spool.Spool, error) {
	if dir == "" {
		return nil, nil
	}
	return spool.Open(
		spool.Config{
			Dir:          dir,
			MaxBytes:     f.SpoolSize << 20,
			MinFreeBytes: max(1, f.SpoolFree<<20),
			MaxAge:       f.SpoolAge,
			Log:          log,
		},
	)
}

// Validate implements kong's validation.
func (c *ingestCmd) Validate() error {
	return errors.Join(c.checkWeb(), c.spoolFlags.Validate(), c.validate(), c.check(c.Kafka))
}

// Run runs the command.
func (c *ingestCmd) Run(ctx context.Context, log *slog.Logger) error {
	h, l, e, err := newWebHost(log, c.opsFlags, &c.webFlags)
	if err != nil {
		return err
	}
	kafka, err := h.kafka(&c.kafkaAccess, c.Kafka, ingestTopics, 0)
	if err != nil {
		return err
	}
	defer kafka.Close()
	disk, err := c.openSpool(c.SpoolDir, log)
	if err != nil {
		return err
	}
	defer disk.Close() //nolint:errcheck // what was acknowledged is synced
	service, err := addIngest(h, c.geoFlags, &c.limitFlags,
		ingest.Deps{Broker: kafka, Sites: h.sites(kafka), Spool: disk})
	if err != nil {
		return err
	}
	service.Routes(e)
	h.serve("http", l, e, ingest.EventPath)
	return h.run(ctx)
}

// addIngest adds the role to the process.
func addIngest(h *host, geo geoFlags, limits *limitFlags, deps ingest.Deps) (*ingest.Service, error) {
	cfg := ingest.Config{Script: tracker(h.log), GeoFile: geo.GeoFile}
	limits.apply(&cfg)
	deps.Log, deps.Metrics = h.log, h.metrics
	s, err := ingest.New(cfg, deps)
	if err != nil {
		return nil, fmt.Errorf("set up ingest: %w", err)
	}
	h.add("ingest", s)
	return s, nil
}

// limitFlags set which beacons are refused or dropped.
type limitFlags struct {
	AddressRate  float64 `default:"100" placeholder:"N" help:"Events a second that one address (an IPv6 /64) may send, 0 for any number; more get 429 (${default})."`
	AddressBurst float64 `placeholder:"N" help:"How many of them at once; without it, five seconds' worth."`
	SiteRate     float64 `placeholder:"N" help:"Events a second that one site may get from each process, 0 for any number; more get 429 (0)."`
	SiteBurst    float64 `placeholder:"N" help:"How many of them at once; without it, five seconds' worth."`
	RespectDNT   bool    `name:"respect-dnt" help:"Don't count visitors who send DNT: 1 or Sec-GPC: 1."`
}

func (f *limitFlags) validate() error {
	for name, l := range map[string]ingest.Limit{"address": f.address(), "site": f.site()} {
		if err := l.Validate(); err != nil {
			return fmt.Errorf("--%s-rate and --%[1]s-burst: %w", name, err)
		}
	}
	return nil
}

func (f *limitFlags) address() ingest.Limit {
	return ingest.Limit{Rate: f.AddressRate, Burst: f.AddressBurst}
}
func (f *limitFlags) site() ingest.Limit { return ingest.Limit{Rate: f.SiteRate, Burst: f.SiteBurst} }

// apply sets the limits in ingest's configuration.
func (f *limitFlags) apply(cfg *ingest.Config) {
	cfg.AddressLimit, cfg.SiteLimit = f.address(), f.site()
	cfg.RespectOptOut = f.RespectDNT
}

// tracker returns the script for web pages; nil in a program that was built without it.
func tracker(log *slog.Logger) []byte {
	b, err := frontend.Tracker()
	if err != nil {
		log.Warn("tracker not built in", "error", err)
	}
	return b
}
