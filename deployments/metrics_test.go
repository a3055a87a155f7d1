// Package deployments holds the settings of the programs around Nowcast. Its Go code is tests only.
package deployments

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.yaml.in/yaml/v3"

	"nowcast/aggregator"
	"nowcast/ingest"
	"nowcast/ingest/enrich/enrichtest"
	"nowcast/ingest/publisher/spool"
	"nowcast/internal/broker"
	"nowcast/internal/embedded"
	"nowcast/internal/erasure"
	"nowcast/internal/process"
	"nowcast/internal/site"
	"nowcast/internal/warehouse"
	"nowcast/streamer"
)

// labels are the label names of a metric or an expression.
type labels map[string]bool

func labelsOf(names ...string) labels {
	l := labels{}
	for _, n := range names {
		l[n] = true
	}
	return l
}

func (l labels) String() string { return strings.Join(slices.Sorted(maps.Keys(l)), ", ") }

// recorder records the metrics that are registered.
// An answer of /metrics wouldn't do: it lacks the vectors that have no children.
type recorder struct {
	prometheus.Registerer
	metrics map[string]labels
}

var desc = regexp.MustCompile(
	`^Desc\{fqName: "([^"]+)", .*constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}`)

func (r recorder) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc)
	go func() { defer close(descs); c.Describe(descs) }()
	for d := range descs {
		found := desc.FindStringSubmatch(d.String())
		if found == nil {
			return fmt.Errorf("parse description: %s", d)
		}
		own := labelsOf("job", "instance")
		comma := func(c rune) bool { return c == ',' }
		for label := range strings.FieldsFuncSeq(found[2]+","+found[3], comma) {
			name, _, _ := strings.Cut(label, "=")
			own[name] = true
		}
		name := found[1]
		_, one := c.(prometheus.Histogram)
		if _, vec := c.(*prometheus.HistogramVec); !one && !vec {
			r.metrics[name] = own
			continue
		}
		r.metrics[name+"_sum"], r.metrics[name+"_count"] = own, own
		r.metrics[name+"_bucket"] = maps.Clone(own)
		r.metrics[name+"_bucket"]["le"] = true
	}
	return r.Registerer.Register(c)
}

func (r recorder) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

