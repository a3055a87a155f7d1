package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"nowcast/streamer/api"
)

type secretCmd struct {
	Rotate secretRotateCmd `cmd:"" help:"Make a new secret, which signs from then on; what the former one signed stays valid for a day."`
}

// Help implements kong.HelpProvider.
func (secretCmd) Help() string {
	return `The cluster's secret signs the cookies of opened share links and tickets. Nobody has to know it.

Example:

	nowcast secret rotate`
}

type secretRotateCmd struct{ serverFlags }

// Help implements kong.HelpProvider.
func (secretRotateCmd) Help() string {
	return `Rotate twice after a leak: then nothing is valid any more that was signed before.

Example:

	nowcast secret rotate`
}

// Run runs the command.
func (c *secretRotateCmd) Run(ctx context.Context, std *stdio) error {
	var made api.SecretRotated
	if err := c.call(ctx, http.MethodPost, "/api/v1/secret/rotate", nil, &made); err != nil {
		return err
	}
	_, err := fmt.Fprintf(std.out,
		"Version %d of the secret signs since %s. What version %d signed is valid for a day.\n",
		made.Version, made.Created.Format(time.DateTime), made.Version-1)
	return err
}
