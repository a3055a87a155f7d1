//go:build !linux

package push

import (
	"errors"
	"net/http"

	"nowcast/streamer/hub"
)

// shard is a thread that writes to many viewers, on Linux.
type shard struct{}

type opKind int

const (
	opRevoke opKind = iota
	opAnew
	opDrain
	opStop
)

type op struct {
	kind  opKind
	grant int32
}

func newShard(*Engine) (*shard, error) { return nil, errors.ErrUnsupported }

func (*shard) run()        {}
func (*shard) put(op) bool { return false }

func (*shard) adopt(http.ResponseWriter, *hub.Hub, Viewer) (bool, error) { return false, nil }