// registered gives the metrics of all roles, of the process around them, and of Prometheus itself.
func registered(t *testing.T) map[string]labels {
	t.Helper()
	r := recorder{prometheus.NewRegistry(), map[string]labels{"up": labelsOf("job", "instance")}}
	r.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), process.NewHealth().Metrics())
	log := slog.New(slog.DiscardHandler)
	kafka := broker.New(broker.Config{Addrs: []string{"127.0.0.1:1"}})
	t.Cleanup(kafka.Close)
	db, err := warehouse.Open("clickhouse://127.0.0.1:1/nowcast")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	sites := site.NewRegistry(kafka, log)
	erasures := erasure.NewLog(kafka, log)
	disk, err := spool.Open(spool.Config{Dir: t.TempDir(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	geo := filepath.Join(t.TempDir(), "geo.mmdb")
	if err := os.WriteFile(geo, enrichtest.GeoDatabase(t, "City", map[string]mmdbtype.Map{
		"8.8.8.0/24": enrichtest.City("DE", "", ""),
	}), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ingest.New(ingest.Config{GeoFile: geo}, ingest.Deps{
		Broker: kafka, Sites: sites, Log: log, Metrics: r, Spool: disk,
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := aggregator.New(aggregator.Config{Windows: true, Store: true, Seal: true}, aggregator.Deps{
		Broker: kafka, Erasures: erasures, Warehouse: db, Log: log, Metrics: r,
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := streamer.New(streamer.Config{}, streamer.Deps{
		Broker: kafka, Warehouse: db, Sites: sites, Erasures: erasures, Log: log, Metrics: r,
	}); err != nil {
		t.Fatal(err)
	}
	parts, err := embedded.NewBroker(embedded.Config{Dir: t.TempDir(), Log: log, Metrics: r})
	if err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := parts.Run(ended); err != nil { // unlocks its directory
		t.Fatal(err)
	}
	return r.metrics
}

var token = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|\[[^\]]*\]|[0-9.]+[a-z]*|[A-Za-z_:][A-Za-z0-9_:]*|\S`)

// check finds the metrics and labels of a PromQL expression, of the part of PromQL that is used here.
// It returns the labels of the result. A metric or a label that doesn't exist is an error.
func check(expr string, metrics map[string]labels) (labels, error) {
	tokens := token.FindAllString(expr, -1)
	at := func(i int) string {
		if i < len(tokens) {
			return tokens[i]
		}
		return ""
	}
	// list returns the names between an opening token at i and its closing one, without values, and the end.
	list := func(i int, closing string) (names []string, end int) {
		for end = i + 1; end < len(tokens) && tokens[end] != closing; end++ {
			if before := at(end - 1); before == "," || end == i+1 {
				names = append(names, tokens[end])
			}
		}
		return names, end
	}
	used, grouped := labels{}, labels{}
	var wanted []string
	var groups bool
	last := ""
	for i := 0; i < len(tokens); i++ {
		switch word := tokens[i]; word {
		case "by", "on", "group_left", "group_right":
			if at(i+1) != "(" {
				continue
			}
			names, end := list(i+1, ")")
			wanted = append(wanted, names...)
			if word == "by" {
				groups = true
				maps.Copy(grouped, labelsOf(names...))
			}
			i = end
		case "and", "or", "unless", "offset", "bool":
		case "{":
			names, end := list(i, "}")
			for _, n := range names {
				if !metrics[last][n] {
					return nil, fmt.Errorf("%s has no label %s, only %s", last, n, metrics[last])
				}
			}
			i = end
		default:
			c, next := word[0], at(i+1)
			if c != '_' && c != ':' && (c|0x20 < 'a' || c|0x20 > 'z') || next == "(" || next == "by" {
				continue // a number, an operator, a string, or a function
			}
			own, exists := metrics[word]
			if !exists {
				return nil, fmt.Errorf("there is no metric %s", word)
			}
			last = word
			maps.Copy(used, own)
		}
	}
	if last == "" {
		return nil, fmt.Errorf("no metric in %q", expr)
	}
	for _, n := range wanted {
		if !used[n] {
			return nil, fmt.Errorf("no metric of %q has a label %s, only %s", expr, n, used)
		}
	}
	if groups {
		return grouped, nil
	}
	return used, nil
}

// A rule about a metric or a label that doesn't exist never fires, so check has to notice it.
func TestCheck(t *testing.T) {
	metrics := map[string]labels{
		"up": labelsOf("job"), "x_total": labelsOf("a", "b"), "y_bucket": labelsOf("c", "le"),
	}
	for _, c := range []struct{ expr, labels, err string }{
		{`up == 0`, "job", ""},
		{`sum by (a) (rate(x_total{b=~"z_total|{c}",a!="1"}[5m])) / 3e2 > 0.5`, "a", ""},
		{`sum(rate(x_total[$__rate_interval])) by (b)`, "b", ""},
		{`x_total > 0 unless x_total offset 1h`, "a, b", ""},
		{`histogram_quantile(0.9, sum by (c, le) (rate(y_bucket[5m])))`, "c, le", ""},
		{`time() - z_total`, "", "there is no metric z_total"},
		{`y_sum`, "", "there is no metric y_sum"},
		{`up + on (job) rate(x_total{c="1"}[5m])`, "", "x_total has no label c, only a, b"},
		{`sum by (c) (x_total)`, "", `no metric of "sum by (c) (x_total)" has a label c, only a, b`},
		{`time()`, "", `no metric in "time()"`},
	} {
		got, err := check(c.expr, metrics)
		said := ""
		if err != nil {
			said = err.Error()
		}
		if fmt.Sprint(got) != c.labels || said != c.err {
			t.Errorf("%s: %s, %v", c.expr, got, err)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var (
	annotated = regexp.MustCompile(`\$labels\.(\w+)`)
	legend    = regexp.MustCompile(`\{\{(\w+)\}\}`)
)

// texts returns an error where a text names a label, found by pattern, that the result doesn't have.
func texts(text string, pattern *regexp.Regexp, has labels) error {
	for _, m := range pattern.FindAllStringSubmatch(text, -1) {
		if !has[m[1]] {
			return fmt.Errorf("%q is about a label that isn't there: it has %s", text, has)
		}
	}
	return nil
}

func TestAlerts(t *testing.T) {
	metrics := registered(t)
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	d := yaml.NewDecoder(strings.NewReader(string(read(t, "prometheus/alerts.yml"))))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			has, err := check(r.Expr, metrics)
			if err != nil {
				t.Errorf("%s: %v", r.Alert, err)
				continue
			}
			for _, text := range r.Annotations {
				if err := texts(text, annotated, has); err != nil {
					t.Errorf("%s: %v", r.Alert, err)
				}
			}
			severity, about := r.Labels["severity"], r.Annotations
			if severity != "page" && severity != "ticket" ||
				about["summary"] == "" || about["description"] == "" || names[r.Alert] {
				t.Errorf("%s needs its own name, a severity (page, ticket), summary and description", r.Alert)
			}
			names[r.Alert] = true
		}
	}
	if len(names) == 0 {
		t.Error("no rules")
	}
}

func TestDashboard(t *testing.T) {
	metrics := registered(t)
	var file struct {
		Panels []struct {
			ID                       int
			Type, Title, Description string
			Targets                  []struct{ Expr, LegendFormat string }
			FieldConfig              struct{ Defaults struct{ Unit string } }
		}
		Templating struct {
			List []struct{ Name, Type, Query string }
		}
	}
	if err := json.Unmarshal(read(t, "grafana/nowcast.json"), &file); err != nil {
		t.Fatal(err)
	}
	for _, v := range file.Templating.List {
		q, ok := strings.CutPrefix(v.Query, "label_values(")
		if v.Type == "query" && ok {
			i := strings.LastIndex(q, ",")
			has, err := check(q[:i], metrics)
			if label := strings.Trim(q[i:], ", )"); err != nil || !has[label] {
				t.Errorf("variable %s: %s of %s: %v", v.Name, label, has, err)
			}
		}
	}
	ids, shown := map[int]bool{}, ""
	for _, p := range file.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		if p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d: give it a title, a description, a unit and something to show", p.ID)
		}
		for _, q := range p.Targets {
			has, err := check(q.Expr, metrics)
			if err == nil {
				err = texts(q.LegendFormat, legend, has)
			}
			if err != nil || q.LegendFormat == "" {
				t.Errorf("%s: legend %q: %v", p.Title, q.LegendFormat, err)
			}
			shown += q.Expr + "\n"
		}
	}
	for name := range metrics {
		name = histogramSuffix.ReplaceAllString(name, "")
		if strings.HasPrefix(name, "nowcast_") && !strings.Contains(shown, name) {
			t.Errorf("no panel shows %s", name)
		}
	}
}

var histogramSuffix = regexp.MustCompile(`_(bucket|sum|count)$`)

// Prometheus has to scrape every process of Nowcast that docker-compose.yml starts.
func TestTargets(t *testing.T) {
	compose := readCompose(t)
	var config struct {
		RuleFiles     []string `yaml:"rule_files"`
		ScrapeConfigs []struct {
			Job string `yaml:"job_name"`
			DNS []struct {
				Names []string
				Port  string
			} `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal(read(t, "prometheus/prometheus.yml"), &config); err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for name, s := range compose.Services {
		words, _ := s.Command.([]any)
		if len(words) > 0 && (words[0] == "ingest" || words[0] == "aggregator" || words[0] == "streamer") {
			_, port, err := net.SplitHostPort(byDefault(s.Environment["NOWCAST_OPS_LISTEN"]))
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, net.JoinHostPort(name, port))
		}
	}
	for _, c := range config.ScrapeConfigs {
		for _, d := range c.DNS {
			for _, name := range d.Names {
				got = append(got, net.JoinHostPort(name, d.Port))
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("targets %q, want %q", got, want)
	}
	for _, path := range config.RuleFiles {
		read(t, "prometheus/"+path)
	}
}
