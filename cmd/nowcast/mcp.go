package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"nowcast/internal/assistant"
	"nowcast/internal/httpserver"
)

type mcpCmd struct {
	Server       string   `default:"http://127.0.0.1:8080" placeholder:"URL" help:"The Nowcast to read (${default})."`
	Key          string   `secret:"" placeholder:"KEY" help:"The key to read with. Not with --listen: there each caller sends its own."`
	Listen       string   `default:"stdio" env:"NOWCAST_MCP_LISTEN" placeholder:"ADDR" help:"stdio, or a loopback address to serve streamable HTTP on, as 127.0.0.1:8090 (${default})."`
	AllowedHosts []string `env:"NOWCAST_MCP_ALLOWED_HOSTS" placeholder:"HOST" help:"Further host names by which clients may address --listen, where a proxy is in front; IP addresses and localhost always may."`
}

// Help implements kong.HelpProvider.
func (mcpCmd) Help() string {
	return `Lets an assistant answer questions such as "why did visitors drop yesterday?". It speaks the Model
Context Protocol and offers tools that only read: sites, live, query, compare and describe. They have
the rights of the key and nothing more, so give an assistant a key of its own.

Examples:

	nowcast key add "the assistant" --site example.com
	NOWCAST_KEY_FILE=assistant.key nowcast mcp
	nowcast mcp --listen 127.0.0.1:8090

An assistant that starts programs is configured with the command "nowcast mcp" and the variable
NOWCAST_KEY or NOWCAST_KEY_FILE. One that uses HTTP is given http://127.0.0.1:8090/mcp, and the header
"Authorization: Bearer nck_…".`
}

// Validate implements kong's validation.
func (c *mcpCmd) Validate() error {
	if c.Listen == "stdio" {
		if c.Key == "" {
			return errors.New("there is no key: give an assistant one of its own with NOWCAST_KEY or " +
				"NOWCAST_KEY_FILE; nowcast key add makes it")
		}
		if len(c.AllowedHosts) > 0 {
			return errors.New("--allowed-hosts needs --listen with an address")
		}
		return nil
	}
	if c.Key != "" {
		return errors.New("--key and --listen don't go together: over HTTP each caller sends its own key")
	}
	host, _, err := net.SplitHostPort(c.Listen)
	ip := net.ParseIP(host)
	if err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("--listen %s: give stdio or a loopback address, as 127.0.0.1:8090; "+
			"for other machines put a proxy with TLS in front", c.Listen)
	}
	return nil
}

// Run runs the command.
func (c *mcpCmd) Run(ctx context.Context, std *stdio, log *slog.Logger) error {
	hosts, err := httpserver.NewHosts(c.AllowedHosts...)
	if err != nil {
		return fmt.Errorf("--allowed-hosts: %w", err)
	}
	name, _ := build()
	s, err := assistant.New(assistant.Config{Server: c.Server, Key: c.Key, Version: name, Hosts: hosts})
	if err != nil {
		return fmt.Errorf("--server: %w", err)
	}
	if c.Listen == "stdio" {
		return s.ServeStream(ctx, std.in, std.out)
	}
	handler, err := s.Handler()
	if err != nil {
		return err
	}
	l, err := httpserver.Listen(c.Listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	if !isLoopback(l.Addr()) { // localhost may be resolved to anything
		l.Close()
		return fmt.Errorf("--listen %s is no loopback address on this machine", c.Listen)
	}
	log.Info("serving assistants", "url", listenURL(l)+assistant.Path, "server", c.Server)
	return httpserver.Serve(ctx, l, handler, drainTime)
}
