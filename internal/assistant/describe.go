package assistant

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

type describeIn struct{}

// describeOut is the schema of a query's fields, as the server's contract has it.
type describeOut struct {
	Query map[string]any `json:"query" jsonschema:"JSON Schema of each field of a query"`
}

// maxDepth bounds how deep references of the contract are followed; filters may refer to themselves.
const maxDepth = 12

// describe reads the contract of the server, so that it says what that very version has.
func (s *Server) describe(ctx context.Context, key string, _ describeIn) (describeOut, error) {
	a, err := s.api.get(ctx, key, "/api/openapi.yaml")
	if err != nil {
		return describeOut{}, err
	}
	var contract struct {
		Components struct{ Schemas map[string]any }
	}
	if err := yaml.Unmarshal(a.body, &contract); err != nil {
		return describeOut{}, fmt.Errorf("read the contract of %s: %w", s.api.base, err)
	}
	schemas := contract.Components.Schemas
	request, _ := resolve(schemas, schemas["QueryRequest"], maxDepth).(map[string]any)
	fields, _ := request["properties"].(map[string]any)
	if len(fields) == 0 {
		return describeOut{}, errors.New("the server's contract describes no query")
	}
	return describeOut{fields}, nil
}

// resolve replaces references between the schemas.
func resolve(schemas map[string]any, node any, depth int) any {
	if depth == 0 {
		return node
	}
	switch n := node.(type) {
	case map[string]any:
		if ref, ok := n["$ref"].(string); ok {
			return resolve(schemas, schemas[strings.TrimPrefix(ref, "#/components/schemas/")], depth-1)
		}
		out := make(map[string]any, len(n))
		for k, v := range n {
			out[k] = resolve(schemas, v, depth-1)
		}
		return out
	case []any:
		out := make([]any, len(n))
		for i, v := range n {
			out[i] = resolve(schemas, v, depth-1)
		}
		return out
	}
	return node
}
