package main

import (
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"nowcast/internal/credential"
)

const envPrefix = "NOWCAST_"

// secretTag marks a flag whose value is a secret. With the variable of the flag's name and _FILE the value
// comes from a file, unless the tag's value says that a flag of its own names the file.
const (
	secretTag   = "secret"
	hasFileFlag = "file-flag"
)

// dropEmptyVariables removes the NOWCAST_ variables that are set to nothing: the defaults apply, as Compose
// and Kubernetes manifests expect of a variable that is left empty.
func dropEmptyVariables() {
	for _, v := range os.Environ() {
		if name, value, _ := strings.Cut(v, "="); strings.HasPrefix(name, envPrefix) && value == "" {
			_ = os.Unsetenv(name) // fails only for a name without a character
		}
	}
}

// secretFiles is a kong.Resolver that reads secrets from files.
type secretFiles struct{}

// Validate implements kong.Resolver.
func (secretFiles) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver.
func (secretFiles) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if !comesFromFile(flag) {
		return nil, nil //nolint:nilnil // kong's way to say that there is no value
	}
	for _, name := range flag.Envs {
		file := os.Getenv(name + "_FILE")
		if file == "" {
			continue
		}
		if os.Getenv(name) != "" {
			return nil, fmt.Errorf("%s and %[1]s_FILE are both set: set one", name)
		}
		secret, err := credential.ReadSecret(file)
		if err != nil {
			return nil, fmt.Errorf("read %s_FILE: %w", name, err)
		}
		return secret, nil
	}
	return nil, nil //nolint:nilnil // kong's way to say that there is no value
}

func comesFromFile(flag *kong.Flag) bool {
	return flag.Tag.Has(secretTag) && flag.Tag.Get(secretTag) != hasFileFlag
}

// knownVariables returns the names of all variables that some command reads.
func knownVariables(app *kong.Application) []string {
	var names []string
	var visit func(n *kong.Node)
	visit = func(n *kong.Node) {
		for _, f := range n.Flags {
			names = append(names, f.Envs...)
			if comesFromFile(f) {
				for _, e := range f.Envs {
					names = append(names, e+"_FILE")
				}
			}
		}
		for _, c := range n.Children {
			visit(c)
		}
	}
	visit(app.Node)
	slices.Sort(names)
	return slices.Compact(names)
}

// serviceLink matches what Kubernetes and Docker set for a service that is called nowcast or nowcast-….
var serviceLink = regexp.MustCompile(
	`_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)$`)

// warnOfUnknownVariables logs the NOWCAST_ variables that no command reads, without their values.
func warnOfUnknownVariables(log *slog.Logger, app *kong.Application, environ []string) {
	known := knownVariables(app)
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		_, ok := slices.BinarySearch(known, name)
		if ok || !strings.HasPrefix(name, envPrefix) || serviceLink.MatchString(name) {
			continue
		}
		if near := nearest(name, known); near != "" {
			log.Warn("unknown environment variable, ignoring it", "name", name, "nearest", near)
		} else {
			log.Warn("unknown environment variable, ignoring it", "name", name)
		}
	}
}

// nearest returns the name that differs from name in the fewest characters; "" if more than a third of them
// differ.
func nearest(name string, names []string) (best string) {
	least := (len(name)-len(envPrefix))/3 + 1
	for _, n := range names {
		if d := distance(name, n); d < least {
			best, least = n, d
		}
	}
	return best
}

// distance returns how many bytes have to be inserted, removed or replaced to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
