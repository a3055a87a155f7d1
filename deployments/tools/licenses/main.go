// Licenses writes NOTICE: what is in Nowcast's program and image that others wrote, and on what terms.
//
// usage: licenses ROOT GO_LICENSES >NOTICE
//
// ROOT is the folder of Nowcast's go.mod, GO_LICENSES the program of github.com/google/go-licenses.
// The npm packages of ROOT/frontend and ROOT/deployments/npm have to be installed.
//
// A license that isn't in the list of those accepted is an error, and so is a package without one.
package main

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// accepted are the licenses that may be in the program, by their SPDX identifiers.
var accepted = []string{
	"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0", "CC0-1.0", "ISC", "MIT", "MIT-0",
}

// unclassified are modules with a license that go-licenses doesn't recognize.
var unclassified = map[string]string{
	"github.com/segmentio/asm": "MIT-0",
}

// corrected are npm packages whose license field isn't the license of what they hold.
var corrected = map[string]string{
	"@ip-location-db/geo-whois-asn-country-mmdb": "CC-BY-4.0", // the field is about the packaging, CC0-1.0
}

// compiled are npm packages whose text gets into the bundle although they are development dependencies.
var compiled = []string{"tailwindcss"}

// part is a package of others.
type part struct {
	name, version string
	licenses      []string
	files         []string // license and notice texts
}

func (p part) String() string { return strings.TrimSpace(p.name + " " + p.version) }

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("usage: licenses ROOT GO_LICENSES")
	}
	root, tool := args[0], args[1]
	linked, err := linkedModules(ctx, root, tool)
	if err != nil {
		return err
	}
	bundled, err := npmPackages(filepath.Join(root, "frontend"), compiled)
	if err != nil {
		return err
	}
	data, err := npmPackages(filepath.Join(root, "deployments/npm"), nil)
	if err != nil {
		return err
	}
	return write(out, root, linked, bundled, data)
}

// The build that is reported on is the image's.
var platform = []string{"GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0"}

// linkedModules are Go's library and the modules that cmd/nowcast links.
func linkedModules(ctx context.Context, root, tool string) ([]part, error) {
	template, err := os.CreateTemp("", "licenses")
	if err != nil {
		return nil, fmt.Errorf("make template: %w", err)
	}
	defer os.Remove(template.Name())
	defer template.Close()
	const line = "{{range .}}{{.Name}}\t{{.Version}}\t{{.LicenseName}}\t{{.LicensePath}}\n{{end}}"
	if _, err := template.WriteString(line); err != nil {
		return nil, fmt.Errorf("make template: %w", err)
	}
	args := []string{"report", "./cmd/nowcast", "--ignore", "nowcast", "--template", template.Name()}
	report, err := output(ctx, root, tool, args...)
	if err != nil {
		return nil, err
	}
	list, err := output(ctx, root, "go", "list", "-m", "-f", "{{.Path}}\t{{.Dir}}", "all")
	if err != nil {
		return nil, err
	}
	parts := map[string]*part{} // by module
	for l := range strings.Lines(report) {
		f := strings.Split(strings.TrimSpace(l), "\t")
		if len(f) != 4 {
			continue
		}
		version, license, path := f[1], f[2], f[3]
		module, dir := moduleOf(f[0], list)
		if known := unclassified[module]; known != "" && license == "Unknown" {
			license, path = known, filepath.Join(dir, "LICENSE")
		}
		p := parts[module]
		if p == nil {
			p = &part{name: module, version: version}
			parts[module] = p
		}
		for _, file := range []string{path, filepath.Join(filepath.Dir(path), "NOTICE")} {
			if !slices.Contains(p.files, file) && (file == path || exists(file)) {
				p.files = append(p.files, file)
			}
		}
		if !slices.Contains(p.licenses, license) {
			p.licenses = append(p.licenses, license)
			slices.Sort(p.licenses)
		}
	}
	goroot, err := output(ctx, root, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	all := []part{{name: "Go's standard library and runtime", licenses: []string{"BSD-3-Clause"},
		files: []string{filepath.Join(strings.TrimSpace(goroot), "LICENSE")}}}
	for _, p := range parts {
		all = append(all, *p)
	}
	return all, check(all)
}

// moduleOf finds the module of a package, and its folder, in lines of module and folder.
func moduleOf(pkg, list string) (module, dir string) {
	for l := range strings.Lines(list) {
		m, d, _ := strings.Cut(strings.TrimSpace(l), "\t")
		if strings.HasPrefix(pkg+"/", m+"/") && len(m) > len(module) {
			module, dir = m, d
		}
	}
	return module, dir
}

// npmPackages are those of a lock file that aren't for development, and more of them by name.
func npmPackages(dir string, more []string) ([]part, error) {
	b, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return nil, fmt.Errorf("read lock: %w", err)
	}
	var lock struct {
		Packages map[string]struct {
			Version, License string
			Dev, DevOptional bool
		}
	}
	if err := json.Unmarshal(b, &lock); err != nil {
		return nil, fmt.Errorf("read lock: %w", err)
	}
	var all []part
	for path, p := range lock.Packages {
		_, name, _ := strings.Cut(path, "node_modules/")
		if name == "" || (p.Dev || p.DevOptional) && !slices.Contains(more, name) {
			continue
		}
		x := part{name: name, version: p.Version, licenses: []string{cmp.Or(corrected[name], p.License)}}
		files, err := filepath.Glob(filepath.Join(dir, path, "*LICEN[SC]E*"))
		if err != nil {
			return nil, fmt.Errorf("find license of %s: %w", name, err)
		}
		x.files = files
		all = append(all, x)
	}
	return all, check(all)
}

