package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
)

type exportCmd struct {
	serverFlags
	Site   string `required:"" placeholder:"DOMAIN" help:"Of which site."`
	From   string `placeholder:"DAY" help:"The first day, as 2026-01-31; without it, all days."`
	To     string `placeholder:"DAY" help:"The last day."`
	Format string `default:"ndjson" enum:"csv,ndjson,parquet" placeholder:"FORMAT" help:"csv, ndjson or parquet (${default})."`
	Output string `short:"o" placeholder:"FILE" help:"Where to write; without it, to stdout."`
}

// Help implements kong.HelpProvider.
func (exportCmd) Help() string {
	return `Writes the single events of a site, ordered by the hour of receipt. Visitors are numbers that
hold for this export alone. When the export can't go on, the command fails and leaves no file.

Examples:

	nowcast export --site example.com --format csv -o events.csv
	nowcast export --site example.com --from 2026-11-01 --to 2026-11-30 | gzip >november.ndjson.gz`
}

// Run runs the command.
func (c *exportCmd) Run(ctx context.Context, std *stdio) (err error) {
	query := url.Values{"format": {c.Format}}
	for name, day := range map[string]string{"from": c.From, "to": c.To} {
		if day != "" {
			query.Set(name, day)
		}
	}
	path := "/api/v1/sites/" + url.PathEscape(c.Site) + "/export?" + query.Encode()
	res, err := c.send(ctx, http.MethodGet, path, nil, "")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	out := std.out
	if c.Output != "" {
		f, err := os.OpenFile(c.Output, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("make the file of the export: %w", err)
		}
		defer func() {
			if closing := f.Close(); err == nil {
				err = closing
			}
		}()
		out = f
	}
	var done atomic.Int64
	p := startProgress(std.err, &done, 0)
	defer p.stop()
	_, err = io.Copy(io.MultiWriter(out, countingWriter{&done}), res.Body)
	p.stop()
	if err == nil {
		return nil
	}
	if c.Output != "" {
		err = errors.Join(err, os.Remove(c.Output))
	}
	return fmt.Errorf("the export broke off, so what there is of it isn't whole: %w", err)
}

// countingWriter counts what is written.
type countingWriter struct{ n *atomic.Int64 }

// Write implements io.Writer.
func (w countingWriter) Write(b []byte) (int, error) {
	w.n.Add(int64(len(b)))
	return len(b), nil
}
