package api

import (
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

type parameter struct {
	Ref  string `yaml:"$ref"`
	Name string `yaml:"name"`
	In   string `yaml:"in"`
}

// The checked query parameters are those of the contract.
func TestQueryParametersAreTheContracts(t *testing.T) {
	b, err := os.ReadFile("../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var contract struct {
		Paths map[string]map[string]yaml.Node `yaml:"paths"`
	}
	if err := yaml.Unmarshal(b, &contract); err != nil {
		t.Fatal(err)
	}
	operations := 0
	for path, methods := range contract.Paths {
		route := strings.NewReplacer("{", ":", "}", "").Replace(path)
		for method, node := range methods {
			var op struct {
				Tags       []string    `yaml:"tags"`
				Parameters []parameter `yaml:"parameters"`
			}
			if method == "parameters" || slices.Contains(uncheckedRoutes, route) {
				continue
			}
			if err := node.Decode(&op); err != nil {
				t.Fatal(err)
			}
			if slices.Contains(op.Tags, "ingest") {
				continue
			}
			var want []string
			for _, p := range op.Parameters {
				if p.In == "query" {
					want = append(want, p.Name)
				}
			}
			operations++
			if got := queryParameters[strings.ToUpper(method)+" "+route]; !slices.Equal(got, want) {
				t.Errorf("%s %s takes %q in the contract, %q here", method, path, want, got)
			}
		}
	}
	if operations < 15 {
		t.Errorf("%d operations", operations)
	}
}