// check refuses licenses that aren't accepted, and sorts.
func check(all []part) error {
	slices.SortFunc(all, func(a, b part) int { return cmp.Compare(a.name, b.name) })
	var errs []error
	for _, p := range all {
		for _, l := range p.licenses {
			if !slices.Contains(accepted, l) {
				errs = append(errs, fmt.Errorf("check %s: license %q isn't accepted", p, l))
			}
		}
	}
	return errors.Join(errs...)
}

//go:embed head.txt
var head string

func write(out io.Writer, root string, linked, bundled, data []part) error {
	var b bytes.Buffer
	b.WriteString(head)
	texts := map[string][]string{} // names by text
	for _, s := range []struct {
		title string
		parts []part
	}{
		{"Linked into the program", linked},
		{"In the dashboard", bundled},
		{"Data in the program, and the embedded ClickHouse beside it", data},
	} {
		fmt.Fprintf(&b, "\n%s\n%s\n\n", s.title, strings.Repeat("-", len(s.title)))
		for _, p := range s.parts {
			fmt.Fprintf(&b, "  %s (%s)\n", p, strings.Join(p.licenses, ", "))
			if len(p.files) == 0 && slices.Equal(p.licenses, []string{"Apache-2.0"}) {
				p.files = []string{filepath.Join(root, "LICENSE")} // the license has one text
			}
			if len(p.files) == 0 {
				return fmt.Errorf("find license of %s: no text", p.name)
			}
			for _, f := range p.files {
				text, err := os.ReadFile(f)
				if err != nil {
					return fmt.Errorf("read license of %s: %w", p.name, err)
				}
				t := normalize(string(text))
				if !slices.Contains(texts[t], p.name) {
					texts[t] = append(texts[t], p.name)
				}
			}
		}
	}
	order := slices.SortedFunc(maps.Keys(texts), func(x, y string) int {
		return cmp.Or(cmp.Compare(texts[x][0], texts[y][0]), cmp.Compare(x, y))
	})
	for _, t := range order {
		fmt.Fprintf(&b, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(texts[t], "\n"), t)
	}
	if _, err := out.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write notice: %w", err)
	}
	return nil
}

// normalize drops what differs between two copies of a text but not in meaning: spaces at the ends of lines.
func normalize(text string) string {
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " \t\f")
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), platform...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	b, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run %s %s: %w\n%s", name, args[0], err, stderr.Bytes())
	}
	return string(b), nil
}
