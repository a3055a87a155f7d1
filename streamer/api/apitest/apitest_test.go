package apitest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestChecker(t *testing.T) {
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Document(); err != nil {
		t.Errorf("the contract itself: %v", err)
	}
	json := http.Header{"Content-Type": {"application/json"}}
	for _, row := range []struct{ name, path, body, difference string }{
		{"as the contract says", "/api/v1/keys", `{"keys":[]}`, ""},
		{"not what the contract says", "/api/v1/keys", `{"keys":{}}`, "array"},
		{"not JSON", "/api/v1/keys", `[`, "response body"},
		{"not in the contract", "/api/v1/nothing", `{}`, "not found"},
	} {
		req := httptest.NewRequest(http.MethodGet, "http://127.0.0.1"+row.path, nil)
		err := c.Response(req, http.StatusOK, json, []byte(row.body))
		wrong := (err == nil) != (row.difference == "")
		if wrong || err != nil && !strings.Contains(err.Error(), row.difference) {
			t.Errorf("%s: %v, want %q", row.name, err, row.difference)
		}
	}
	if again, err := New(); again != c || err != nil {
		t.Errorf("a second checker: %p, %v, want %p", again, err, c)
	}
}
