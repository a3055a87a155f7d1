package aggregator

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strings"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"nowcast/internal/event"
)

// inserter is the part of ClickHouse's client that the store lane needs.
type inserter interface {
	PrepareBatch(ctx context.Context, query string, opts ...driver.PrepareBatchOption) (driver.Batch, error)
}

// insert sends columns, all of the same length, as one block. A repeat with the same token adds nothing to the table, as long as the
// table remembers the token. Rows of one key within it are left to merges and FINAL: they are few, and looking for them costs a fifth of an
// insert (optimize_on_insert).
func insert(ctx context.Context, db inserter, query, token string, columns []vector, rows int) error {
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"insert_deduplication_token": token, "async_insert": 0, "optimize_on_insert": 0}))
	b, err := db.PrepareBatch(ctx, query)
	if err != nil {
		return fmt.Errorf("prepare insert: %w", err)
	}
	defer func() { _ = b.Close() }() // after Send it has nothing to say
	if err := fill(b.Columns(), columns, rows); err != nil {
		return err
	}
	if err := b.Send(); err != nil {
		return fmt.Errorf("send rows: %w", err)
	}
	return nil
}

// fill has the client's columns read ours as they read a server's: that copies bytes, where appending converts values one by one, and cost more
// than all the rest of our work. Thus types have to be the same. Lengths too: the client would send columns of different ones as nothing at
// all, and say that it went well.
func fill(to []column.Interface, from []vector, rows int) error {
	if len(to) != len(from) {
		return fmt.Errorf("the table has %d of the columns, want %d", len(to), len(from))
	}
	var block chproto.Buffer
	var source bytes.Reader
	r := chproto.NewReader(&source)
	for i, v := range from {
		c := to[i]
		if string(c.Type()) != string(v.Type()) {
			return fmt.Errorf("column %s is of type %s, want %s", c.Name(), c.Type(), v.Type())
		}
		if v.Rows() != rows {
			return fmt.Errorf("column %s has %d rows, want %d", c.Name(), v.Rows(), rows)
		}
		block.Reset()
		v.EncodeColumn(&block)
		source.Reset(block.Buf)
		if err := c.Decode(r, rows); err != nil {
			return fmt.Errorf("fill column %s: %w", c.Name(), err)
		}
	}
	return nil
}

// vector is a column of an insert, in the form in which it is sent: ch-go's columns are ones, and those below.
type vector interface {
	Type() chproto.ColumnType
	Rows() int
	Reset()
	EncodeColumn(to *chproto.Buffer)
}

func reset(columns []vector) {
	for _, c := range columns {
		c.Reset()
	}
}

// milliseconds are times since 1970.
type milliseconds struct{ chproto.ColInt64 }

func (milliseconds) Type() chproto.ColumnType { return "DateTime64(3, 'UTC')" }

// seconds are times since 1970.
type seconds struct{ chproto.ColUInt32 }

func (seconds) Type() chproto.ColumnType { return "DateTime('UTC')" }

// names are strings that come again and again: each is kept once, and for each row which of them it has. 0 is "", n the nth other one.
type names struct {
	known map[string]uint32
	list  []string
	rows  []uint32
	last  uint32 // that wasn't ""
}

func (*names) Type() chproto.ColumnType { return "LowCardinality(String)" }
func (n *names) Rows() int              { return len(n.rows) }

func (n *names) Reset() {
	clear(n.known)
	clear(n.list)
	n.list, n.rows, n.last = n.list[:0], n.rows[:0], 0
}

// add appends a copy of s.
func (n *names) add(s string) {
	switch {
	case s == "":
		n.rows = append(n.rows, 0)
		return
	case n.last == 0 || n.list[n.last-1] != s: // a column often has the same value in a row
		n.last = n.number(s)
	}
	n.rows = append(n.rows, n.last)
}

func (n *names) number(s string) uint32 {
	if known, ok := n.known[s]; ok {
		return known
	}
	if n.known == nil {
		n.known = map[string]uint32{}
	}
	s = strings.Clone(s)
	n.list = append(n.list, s)
	n.known[s] = uint32(len(n.list))
	return n.known[s]
}

// EncodeColumn writes a dictionary of this block alone, and the rows in the narrowest integers that can tell its values apart.
func (n *names) EncodeColumn(b *chproto.Buffer) {
	const ownDictionary = 1<<9 | 1<<10
	values := len(n.list) + 1
	width := chproto.KeyUInt32
	switch {
	case values <= math.MaxUint8+1:
		width = chproto.KeyUInt8
	case values <= math.MaxUint16+1:
		width = chproto.KeyUInt16
	}
	b.PutUInt64(ownDictionary | uint64(width))
	b.PutUInt64(uint64(values))
	b.PutString("")
	for _, s := range n.list {
		b.PutString(s)
	}
	b.PutUInt64(uint64(len(n.rows)))
	switch width {
	case chproto.KeyUInt8:
		for _, r := range n.rows {
			b.Buf = append(b.Buf, byte(r))
		}
	case chproto.KeyUInt16:
		for _, r := range n.rows {
			b.Buf = append(b.Buf, byte(r), byte(r>>8))
		}
	default:
		chproto.ColUInt32(n.rows).EncodeColumn(b)
	}
}

// properties are the maps of events' own properties.
type properties struct {
	ends         chproto.ColUInt64 // of each row in keys and values
	keys, values chproto.ColStr
	row          [][2]string // that add works on
}

func (*properties) Type() chproto.ColumnType { return "Map(String, String)" }
func (p *properties) Rows() int              { return p.ends.Rows() }

func (p *properties) Reset() {
	p.ends.Reset()
	p.keys.Reset()
	p.values.Reset()
}

// add appends an event's properties in their order, of those with the same key the last one.
func (p *properties) add(props []byte) {
	p.row = p.row[:0]
	// What can't be read of them is as good as not sent: the event itself counts.
	_ = event.EachProp(props, func(key, value string) bool {
		for i := range p.row {
			if p.row[i][0] == key {
				p.row[i][1] = value
				return true
			}
		}
		p.row = append(p.row, [2]string{key, value})
		return true
	})
	for _, kv := range p.row {
		p.keys.Append(kv[0])
		p.values.Append(kv[1])
	}
	p.ends.Append(uint64(p.keys.Rows()))
}

func (p *properties) EncodeColumn(b *chproto.Buffer) {
	p.ends.EncodeColumn(b)
	p.keys.EncodeColumn(b)
	p.values.EncodeColumn(b)
}
