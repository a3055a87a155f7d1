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

// Each file is one statement that may run twice, also at the same moment (IF NOT EXISTS, IF EXISTS): ClickHouse has no lock
// to hold around a migration, so instances that start together all run it and the outcome is the same. A file that was
// released never changes; a change is a new file with the next number.
//
//go:embed sql/*.sql
var files embed.FS

const (
	selectApplied = "SELECT DISTINCT version FROM migrations ORDER BY version"
	insertApplied = "INSERT INTO migrations (version, name) VALUES (%d, '%s')"
)

type migration struct {
	version   uint32
	name      string // as in the file's name: letters, digits and _ only
	statement string
}

// Migrate brings the tables to what this version needs: it runs the statements of sql/ that the table `migrations` doesn't
// name yet, in order, and records each. It is safe to call again and from several instances at once. A database that a newer
// version migrated is left as it is.
func (d *DB) Migrate(ctx context.Context) error {
	all, err := migrations(files)
	if err != nil {
		return err
	}
	// The first makes the table that records the others.
	if err := d.Exec(ctx, all[0].statement); err != nil {
		return fmt.Errorf("make table migrations: %w", err)
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

// migrations reads sql/NNNN_name.sql, which have to be numbered from 1 without a gap.
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
