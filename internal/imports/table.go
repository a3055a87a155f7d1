package imports

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// maxRecord bounds one record of a CSV file, in bytes.
const maxRecord = 1 << 20

// recordLimit is a reader that fails when one record takes over maxRecord bytes: encoding/csv would read a
// quote without an end into memory.
type recordLimit struct {
	in       io.Reader
	left     int
	exceeded bool
}

var errLongRecord = fmt.Errorf("a record is over %d bytes: a quote has no end, or this is no CSV file",
	maxRecord)

// Read implements io.Reader.
func (l *recordLimit) Read(p []byte) (int, error) {
	if l.left <= 0 {
		l.exceeded = true
		return 0, errLongRecord
	}
	n, err := l.in.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// table reads a CSV file with a header.
type table struct {
	m       member
	in      *csv.Reader
	limit   *recordLimit
	columns map[string]int // by normalized name
	row     []string
	line    int
	failure error
}

// normal is the form in which names of columns are compared: letters and digits alone, in lower case.
func normal(name string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(name) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			b.WriteRune(c)
		}
	}
	return b.String()
}

// headerNames returns the index of each column by its normalized name, the first of equal ones.
func headerNames(header []string) map[string]int {
	names := map[string]int{}
	for i, h := range header {
		if n := normal(h); n != "" {
			if _, ok := names[n]; !ok {
				names[n] = i
			}
		}
	}
	return names
}

// newTable reads the header of a CSV file. With comment, lines that begin with it are left out.
func newTable(m member, in io.Reader, comment rune) (*table, error) {
	t := &table{m: m, limit: &recordLimit{in: in, left: maxRecord}}
	t.in = csv.NewReader(t.limit)
	t.in.FieldsPerRecord, t.in.ReuseRecord, t.in.LazyQuotes, t.in.Comment = -1, true, true, comment
	if !t.next() {
		if err := t.err(); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%s has no line: want a header", m.name)
	}
	t.columns = headerNames(t.row)
	return t, nil
}

// next reads the next row. It returns false at the end of the file and after an error, which err returns.
func (t *table) next() bool {
	t.limit.left = maxRecord
	row, err := t.in.Read()
	if errors.Is(err, io.EOF) {
		return false
	}
	if t.limit.exceeded { // with LazyQuotes, the part that was read is a record without an error
		err = errLongRecord
	}
	if err != nil {
		line := t.line + 1
		var wrong *csv.ParseError
		if errors.As(err, &wrong) {
			line, err = wrong.Line, wrong.Err
		}
		t.failure = failed(t.m, line, "%w", err)
		return false
	}
	t.row = row
	t.line, _ = t.in.FieldPos(0)
	return true
}

// err returns the error that ended the rows.
func (t *table) err() error { return t.failure }

// has reports whether the table has a column.
func (t *table) has(name string) bool {
	_, ok := t.columns[name]
	return ok
}

// require returns an error that names the first column that is missing.
func (t *table) require(names ...string) error {
	for _, n := range names {
		if !t.has(n) {
			return failed(t.m, max(t.line, 1), "there is no column %s", n)
		}
	}
	return nil
}

// get returns the current row's value in a column, "" if there is none. It is valid until next.
func (t *table) get(name string) string {
	i, ok := t.columns[name]
	if !ok || i >= len(t.row) {
		return ""
	}
	return t.row[i]
}

// text is get with a copy that stays.
func (t *table) text(name string) string { return strings.Clone(t.get(name)) }

// number reads a value that counts something; "" is 0. Tools write counts also as 12.0 and 1.2e+07.
func (t *table) number(name string) (uint64, error) {
	s := strings.TrimSpace(t.get(name))
	if s == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(s, 10, 64); err == nil && n <= maxCount {
		return n, nil
	}
	f, err := t.fraction(name)
	if err != nil || f < 0 || f > maxCount {
		return 0, failed(t.m, t.line, "%s in column %s is no count", quoted(s), name)
	}
	return uint64(math.Round(f)), nil
}

// fraction reads a number; "12%" is 0.12.
func (t *table) fraction(name string) (float64, error) {
	s := strings.TrimSpace(t.get(name))
	if s == "" {
		return 0, nil
	}
	unit := 1.0
	if p, ok := strings.CutSuffix(s, "%"); ok {
		s, unit = strings.TrimSpace(p), 0.01
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, failed(t.m, t.line, "%s in column %s is no number", quoted(s), name)
	}
	return f * unit, nil
}

// day reads a column as a day.
func (t *table) day(name string) (Day, error) {
	d, err := ParseDay(strings.TrimSpace(t.get(name)))
	if err != nil {
		return 0, failed(t.m, t.line, "%w", err)
	}
	return d, nil
}

// canceled returns the error of an import that was given up, looked at every 1,024 rows.
func (r *run) canceled() error {
	if r.report.Rows%1024 == 0 {
		return r.ctx.Err()
	}
	return nil
}
