package main

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"nowcast/internal/httpserver"
	"nowcast/streamer/access"
)

// basePath is the path of --public-url, as /stats; "" for none.
func (f *webFlags) basePath() (string, error) {
	base, err := access.BasePath(f.PublicURL)
	if err != nil {
		return "", fmt.Errorf("--public-url: %w", err)
	}
	return base, nil
}

// url returns the address at which browsers reach this process, without a slash at its end.
func (f *webFlags) url(l net.Listener) string {
	if f.PublicURL != "" {
		return strings.TrimSuffix(f.PublicURL, "/")
	}
	return listenURL(l)
}

// hosts returns the host names by which clients may address this process.
func (f *opsFlags) hosts(publicURL string) (httpserver.Hosts, error) {
	names := slices.Clone(f.AllowedHosts)
	if host, _, err := net.SplitHostPort(f.OpsListen); err == nil { // may be a name
		names = append(names, host)
	}
	if u, err := url.Parse(publicURL); err == nil && u.Hostname() != "" {
		names = append(names, u.Hostname())
	}
	hosts, err := httpserver.NewHosts(names...)
	if err != nil {
		return hosts, fmt.Errorf("--allowed-hosts: %w", err)
	}
	return hosts, nil
}

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
