// Package hits has the statement that folds stored events into hits: page views and custom events, each with
// what is known of its visit. The sealer stores its rows, and a query runs it over days that aren't sealed,
// so that both count by the same rules.
package hits

import (
	"embed"
	"fmt"
	"strings"
	"text/template"
)

// Rules is the version of the statement's rules. Rows that were sealed under other rules are built again.
const Rules = 1

//go:embed sql/hits.sql
var files embed.FS

var statement = template.Must(template.ParseFS(files, "sql/hits.sql"))

// Columns of a hit of its own.
var hitColumns = []string{"name", "hostname", "props", "revenue_micros", "currency"}

// Columns of a hit that are those of its visit's first event.
var visitColumns = []string{
	"source", "channel", "referrer", "utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term",
	"country", "region", "city", "device", "screen", "browser", "browser_version", "os", "os_version",
	"language", "user",
}

// Fold says which events a statement reads and which columns it returns. Its texts are SQL. Beside those
// that are named it returns site, day, who, visit, alone, n, ts, utc_offset, kind, start, pageviews,
// duration_ms and bounced, as the table `hits` has them.
type Fold struct {
	Where       string   // condition on the events; it may name parameters
	Who         string   // expression of a visitor, made from `visitor`, or from `number` if Numbered
	Numbered    bool     // number counts the visitors of each site's day
	Day, Offset string   // expressions of an event's local day and utc_offset; "": the stored ones
	Hit         []string // name, hostname, props, revenue_micros, currency
	Visit       []string // columns of the visit's first event, as source
	Engaged     bool     // also engaged_ms and scroll_depth
	Pages       bool     // also page, entry and exit
	Nth         bool     // also nth; needs Pages
	Next        bool     // also next; needs Pages
	Visits      bool     // a row for each visit, as in the table `visits`, in place of those of its hits
	Strings     bool     // pages and referrers are strings, "" for none; else keys, 0 for none
}

// key returns the expression of a string's key, or the string; that of none for "".
func (f Fold) key(value string) string {
	switch {
	case f.Strings && value == "":
		return "''"
	case f.Strings:
		return value
	case value == "":
		return "0"
	}
	return "cityHash64(" + value + ")"
}

// SQL returns the statement.
func (f Fold) SQL() (string, error) {
	data := struct {
		Fold
		Columns []string
		Key     func(string) string
	}{Fold: f, Key: f.key}
	if f.Pages {
		data.Columns = append(data.Columns, "path")
	}
	data.Columns = append(append(data.Columns, f.Hit...), f.Visit...)
	if f.Engaged {
		data.Columns = append(data.Columns, "engaged_ms", "scroll_depth")
	}
	var sql strings.Builder
	if err := statement.Execute(&sql, data); err != nil {
		return "", fmt.Errorf("write statement: %w", err)
	}
	return sql.String(), nil
}

// Select returns the statement for the events that pass a condition, which may name parameters. who is the
// expression of a visitor's number, made from `number`, which counts the visitors of each site's day. The
// columns are those of the table `hits` but the seal.
func Select(where, who string) (string, error) {
	return Fold{Where: where, Who: who, Numbered: true, Hit: hitColumns, Visit: visitColumns,
		Engaged: true, Pages: true, Nth: true, Next: true}.SQL()
}
