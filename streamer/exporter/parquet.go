package exporter

import (
	"bufio"

	"github.com/parquet-go/parquet-go"
)

// groupRows is how many rows a Parquet writer holds: those of a row group.
const groupRows = 20_000

// parquetRow is a row of a Parquet file, by the columns of the other formats.
type parquetRow struct {
	Time           int64             `parquet:"time,timestamp(millisecond)"`
	Day            int32             `parquet:"day,date"`
	UTCOffset      int32             `parquet:"utc_offset"`
	Visitor        string            `parquet:"visitor,dict"`
	User           string            `parquet:"user,dict"`
	Kind           string            `parquet:"kind,dict"`
	Name           string            `parquet:"name,dict"`
	Hostname       string            `parquet:"hostname,dict"`
	Path           string            `parquet:"path,dict"`
	Referrer       string            `parquet:"referrer,dict"`
	Source         string            `parquet:"source,dict"`
	Channel        string            `parquet:"channel,dict"`
	UTMSource      string            `parquet:"utm_source,dict"`
	UTMMedium      string            `parquet:"utm_medium,dict"`
	UTMCampaign    string            `parquet:"utm_campaign,dict"`
	UTMContent     string            `parquet:"utm_content,dict"`
	UTMTerm        string            `parquet:"utm_term,dict"`
	Country        string            `parquet:"country,dict"`
	Region         string            `parquet:"region,dict"`
	City           string            `parquet:"city,dict"`
	Device         string            `parquet:"device,dict"`
	Screen         string            `parquet:"screen,dict"`
	Browser        string            `parquet:"browser,dict"`
	BrowserVersion string            `parquet:"browser_version,dict"`
	OS             string            `parquet:"os,dict"`
	OSVersion      string            `parquet:"os_version,dict"`
	Language       string            `parquet:"language,dict"`
	Props          map[string]string `parquet:"props"`
	RevenueMicros  int64             `parquet:"revenue_micros"`
	Currency       string            `parquet:"currency,dict"`
	ScrollDepth    int32             `parquet:"scroll_depth"`
	EngagedMS      int64             `parquet:"engaged_ms"`
	Interactive    bool              `parquet:"interactive"`
}

// parquetWriter writes Parquet with row groups of groupRows rows.
type parquetWriter struct {
	out  *parquet.GenericWriter[parquetRow]
	rows [1]parquetRow
	n    int
}

func startParquet(w *bufio.Writer) rowWriter {
	return &parquetWriter{out: parquet.NewGenericWriter[parquetRow](w, parquet.Compression(&parquet.Zstd))}
}

func (p *parquetWriter) write(r *row) error {
	t := &r.text
	p.rows[0] = parquetRow{
		Time: r.ts.UnixMilli(), Day: int32(r.day.Unix() / 86_400), //nolint:gosec // days
		UTCOffset: r.offset, Visitor: numberText(r.visitor), User: numberText(r.user),
		Kind: t[0], Name: t[1], Hostname: t[2], Path: t[3], Referrer: t[4], Source: t[5], Channel: t[6],
		UTMSource: t[7], UTMMedium: t[8], UTMCampaign: t[9], UTMContent: t[10], UTMTerm: t[11],
		Country: t[12], Region: t[13], City: t[14], Device: t[15], Screen: t[16], Browser: t[17],
		BrowserVersion: t[18], OS: t[19], OSVersion: t[20], Language: t[21], Props: r.props,
		RevenueMicros: r.micros, Currency: r.currency, ScrollDepth: int32(r.scroll),
		EngagedMS: int64(r.engaged), Interactive: r.interactive,
	}
	if _, err := p.out.Write(p.rows[:]); err != nil {
		return err
	}
	if p.n++; p.n%groupRows == 0 {
		return p.out.Flush()
	}
	return nil
}

func (p *parquetWriter) end() error { return p.out.Close() }
