package exporter

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"strconv"
	"time"

	"github.com/dchest/siphash"

	"nowcast/streamer/api"
)

// row is one event.
type row struct {
	ts            time.Time
	day           time.Time
	offset        int32
	visitor, user uint64
	text          [22]string // of textColumns
	props         map[string]string
	micros        int64
	currency      string
	scroll        uint8
	engaged       uint32
	interactive   bool

	scan []any
}

// textColumns are the columns between `user` and `props`, in the order of the statement.
var textColumns = [...]string{"kind", "name", "hostname", "path", "referrer", "source", "channel",
	"utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term", "country", "region", "city",
	"device", "screen", "browser", "browser_version", "os", "os_version", "language"}

// pointers are what a row of the statement is scanned into.
func (r *row) pointers() []any {
	if r.scan == nil {
		r.scan = []any{&r.ts, &r.day, &r.offset, &r.visitor, &r.user}
		for i := range textColumns {
			r.scan = append(r.scan, &r.text[i])
		}
		r.scan = append(r.scan, &r.props, &r.micros, &r.currency, &r.scroll, &r.engaged, &r.interactive)
	}
	return r.scan
}

// numbers replaces ids by numbers that hold for one export: two exports can't be joined by them, and nobody
// can look an id up by one, or erase by it.
type numbers struct{ k0, k1 uint64 }

func newNumbers() *numbers {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return &numbers{binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])}
}

// of returns the number of an id; that of 0, which is none, is 0.
func (n *numbers) of(id uint64) uint64 {
	if id == 0 {
		return 0
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], id)
	return max(1, siphash.Hash(n.k0, n.k1, b[:]))
}

// encoding is a format of exports.
type encoding struct {
	contentType, extension string
	start                  func(*bufio.Writer) rowWriter
}

// rowWriter writes rows.
type rowWriter interface {
	write(r *row) error
	end() error
}

var encodings = map[api.GetExportParamsFormat]encoding{
	api.Csv:     {"text/csv; charset=utf-8", "csv", startCSV},
	api.Ndjson:  {"application/x-ndjson", "ndjson", startNDJSON},
	api.Parquet: {"application/vnd.apache.parquet", "parquet", startParquet},
}

const timeFormat = "2006-01-02T15:04:05.000Z"

// numberText is a visitor's or a user's number; "" stands for none.
func numberText(n uint64) string {
	if n == 0 {
		return ""
	}
	s := strconv.FormatUint(n, 16)
	return "0000000000000000"[len(s):] + s
}

// csvWriter writes a header and a line an event; properties are one JSON object.
type csvWriter struct {
	out    *csv.Writer
	record []string
	begun  bool
}

func startCSV(w *bufio.Writer) rowWriter { return &csvWriter{out: csv.NewWriter(w)} }

func (c *csvWriter) header() error {
	if c.begun {
		return nil
	}
	c.begun = true
	header := append([]string{"time", "day", "utc_offset", "visitor", "user"}, textColumns[:]...)
	return c.out.Write(append(header, "props", "revenue_micros", "currency", "scroll_depth", "engaged_ms",
		"interactive"))
}

func (c *csvWriter) write(r *row) error {
	if err := c.header(); err != nil {
		return err
	}
	props := ""
	if len(r.props) > 0 {
		b, err := json.Marshal(r.props)
		if err != nil {
			return err
		}
		props = string(b)
	}
	c.record = append(c.record[:0], r.ts.UTC().Format(timeFormat), r.day.Format(time.DateOnly),
		strconv.Itoa(int(r.offset)), numberText(r.visitor), numberText(r.user))
	c.record = append(c.record, r.text[:]...)
	c.record = append(c.record, props, strconv.FormatInt(r.micros, 10), r.currency,
		strconv.Itoa(int(r.scroll)), strconv.FormatUint(uint64(r.engaged), 10),
		strconv.FormatBool(r.interactive))
	return c.out.Write(c.record)
}

func (c *csvWriter) end() error {
	if err := c.header(); err != nil {
		return err
	}
	c.out.Flush()
	return c.out.Error()
}

// ndjsonWriter writes an object a line; texts that are empty are left out.
type ndjsonWriter struct {
	out  *bufio.Writer
	line []byte
}

func startNDJSON(w *bufio.Writer) rowWriter { return &ndjsonWriter{out: w} }

func (n *ndjsonWriter) write(r *row) error {
	b := append(n.line[:0], `{"time":"`...)
	b = r.ts.UTC().AppendFormat(b, timeFormat)
	b = append(b, `","day":"`...)
	b = r.day.AppendFormat(b, time.DateOnly)
	b = strconv.AppendInt(append(b, `","utc_offset":`...), int64(r.offset), 10)
	b = appendText(b, "visitor", numberText(r.visitor))
	b = appendText(b, "user", numberText(r.user))
	for i, name := range textColumns {
		b = appendText(b, name, r.text[i])
	}
	if len(r.props) > 0 {
		props, err := json.Marshal(r.props)
		if err != nil {
			return err
		}
		b = append(append(b, `,"props":`...), props...)
	}
	if r.currency != "" {
		b = strconv.AppendInt(append(b, `,"revenue_micros":`...), r.micros, 10)
		b = appendText(b, "currency", r.currency)
	}
	b = strconv.AppendUint(append(b, `,"scroll_depth":`...), uint64(r.scroll), 10)
	b = strconv.AppendUint(append(b, `,"engaged_ms":`...), uint64(r.engaged), 10)
	b = strconv.AppendBool(append(b, `,"interactive":`...), r.interactive)
	n.line = append(b, "}\n"...)
	_, err := n.out.Write(n.line)
	return err
}

func appendText(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	text, err := json.Marshal(value)
	if err != nil { // a string has none
		return b
	}
	b = append(append(append(b, ',', '"'), name...), `":`...)
	return append(b, text...)
}

func (n *ndjsonWriter) end() error { return nil }
