package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

const syncEvery = time.Second

// syncLog syncs the files that the broker has changed to disk, once a second until ctx ends. When the
// broker stops, it syncs them itself.
func syncLog(ctx context.Context, dir string, log *slog.Logger) {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	synced := map[string]time.Time{} // a file's modification time at its last sync
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := syncChanged(dir, synced)
		if err != nil && !failed { // logged once, until a sync succeeds
			log.Error("sync log", "error", err)
		}
		failed = err != nil
	}
}

// syncChanged syncs the files below dir that have changed since their last sync, and updates synced.
func syncChanged(dir string, synced map[string]time.Time) error {
	// Index files aren't synced, since the broker can rebuild them from the segments.
	files, err := filepath.Glob(filepath.Join(dir, "partitions", "*", "*.dat"))
	if err != nil {
		return err
	}
	files = append(files, filepath.Join(dir, "groups.log"))
	present := make(map[string]bool, len(files))
	for _, name := range files {
		present[name] = true
		err := syncFile(name, synced)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // retention may have deleted the file
			return fmt.Errorf("sync %s: %w", filepath.Base(name), err)
		}
	}
	for name := range synced {
		if !present[name] {
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
