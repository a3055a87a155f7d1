package sealer

import (
	"context"
	"embed"
	"fmt"
	"strings"
	"text/template"

	"github.com/ClickHouse/clickhouse-go/v2"
)

//go:embed sql/*.sql
var files embed.FS

var statements = template.Must(template.New("").ParseFS(files, "sql/*.sql"))

// client runs statements within the limits of a sealer: one thread of the lowest priority.
type client struct {
	database
	settings clickhouse.Settings
	asked    bool // the server has been asked what it knows
}

const maxSeconds = 1200 // of a statement

func newClient(db database, memory uint64) *client {
	return &client{database: db, settings: clickhouse.Settings{
		"max_memory_usage": memory, "max_execution_time": maxSeconds,
		"max_threads": 1, "max_insert_threads": 1,
		"priority": 20, // statements with a smaller number go first
		"do_not_merge_across_partitions_select_final": 1,
		"enable_named_columns_in_function_tuple":      1,
		"max_bytes_before_external_group_by":          memory / 3,
		"join_use_nulls":                              0,
	}}
}

// context has the settings of a statement.
func (c *client) context(ctx context.Context) context.Context {
	if !c.asked {
		var found []struct {
			N uint64 `ch:"n"`
		}
		const nice = "os_threads_nice_value_query"
		if c.Select(ctx, &found, "SELECT count() AS n FROM system.settings WHERE name = '"+nice+"'") == nil {
			c.asked = true
			if len(found) > 0 && found[0].N > 0 {
				c.settings[nice] = 19 // the server needs CAP_SYS_NICE for it
			}
		}
	}
	return clickhouse.Context(ctx, clickhouse.WithSettings(c.settings))
}

// text returns a statement of sql/.
func text(name string, data any) (string, error) {
	var b strings.Builder
	if err := statements.ExecuteTemplate(&b, name+".sql", data); err != nil {
		return "", fmt.Errorf("write statement %s: %w", name, err)
	}
	return b.String(), nil
}

// exec runs a statement of sql/.
func (c *client) exec(ctx context.Context, name string, data any, args ...any) error {
	query, err := text(name, data)
	if err == nil {
		err = c.Exec(c.context(ctx), query, args...)
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", name, err)
	}
	return nil
}

// read runs a statement of sql/ and reads its rows into dest.
func (c *client) read(ctx context.Context, dest any, name string, args ...any) error {
	query, err := text(name, nil)
	if err == nil {
		err = c.Select(c.context(ctx), dest, query, args...)
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", name, err)
	}
	return nil
}
