package embedded

import (
	"context"
	"log/slog"
	"time"
)

const syncEvery = time.Second

// syncLog syncs what has changed, once a second until ctx ends.
func syncLog(ctx context.Context, s *syncer, log *slog.Logger) {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := s.syncAll()
		if err != nil && !failed { // logged once, until a sync succeeds
			log.Error("sync log", "error", err)
		}
		failed = err != nil
	}
}
