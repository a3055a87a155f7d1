package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"nowcast/internal/load"
)

type loadCmd struct {
	Server   string        `default:"http://127.0.0.1:8080" placeholder:"URL" help:"Where the beacons go (${default})."`
	Site     []string      `default:"localhost" placeholder:"DOMAIN" help:"The sites, the busiest first (${default})."`
	Rate     float64       `default:"20" placeholder:"N" help:"Beacons a second, up to 100000 (${default})."`
	Visitors int           `default:"1000" placeholder:"N" help:"How many different visitors there are, up to 10000000 (${default})."`
	Duration time.Duration `default:"1m" placeholder:"TIME" help:"For how long; 0 is until Ctrl-C (${default})."`
	Seed     uint64        `default:"1" placeholder:"N" help:"The same seed gives the same visitors (${default})."`
	JSON     bool          `name:"json" help:"Print the summary as JSON."`
	historyFlags
}

// Help implements kong.HelpProvider.
func (loadCmd) Help() string {
	return `Visitors come from search engines, links and newsletters, browse several pages with time to
think, sign up now and then, and leave. Beacons go out when they are due, whatever the answers. Latency
counts from that moment, so a server that stalls can't hide it. Progress goes to stderr once a second, a
summary to stdout at the end or at Ctrl-C.

Each visitor has a user agent and an address in X-Forwarded-For, which a server believes only from
proxies that it trusts. To see countries, start it with --trusted-proxies 127.0.0.0/8 (never where
others reach it directly).

With --history nothing is sent: a past is written straight into ClickHouse, for benchmarks, screenshots and
demonstrations. No real site wants that: the events are in no log, and only erasing the site removes them.
The sites are not added, and their time zone is --timezone. Answers leave out what is from before a site
was added. The same flags on the same day write the same
events, which count once.

Examples:

	nowcast all --trusted-proxies 127.0.0.0/8
	nowcast load --rate 200 --visitors 5000 --duration 5m
	nowcast load --history 12mo --events 1000000 --site demo.example.com --timezone Europe/Berlin`
}

// Validate implements kong's validation.
func (c *loadCmd) Validate() error {
	if c.History > 0 {
		_, err := c.historyFlags.config(c.Site, c.Seed)
		return err
	}
	cfg := c.config()
	return cfg.Validate()
}

func (c *loadCmd) config() load.Config {
	return load.Config{
		Server:   c.Server,
		Sites:    c.Site,
		Rate:     c.Rate,
		Visitors: c.Visitors,
		Duration: c.Duration,
		Seed:     c.Seed,
	}
}

// Run runs the command.
func (c *loadCmd) Run(ctx context.Context, std *stdio, log *slog.Logger) error {
	if c.History > 0 {
		cfg, err := c.historyFlags.config(c.Site, c.Seed)
		if err != nil {
			return err
		}
		return c.run(ctx, std, log, cfg)
	}
	cfg := c.config()
	cfg.Progress = std.err
	l, err := load.New(cfg)
	if err != nil {
		return err
	}
	sum, err := l.Run(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		e := json.NewEncoder(std.out)
		e.SetIndent("", "  ")
		err = e.Encode(sum)
	} else {
		err = sum.Print(std.out)
	}
	if err == nil && sum.Counted == 0 && sum.Sent > 0 {
		err = errors.New("no beacon was counted: " + sum.Advice())
	}
	return err
}
