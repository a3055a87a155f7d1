package history_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"nowcast/streamer/history"
)

// grafanaPanel is a request of docs/grafana.md and how Grafana reads the answer.
type grafanaPanel struct {
	title, body string
	columns     []grafanaColumn
}

type grafanaColumn struct{ name, selector, format, path string }

var grafanaRow = regexp.MustCompile("(?m)^\\| ([a-z ]+) \\| `(.+)` \\| ([a-z]+) \\| `(.+)` \\|$")

// grafanaDocument returns the page's sections by their titles, each with the contents of its code blocks.
func grafanaDocument(t *testing.T) (sections map[string]string, blocks map[string][]string) {
	t.Helper()
	b, err := os.ReadFile("../../docs/grafana.md")
	if err != nil {
		t.Fatal(err)
	}
	sections, blocks = map[string]string{}, map[string][]string{}
	for _, section := range strings.Split(string(b), "\n## ")[1:] {
		title, text, _ := strings.Cut(section, "\n")
		sections[title] = text
		for i, block := range strings.Split(text, "\n```") {
			if i%2 == 1 {
				_, block, _ = strings.Cut(block, "\n")
				blocks[title] = append(blocks[title], block)
			}
		}
	}
	return sections, blocks
}

func grafanaPanels(t *testing.T) (panels []grafanaPanel) {
	t.Helper()
	sections, blocks := grafanaDocument(t)
	for title, text := range sections {
		rows := grafanaRow.FindAllStringSubmatch(text, -1)
		if len(rows) == 0 {
			continue
		}
		if len(blocks[title]) != 1 {
			t.Fatalf("%s has %d code blocks, want its request", title, len(blocks[title]))
		}
		p := grafanaPanel{title: title, body: blocks[title][0]}
		for _, r := range rows {
			p.columns = append(p.columns, grafanaColumn{r[1], r[2], r[3], r[4]})
		}
		panels = append(panels, p)
	}
	return panels
}

