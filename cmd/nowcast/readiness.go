package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/internal/process"
	"nowcast/internal/retry"
	"nowcast/internal/warehouse"
)

const (
	// warehouseGrace is how long a start waits for ClickHouse before the process is ready without it.
	warehouseGrace = 5 * time.Second

	warehouseProbeEvery   = 5 * time.Second  // while it doesn't answer
	warehouseCalmEvery    = 30 * time.Second // while it does
	warehouseProbeTimeout = 3 * time.Second
)

// publicHealth adds /healthz and /readyz to the public address. There /readyz names what the process does
// without; the reasons are on the ops address.
func (h *host) publicHealth(r gin.IRouter) {
	for path, handler := range process.Public(h.health) {
		r.GET(path, gin.WrapF(handler))
		r.HEAD(path, gin.WrapF(handler))
	}
}

// degradable is a part that can do its main work without a lesser one.
type degradable interface{ Degraded() map[string]string }

// addLesser adds a part without which the process does its main work.
func (h *host) addLesser(name string, part interface {
	Run(context.Context) error
	Ready() (bool, string)
}) {
	h.health.AddDegradedProbe(func() map[string]string {
		if ok, reason := part.Ready(); !ok {
			return map[string]string{name: reason}
		}
		return nil
	})
	h.group.Add(name, part.Run)
}

// watchWarehouse adds the work of asking ClickHouse whether it is there. Without it the process is ready, and
// degraded by h.needWarehouse. A start waits for warehouseGrace, so that it isn't ready a moment before
// history is. A ClickHouse that refuses the login or the database ends the process. The wait is logged to
// log.
func (h *host) watchWarehouse(db *warehouse.DB, log *slog.Logger) {
	h.health.Set("clickhouse", "waiting for ClickHouse to answer")
	degrade := func(reason string) {
		for _, part := range h.needWarehouse {
			h.health.SetDegraded(part, reason)
		}
	}
	h.group.Add("clickhouse", func(ctx context.Context) error {
		grace := time.AfterFunc(warehouseGrace, func() {
			degrade("waiting for ClickHouse to answer")
			h.health.Set("clickhouse", "")
		})
		err := db.Wait(ctx, log)
		grace.Stop()
		if err != nil {
			return err
		}
		h.health.Set("clickhouse", "")
		for {
			wait := warehouseProbeEvery
			err := pingWarehouse(ctx, db)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(err, context.DeadlineExceeded):
				degrade("ClickHouse doesn't answer")
			case err != nil:
				degrade(fmt.Sprintf("ClickHouse doesn't answer: %v", err))
			default:
				degrade("")
				wait = retry.UntilNext(warehouseCalmEvery)
			}
			if err := retry.Sleep(ctx, wait); err != nil {
				return err
			}
		}
	})
}

func pingWarehouse(ctx context.Context, db *warehouse.DB) error {
	ctx, cancel := context.WithTimeout(ctx, warehouseProbeTimeout)
	defer cancel()
	return db.Ping(ctx)
}

// hideDSN keeps host, user, password and database of an address out of /readyz.
func (h *host) hideDSN(dsn string) {
	u, err := url.Parse(dsn)
	if err != nil {
		return
	}
	h.health.Hide(u.Hostname(), u.User.Username(), u.Path)
	if password, ok := u.User.Password(); ok {
		h.health.Hide(password)
	}
}

// hideHosts keeps the names of Kafka's brokers out of /readyz.
func (h *host) hideHosts(addrs []string) {
	for _, addr := range addrs {
		h.health.Hide(strings.TrimPrefix(addr, "unix:"))
		if strings.HasPrefix(addr, "unix:") {
			continue
		}
		if host, _, err := net.SplitHostPort(addr); err == nil {
			h.health.Hide(host)
		}
	}
}
