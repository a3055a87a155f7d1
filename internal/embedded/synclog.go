package embedded

import (
	"context"
	"log/slog"
	"time"

	"nowcast/internal/retry"
)

const (
	syncEvery     = time.Second
	syncIdleEvery = time.Minute // for files that change without a request, as groups do when members expire
)

// syncLog syncs what has changed within a second, until ctx ends. It sleeps while nothing is written.
func syncLog(ctx context.Context, s *syncer, log *slog.Logger) {
	idle := time.NewTicker(syncIdleEvery)
	defer idle.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.written:
		case <-idle.C:
		}
		if retry.Sleep(ctx, syncEvery) != nil {
			return
		}
		err := s.syncAll()
		if err != nil {
			s.wrote() // tries again
		}
		if err != nil && !failed { // logged once, until a sync succeeds
			log.Error("sync log", "error", err)
		}
		failed = err != nil
	}
}