// ask sends a request as Grafana does for a dashboard of one day. It returns the answer.
func (d *server) ask(body string) (whole any) {
	d.t.Helper()
	body = strings.NewReplacer("example.com", d.site, "${__from:date:iso}", "2026-03-02T00:00:00.000Z",
		"${__to:date:iso}", "2026-03-02T23:59:59.999Z").Replace(body)
	a, err := d.post(d.t.Context(), d.key, body)
	if err != nil || a.status != http.StatusOK {
		d.t.Fatalf("%s: %v %d %s", body, err, a.status, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &whole); err != nil {
		d.t.Fatal(err)
	}
	return whole
}

// follow reads a value by keys and indexes. A * makes a list of what the rest selects in each element.
func follow(value any, steps []string) (any, bool) {
	if len(steps) == 0 {
		return value, true
	}
	switch v := value.(type) {
	case map[string]any:
		next, ok := v[steps[0]]
		if !ok {
			return nil, false
		}
		return follow(next, steps[1:])
	case []any:
		if steps[0] == "*" {
			all := []any{}
			for _, x := range v {
				selected, ok := follow(x, steps[1:])
				if !ok {
					return nil, false
				}
				all = append(all, selected)
			}
			return all, true
		}
		i, err := strconv.Atoi(steps[0])
		if err != nil || i >= len(v) {
			return nil, false
		}
		return follow(v[i], steps[1:])
	}
	return nil, false
}

// Every panel of the document is answered, and its columns select values of their formats.
func TestGrafanaPanels(t *testing.T) {
	d := newServer(t, 100_000, history.Config{}) // 83 minutes of a view every 50 ms
	panels := grafanaPanels(t)
	var titles []string
	for _, p := range panels {
		titles = append(titles, p.title)
		whole := d.ask(p.body)
		results, ok := follow(whole, []string{"results"})
		rows, _ := results.([]any)
		if !ok || len(rows) == 0 {
			t.Errorf("%s: no rows", p.title)
			continue
		}
		values := map[string][]any{}
		for _, c := range p.columns {
			for _, row := range rows {
				v, ok := follow(row, strings.Split(c.selector, "."))
				if !ok {
					t.Fatalf("%s: no %s in %v", p.title, c.selector, row)
				}
				values[c.name] = append(values[c.name], v)
				if !ofFormat(v, c.format) {
					t.Errorf("%s: %s is %v, no %s", p.title, c.name, v, c.format)
				}
			}
			steps := strings.Split(strings.NewReplacer("$.", "", "[", ".", "]", "").Replace(c.path), ".")
			if all, ok := follow(whole, steps); !ok || fmt.Sprint(all) != fmt.Sprint(values[c.name]) {
				t.Errorf("%s: %s selects %v, %s selects %v", p.title, c.selector, values[c.name], c.path, all)
			}
		}
		if sum := fmt.Sprint(values["pageviews"]); p.title == "A time series" && sum != "[72000 28000]" {
			t.Errorf("page views by hour: %s", sum)
		}
		if p.title == "A stat" && (len(rows) != 1 || values["visitors"][0] != 50000.0) {
			t.Errorf("the stat is %v", values)
		}
	}
	if slices.Sort(titles); !slices.Equal(titles, []string{"A stat", "A table", "A time series"}) {
		t.Errorf("panels: %q", titles)
	}
}

func ofFormat(v any, format string) bool {
	switch format {
	case "number":
		_, ok := v.(float64)
		return ok
	case "string":
		s, ok := v.(string)
		return ok && s != ""
	case "timestamp":
		s, _ := v.(string)
		_, errTime := time.Parse(time.DateTime, s)
		_, errDate := time.Parse(time.DateOnly, s)
		return errTime == nil || errDate == nil
	}
	return false
}

// The provisioned panel is the time series above it, and the data source is what it names.
func TestGrafanaProvisioning(t *testing.T) {
	_, blocks := grafanaDocument(t)
	provisioned := blocks["The time series in a provisioned dashboard"]
	if len(provisioned) != 1 || len(blocks["The data source"]) != 2 {
		t.Fatalf("code blocks: %d, %d", len(provisioned), len(blocks["The data source"]))
	}
	var targets []struct {
		Datasource struct{ Type, UID string }
		URL        string
		URLOptions struct {
			Method, Data    string
			BodyType        string `json:"body_type"`
			BodyContentType string `json:"body_content_type"`
		} `json:"url_options"`
		RootSelector string `json:"root_selector"`
		Columns      []struct{ Selector, Text, Type string }
	}
	if err := json.Unmarshal([]byte(provisioned[0]), &targets); err != nil || len(targets) != 1 {
		t.Fatal(err)
	}
	target := targets[0]
	for _, p := range grafanaPanels(t) {
		if p.title != "A time series" {
			continue
		}
		var columns []grafanaColumn
		for _, c := range target.Columns {
			columns = append(columns, grafanaColumn{name: c.Text, selector: c.Selector, format: c.Type})
		}
		for i := range p.columns {
			p.columns[i].path = ""
		}
		if !slices.Equal(columns, p.columns) || !sameJSON(target.URLOptions.Data, p.body) {
			t.Errorf("%+v isn't %+v", target, p)
		}
	}
	if o := target.URLOptions; target.URL != "/api/v2/query" || o.Method != http.MethodPost ||
		o.BodyType != "raw" || o.BodyContentType != "application/json" || target.RootSelector != "results" {
		t.Errorf("%+v", target)
	}
	var provisioning struct {
		Datasources []struct {
			Type, UID, URL string
			JSONData       struct {
				Method string   `yaml:"auth_method"`
				Hosts  []string `yaml:"allowedHosts"`
			} `yaml:"jsonData"`
		}
	}
	if err := yaml.Unmarshal([]byte(blocks["The data source"][1]), &provisioning); err != nil {
		t.Fatal(err)
	}
	s := provisioning.Datasources[0]
	if s.Type != target.Datasource.Type || s.UID != target.Datasource.UID ||
		s.JSONData.Method != "bearerToken" || !slices.Contains(s.JSONData.Hosts, s.URL) {
		t.Errorf("%+v", s)
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil &&
		fmt.Sprint(x) == fmt.Sprint(y)
}
