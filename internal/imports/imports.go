// Package imports turns the exports of other tools into sums by day.
//
// A parser reads the bytes of one format and makes sums: what a tool counted of one value of one dimension on
// one day of the site. Formats that have sums (Plausible, Google Analytics, Matomo) are added up as they are
// read. Formats that have single hits (Umami, GoatCounter, server logs) are counted by the rules of history:
// a visitor lasts one day of the site, and a pause of 30 minutes ends a visit.
//
// Memory is bounded: sums leave in blocks of maxSums, so one key may leave more than once and readers add the
// rows up; hits are held by day, at most maxHits at a time. An error names the file and the line. The package
// knows no HTTP, no ClickHouse and no role.
package imports

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Format is the format of an export.
type Format string

// The formats.
const (
	Plausible   Format = "plausible"   // CSV files imported_*.csv, or the zip of them
	GA4         Format = "ga4"         // CSV of the Data API or of BigQuery, by date and dimensions
	Umami       Format = "umami"       // CSV of website_event, or a dump of PostgreSQL or MySQL
	Matomo      Format = "matomo"      // CSV of reports by day, each file named after its API method
	GoatCounter Format = "goatcounter" // CSV, version 2
	Log         Format = "log"         // Combined, JSON lines or CloudFront
)

// Formats lists the formats.
func Formats() []Format { return []Format{Plausible, GA4, Umami, Matomo, GoatCounter, Log} }

// Page is what a hit shows of its page and of its sender.
type Page struct {
	Hostname    string // "" if the export has none
	Path        string // with a query, if the export has one
	Referrer    string // an address with scheme
	UserAgent   string
	Address     netip.Addr // the zero address if the export has none
	ScreenWidth int64
	Language    string
}

// Attributes are the dimensions of a visit. Their values are those that ingest gives to events.
type Attributes struct {
	Source, Channel, Referrer                              string
	UTMSource, UTMMedium, UTMCampaign, UTMContent, UTMTerm string
	Country, Region, City                                  string
	Device, Screen, Browser, BrowserVersion, OS, OSVersion string
	Language                                               string
}

// Classifier derives attributes as ingest does. It is implemented with package enrich.
type Classifier interface {
	// Classify also returns the page's path without its query, and whether a robot sent the hit.
	Classify(p Page) (path string, a Attributes, robot bool)
}

// Config says what is imported and where the sums go.
type Config struct {
	Format   Format         // "": guessed from the first bytes of each file
	Site     string         // its domain, by which it is found in a dump
	Zone     *time.Location // the site's; it cuts hits into days
	Classify Classifier
	Emit     func(Sum) error
}

// File is one file of an export: plain, gzip, or a zip of several.
type File struct {
	Name string
	At   io.ReaderAt
	Size int64
}

// Report says what an import has read.
type Report struct {
	Format  Format
	Files   int            // read, members of archives included
	Rows    uint64         // rows or lines that count
	Sums    uint64         // emitted
	First   Day            // of the sums; 0 of both without a sum
	Last    Day            //
	Skipped map[string]int // rows, lines or files by the reason why they don't count
	Notes   []string       // what the export lacks
}

// Reasons of Report.Skipped, of more than one format.
const (
	skipRobot    = "sent by a robot"
	skipKind     = "of a kind that isn't imported"
	skipNoDay    = "without a day"
	skipRepeated = "another file has this dimension of the same day"
)

// run is one import.
type run struct {
	ctx      context.Context
	cfg      Config
	sums     *adder
	days     *days
	report   Report
	visitors visitorHash
}

// parser reads one file; it is made once for all files of an import.
type parser func(r *run, m member, in io.Reader) error

var parsers = map[Format]parser{
	Plausible: parsePlausible, GA4: parseGA4, Umami: parseUmami, Matomo: parseMatomo,
	GoatCounter: parseGoatCounter, Log: parseLog,
}

// Run reads the files and emits their sums. The same files give the same sums in the same order, in whatever
// order they are named.
func Run(ctx context.Context, cfg Config, files []File) (Report, error) {
	if cfg.Zone == nil {
		cfg.Zone = time.UTC
	}
	members, err := expand(files)
	if err != nil {
		return Report{}, err
	}
	format, err := formatOf(cfg.Format, members)
	if err != nil {
		return Report{}, err
	}
	if format == Log || format == Umami || format == GoatCounter {
		if cfg.Classify == nil {
			return Report{}, fmt.Errorf("%s needs a classifier", format)
		}
	}
	r := &run{ctx: ctx, cfg: cfg, report: Report{Format: format, Skipped: map[string]int{}},
		visitors: visitorHash{maphash.MakeSeed()}}
	r.sums = newAdder(func(s Sum) error {
		r.report.span(s.Day)
		r.report.Sums++
		return cfg.Emit(s)
	})
	r.days = newDays(cfg.Zone, r.sums)
	slices.SortStableFunc(members, func(a, b member) int { return cmp.Compare(a.name, b.name) })
	for _, m := range members {
		if err := r.read(format, m); err != nil {
			return r.report, err
		}
	}
	if err := r.days.close(); err != nil {
		return r.report, err
	}
	if err := r.sums.flush(); err != nil {
		return r.report, err
	}
	r.note()
	return r.report, nil
}

func (r *run) read(format Format, m member) error {
	in, err := m.open()
	if err != nil {
		return fmt.Errorf("open %s: %w", m.name, err)
	}
	defer in.Close()
	r.report.Files++
	r.sums.file++
	r.sums.group = ""
	return parsers[format](r, m, in)
}

// skip counts something that isn't imported.
func (r *run) skip(reason string) { r.report.Skipped[reason]++ }

// add adds a sum of the current file. What another file has of the same day is left out.
func (r *run) add(s Sum) error {
	added, err := r.sums.add(s)
	if !added && err == nil {
		r.skip(skipRepeated)
	}
	return err
}

// note says what the sums lack.
func (r *run) note() {
	if r.report.Sums > 0 && !r.sums.totals {
		r.report.Notes = append(r.report.Notes, "no file has the totals of days: "+
			"questions without a dimension don't count this import")
	}
}

func (p *Report) span(d Day) {
	if p.Sums == 0 || d < p.First {
		p.First = d
	}
	if p.Sums == 0 || d > p.Last {
		p.Last = d
	}
}

// failed gives an error its file and line.
func failed(m member, line int, format string, args ...any) error {
	return fmt.Errorf("%s, line %d: %w", m.name, line, fmt.Errorf(format, args...))
}

// quoted shortens what an error repeats of a file.
func quoted(s string) string {
	if len(s) > 60 {
		s = strings.ToValidUTF8(s[:60], "") + "…"
	}
	return fmt.Sprintf("%q", s)
}
