package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

type versionCmd struct{}

// Help implements kong.HelpProvider.
func (versionCmd) Help() string {
	return `Example:

	nowcast version`
}

// Run runs the command.
func (versionCmd) Run(std *stdio) error {
	name, commit := build()
	_, err := fmt.Fprintf(std.out, "nowcast %s, commit %s, %s %s/%s\n", name, commit, runtime.Version(),
		runtime.GOOS, runtime.GOARCH)
	return err
}

// build returns the program's version and the commit that it was built from.
func build() (name, commit string) {
	name, commit = cmp.Or(version, "dev"), "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return name, commit
	}
	changed := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = " with changes"
		}
	}
	return name, commit + changed
}

func buildInfo() prometheus.Collector {
	name, commit := build()
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "nowcast_build_info", Help: "Always 1; labels name the build.",
		ConstLabels: prometheus.Labels{"version": name, "commit": commit, "go": runtime.Version()},
	})
	g.Set(1)
	return g
}
