package aggregator

import (
	"context"
	_ "embed"
	"strings"

	chproto "github.com/ClickHouse/ch-go/proto"
)

//go:embed sql/insert_marks.sql
var insertMarks string

// dayMarks are the sites' days that the rows of a batch are of. A mark is written after the rows:
// a sealed day that was built before is then no longer current.
type dayMarks struct {
	seen map[siteDay]struct{}
	last siteDay // of the newest row: consecutive rows often share it

	site lowCardinality
	day  dates
	n    chproto.ColUInt64
}

type siteDay struct {
	site string
	day  uint16 // since 1970
}

// dayOf returns the day of an event that ClickHouse gives it.
func dayOf(ms int64) uint16 {
	const inDay = 24 * 60 * 60 * 1000
	return uint16(max(0, min(ms/inDay, 1<<16-1)))
}

func (m *dayMarks) add(site string, day uint16) {
	k := siteDay{site, day}
	if k == m.last && len(m.seen) > 0 {
		return
	}
	if _, has := m.seen[k]; has {
		m.last = k
		return
	}
	if m.seen == nil {
		m.seen = map[siteDay]struct{}{}
	}
	m.site.add(site)
	m.day.Append(day)
	m.n.Append(1)
	k.site = strings.Clone(site) // it points into the record
	m.seen[k], m.last = struct{}{}, k
}

func (m *dayMarks) columns() []vector { return []vector{&m.site, &m.day, &m.n} }

func (m *dayMarks) reset() {
	clear(m.seen)
	m.last = siteDay{}
	reset(m.columns())
}

// insert adds the marks. A repetition adds them again, which does no harm: any change of their sum makes a
// day be built again.
func (m *dayMarks) insert(ctx context.Context, db inserter, token string) error {
	return insert(ctx, db, insertMarks, token+"/marks", m.columns(), m.day.Rows())
}

// dates are days since 1970.
type dates struct{ chproto.ColUInt16 }

func (dates) Type() chproto.ColumnType { return "Date" }
