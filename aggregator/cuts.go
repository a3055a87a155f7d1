package aggregator

import (
	"context"
	_ "embed"
	"fmt"

	chproto "github.com/ClickHouse/ch-go/proto"

	"nowcast/internal/broker"
)

//go:embed sql/insert_cuts.sql
var insertCuts string

// cutRows are rows of the table `cuts`, in which history finds where the log has lost records. The columns
// are in the order of insert_cuts.sql.
type cutRows struct {
	kpart     chproto.ColUInt16
	koff      chproto.ColUInt64
	after, at milliseconds
}

func (r *cutRows) columns() []vector { return []vector{&r.kpart, &r.koff, &r.after, &r.at} }

func (r *cutRows) rows() int { return r.koff.Rows() }
func (r *cutRows) reset()    { reset(r.columns()) }

func (r *cutRows) insert(ctx context.Context, db inserter, token string) error {
	return insert(ctx, db, insertCuts, token, r.columns(), r.rows())
}

func (r *cutRows) add(c broker.Cut) {
	r.kpart.Append(uint16(c.Partition))
	r.koff.Append(uint64(c.To))
	r.after.Append(c.After)
	r.at.Append(c.At)
}

// addCut adds a cut to the batch and blocks the partition's position until ClickHouse has it. It is called
// for each cut that is read, also during a warm-up: the rows are few and replace each other.
func addCut(b *batcher[*cutRows], c broker.Cut) {
	b.addNow(position(c.Partition, c.To+1, 0), fmt.Append(nil, c), func(rows *cutRows) { rows.add(c) })
}
