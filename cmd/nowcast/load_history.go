package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"nowcast/internal/past"
)

// historyFlags are those of `nowcast load --history`.
type historyFlags struct {
	History    months `placeholder:"MONTHS" help:"Write a past of so many months, as 12mo, in place of sending beacons."`
	Events     int64  `default:"1000000" placeholder:"N" help:"With --history: about how many events there are (${default})."`
	Timezone   string `default:"UTC" placeholder:"ZONE" help:"With --history: the time zone of the sites (${default})."`
	Clickhouse string `secret:"" placeholder:"URL" help:"With --history: ClickHouse, as clickhouse://user@host:9000/database; without it, that of --data-dir."`
	clickhouseAccess
	DataDir string `default:"./.nowcast" placeholder:"DIR" help:"With --history: data dir of a running nowcast all (${default})."`
}

// months is a number of months; 0: none is given.
type months int

// UnmarshalText reads 12mo or 1y.
func (m *months) UnmarshalText(b []byte) error {
	for unit, factor := range map[string]int{"mo": 1, "y": 12} {
		if digits, ok := strings.CutSuffix(string(b), unit); ok {
			if n, err := strconv.Atoi(digits); err == nil && n > 0 && n <= 132 {
				*m = months(n * factor)
				return nil
			}
		}
	}
	return fmt.Errorf("%q is no length of a past: give it in months, as 12mo, or in years, as 1y", b)
}

// config returns what is written, and where the sites' days begin.
func (f *historyFlags) config(sites []string, seed uint64) (past.Config, error) {
	zone, err := time.LoadLocation(f.Timezone)
	if err != nil || f.Timezone == "Local" {
		return past.Config{}, fmt.Errorf("%s is no time zone; give an IANA name "+
			"such as Europe/Berlin", f.Timezone)
	}
	c := past.Config{Sites: sites, Zone: zone, Until: time.Now(), Months: int(f.History),
		Events: f.Events, Seed: seed}
	return c, errors.Join(c.Validate(), f.checkClickhouse())
}

func (f *historyFlags) checkClickhouse() error {
	if f.Clickhouse == "" {
		return nil
	}
	return f.check(f.Clickhouse)
}

// run writes the past.
func (f *historyFlags) run(ctx context.Context, std *stdio, log *slog.Logger, cfg past.Config) error {
	const noKafka = "none" // none is used
	ends, err := endpointsOf(f.DataDir, []string{noKafka}, f.Clickhouse)
	if err != nil {
		return err
	}
	db, err := f.open(log, ends.Clickhouse)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // every insert was acknowledged
	if err := db.Wait(ctx, log); err != nil {
		return err
	}
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	shown := time.Now()
	cfg.Progress = func(done float64) {
		if time.Since(shown) >= time.Second {
			shown = time.Now()
			fmt.Fprintf(std.err, "%.0f %% of %d events\n", 100*done, cfg.Events)
		}
	}
	if err := past.Run(ctx, db, cfg); err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "Wrote about %d events of %d months to %s.\n", cfg.Events, cfg.Months,
		strings.Join(cfg.Sites, ", "))
	return err
}
