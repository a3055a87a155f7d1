package history_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"nowcast/streamer/history"
)

// The contract describes every operation of filters and has an example of each that is answered.
func TestFiltersOfTheContract(t *testing.T) {
	b, err := os.ReadFile("../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var contract struct {
		Components struct {
			Schemas struct {
				QueryRequest struct {
					Properties struct {
						Filters struct {
							Description string
							Examples    [][]any
						}
					}
				} `yaml:"QueryRequest"`
			}
		}
	}
	if err := yaml.Unmarshal(b, &contract); err != nil {
		t.Fatal(err)
	}
	filters := contract.Components.Schemas.QueryRequest.Properties.Filters
	d := newServer(t, 10, history.Config{})
	used := ""
	for _, example := range filters.Examples {
		text, err := json.Marshal(example)
		if err != nil {
			t.Fatal(err)
		}
		used += string(text)
		a, err := d.post(t.Context(), "", `{"site_id":"`+d.site+`","metrics":["visitors","bounce_rate"],`+
			`"date_range":["2026-03-02","2026-03-02"],"filters":`+string(text)+`}`)
		if err != nil || a.status != http.StatusOK {
			t.Errorf("%s: %v %d %s", text, err, a.status, a.body)
		}
	}
	for _, op := range history.Operations {
		if !strings.Contains(used, `["`+string(op)+`",`) {
			t.Errorf("no example has %s", op)
		}
		if !strings.Contains(filters.Description, "`"+string(op)+"`") &&
			!strings.Contains(filters.Description, "[\""+string(op)+"\"") {
			t.Errorf("%s is not described", op)
		}
	}
}

// The examples of dashboards are answered as the contract says.
func TestDashboardsOfTheContract(t *testing.T) {
	b, err := os.ReadFile("../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var contract struct {
		Paths map[string]struct {
			Post struct {
				RequestBody struct {
					Content map[string]struct {
						Examples map[string]struct{ Value map[string]any }
					}
				} `yaml:"requestBody"`
			}
		}
	}
	if err := yaml.Unmarshal(b, &contract); err != nil {
		t.Fatal(err)
	}
	const path = "/api/v2/dashboard"
	examples := contract.Paths[path].Post.RequestBody.Content["application/json"].Examples
	if len(examples) < 2 {
		t.Fatalf("%d examples", len(examples))
	}
	d := newServer(t, 10, history.Config{})
	for name, x := range examples {
		x.Value["site_id"] = d.site
		text, err := json.Marshal(x.Value)
		if err != nil {
			t.Fatal(err)
		}
		a, err := d.postTo(t.Context(), path, "", string(text))
		if err != nil || a.status != http.StatusOK {
			t.Errorf("%s: %v %d %s", name, err, a.status, a.body)
		}
	}
	a, err := d.postTo(t.Context(), path, "", `{"site_id":"`+d.site+`",`+
		`"date_range":["2026-03-02","2026-03-02"],"metrics":["visitors"],"interval":"time:hour",`+
		`"cards":[{"dimension":"event:page","limit":1}]}`)
	const want = `{"tiles":[10],"line":{"interval":"time:hour","labels":["2026-03-02 00:00:00",`
	if err != nil || !strings.HasPrefix(a.body, want) || !strings.Contains(a.body, `"cards":[{"dimension":`+
		`"event:page","metrics":["visitors"],"results":[{"metrics":[1],"dimensions":["/section-0/article-0"]`+
		`}],"total_rows":10}],"meta":{}`) {
		t.Errorf("%v %s", err, a.body)
	}
}
