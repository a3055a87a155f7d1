package ingest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestAnswersReflectNothing sends markup in all fields: no answer contains it, pages of any origin can
// read the answers, and browsers don't guess their type.
func TestAnswersReflectNothing(t *testing.T) {
	const mark = "<script>alert(1)</script>"
	w := start(t, Config{AddressLimit: Limit{Rate: 0.01, Burst: 1}})
	pv := func(more string) string { return `{"n":"pageview","u":"https://example.com/a"` + more + `}` }
	for i, c := range []struct {
		name, body string
		header     []string
		status     int
		kind       string
	}{
		{"counted", pv(`,"r":"` + mark + `"`), nil, 202, "text/plain"},
		{"dropped", pv(`,"d":"` + mark + `"`), nil, 202, "text/plain"},
		{"no JSON", mark, nil, 400, "application/json"},
		{"bad url", `{"n":"pageview","u":"data:` + mark + `"}`, nil, 400, "application/json"},
		{"url of a number", `{"n":"pageview","u":{"` + mark + `":1}}`, nil, 400, "application/json"},
		{"bad name", `{"n":{"` + mark + `":1},"u":"https://example.com/` + mark + `"}`, nil, 400,
			"application/json"},
		{"long name", `{"n":"` + strings.Repeat(mark, 10) + `","u":"https://example.com/"}`, nil, 400,
			"application/json"},
		{"bad domain", pv(`,"d":"` + strings.Repeat(mark+",", 60) + `"`), nil, 400, "application/json"},
		{"bad id", pv(`,"id":"` + strings.Repeat(mark, 10) + `"`), nil, 400, "application/json"},
		{"long key", pv(`,"p":{"` + strings.Repeat(mark, 50) + `":1}`), nil, 400, "application/json"},
		{"engagement", `{"n":"engagement","u":"https://example.com/","sd":"` + mark + `"}`, nil, 400,
			"application/json"},
		{"address asked for", pv(""), []string{"X-Debug-Request", "true"}, 200, "text/plain"},
		{"address that is none", pv(""), []string{"X-Debug-Request", "true", "X-Forwarded-For", mark}, 200,
			"text/plain"},
		{"address with a zone", pv(""), []string{"X-Debug-Request", "true", "X-Forwarded-For",
			"fe80::1%" + mark}, 200, "text/plain"},
		{"over the rate", pv(`,"d":"` + mark + `"`), []string{"X-Forwarded-For", "203.0.113.1"}, 429,
			"application/json"},
	} {
		if c.header == nil {
			c.header = []string{"X-Forwarded-For", fmt.Sprintf("203.0.113.%d", 1+i), "Origin",
				"https://" + mark}
		}
		a := w.post(t, c.body, c.header...)
		if a.status != c.status || !strings.HasPrefix(a.header.Get("Content-Type"), c.kind+";") ||
			a.header.Get("X-Content-Type-Options") != "nosniff" ||
			a.header.Get("Access-Control-Allow-Origin") != "*" ||
			a.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: %+v", c.name, a)
		}
		for name, values := range a.header {
			if strings.Contains(strings.Join(values, ""), "alert") {
				t.Errorf("%s: header %s: %v", c.name, name, values)
			}
		}
		if strings.Contains(a.body, "alert") || strings.Contains(a.body, "script") {
			t.Errorf("%s: %s", c.name, a.body)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, w.url+"/api/event", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "https://"+mark)
	req.Header.Set("Access-Control-Request-Headers", mark)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if res.Body.Close(); res.StatusCode != 204 || strings.Contains(fmt.Sprint(res.Header), "alert") ||
		res.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("preflight: %v", res)
	}
}
