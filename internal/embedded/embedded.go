// Package embedded runs a Kafka-protocol broker and a ClickHouse on one machine, in the place of a
// cluster's. Each is a child process of this same program, on loopback or a unix socket, with its data
// below the data dir.
//
// It promises that what either child has acknowledged survives a kill -9 of the child, of this process,
// and of both; that a child that ends is started again at the same address, where new connections wait
// for it; and that no child outlives its parent for longer than its drain time. While a child can't be
// kept running, Ready says why and Run tries again. Run fails only when a retry can't help (no library,
// no permission for the data dir).
//
// After a loss of power, ClickHouse has all it acknowledged, because it syncs every insert. The broker
// has all sites, keys and salts, and all events with Config.Sync: without, it syncs the log once a second,
// and a loss of power can lose the last second. Before the broker opens its files, it sets aside what can't
// be read. If records may be lost, it marks the place in the log, see topic.LogCut, and goes on behind
// offsets that were never given out.
package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is the configuration of a Broker or a ClickHouse.
type Config struct {
	// Dir is the data dir. The broker uses Dir/broker, ClickHouse Dir/clickhouse. Only one process may
	// use it at a time.
	Dir     string
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: no metrics

	// Sync makes the broker sync every batch to disk before it acknowledges it. Batches of a partition that
	// wait at the same time share a sync.
	Sync bool
	// PartitionBytes bounds the log of each of the broker's partitions, in bytes, at least 1 MiB; 0
	// means 256 MiB. The newest 21 minutes stay in any case, since a start needs them; then the free disk
	// bounds the log: with less than 128 MiB of it the broker refuses events. At its start the broker reads
	// the whole log into memory.
	PartitionBytes int64

	// Library is the path of libchdb.so, from FindLibrary.
	Library string
	// Sessions is the number of statements that ClickHouse runs at a time, 1 to 64; further ones wait. 0
	// means 14: 6 inserts of the store lane and 8 history queries.
	Sessions int
}

const (
	defaultPartitionBytes = 256 << 20
	minPartitionBytes     = 1 << 20
	defaultSessions       = 14
	maxSessions           = 64
)

func (c *Config) validate() error {
	if c.Dir == "" || c.Log == nil {
		return errors.New("read config of embedded part: Dir and Log are required")
	}
	var err error
	if c.Dir, err = filepath.Abs(c.Dir); err != nil { // the engine fails on a relative path
		return fmt.Errorf("find data dir: %w", err)
	}
	c.PartitionBytes = cmp.Or(c.PartitionBytes, defaultPartitionBytes)
	c.Sessions = cmp.Or(c.Sessions, defaultSessions)
	if c.PartitionBytes < minPartitionBytes || c.Sessions < 1 || c.Sessions > maxSessions {
		return fmt.Errorf("read config of embedded part: want PartitionBytes of at least 1 MiB and 1 to %d "+
			"Sessions, not %d and %d", maxSessions, c.PartitionBytes, c.Sessions)
	}
	return nil
}
