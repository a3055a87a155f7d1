package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"

	"nowcast/aggregator"
	"nowcast/ingest"
	"nowcast/internal/embedded"
	"nowcast/internal/site"
	"nowcast/streamer"
	"nowcast/streamer/access"
)

type allCmd struct {
	webFlags
	geoFlags
	limitFlags
	opsFlags
	streamerFlags
	spoolFlags
	DataDir    string   `default:"./.nowcast" placeholder:"DIR" help:"Where everything is kept (${default})."`
	Partitions int      `default:"4" placeholder:"N" help:"Partitions of the events topic, 1 to 256; fixed once it exists (${default})."`
	Sync       string   `default:"1s" enum:"always,1s" placeholder:"WHEN" help:"When the embedded broker syncs events to disk: 1s, once a second, so that a loss of power may take the last second, or always, before it acknowledges them (${default})."`
	Kafka      []string `placeholder:"HOST:PORT" help:"Kafka's brokers, instead of the embedded one."`
	kafkaAccess
	Clickhouse string `secret:"" placeholder:"URL" help:"ClickHouse, as clickhouse://user@host:9000/database, instead of the embedded one."`
	clickhouseAccess
	Libchdb string `placeholder:"FILE" help:"The embedded ClickHouse's library; without it, libchdb.so beside this program, then /usr/lib/nowcast/libchdb.so."`
}

// Help implements kong.HelpProvider.
func (allCmd) Help() string {
	return `Runs all roles in one process, with an embedded Kafka-protocol broker and an embedded
ClickHouse: nothing else is needed. When it is ready it prints the dashboard's address, to a terminal with
a login code that works once, the snippet for web pages, and a curl line that sends a page view.

Examples:

	nowcast all
	nowcast all --listen 0.0.0.0:8080 --public-url https://stats.example.com --data-dir /var/lib/nowcast
	nowcast all --kafka localhost:9092 --clickhouse clickhouse://localhost:9000/default`
}

// Validate implements kong's validation.
func (c *allCmd) Validate() error {
	if c.Partitions < 1 || c.Partitions > 256 {
		return fmt.Errorf("--partitions is %d: give 1 to 256", c.Partitions)
	}
	return errors.Join(c.checkWeb(), c.spoolFlags.Validate(), c.viewerFlags.Validate(), c.validate(),
		c.kafkaAccess.check(c.Kafka), c.clickhouseAccess.check(c.Clickhouse))
}

