package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"nowcast/internal/imports"
	"nowcast/streamer/api"
)

type importCmd struct {
	Add    importAddCmd    `cmd:"" default:"withargs" help:"Import files."`
	List   importListCmd   `cmd:"" help:"List what was imported into a site."`
	Remove importRemoveCmd `cmd:"" help:"Take an import back."`
}

// Help implements kong.HelpProvider.
func (importCmd) Help() string {
	return `Reads the exports of other tools on this machine and sends sums by day to the server, never
single visits or addresses. A file sent twice counts once. Days since the site's first own event are left
out, so that nothing counts twice.

	plausible    imported_*.csv, or the zip of them
	ga4          CSV by date and any dimensions, from the Data API or BigQuery
	umami        CSV of website_event, or a dump by pg_dump or mysqldump
	matomo       CSV of reports by day, each named after its API method, such as VisitsSummary.get.csv
	goatcounter  the CSV export, version 2
	log          a server's log: Combined, JSON lines (Caddy, Traefik, nginx) or CloudFront

Examples:

	nowcast import --site example.com --dry-run plausible.zip
	nowcast import --site example.com --format log access.log access.log.1.gz
	nowcast import list example.com
	nowcast import remove example.com imp_4q2w7hj5xk3m6zna`
}

func importsPath(domain string) string { return "/api/v1/sites/" + url.PathEscape(domain) + "/imports" }

type importAddCmd struct {
	serverFlags
	Site    string   `required:"" placeholder:"DOMAIN" help:"Into which site."`
	Format  string   `placeholder:"FORMAT" help:"plausible, ga4, umami, matomo, goatcounter or log; without it, guessed from the files."`
	DryRun  bool     `help:"Only say what would be imported."`
	Overlap bool     `help:"Import also days on which the site has events of its own or another import."`
	Files   []string `arg:"" name:"file" placeholder:"FILE" help:"The export: CSV, a log, a zip of them; also compressed with gzip."`
}

// Help implements kong.HelpProvider.
func (importAddCmd) Help() string {
	return `The word add may be left out.

Examples:

	nowcast import add --site example.com --dry-run plausible.zip
	nowcast import --site example.com --format log access.log access.log.1.gz`
}

// Run runs the command.
func (c *importAddCmd) Run(ctx context.Context, std *stdio, log *slog.Logger) error {
	var site api.Site
	if err := c.call(ctx, http.MethodGet, "/api/v1/sites/"+url.PathEscape(c.Site), nil, &site); err != nil {
		return err
	}
	zone, err := time.LoadLocation(site.Timezone)
	if err != nil {
		return fmt.Errorf("read the site's time zone: %w", err)
	}
	classify, err := newClassifier(site.Domain, log)
	if err != nil {
		return err
	}
	var read atomic.Int64
	files, total, err := openFiles(c.Files, &read)
	if err != nil {
		return err
	}
	defer closeFiles(files)
	format, err := imports.FormatOf(imports.Format(c.Format), sources(files))
	if err != nil {
		return err
	}
	c.Format = string(format)
	progress := startProgress(std.err, &read, total)
	defer progress.stop()
	send := func(w io.Writer) (imports.Report, error) {
		out := bufio.NewWriterSize(w, 64<<10)
		var line []byte
		report, err := imports.Run(ctx, imports.Config{Format: format, Site: site.Domain, Zone: zone,
			Classify: classify, Emit: func(s imports.Sum) error {
				line = append(s.AppendJSON(line[:0]), '\n')
				_, err := out.Write(line)
				return err
			}}, sources(files))
		if err == nil {
			err = out.Flush()
		}
		return report, err
	}
	report, imported, err := c.upload(ctx, send)
	progress.stop()
	if err != nil {
		return err
	}
	return printImported(std.out, report, imported)
}

// upload sends what write writes, and returns its report and the server's answer. When write fails, the
// server gets no whole body, and nothing counts.
func (c *importAddCmd) upload(ctx context.Context, write func(io.Writer) (imports.Report, error)) (
	report imports.Report, imported api.Import, err error) {
	query := url.Values{"name": {c.name()}, "format": {c.Format}}
	for name, set := range map[string]bool{"dry_run": c.DryRun, "overlap": c.Overlap} {
		if set {
			query.Set(name, "true")
		}
	}
	body, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		var err error
		report, err = write(w)
		_ = w.CloseWithError(err) // always nil
		written <- err
	}()
	path := importsPath(c.Site) + "?" + query.Encode()
	res, err := c.send(ctx, http.MethodPost, path, body, "application/x-ndjson")
	_ = body.Close() // ends write, where the server refuses the body early
	failed := <-written
	if failed != nil && !errors.Is(failed, io.ErrClosedPipe) {
		if err == nil {
			res.Body.Close()
		}
		return report, imported, failed
	}
	if err != nil {
		return report, imported, err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&imported); err != nil {
		return report, imported, fmt.Errorf("read the answer of %s: %w", c.Server, err)
	}
	return report, imported, nil
}

