//go:build !linux

package push

import (
	"errors"
	"net/http"

	"nowcast/streamer/hub"
)

// shard has no implementation without epoll; handlers serve all viewers.
type shard struct{ ops opQueue }

func newShard(*Engine) (*shard, error) { return nil, errors.ErrUnsupported }

func (*shard) run() error        { return nil }
func (*shard) closeDescriptors() {}

func (*shard) adopt(http.ResponseWriter, *hub.Hub, Viewer) (bool, error) { return false, nil }