// Run runs the command.
func (c *allCmd) Run(ctx context.Context, log *slog.Logger, std *stdio) error {
	dir, err := openDataDir(ctx, c.DataDir)
	if err != nil {
		return err
	}
	defer dir.close()
	c.acmeIn(dir.path)
	// Both addresses before the child processes, so that an address in use is reported at once.
	h, l, e, err := newWebHost(log, c.opsFlags, &c.webFlags)
	if err != nil {
		return err
	}
	defer l.Close()
	// A part may use those that were added before it, and is stopped before them.
	ends, err := c.parts(h, dir)
	if err != nil {
		return err
	}
	if err := dir.writeEndpoints(ends); err != nil {
		return err
	}
	embeddedLog := len(c.Kafka) == 0
	kafka, err := h.kafka(&c.kafkaAccess, strings.Split(ends.Kafka, ","), allTopics, c.Partitions)
	if err != nil {
		return err
	}
	defer kafka.Close()
	db, err := h.warehouse(&c.clickhouseAccess, ends.Clickhouse, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // everything in it was acknowledged or wasn't
	sites, erasures := h.sites(kafka), h.erasures(kafka)
	var beacons *ingest.Service
	var wake func() bool
	if embeddedLog {
		wake = func() bool { return beacons.Wake() }
	}
	live, err := addStreamer(h, c.streamerFlags, c.url(l), c.AllowedHosts, wake,
		streamer.Deps{Broker: kafka, Warehouse: db, Sites: sites, Erasures: erasures})
	if err != nil {
		return err
	}
	work := aggregator.Config{Windows: true, Store: true, Seal: true, Repair: c.Clickhouse == ""}
	var watched func() bool // nobody else reads or writes an embedded log, so it may stand still
	if embeddedLog {
		work.Instance = "all" // the only member: after a kill -9 it gets its partitions back at once
		work.Heartbeat, work.Session = 10*time.Second, 30*time.Second
		watched = func() bool { return live.Viewers() > 0 }
	}
	if err := addAggregator(h, work, kafka, erasures, db); err != nil {
		return err
	}
	disk, err := c.openSpool(dir.file("spool"), log)
	if err != nil {
		return err
	}
	defer disk.Close() //nolint:errcheck // what was acknowledged is synced
	beacons, err = addIngest(h, c.geoFlags, &c.limitFlags,
		ingest.Deps{Broker: kafka, Sites: sites, Spool: disk, Watched: watched})
	if err != nil {
		return err
	}
	beacons.Routes(e)
	live.Routes(e)
	h.prepare("first start", "making the first site and the admin key",
		func(ctx context.Context) error { return firstStart(ctx, dir, sites) })
	h.group.Add("greeting", func(ctx context.Context) error {
		return greet(ctx, h, std.out, dir, sites, c.url(l))
	})
	h.serveWeb(l, e, &c.webFlags, ingest.EventPath)
	h.group.Add("viewers", live.Drain)
	return h.run(ctx)
}

// parts adds the embedded broker and ClickHouse, unless flags name others, and returns the addresses of both.
func (c *allCmd) parts(h *host, dir *dataDir) (endpoints, error) {
	ends := endpoints{Kafka: strings.Join(c.Kafka, ","), Clickhouse: c.Clickhouse}
	cfg := embedded.Config{Dir: dir.path, Log: h.log, Metrics: h.metrics, Sync: c.Sync == "always"}
	if ends.Clickhouse == "" { // first, because its library may be missing
		library, err := embedded.FindLibrary(c.Libchdb)
		if err != nil {
			return ends, err
		}
		cfg.Library = library
		part, err := embedded.NewClickHouse(cfg)
		if err != nil {
			return ends, err
		}
		h.addLesser("embedded ClickHouse", part)
		ends.Clickhouse = part.DSN()
	}
	if ends.Kafka == "" {
		part, err := embedded.NewBroker(cfg)
		if err != nil {
			return ends, err
		}
		h.addLesser("embedded broker", part) // without it beacons go to the spool
		ends.Kafka = part.Addr()
	}
	return ends, nil
}

// firstStart makes what a new cluster lacks: the public site localhost, so that a page served from there is
// counted at once, and an admin key, stored in the data dir.
func firstStart(ctx context.Context, dir *dataDir, sites *site.Registry) error {
	if err := sites.Wait(ctx); err != nil {
		return err
	}
	if len(sites.Sites()) == 0 && len(sites.Keys()) == 0 {
		err := sites.Put(ctx, site.Site{Domain: "localhost", Public: true, Timezone: "UTC",
			Created: time.Now().UTC()})
		if err != nil {
			return fmt.Errorf("make the site localhost: %w", err)
		}
	}
	secret, err := readAdminKey(dir.path)
	if err != nil {
		return err
	}
	if key, ok := sites.Authenticate(secret); ok && key.Admin {
		return nil
	}
	_, secret, err = sites.NewKey(ctx, "first start", true, nil)
	if err != nil {
		return fmt.Errorf("make the admin key: %w", err)
	}
	return dir.write(adminKeyFile, []byte(secret+"\n"))
}

// greet prints the dashboard's address and how to send a first page view, once the process is ready. Only a
// terminal gets a login code: what else reads the output may keep it.
func greet(
	ctx context.Context, h *host, w io.Writer, dir *dataDir, sites *site.Registry, url string,
) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ready := false; !ready; ready, _ = h.health.Ready() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
	login := fmt.Sprintf("%s\n\n  Log in      nowcast login --server %s --data-dir %s", url, url, dir.path)
	if isTerminal(w) {
		code, err := firstCode(ctx, dir, sites)
		if err != nil {
			h.log.Warn("can't make a login code: make one with `nowcast login`", "error", err)
		} else {
			login = fmt.Sprintf("%s%s\n              (logs in once, within ten minutes; "+
				"`nowcast login` makes another)", url, access.LoginPath(code))
		}
	}
	_, err := fmt.Fprintf(w, `
Nowcast is ready.

  Dashboard   %s

  Snippet     %s

  Page view   %s

`, login, snippet(url, "localhost"), curl(url, "localhost"))
	if err != nil && !errors.Is(err, net.ErrClosed) {
		h.log.Warn("can't print the greeting", "error", err)
	}
	<-ctx.Done()
	return nil
}

// firstCode makes a login code of the admin key in the data dir.
func firstCode(ctx context.Context, dir *dataDir, sites *site.Registry) (string, error) {
	secret, err := readAdminKey(dir.path)
	if err != nil {
		return "", err
	}
	key, ok := sites.Authenticate(secret)
	if !ok {
		return "", errors.New("the key in admin.key was removed")
	}
	_, code, err := sites.NewCode(ctx, key)
	return code, err
}

// isTerminal reports whether a person reads what is written to w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// snippet returns the script element for the site's pages.
func snippet(url, domain string) string {
	return fmt.Sprintf(`<script defer data-domain="%s" src="%s/js/script.js"></script>`, domain, url)
}

// curl returns a command line that sends a page view, with a browser's user agent because bots aren't
// counted.
func curl(url, domain string) string {
	const agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 " +
		"Safari/537.36"
	return fmt.Sprintf(`curl -i %s/api/event -H 'Content-Type: application/json' -H 'User-Agent: %s'`+
		` -d '{"n":"pageview","d":"%s","u":"http://%[3]s/hello"}'`, url, agent, domain)
}
