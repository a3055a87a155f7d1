//go:build !linux

package main

import (
	"context"
	"errors"
)

// streamerPrograms need epoll and /proc.
func streamerPrograms(name string) func(context.Context, []string) error {
	if name != "streamer" && name != "viewers" && name != "soak" {
		return nil
	}
	return func(context.Context, []string) error {
		return errors.New("the streamer is measured on Linux only: it takes epoll and /proc")
	}
}
