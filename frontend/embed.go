// Package frontend carries the built dashboard and tracker inside the binary. `npm run build` makes them; without it the program builds
// all the same, and Dashboard and Tracker say what is missing.
package frontend

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
)

//go:embed all:dist
var dist embed.FS

// ErrNotBuilt means that the frontend was not built before the program was.
var ErrNotBuilt = errors.New("the frontend isn't built: run `make build`")

// Dashboard has index.html and its assets.
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

// Tracker is the script that websites include.
func Tracker() ([]byte, error) {
	b, err := dist.ReadFile("dist/script.js")
	if err != nil {
		return nil, ErrNotBuilt
	}
	return b, nil
}
