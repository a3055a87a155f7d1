package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// bearerKey sends a key with each request.
type bearerKey string

func (k bearerKey) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(k))
	return http.DefaultTransport.RoundTrip(r)
}

// useTool calls a tool and decodes its result into out; an error of the tool is an error.
func useTool(ctx context.Context, c *mcp.ClientSession, tool string, arguments, out any) error {
	r, err := c.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		return err
	}
	text := r.Content[0].(*mcp.TextContent).Text
	if r.IsError {
		return fmt.Errorf("%s: %s", tool, text)
	}
	return json.Unmarshal([]byte(text), out)
}

// What was counted a moment ago is read by `nowcast query` and by assistants, over stdin and over HTTP, each
// with the key of one site and nothing more.
func TestMachines(t *testing.T) {
	l := startLaptop(t)
	server := l.streamers[0]
	site, other := l.site(t, false), l.site(t, false)
	a := l.must(t, http.MethodPost, server+"/api/v1/keys", map[string]any{"name": "assistant",
		"sites": []string{site}})
	var key struct{ Secret string }
	if err := json.Unmarshal([]byte(a.body), &key); err != nil || key.Secret == "" {
		t.Fatalf("make a key: %v %s", err, a.body)
	}
	for i := range 12 {
		l.view(t, site, []string{"/", "/pricing", "/pricing"}[i%3], i)
	}
	l.view(t, other, "/secret", 1)
	l.total(t, site, "pageviews", 12)
	l.total(t, other, "pageviews", 1)
	program := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), binary(t), args...)
		cmd.Env = append(os.Environ(), "NOWCAST_KEY="+key.Secret, "NOWCAST_SERVER="+server)
		return cmd
	}

	day := time.Now().UTC().Format(time.DateOnly) // the views may be on both sides of midnight
	span := time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly) + "," + day
	out, err := program("query", "--site", site, "--range", span, "--by", "page", "--metrics", "pageviews",
		"--csv").Output()
	if want := "event:page,pageviews\n/pricing,8\n/,4\n"; err != nil || string(out) != want {
		t.Errorf("nowcast query: %v\n%s\nwant\n%s", err, out, want)
	}
	out, err = program("query", "--site", other).CombinedOutput()
	if err == nil || !strings.HasPrefix(string(out), "nowcast: ") || strings.Contains(string(out), "secret") {
		t.Errorf("nowcast query of another site: %v %s", err, out)
	}

	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	onStdin, err := client.Connect(t.Context(), &mcp.CommandTransport{Command: program("mcp")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	assist(t, onStdin, site, other)
	if err := onStdin.Close(); err != nil {
		t.Errorf("the assistant leaves: %v", err)
	}

	listen := port(t)
	p := start(t, "mcp", "--listen", listen, "--server", server)
	var overHTTP *mcp.ClientSession
	eventually(t, 10*time.Second, "nowcast mcp listens", func(ctx context.Context) (err error) {
		overHTTP, err = client.Connect(ctx, &mcp.StreamableClientTransport{
			Endpoint: "http://" + listen + "/mcp", DisableStandaloneSSE: true,
			HTTPClient: &http.Client{Transport: bearerKey(key.Secret)}}, nil)
		return err
	})
	assist(t, overHTTP, site, other)
	_ = overHTTP.Close()
	if a, err := l.call(t.Context(), http.MethodPost, "http://"+listen+"/mcp", "", "{}"); err != nil ||
		a.status != http.StatusUnauthorized {
		t.Errorf("without a key: %v %d %s", err, a.status, a.body)
	}
	if code := p.stop(t); code != 0 {
		t.Errorf("SIGTERM: exit %d", code)
	}
}

// assist asks what an assistant asks.
func assist(t *testing.T, c *mcp.ClientSession, site, other string) {
	t.Helper()
	var sites struct {
		Sites []struct {
			Site string `json:"site_id"`
		}
	}
	err := useTool(t.Context(), c, "sites", nil, &sites)
	list := fmt.Sprint(sites)
	if err != nil || !strings.Contains(list, site) || strings.Contains(list, other) {
		t.Errorf("sites: %v %+v", err, sites)
	}
	eventually(t, 10*time.Second, "the live numbers", func(ctx context.Context) error {
		var live struct {
			Visitors int `json:"active_visitors"`
			Pages    []struct{ Value string }
		}
		err := useTool(ctx, c, "live", map[string]any{"site_id": site}, &live)
		if err == nil && (live.Visitors != 12 || len(live.Pages) != 2 || live.Pages[0].Value != "/pricing") {
			err = fmt.Errorf("%+v", live)
		}
		return err
	})
	var compared struct {
		Totals        []struct{ Before, Now, Change float64 }
		Contributions []struct {
			Value  string
			Change float64
		}
	}
	if err := useTool(t.Context(), c, "compare", map[string]any{"site_id": site, "date_range": "24h",
		"metrics": []string{"pageviews"}, "by": "event:page"}, &compared); err != nil ||
		len(compared.Totals) != 1 || compared.Totals[0].Change != 12 || len(compared.Contributions) != 2 ||
		compared.Contributions[0].Value != "/pricing" || compared.Contributions[0].Change != 8 {
		t.Errorf("compare: %v %+v", err, compared)
	}
	for tool, arguments := range map[string]map[string]any{
		"live":    {"site_id": other},
		"compare": {"site_id": other, "date_range": "24h"},
		"query":   {"site_id": other, "date_range": "24h", "metrics": []string{"visitors"}},
	} {
		var none any
		if err := useTool(t.Context(), c, tool, arguments, &none); err == nil {
			t.Errorf("%s tells of another site: %v", tool, none)
		}
	}
}
