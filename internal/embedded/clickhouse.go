package embedded

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
)

// ClickHouse supervises a ClickHouse engine behind a unix socket.
type ClickHouse struct {
	*supervisor
	socket *socket
	dsn    string
	client *http.Client
	unlock func()
}

// NewClickHouse locks the data dir and listens on the socket. It starts nothing. It fails if the data
// dir is in use or can't be written.
func NewClickHouse(c Config) (*ClickHouse, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	s, err := newSupervisor("embedded ClickHouse", "clickhouse", &c)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(c.Dir, "clickhouse")
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	h := &ClickHouse{supervisor: s, unlock: unlock}
	if err := h.listen(dir); err != nil {
		unlock()
		return nil, fmt.Errorf("prepare embedded ClickHouse: %w", err)
	}
	child := childConfig{dir: dir, library: c.Library, sessions: c.Sessions}
	s.args = child.args(clickhouseCommand)
	s.probe = h.ping
	return h, nil
}

func (h *ClickHouse) listen(dir string) (err error) {
	if h.socket, err = listenSocket(dir, "server.sock"); err != nil {
		return err
	}
	h.listener = h.socket.listener
	h.dsn = (&url.URL{Scheme: "unix", Path: h.socket.path}).String()
	h.client = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", h.socket.path)
		},
		DisableKeepAlives: true,
	}}
	return nil
}

// DSN returns the address for warehouse.Open. It doesn't change while this process runs.
func (h *ClickHouse) DSN() string { return h.dsn }

// Run keeps the engine running until ctx ends, then lets it finish its statements and end, and unlocks
// the data dir.
func (h *ClickHouse) Run(ctx context.Context) error {
	defer h.close()
	return h.run(ctx)
}

func (h *ClickHouse) close() {
	h.socket.close()
	h.unlock()
}

func (h *ClickHouse) ping(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/ping", nil)
	if err != nil {
		return err
	}
	res, err := h.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<10))
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("ping: %s", res.Status)
	}
	return nil
}
