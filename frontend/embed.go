// Package frontend embeds the dashboard and the tracker, which `npm run build` builds. The Go program
// compiles without them; Dashboard and Tracker then return ErrNotBuilt.
package frontend

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
)

//go:embed all:dist
var dist embed.FS

// ErrNotBuilt means that the frontend was built after the program, or never.
var ErrNotBuilt = errors.New("the frontend isn't built: run `make build`")

// Dashboard returns index.html and its assets. It returns ErrNotBuilt if there is no index.html.
func Dashboard() (fs.FS, error) {
	root, err := fs.Sub(dist, "dist")
	if err != nil {
		return nil, fmt.Errorf("open dashboard: %w", err)
	}
	if _, err := fs.Stat(root, "index.html"); err != nil {
		return nil, ErrNotBuilt
	}
	return root, nil
}

// Tracker returns the script that websites include, or ErrNotBuilt.
func Tracker() ([]byte, error) {
	b, err := dist.ReadFile("dist/script.js")
	if err != nil {
		return nil, ErrNotBuilt
	}
	return b, nil
}
