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

// inserter is the part of ClickHouse's client that inserts rows.
type inserter interface {
	PrepareBatch(ctx context.Context, query string, opts ...driver.PrepareBatchOption) (driver.Batch, error)
}

// insert sends columns, all of the same length, as one block. A second insert under the same token adds
// nothing to the table, as long as the table remembers the token (insert_deduplication_token). Merges and
// FINAL deduplicate rows of one key within a block: they are few, and optimize_on_insert would cost a fifth
// of an insert.
func insert(ctx context.Context, db inserter, query, token string, columns []vector, rows int) error {
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{
		"insert_deduplication_token": token, "async_insert": 0, "optimize_on_insert": 0}))
	b, err := db.PrepareBatch(ctx, query)
	if err != nil {
		return fmt.Errorf("prepare insert: %w", err)
	}
	defer func() { _ = b.Close() }() // returns no error after Send
	if err := fill(b.Columns(), columns, rows); err != nil {
		return err
	}
	if err := b.Send(); err != nil {
		return fmt.Errorf("send rows: %w", err)
	}
	return nil
}

// fill has the client's columns decode ours, as they decode a server's block. That copies bytes; appending
// would convert values one by one, which takes longer than all other work of the lane. The types have to be
// equal. So do the lengths: the client sends columns of different lengths as an empty block and reports
// success.
func fill(to []column.Interface, from []vector, rows int) error {
	if len(to) != len(from) {
		return fmt.Errorf("the table has %d of the columns, want %d", len(to), len(from))
	}
	var block chproto.Buffer
	var encoded bytes.Reader
	r := chproto.NewReader(&encoded)
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
		encoded.Reset(block.Buf)
		if err := c.Decode(r, rows); err != nil {
			return fmt.Errorf("fill column %s: %w", c.Name(), err)
		}
	}
	return nil
}

// vector is a column of an insert in ClickHouse's native format. It is implemented by ch-go's columns and by
// those below.
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

// milliseconds are times in ms since 1970.
type milliseconds struct{ chproto.ColInt64 }

func (milliseconds) Type() chproto.ColumnType { return "DateTime64(3, 'UTC')" }

// seconds are times in s since 1970.
type seconds struct{ chproto.ColUInt32 }

func (seconds) Type() chproto.ColumnType { return "DateTime('UTC')" }

// lowCardinality is a dictionary-encoded column of strings with few distinct values. Key 0 is "", key n is
// values[n-1].
type lowCardinality struct {
	keys   map[string]uint32
	values []string
	rows   []uint32 // keys
	last   uint32   // newest key of a row that isn't 0
}

func (*lowCardinality) Type() chproto.ColumnType { return "LowCardinality(String)" }
func (c *lowCardinality) Rows() int              { return len(c.rows) }

func (c *lowCardinality) Reset() {
	clear(c.keys)
	clear(c.values)
	c.values, c.rows, c.last = c.values[:0], c.rows[:0], 0
}

// add appends a copy of s.
func (c *lowCardinality) add(s string) {
	switch {
	case s == "":
		c.rows = append(c.rows, 0)
		return
	case c.last == 0 || c.values[c.last-1] != s: // consecutive rows often have the same value
		c.last = c.key(s)
	}
	c.rows = append(c.rows, c.last)
}

func (c *lowCardinality) key(s string) uint32 {
	if key, ok := c.keys[s]; ok {
		return key
	}
	if c.keys == nil {
		c.keys = map[string]uint32{}
	}
	s = strings.Clone(s)
	c.values = append(c.values, s)
	c.keys[s] = uint32(len(c.values))
	return c.keys[s]
}

// EncodeColumn writes a dictionary of this block and the rows as the narrowest integers that hold its keys.
func (c *lowCardinality) EncodeColumn(b *chproto.Buffer) {
	const ownDictionary = 1<<9 | 1<<10 // flags: has additional keys, needs an update of the dictionary
	values := len(c.values) + 1
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
	for _, s := range c.values {
		b.PutString(s)
	}
	b.PutUInt64(uint64(len(c.rows)))
	switch width {
	case chproto.KeyUInt8:
		for _, r := range c.rows {
			b.Buf = append(b.Buf, byte(r))
		}
	case chproto.KeyUInt16:
		for _, r := range c.rows {
			b.Buf = append(b.Buf, byte(r), byte(r>>8))
		}
	default:
		chproto.ColUInt32(c.rows).EncodeColumn(b)
	}
}

// properties is a column of events' custom properties.
type properties struct {
	ends         chproto.ColUInt64 // end of each row in keys and values
	keys, values chproto.ColStr
	row          [][2]string // buffer of add
}

func (*properties) Type() chproto.ColumnType { return "Map(String, String)" }
func (p *properties) Rows() int              { return p.ends.Rows() }

func (p *properties) Reset() {
	p.ends.Reset()
	p.keys.Reset()
	p.values.Reset()
}

// add appends an event's properties in their order. Of several with one key the last value counts.
func (p *properties) add(props []byte) {
	p.row = p.row[:0]
	// Corrupt properties are dropped; the event itself counts.
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
