package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

const syncEvery = time.Second

// syncLog makes what the broker has written since the last time durable against a loss of power, once a second until ctx ends.
// The broker syncs what it writes when it stops.
func syncLog(ctx context.Context, dir string, log *slog.Logger) {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	synced := map[string]time.Time{} // a file's time of change when it was last synced
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := syncChanged(dir, synced)
		if err != nil && !failed { // once, not once a second
			log.Error("sync log", "error", err)
		}
		failed = err != nil
	}
}

func syncChanged(dir string, synced map[string]time.Time) error {
	// The index files beside the segments are rebuilt from those.
	files, err := filepath.Glob(filepath.Join(dir, "partitions", "*", "*.dat"))
	if err != nil {
		return err
	}
	files = append(files, filepath.Join(dir, "groups.log"))
	there := make(map[string]bool, len(files))
	for _, name := range files {
		there[name] = true
		if err := syncFile(name, synced); err != nil && !os.IsNotExist(err) { // retention may have deleted it
			return fmt.Errorf("sync %s: %w", filepath.Base(name), err)
		}
	}
	for name := range synced {
		if !there[name] {
			delete(synced, name)
		}
	}
	return nil
}

func syncFile(name string, synced map[string]time.Time) error {
	info, err := os.Stat(name)
	if err != nil || info.ModTime().Equal(synced[name]) {
		return err
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	synced[name] = info.ModTime()
	return nil
}
