package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"syscall"
	"time"

	"nowcast/aggregator"
	"nowcast/frontend"
	"nowcast/ingest"
	"nowcast/ingest/spool"
	"nowcast/internal/broker"
	"nowcast/internal/process"
	"nowcast/internal/site"
	"nowcast/internal/warehouse"
	"nowcast/streamer"
	"nowcast/streamer/access"
	"nowcast/streamer/live"
)

// open opens the public address and is the first thing a role does: that it is taken has to be known before anything is started.
func (f *webFlags) open() (net.Listener, error) {
	l, err := process.Listen(f.Listen)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	return l, nil
}

// tracker is the script for web pages. A program built without it still takes beacons.
func tracker(log *slog.Logger) []byte {
	b, err := frontend.Tracker()
	if err != nil {
		log.Warn("there is no tracker in this program", "error", err)
	}
	return b
}

func dashboard(log *slog.Logger) fs.FS {
	f, err := frontend.Dashboard()
	if err != nil {
		log.Warn("there is no dashboard in this program", "error", err)
		return nil
	}
	return f
}

type ingestCmd struct {
	webFlags
	geoFlags
	limitFlags
	opsFlags
	kafkaFlags
	SpoolDir string `placeholder:"DIR" help:"Where events are kept while Kafka is away, one directory for each instance; without it, beacons get 503 then."`
	spoolFlags
}

// Help is shown by --help.
func (ingestCmd) Help() string {
	return `Answers 202 when every in-sync replica of the log has the beacon. Any number of these can run side by side.

With --spool-dir a beacon is also safe when Kafka is away: after two seconds it is kept on this machine's disk, answered 202, and sent when Kafka is back.
The next process that starts with the same directory sends what the last one left there. When the disk's share is nearly used up, beacons get 503 with
Retry-After before anything is lost.

Examples:

	nowcast ingest --kafka kafka-1:9092,kafka-2:9092 --listen 0.0.0.0:8080 --trusted-proxies 10.0.0.0/8 --spool-dir /var/lib/nowcast/spool
	nowcast ingest --kafka kafka-1:9092 --spool-dir /data/spool --spool-size 20480 --spool-age 6h`
}

// Validate says what can't be meant.
func (f *spoolFlags) Validate() error {
	if f.SpoolSize < 16 || f.SpoolFree < 0 || f.SpoolAge < time.Minute {
		return fmt.Errorf("the spool needs a --spool-size of at least 16 MB, a --spool-free of at least 0 and a --spool-age of at least 1m")
	}
	return nil
}

// openSpool opens a spool in a directory; without one there is none.
func (f *spoolFlags) openSpool(dir string, log *slog.Logger) (*spool.Spool, error) {
	if dir == "" {
		return nil, nil
	}
	return spool.Open(spool.Config{Dir: dir, Size: f.SpoolSize << 20, Free: max(1, f.SpoolFree<<20), Age: f.SpoolAge, Log: log})
}

// Validate says what can't be meant.
func (c *ingestCmd) Validate() error { return errors.Join(c.spoolFlags.Validate(), c.validate()) }

// Run is the command.
func (c *ingestCmd) Run(ctx context.Context, log *slog.Logger) error {
	h, err := newHost(log, c.opsFlags)
	if err != nil {
		return err
	}
	l, err := c.open()
	if err != nil {
		return err
	}
	e, err := h.engine(&c.webFlags)
	if err != nil {
		return err
	}
	kafka := h.kafka(c.Kafka, 0)
	defer kafka.Close()
	disk, err := c.openSpool(c.SpoolDir, log)
	if err != nil {
		return err
	}
	defer disk.Close() //nolint:errcheck // what was acknowledged is synced
	service, err := h.ingest(&c.webFlags, c.geoFlags, &c.limitFlags, kafka, h.sites(kafka), disk)
	if err != nil {
		return err
	}
	service.Routes(e)
	h.serve("http", l, e, ingest.EventPath)
	return h.run(ctx)
}

func (h *host) ingest(f *webFlags, geo geoFlags, limits *limitFlags, kafka *broker.Client, sites *site.Registry, disk *spool.Spool) (*ingest.Service, error) {
	cfg := ingest.Config{TrustedProxies: f.proxies(), Script: tracker(h.log), GeoFile: geo.GeoFile}
	limits.apply(&cfg)
	s, err := ingest.New(cfg, ingest.Deps{Broker: kafka, Sites: sites, Log: h.log, Metrics: h.metrics, Spool: disk})
	if err != nil {
		return nil, fmt.Errorf("set up ingest: %w", err)
	}
	h.add("ingest", s)
	return s, nil
}

