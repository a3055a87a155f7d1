package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// visitFlags say which visits a question is about. No environment variable gives them.
type visitFlags struct {
	serverFlags
	Site   string   `env:"-" required:"" placeholder:"DOMAIN" help:"Which site."`
	Range  string   `env:"-" placeholder:"RANGE" help:"Visits of which days: day, 24h, 7d, 30d, month, 12mo, all …, a date, or two dates or times separated by a comma (7d)."`
	Filter []string `env:"-" sep:"none" placeholder:"FILTER" help:"Only visits that have a page view or event which passes this, as 'source is Google, Bing'; repeat it."`
	Limit  int      `env:"-" placeholder:"N" help:"How many rows, up to 1000 (10)."`
	JSON   bool     `name:"json" env:"-" help:"Print the whole answer as JSON."`
}

// Validate implements kong's validation.
func (f *visitFlags) Validate() error {
	_, err := parseFilters(f.Filter)
	return err
}

// ask sends a question, to which it adds which visits it is about. Where the answer isn't to be printed as it
// is, it is decoded.
func (f *visitFlags) ask(
	ctx context.Context, std *stdio, path string, question map[string]any, answer any,
) (print bool, err error) {
	question["site_id"], question["date_range"] = f.Site, dateRange(f.Range)
	if len(f.Filter) > 0 {
		if question["filters"], err = parseFilters(f.Filter); err != nil {
			return false, err
		}
	}
	if f.Limit != 0 {
		question["limit"] = f.Limit
	}
	var body json.RawMessage
	if err := f.call(ctx, http.MethodPost, path, question, &body); err != nil {
		return false, err
	}
	if f.JSON {
		return false, f.writeJSON(std.out, body)
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return false, fmt.Errorf("read the answer of %s: %w", f.Server, err)
	}
	return true, nil
}

// aboutVisits is what the answers have in common.
type aboutVisits struct {
	Meta  struct{ Warnings []warning }
	Query struct {
		SiteID    string    `json:"site_id"`
		DateRange [2]string `json:"date_range"`
	}
}

// write prints a table below the site and the range, and what to know about it.
func (f *visitFlags) write(
	ctx context.Context, w io.Writer, a aboutVisits, lines [][]string, texts int, last string,
) error {
	span := spanOf(a.Query.DateRange, f.timezone(ctx, f.Site))
	if _, err := fmt.Fprintf(w, "%s, %s\n\n", printable(a.Query.SiteID), span); err != nil {
		return err
	}
	if err := writeLines(w, lines, texts, terminalWidth(w)); err != nil {
		return err
	}
	if last != "" {
		fmt.Fprintln(w, "\n"+last)
	}
	if len(a.Meta.Warnings) > 0 {
		fmt.Fprintln(w)
		writeWarnings(w, a.Meta.Warnings)
	}
	return nil
}

// percentOf prints a share; "" of nothing.
func percentOf(share *float64) string {
	if share == nil {
		return ""
	}
	return strconv.FormatFloat(*share, 'f', -1, 64) + "%"
}

// pause prints a time in seconds.
func pause(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
