package warehouse

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// Each file is one idempotent statement (IF NOT EXISTS, IF EXISTS). ClickHouse has no lock to hold
// around a migration, so instances that start together all run it, with the same outcome. A released
// file never changes; a change of the tables is a new file with the next number.
//
//go:embed sql/*.sql
var files embed.FS

const (
	selectApplied = "SELECT DISTINCT version FROM migrations ORDER BY version"
	insertApplied = "INSERT INTO migrations (version, name) VALUES (%d, '%s')"
)

type migration struct {
	version   uint32
	name      string // from the file's name: letters, digits and _
	statement string
}

// Migrate runs, in order, the statements of sql/ that the table `migrations` doesn't list, and records
// each. It is idempotent, and several instances may call it at once. Migrations of a newer version stay
// as they are.
func (d *DB) Migrate(ctx context.Context) error {
	all, err := migrations(files)
	if err != nil {
		return err
	}
	// The first migration makes the table in which all are recorded, so it runs each time.
	if err := d.Exec(ctx, all[0].statement); err != nil {
		return fmt.Errorf("create table migrations: %w", err)
	}
	var rows []struct {
		Version uint32 `ch:"version"`
	}
	if err := d.Select(ctx, &rows, selectApplied); err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	applied := make(map[uint32]bool, len(rows))
	for _, r := range rows {
		applied[r.Version] = true
	}
	for _, m := range all {
		if applied[m.version] {
			continue
		}
		if err := d.Exec(ctx, m.statement); err != nil {
			return fmt.Errorf("run migration %04d_%s: %w", m.version, m.name, err)
		}
		if err := d.Exec(ctx, fmt.Sprintf(insertApplied, m.version, m.name)); err != nil {
			return fmt.Errorf("record migration %04d_%s: %w", m.version, m.name, err)
		}
	}
	return nil
}

// migrations reads the files sql/NNNN_name.sql. It fails if they aren't numbered from 1 without a gap.
func migrations(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "sql/*.sql")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	var all []migration
	for i, file := range names {
		number, name, _ := strings.Cut(strings.TrimSuffix(path.Base(file), ".sql"), "_")
		version, err := strconv.ParseUint(number, 10, 32)
		if err != nil || version != uint64(i+1) || name == "" {
			return nil, fmt.Errorf("read migration %s: want its name to begin with %04d_", file, i+1)
		}
		b, err := fs.ReadFile(files, file)
		if err != nil {
			return nil, fmt.Errorf("read migration: %w", err)
		}
		all = append(all, migration{uint32(version), name, strings.TrimSpace(string(b))})
	}
	return all, nil
}