type aggregatorCmd struct {
	opsFlags
	Kafka      []string `placeholder:"HOST:PORT" help:"One or more of Kafka's brokers."`
	Clickhouse string   `placeholder:"URL" help:"ClickHouse, as clickhouse://user:password@host:9000/database; needed by the store lane."`
	Lanes      []string `default:"windows,store" enum:"windows,store" placeholder:"LANE" help:"What to do: windows, store or both (${default})."`
	Instance   string   `placeholder:"NAME" help:"A name that stays the same over restarts and is unique among the aggregators, as a StatefulSet's pod name: a restart within 10 s keeps the partitions. Without it, a stop hands them over at once."`
	From       *moment  `placeholder:"TIME" help:"With --lanes store: write ClickHouse's rows again from the log since then (2026-11-24T08:00:00Z, or how long ago, as 90m), and end."`
	DataDir    string   `default:"./.nowcast" placeholder:"DIR" help:"With --from, and without --kafka and --clickhouse: the data dir of a running nowcast all (${default})."`
}

// Help is shown by --help.
func (aggregatorCmd) Help() string {
	return `Several of these share the partitions of the log among themselves; when one goes, the others take its partitions over. One that is stopped
hands them over at once. One that dies keeps them for 10 s, and so does one that is stopped and has an --instance: when it is back within
that time it goes on with the same partitions, and the others hear nothing of it. That suits instances that are restarted one after the other.

With --from it does one thing and ends: it writes the rows of both tables again from the log, for when ClickHouse has lost some. The rows are
those that were there, so that does no harm beside running aggregators, and none when done twice. "nowcast verify" says what is missing.

Examples:

	nowcast aggregator --kafka kafka-1:9092 --clickhouse clickhouse://nowcast:secret@clickhouse:9000/nowcast
	nowcast aggregator --lanes store --from 24h --kafka kafka-1:9092 --clickhouse clickhouse://nowcast:secret@clickhouse:9000/nowcast
	nowcast aggregator --lanes store --from 2026-11-24T08:00:00Z --data-dir ./.nowcast`
}

// Validate says what is missing.
func (c *aggregatorCmd) Validate() error {
	if windows, _ := c.lanes(); c.From != nil {
		if windows {
			return fmt.Errorf("--from writes again what the store lane writes: give --lanes store with it")
		}
		return nil
	}
	if len(c.Kafka) == 0 {
		return fmt.Errorf("missing flags: --kafka")
	}
	if _, store := c.lanes(); store && c.Clickhouse == "" {
		return fmt.Errorf("the store lane needs --clickhouse: give it, or --lanes windows")
	}
	return nil
}

func (c *aggregatorCmd) lanes() (windows, store bool) {
	for _, lane := range c.Lanes {
		windows = windows || lane == "windows"
		store = store || lane == "store"
	}
	return windows, store
}

// Run is the command.
func (c *aggregatorCmd) Run(ctx context.Context, std *stdio, log *slog.Logger) error {
	if c.From != nil {
		return c.rewind(ctx, std, log)
	}
	h, err := newHost(log, c.opsFlags)
	if err != nil {
		return err
	}
	kafka := h.kafka(c.Kafka, 0)
	defer kafka.Close()
	windows, store := c.lanes()
	var db *warehouse.DB
	if store {
		if db, err = h.warehouse(c.Clickhouse, slog.New(slog.DiscardHandler)); err != nil {
			return err
		}
		defer db.Close() //nolint:errcheck // everything in it was acknowledged or wasn't
	}
	if err := h.aggregator(aggregator.Config{Windows: windows, Store: store, Instance: c.Instance}, kafka, db); err != nil {
		return err
	}
	return h.run(ctx)
}

// rewind is the command with --from.
func (c *aggregatorCmd) rewind(ctx context.Context, std *stdio, log *slog.Logger) error {
	kafka, db, err := connect(c.DataDir, c.Kafka, c.Clickhouse)
	if err != nil {
		return err
	}
	defer kafka.Close()
	defer db.Close() //nolint:errcheck // everything in it was acknowledged or wasn't
	start := time.Now()
	p, err := aggregator.Rewind{From: c.From.Time, Progress: func(p aggregator.RewindProgress) {
		fmt.Fprintf(std.err, "%3.0f %% of %d records read, %d event rows, %d window rows and %d ledger rows written\n", 100*float64(p.Read)/float64(max(1, p.Records)), p.Records, p.Events, p.Windows, p.Ledger)
	}}.Run(ctx, aggregator.Deps{Broker: kafka, Warehouse: db, Log: log})
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "Wrote %d event rows, %d window rows and %d ledger rows again since %s, in %s. To compare them with the log: nowcast verify --from %[4]s\n",
		p.Events, p.Windows, p.Ledger, c.From.UTC().Format(time.RFC3339), time.Since(start).Round(100*time.Millisecond))
	return nil
}

func (h *host) aggregator(cfg aggregator.Config, kafka *broker.Client, db *warehouse.DB) error {
	s, err := aggregator.New(cfg, aggregator.Deps{Broker: kafka, Warehouse: db, Log: h.log, Metrics: h.metrics})
	if err != nil {
		return fmt.Errorf("set up aggregator: %w", err)
	}
	h.add("aggregator", s)
	return nil
}

