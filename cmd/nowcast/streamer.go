package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"syscall"
	"time"

	"nowcast/frontend"
	"nowcast/streamer"
	"nowcast/streamer/access"
	"nowcast/streamer/live"
)

type streamerFlags struct {
	DefaultSite string `placeholder:"DOMAIN" help:"The site of streams that name none; without it, the first one made."`
	AdminKey    string `secret:"" placeholder:"KEY" help:"An admin key in addition to those in the log, the same on every streamer of a cluster: nck_ and at least 128 random bits; best given as NOWCAST_ADMIN_KEY."`
	viewerFlags
}

type viewerFlags struct {
	MaxViewers        int           `placeholder:"N" help:"How many viewers may be connected at a time; without it, as many as the limit of open files allows."`
	ViewersPerAddress int           `default:"2000" placeholder:"N" help:"How many of them from one IPv4 address or IPv6 /64 (${default}; 0: any number). Behind a proxy give --trusted-proxies too. Loopback has no limit."`
	ViewersPerKey     int           `default:"10000" placeholder:"N" help:"How many of them with one key or share link (${default}; 0: any number)."`
	ViewerLifetime    time.Duration `default:"1h" placeholder:"TIME" help:"How long a viewer's connection lasts, ± 10 %, before it is asked to connect again, so that viewers spread over new instances (${default})."`
}

// reservedFiles are left for open files that aren't viewers: listeners, Kafka, ClickHouse, other requests.
const reservedFiles = 512

// Validate implements kong's validation.
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

// Help implements kong.HelpProvider.
func (streamerCmd) Help() string {
	return `Any number of streamers can run side by side: a viewer whose connection breaks resumes at
any of them.

Example:

	nowcast streamer --kafka kafka-1:9092 --clickhouse clickhouse://nowcast:secret@clickhouse:9000/nowcast \
	    --listen 0.0.0.0:8080 --public-url https://stats.example.com`
}

// Validate implements kong's validation.
func (c *streamerCmd) Validate() error {
	return errors.Join(c.checkWeb(), c.viewerFlags.Validate(), c.kafkaAccess.check(c.Kafka),
		c.clickhouseAccess.check(c.Clickhouse))
}

// Run runs the command.
func (c *streamerCmd) Run(ctx context.Context, log *slog.Logger) error {
	h, l, e, err := newWebHost(log, c.opsFlags, &c.webFlags)
	if err != nil {
		return err
	}
	kafka, err := h.kafka(&c.kafkaAccess, c.Kafka, streamerTopics, 0)
	if err != nil {
		return err
	}
	defer kafka.Close()
	db, err := h.warehouse(&c.clickhouseAccess, c.Clickhouse, log)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // everything in it was acknowledged or wasn't
	deps := streamer.Deps{Broker: kafka, Warehouse: db, Sites: h.sites(kafka),
		Erasures: h.erasures(kafka)}
	service, err := addStreamer(h, c.streamerFlags, c.url(l), c.AllowedHosts, nil, deps)
	if err != nil {
		return err
	}
	service.Routes(e)
	h.serveWeb(l, e, &c.webFlags)
	h.group.Add("viewers", service.Drain)
	return h.run(ctx)
}

// addStreamer adds the role to the process. wake is live.Config's.
func addStreamer(
	h *host, f streamerFlags, publicURL string, hosts []string, wake func() bool, deps streamer.Deps,
) (*streamer.Service, error) {
	deps.Log, deps.Metrics = h.log, h.metrics
	name, _ := build()
	s, err := streamer.New(streamer.Config{
		Access: access.Config{PublicURL: publicURL, AllowedHosts: hosts, DefaultSite: f.DefaultSite,
			AdminKey: f.AdminKey},
		Limits:    f.limits(),
		Live:      live.Config{Lifetime: f.ViewerLifetime, Wake: wake},
		Dashboard: dashboard(h.log),
		Version:   name,
	}, deps)
	if err != nil {
		return nil, fmt.Errorf("set up streamer: %w", err)
	}
	h.add("streamer", s)
	h.needWarehouse = append(h.needWarehouse, "history")
	return s, nil
}

func dashboard(log *slog.Logger) fs.FS {
	f, err := frontend.Dashboard()
	if err != nil {
		log.Warn("dashboard not built in", "error", err)
		return nil
	}
	return f
}
