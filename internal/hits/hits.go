// Package hits has the statement that folds stored events into hits: page views and custom events, each with
// what is known of its visit. The sealer stores its rows, and a query runs it over days that aren't sealed, so
// that both count by the same rules.
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

// Select returns the statement for the events that pass a condition, which may name parameters. who is the
// expression of a visitor's number, made from `number`, which counts the visitors of each site's day. The
// columns are those of the table `hits` but the seal.
func Select(where, who string) (string, error) {
	data := struct {
		Where, Who                        string
		Columns, HitColumns, VisitColumns []string
		Engaged                           bool
	}{Where: where, Who: who, HitColumns: hitColumns, VisitColumns: visitColumns, Engaged: true}
	data.Columns = append(append(append(data.Columns, hitColumns...), visitColumns...),
		"engaged_ms", "scroll_depth")
	var sql strings.Builder
	if err := statement.Execute(&sql, data); err != nil {
		return "", fmt.Errorf("write statement: %w", err)
	}
	return sql.String(), nil
}
