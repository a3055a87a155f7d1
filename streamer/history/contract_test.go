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
