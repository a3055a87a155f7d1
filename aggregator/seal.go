package aggregator

import (
	"context"
	"slices"

	"nowcast/aggregator/group"
	"nowcast/aggregator/sealer"
)

// sealWork seals days while this instance has the first partition, so that one instance does. Two at once, at
// a change of the group, do no harm.
type sealWork struct {
	owner  bool
	sealer *sealer.Sealer
}

func newSealWork(committed []group.Position, x *sealer.Sealer) *sealWork {
	owner := slices.ContainsFunc(committed, func(p group.Position) bool { return p.Partition == 0 })
	return &sealWork{owner: owner, sealer: x}
}

// Run seals until ctx ends. A statement under way is given up then: what it has built is garbage.
func (w *sealWork) Run(ctx context.Context) {
	if w.owner {
		w.sealer.Run(ctx)
		return
	}
	<-ctx.Done()
}

// Positions returns none: the lane reads no log.
func (*sealWork) Positions() []group.Position { return nil }

func (*sealWork) unready() string { return "" }
