package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

type healthCmd struct{ opsFlags }

// Help implements kong.HelpProvider.
func (healthCmd) Help() string {
	return `Exits with 0 if the process is ready, and prints what it does without. Else exits with 1 and
prints why. For health checks of containers and scripts.

Example:

	nowcast health --ops-listen 127.0.0.1:8081`
}

// Run runs the command.
func (c *healthCmd) Run(ctx context.Context, std *stdio) error {
	host, port, err := net.SplitHostPort(c.OpsListen)
	if err != nil {
		return fmt.Errorf("--ops-listen %s is no address: give one as 127.0.0.1:8081", c.OpsListen)
	}
	if ip := net.ParseIP(host); host == "" ||
		ip != nil && ip.IsUnspecified() { // all addresses: this machine's own is one of them
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet,
		"http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("nothing answers at %s (%w): is it running, and is that its --ops-listen?",
			c.OpsListen, err)
	}
	defer res.Body.Close()
	var answer struct {
		Ready             bool
		Reasons, Degraded map[string]string
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&answer); err != nil {
		return fmt.Errorf("%s is not the ops address of a nowcast (%w): give its --ops-listen",
			c.OpsListen, err)
	}
	if !answer.Ready {
		return fmt.Errorf("not ready: %s", listReasons(answer.Reasons))
	}
	message := "ready"
	if len(answer.Degraded) > 0 {
		message += ", without " + listReasons(answer.Degraded)
	}
	_, err = fmt.Fprintln(std.out, message)
	return err
}

// listReasons is one line of reasons, by component.
func listReasons(reasons map[string]string) string {
	var all []string
	for _, part := range slices.Sorted(maps.Keys(reasons)) {
		all = append(all, part+": "+reasons[part])
	}
	return strings.Join(all, "; ")
}