// name is what the list shows of the files.
func (c *importAddCmd) name() string {
	name := filepath.Base(c.Files[0])
	if n := len(c.Files) - 1; n > 0 {
		name += fmt.Sprintf(" and %d more", n)
	}
	return strings.ToValidUTF8(name[:min(len(name), 200)], "")
}

// countedFile is a file that counts what is read of it.
type countedFile struct {
	*os.File
	size int64
	read *atomic.Int64
}

// ReadAt implements io.ReaderAt.
func (f countedFile) ReadAt(b []byte, at int64) (int, error) {
	n, err := f.File.ReadAt(b, at)
	f.read.Add(int64(n))
	return n, err
}

func openFiles(paths []string, read *atomic.Int64) (files []countedFile, total int64, err error) {
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			closeFiles(files)
			return nil, 0, err
		}
		info, err := f.Stat()
		if err == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("%s is no regular file", path)
		}
		if err != nil {
			f.Close()
			closeFiles(files)
			return nil, 0, err
		}
		files = append(files, countedFile{f, info.Size(), read})
		total += info.Size()
	}
	return files, total, nil
}

func closeFiles(files []countedFile) {
	for _, f := range files {
		f.Close()
	}
}

func sources(files []countedFile) (out []imports.File) {
	for _, f := range files {
		out = append(out, imports.File{Name: filepath.Base(f.Name()), At: f, Size: f.size})
	}
	return out
}

// printImported prints what was read, what counts and what doesn't.
func printImported(w io.Writer, r imports.Report, x api.Import) error {
	fmt.Fprintf(w, "Read %d rows of %d files (%s): %d sums", r.Rows, r.Files, r.Format, r.Sums)
	if r.Sums > 0 {
		fmt.Fprintf(w, " of %s to %s", r.First, r.Last)
	}
	fmt.Fprintln(w, ".")
	for _, reason := range slices.SortedFunc(maps.Keys(r.Skipped), func(a, b string) int {
		return cmp.Or(r.Skipped[b]-r.Skipped[a], strings.Compare(a, b))
	}) {
		fmt.Fprintf(w, "  not read: %d, %s\n", r.Skipped[reason], reason)
	}
	for _, s := range x.Skipped {
		fmt.Fprintf(w, "  not imported: %d sums, %s\n", s.Sums, s.Reason)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "  note: %s\n", n)
	}
	what := fmt.Sprintf("%d sums of %d days, %s to %s", x.Sums, x.Days, x.First, x.Last)
	var err error
	switch {
	case x.Repeated != nil && *x.Repeated:
		_, err = fmt.Fprintf(w, "This was imported before, as %s: it counts once.\n", x.Id)
	case x.DryRun != nil && *x.DryRun:
		_, err = fmt.Fprintf(w, "Would import %s. Nothing was stored.\n", what)
	default:
		_, err = fmt.Fprintf(w, "Imported %s, as %s.\n", what, x.Id)
	}
	return err
}

type importListCmd struct {
	serverFlags
	Domain string `arg:"" placeholder:"DOMAIN" help:"Which site."`
}

// Help implements kong.HelpProvider.
func (importListCmd) Help() string {
	return `Example:

	nowcast import list example.com`
}

// Run runs the command.
func (c *importListCmd) Run(ctx context.Context, std *stdio) error {
	var list api.ImportList
	if err := c.call(ctx, http.MethodGet, importsPath(c.Domain), nil, &list); err != nil {
		return err
	}
	t := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tFORMAT\tNAME\tFIRST\tLAST\tSUMS\tIMPORTED")
	for _, x := range list.Imports {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", x.Id, x.Format, x.Name, x.First, x.Last, x.Sums,
			x.At.Format(time.DateTime))
	}
	return t.Flush()
}

type importRemoveCmd struct {
	serverFlags
	Domain string `arg:"" placeholder:"DOMAIN" help:"Which site."`
	ID     string `arg:"" placeholder:"ID" help:"Which import, as the list shows it."`
}

// Help implements kong.HelpProvider.
func (importRemoveCmd) Help() string {
	return `Example:

	nowcast import remove example.com imp_4q2w7hj5xk3m6zna`
}

// Run runs the command.
func (c *importRemoveCmd) Run(ctx context.Context, std *stdio) error {
	if err := c.call(ctx, http.MethodDelete, importsPath(c.Domain)+"/"+url.PathEscape(c.ID), nil,
		nil); err != nil {
		return err
	}
	_, err := fmt.Fprintf(std.out, "%s is taken back: nothing of it is left\n", c.ID)
	return err
}