type streamerFlags struct {
	PublicURL   string `name:"public-url" placeholder:"URL" help:"Where browsers reach the dashboard, as https://stats.example.com; without it, the address that is listened on."`
	DefaultSite string `placeholder:"DOMAIN" help:"The site of streams that name none; without it, the first one made."`
	AdminKey    string `placeholder:"KEY" help:"An admin key beside those in the log, the same on every streamer of a cluster; best given as NOWCAST_ADMIN_KEY."`
	viewerFlags
}

type viewerFlags struct {
	MaxViewers        int           `placeholder:"N" help:"How many viewers may be connected at a time; without it, as many as the limit of open files allows."`
	ViewersPerAddress int           `default:"2000" placeholder:"N" help:"How many of them from one IPv4 address or IPv6 /64 (${default}; 0: any number). Behind a proxy give --trusted-proxies too. Loopback has no limit."`
	ViewersPerKey     int           `default:"10000" placeholder:"N" help:"How many of them with one key or share link (${default}; 0: any number)."`
	ViewerLifetime    time.Duration `default:"1h" placeholder:"TIME" help:"How long a viewer's connection lasts, ± 10 %, before it is asked to connect again, so that viewers spread over new instances (${default})."`
}

// reservedFiles are those of a process that aren't viewers: listeners, Kafka, ClickHouse, requests under way.
const reservedFiles = 512

// Validate says what can't be meant.
func (f *viewerFlags) Validate() error {
	if f.MaxViewers < 0 || f.ViewersPerAddress < 0 || f.ViewersPerKey < 0 {
		return fmt.Errorf("--max-viewers, --viewers-per-address and --viewers-per-key have to be 0 or more")
	}
	if f.ViewerLifetime < 10*time.Second {
		return fmt.Errorf("--viewer-lifetime is %s: give at least 10s", f.ViewerLifetime)
	}
	return nil
}

func (f *viewerFlags) limits() access.Limits {
	l := access.Limits{Viewers: f.MaxViewers, PerAddress: f.ViewersPerAddress, PerKey: f.ViewersPerKey}
	var files syscall.Rlimit
	if l.Viewers == 0 && syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) == nil {
		l.Viewers = max(100, int(min(files.Cur, 10_000_000))-reservedFiles) //nolint:gosec // bounded
	}
	return l
}

type streamerCmd struct {
	webFlags
	opsFlags
	kafkaFlags
	clickhouseFlags
	streamerFlags
}

// Help is shown by --help.
func (streamerCmd) Help() string {
	return `Any number of these can run side by side: a viewer whose connection breaks goes on at any of them.

Example:

	nowcast streamer --kafka kafka-1:9092 --clickhouse clickhouse://nowcast:secret@clickhouse:9000/nowcast \
	    --listen 0.0.0.0:8080 --public-url https://stats.example.com`
}

// Run is the command.
func (c *streamerCmd) Run(ctx context.Context, log *slog.Logger) error {
	h, err := newHost(log, c.opsFlags)
	if err != nil {
		return err
	}
	l, err := c.open()
	if err != nil {
		return err
	}
	e, err := h.engine(&c.webFlags)
	if err != nil {
		return err
	}
	kafka := h.kafka(c.Kafka, 0)
	defer kafka.Close()
	db, err := h.warehouse(c.Clickhouse, log)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // everything in it was acknowledged or wasn't
	deps := streamer.Deps{Broker: kafka, Warehouse: db, Sites: h.sites(kafka)}
	service, err := h.streamer(c.streamerFlags, l, deps)
	if err != nil {
		return err
	}
	service.Routes(e)
	h.serve("http", l, e)
	h.group.Add("viewers", service.Drain)
	return h.run(ctx)
}

func (h *host) streamer(f streamerFlags, l net.Listener, deps streamer.Deps) (*streamer.Service, error) {
	deps.Log, deps.Metrics = h.log, h.metrics
	name, _ := build()
	s, err := streamer.New(streamer.Config{
		Access: access.Config{PublicURL: f.url(l), DefaultSite: f.DefaultSite, AdminKey: f.AdminKey},
		Limits: f.limits(), Live: live.Config{Lifetime: f.ViewerLifetime},
		Dashboard: dashboard(h.log), Version: name,
	}, deps)
	if err != nil {
		return nil, fmt.Errorf("set up streamer: %w", err)
	}
	h.add("streamer", s)
	return s, nil
}

// url is where browsers find this process.
func (f *streamerFlags) url(l net.Listener) string {
	if f.PublicURL != "" {
		return f.PublicURL
	}
	a, ok := l.Addr().(*net.TCPAddr)
	if ok && a.IP.IsUnspecified() {
		return fmt.Sprintf("http://127.0.0.1:%d", a.Port)
	}
	return "http://" + l.Addr().String()
}
