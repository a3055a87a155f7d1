package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain makes the test binary the program itself where a test starts it as one.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_NOWCAST_MAIN") != "" {
		main()
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*connPool).discover"))
}

// nowcast does in this process what the program does with args.
func nowcast(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var o bytes.Buffer
	code = report(f, run(t.Context(), args, &stdio{strings.NewReader(""), &o, f}))
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return code, o.String(), string(b)
}

// program is the same as a process of its own, not started yet.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{"TEST_NOWCAST_MAIN=1", "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.Getenv("TMPDIR")}
	return cmd
}

func TestHelpTeaches(t *testing.T) {
	for _, command := range []string{"", "all", "ingest", "aggregator", "streamer", "topics", "site",
		"site add", "site list", "site set", "site remove",
		"site goal", "site goal add", "site goal list", "site goal set", "site goal remove",
		"site funnel", "site funnel add", "site funnel list", "site funnel set", "site funnel remove",
		"site segment", "site segment add", "site segment list", "site segment set", "site segment remove",
		"site annotation", "site annotation add", "site annotation list",
		"site annotation set", "site annotation remove",
		"key", "key add", "key list", "key remove", "login", "session", "session list",
		"session end", "link", "link add", "link list", "link remove", "load",
		"export", "import", "import add", "import list", "import remove",
		"query", "funnel", "journey", "mcp", "verify", "health", "version"} {
		code, out, errs := nowcast(t, append(strings.Fields(command), "--help")...)
		example := strings.TrimSpace("nowcast " + command)
		switch command {
		case "", "site", "key", "link", "session", "site goal", "site funnel", "site segment",
			"site annotation", "import":
			example = "nowcast "
		}
		if code != 0 || errs != "" || !strings.Contains(out, "    "+example) ||
			!strings.Contains(out, "\n    nowcast ") {
			t.Errorf("%s --help: %d, no example?\n%s%s", command, code, out, errs)
		}
	}
}

func TestWrongUsageEndsWith2(t *testing.T) {
	for _, row := range []struct{ args, want string }{
		{"", `"all"`},
		{"everything", "everything"},
		{"all --nonsense", "--nonsense"},
		{"all --partitions 0", "--partitions is 0: give 1 to 256"},
		{"all --partitions many", "--partitions"},
		{"all --log-level loud", "loud"},
		{"all --trusted-proxies nowhere", "10.0.0.0/8"},
		{"all --client-address-header X-Real-IP", "needs --trusted-proxies"},
		{"streamer --kafka a:1 --clickhouse b --client-address-header X-Real-IP", "needs --trusted-proxies"},
		{"all --trusted-proxies unix --client-address-header X_Real_IP", "is no header's name"},
		{"all --listen-mode rw", "give one as 0660"},
		{"all --tls-cert-file a", "give both"},
		{"ingest --kafka a:1 --tls-key-file a", "give both"},
		{"all --tls-cert-file a --tls-key-file b --acme stats.example.com", "by itself"},
		{"all --acme localhost", "give one as stats.example.com"},
		{"all --acme https://stats.example.com", "give one as stats.example.com"},
		{"all --acme 127.0.0.1", "give one as stats.example.com"},
		{"all --acme-cache a", "need --acme"},
		{"all --redirect-listen a:80", "needs --acme or --tls-cert-file"},
		{"all --listen unix:a --acme stats.example.com", "a unix socket has no TLS"},
		{"streamer --kafka a:1 --clickhouse b --viewer-lifetime 1s", "give at least 10s"},
		{"ingest", "--kafka"},
		{"ingest --kafka a:1 --address-rate=-1", "--address-rate and --address-burst: rate is -1: give 0"},
		{"all --site-rate 1 --site-burst 0.5", "--site-rate and --site-burst: burst is 0.5: give 0"},
		{"aggregator --kafka a:1", "need --clickhouse"},
		{"seal --dry-run", "--rebuild"},
		{"seal --from yesterday", "2026-11-01"},
		{"aggregator --kafka a:1 --lanes sideways", "sideways"},
		{"aggregator --clickhouse clickhouse://a:1/b", "--kafka"},
		{"aggregator --kafka a:1 --clickhouse clickhouse://a:1/b --from 1h", "--lanes store"},
		{"aggregator --lanes store --from yesterday", "90m"},
		{"streamer --kafka a:1", "--clickhouse"},
		{"topics --kafka a:1 --replication 0", "--replication"},
		{"site", "add"},
		{"site add", "<domain>"},
		{"site set example.com", "nothing to change"},
		{"site goal set example.com x", "nothing to change"},
		{"site goal add example.com x --event y --property plan", "give it as plan=pro"},
		{"site goal add example.com x --event y --property =pro", "give it as plan=pro"},
		{"site goal add example.com x --event y --property plan!pro", "give it as plan=pro"},
		{"site funnel add example.com x --step page:/a", "a funnel has 2 to 8 steps"},
		{"site funnel add example.com x --step page:/a --step /b", "give it as page:/pricing"},
		{"site funnel add example.com x --step page:/a --step goal:", "give it as page:/pricing"},
		{"site funnel add example.com x --step page:/a --step page:/b --within week", "within"},
		{"site funnel set example.com x", "nothing to change"},
		{"site segment add example.com x", "--filters"},
		{"site segment add example.com x --filters []", "give a list in JSON"},
		{"site segment add example.com x --filters {", "give a list in JSON"},
		{"site segment set example.com x", "nothing to change"},
		{"site annotation set example.com x", "nothing to change"},
		{"key add screen", "say what the key may read"},
		{"key add screen --site=", "there is an empty name"},
		{"key add screen --site=a.com, --admin", "there is an empty name"},
		{"key add screen --site=,a.com", "there is an empty name"},
		{"key add screen --site=a.com --site=a.com", "a.com is named twice"},
		{"key add screen --site=a.com --all-sites", "give one of"},
		{"key add screen --admin --all-sites", "give one of"},
		{"load --rate fast", "rate"},
		{"mcp", "there is no key: give an assistant one of its own"},
		{"mcp --key nck_x --listen 127.0.0.1:0", "don't go together"},
		{"mcp --listen 0.0.0.0:8090", "give stdio or a loopback address"},
		{"mcp --listen :8090", "give stdio or a loopback address"},
		{"mcp --listen stats.example.com:8090", "give stdio or a loopback address"},
		{"mcp --key nck_x --allowed-hosts a.com", "--allowed-hosts needs --listen"},
		{"session end", "give --all"},
		{"session end s1 --all", "give --all"},
		{"load --rate 0", "rate is 0"},
		{"export --site a --format xml", "csv"},
		{"load --history soon", "in months, as 12mo"},
		{"load --history 12mo --timezone Nowhere", "is no time zone"},
		{"load --history 1y --events 0", "events is 0"},
		{"load --history 12mo --clickhouse ftp://a", "unknown scheme"},
		{"load --server localhost", "http://127.0.0.1:8080"},
	} {
		code, out, errs := nowcast(t, strings.Fields(row.args)...)
		if code != 2 || out != "" || !strings.Contains(errs, row.want) ||
			!strings.Contains(errs, `--help" for usage`) ||
			strings.Count(errs, "\n") != 2 {
			t.Errorf("nowcast %s: %d, want 2 with %q\n%s%s", row.args, code, row.want, out, errs)
		}
	}
}

func TestEnvironmentGivesFlags(t *testing.T) {
	t.Setenv("NOWCAST_VISITORS", "-3")
	if code, _, errs := nowcast(t, "load"); code != 2 || !strings.Contains(errs, "visitors is -3") {
		t.Errorf("%d %s", code, errs)
	}
}

// taken is an address that somebody listens on.
func taken(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// free is an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// What can't work ends with 1 and one line that says what to do, before anything else is printed.
func TestRefusals(t *testing.T) {
	t.Chdir(t.TempDir()) // where the default data dir is
	used := taken(t)
	dir := t.TempDir()
	d, err := openDataDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	all := func(more ...string) []string {
		return append(
			[]string{
				"all",
				"--listen",
				"127.0.0.1:0",
				"--ops-listen",
				"127.0.0.1:0",
				"--libchdb",
				file,
				"--data-dir",
				t.TempDir(),
			},
			more...)
	}
	for _, row := range []struct {
		name, want string
		args       []string
	}{
		{"port taken", "--listen: address " + used + " is taken", all("--listen", used)},
		{"ops port taken", "--ops-listen: address " + used + " is taken", all("--ops-listen", used)},
		{"data dir in use", "data dir " + dir + " is in use by another nowcast (pid " +
			strconv.Itoa(os.Getpid()) + ")", all("--data-dir", dir)},
		{"data dir is a file", "data dir " + file + " can't be used", all("--data-dir", file)},
		{"data dir not writable", "data dir /proc/nowcast can't be used", all("--data-dir", "/proc/nowcast")},
		{"no libchdb", "libchdb.so: `make build` puts it", all("--libchdb", "/nowhere/libchdb.so")},
		{"bad public URL", "http://", all("--public-url", "ftp://x")},
		{"bad path of the public URL", "isn't one of nowcast's own", all("--public-url", "http://x/api")},
		{"bad host name", "--allowed-hosts: \"http://x\" is no host name",
			all("--allowed-hosts", "http://x")},
		{"weak admin key", "openssl rand -hex 24", all("--clickhouse", "clickhouse://"+used+"/x",
			"--admin-key",
			"nck_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")},
		{"ingest port taken", "--listen: address " + used + " is taken",
			[]string{"ingest", "--kafka", used, "--listen", used, "--ops-listen", "127.0.0.1:0"}},
		{"no Kafka", "start it or name another with --kafka",
			[]string{"topics", "--kafka", free(t), "--timeout", "300ms"}},
		{"no server", "start it with `nowcast all`", []string{"load", "--server", "http://" + free(t)}},
		{"no key", "there is no key", []string{"site", "list"}},
		{"no address for mcp", "--server: it is no address: give one as",
			[]string{"mcp", "--key", "nck_x", "--server", "localhost"}},
		{"mcp's port taken", "--listen: address " + used + " is taken", []string{"mcp", "--listen", used}},
		{"no server for site", "start it with `nowcast all`",
			[]string{"site", "list", "--key", "nck_x", "--server", "http://" + free(t)}},
		{"no ops", "nothing answers", []string{"health", "--ops-listen", free(t)}},
	} {
		code, out, errs := nowcast(t, row.args...)
		last := errs[strings.LastIndex(strings.TrimSuffix(errs, "\n"), "\n")+1:]
		if code != 1 || out != "" || !strings.HasPrefix(last, "nowcast: ") ||
			!strings.Contains(last, row.want) {
			t.Errorf("%s: %d, want 1 with %q\n%s%s", row.name, code, row.want, out, errs)
		}
	}
}

// The exit codes as a shell sees them.
func TestExitCodes(t *testing.T) {
	for args, want := range map[string]int{"version": 0, "site list": 1, "--nonsense": 2} {
		cmd := program(t, strings.Fields(args)...)
		_ = cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != want {
			t.Errorf("nowcast %s: %d, want %d", args, code, want)
		}
	}
}

func TestVersion(t *testing.T) {
	if code, out, errs := nowcast(t, "version"); code != 0 ||
		!strings.HasPrefix(out, "nowcast dev, commit ") ||
		!strings.Contains(out, "go1.") {
		t.Errorf("%d %q %q", code, out, errs)
	}
}

func TestHealth(t *testing.T) {
	for _, row := range []struct {
		answer, want string
		code         int
	}{
		{`{"ready":true,"reasons":{}}`, "ready", 0},
		{`{"ready":false,"reasons":{"sites":"reading","kafka":"away"}}`,
			"not ready: kafka: away; sites: reading", 1},
		{`hello`, "is not the ops address of a nowcast", 1},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter,
			_ *http.Request) {
			fmt.Fprint(w, row.answer)
		}))
		port := s.URL[strings.LastIndex(s.URL, ":"):]
		code, out, errs := nowcast(t, "health", "--ops-listen", "0.0.0.0"+port)
		if code != row.code || !strings.Contains(out+errs, row.want) {
			t.Errorf("%s: %d %s%s", row.answer, code, out, errs)
		}
		s.Close()
	}
}

// apiStub answers site, key and link commands and records the requests.
type apiStub struct {
	mu    sync.Mutex
	asked []string
}

func (a *apiStub) last() string { a.mu.Lock(); defer a.mu.Unlock(); return a.asked[len(a.asked)-1] }

func (a *apiStub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	a.asked = append(a.asked, fmt.Sprintf("%s %s %s", r.Method, r.URL.EscapedPath(), body))
	a.mu.Unlock()
	switch {
	case r.Header.Get("Authorization") != "Bearer nck_secret":
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":"this needs a key"}`)
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodGet && r.URL.Path == "/api/v1/sites":
		fmt.Fprint(w,
			`{"sites":[{"domain":"example.com","public":true,"timezone":"UTC",`+
				`"created":"2026-11-23T12:00:00Z"}]}`)
	case r.URL.Path == "/api/v1/codes":
		fmt.Fprint(w, `{"code":"ncc_new","expires":"2026-11-23T12:10:00Z","path":"/login?code=ncc_new"}`)
	case r.URL.Path == "/api/v1/sessions":
		fmt.Fprint(w, `{"sessions":[{"id":"s1","key":"k1","name":"screen","current":false,`+
			`"created":"2026-11-23T12:00:00Z","expires":"2026-11-30T12:00:00Z"}]}`)
	case strings.HasSuffix(r.URL.Path, "/links") && r.Method == http.MethodGet:
		fmt.Fprint(w, `{"links":[{"id":"l1","name":"press","created":"2026-11-23T12:00:00Z"}]}`)
	case strings.HasSuffix(r.URL.Path, "/links"):
		fmt.Fprint(w,
			`{"id":"l1","name":"press","created":"2026-11-23T12:00:00Z","secret":"ncl_new",`+
				`"path":"/share/ncl_new"}`)
	case strings.HasPrefix(r.URL.Path, "/api/v1/sites"):
		fmt.Fprint(w,
			`{"domain":"example.com","public":false,"timezone":"Europe/Berlin",`+
				`"created":"2026-11-23T12:00:00Z","rules":{"hostnames":[],"blocked_countries":["DE",`+
				`"FR"]},"origins":["https://app.example.net"]}`)
	case r.Method == http.MethodGet:
		fmt.Fprint(w,
			`{"keys":[{"id":"k1","name":"screen","admin":false,"sites":["example.com"],`+
				`"created":"2026-11-23T12:00:00Z"},{"id":"k2","name":"boss","admin":true,`+
				`"created":"2026-11-23T12:00:00Z"}]}`)
	default:
		fmt.Fprint(w,
			`{"id":"k1","name":"screen","admin":false,"sites":["example.com"],`+
				`"created":"2026-11-23T12:00:00Z","secret":"nck_new"}`)
	}
}

func TestSiteAndKey(t *testing.T) {
	var a apiStub
	s := httptest.NewServer(&a)
	defer s.Close()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, adminKeyFile), []byte("nck_secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ args, asked, out string }{
		{"site add example.com --timezone Europe/Berlin",
			`POST /api/v1/sites {"domain":"example.com","public":false,"timezone":"Europe/Berlin"}`,
			`data-domain="example.com" src="` + s.URL + `/js/script.js"`},
		{"site list", `GET /api/v1/sites `, "example.com  yes"},
		{"site set example.com --no-public", `PATCH /api/v1/sites/example.com {"public":false}`,
			"Europe/Berlin"},
		{"site set example.com --timezone Europe/Berlin",
			`PATCH /api/v1/sites/example.com {"timezone":"Europe/Berlin"}`, "example.com  no"},
		{"site set example.com --hostname example.com,*.example.com --block-address none --block-path /a/**",
			`PATCH /api/v1/sites/example.com {"rules":{"hostnames":["example.com",` +
				`"*.example.com"],"blocked_addresses":[],"blocked_paths":["/a/**"]}}`,
			"blocked countries  DE  FR"},
		{"site set example.com --origins https://app.example.net,https://*.example.org",
			`PATCH /api/v1/sites/example.com {"origins":["https://app.example.net",` +
				`"https://*.example.org"]}`,
			"origins            https://app.example.net"},
		{"site set example.com --search-parameter q",
			`PATCH /api/v1/sites/example.com {"search_parameter":"q"}`,
			"example.com  no"},
		{"site set example.com --search-parameter none",
			`PATCH /api/v1/sites/example.com {"search_parameter":""}`, "example.com  no"},
		{"site set example.com --origins none", `PATCH /api/v1/sites/example.com {"origins":[]}`,
			"example.com  no"},
		{"link add example.com press", `POST /api/v1/sites/example.com/links {"name":"press"}`, s.URL +
			"/share/ncl_new"},
		{"link list example.com", `GET /api/v1/sites/example.com/links `, "l1  press"},
		{"link remove a/b l/1", `DELETE /api/v1/sites/a%2Fb/links/l%2F1 `, "l/1 is revoked"},
		{"site remove a/b", `DELETE /api/v1/sites/a%2Fb `, "a/b is removed"},
		{"key add screen --site example.com,b.com",
			`POST /api/v1/keys {"name":"screen","admin":false,"sites":["example.com","b.com"]}`, "nck_new"},
		{"key add screen --all-sites", `POST /api/v1/keys {"name":"screen","admin":false,"all_sites":true}`,
			"nck_new"},
		{"key add screen --all-sites --write",
			`POST /api/v1/keys {"name":"screen","admin":false,"all_sites":true,"may_write":true}`, "nck_new"},
		{"key add screen --admin", `POST /api/v1/keys {"name":"screen","admin":true}`, "nck_new"},
		{"site add example.com --listed --retention-days 30",
			`POST /api/v1/sites {"domain":"example.com","public":false,"listed":true,"retention_days":30,` +
				`"timezone":"UTC"}`, "data-domain"},
		{"site set example.com --no-listed --retention-days 0",
			`PATCH /api/v1/sites/example.com {"listed":false,"retention_days":0}`, "example.com  no"},
		{"key list", `GET /api/v1/keys `, "k2  boss    yes    all"},
		{"secret rotate", `POST /api/v1/secret/rotate `, "is valid for a day"},
		{"key remove k1", `DELETE /api/v1/keys/k1 `, "k1 is removed"},
		{"login", `POST /api/v1/codes `, s.URL + "/login?code=ncc_new\n"},
		{"session list", `GET /api/v1/sessions `,
			"s1  k1   screen  2026-11-23 12:00:00  2026-11-30 12:00:00"},
		{"session end s/1", `DELETE /api/v1/sessions/s%2F1 `, "s/1 is ended"},
		{"session end --all", `DELETE /api/v1/sessions/s1 `, "s1 is ended"},
	} {
		code, out, errs := nowcast(
			t,
			append(strings.Fields(row.args), "--server", s.URL, "--data-dir", dir)...)
		if asked := a.last(); code != 0 || !sameRequest(asked, row.asked) || !strings.Contains(out, row.out) {
			t.Errorf("%s: %d\nasked %s\nprinted %s%s", row.args, code, asked, out, errs)
		}
	}
	if code, _, errs := nowcast(t, "site", "list", "--server", s.URL, "--key", "nck_wrong"); code != 1 ||
		errs != "nowcast: this needs a key\n" {
		t.Errorf("a wrong key: %d %s", code, errs)
	}
}

// sameRequest compares "METHOD PATH BODY", the body by its value as JSON.
func sameRequest(got, want string) bool {
	gotLine, gotBody, _ := strings.Cut(got, " {")
	wantLine, wantBody, _ := strings.Cut(want, " {")
	var a, b any
	gotErr, wantErr := json.Unmarshal([]byte("{"+gotBody), &a), json.Unmarshal([]byte("{"+wantBody), &b)
	return gotLine == wantLine && reflect.DeepEqual(a, b) && (gotErr == nil) == (wantErr == nil)
}

// get asks until the answer is as wanted.
func get(t *testing.T, url string, good func(status int, body string) bool) {
	t.Helper()
	last := ""
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			last = err.Error()
			continue
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if good(res.StatusCode, string(b)) {
			return
		}
		last = res.Status + " " + string(b)
	}
	t.Fatalf("%s: %s", url, last)
}

func TestPublicAddress(t *testing.T) {
	for _, row := range []struct{ flag, listen, want string }{
		{"", "127.0.0.1:0", "http://127.0.0.1:"},
		{"", "0.0.0.0:0", "http://127.0.0.1:"},
		{"https://stats.example.com", "127.0.0.1:0", "https://stats.example.com"},
		{"https://example.com/stats/", "127.0.0.1:0", "https://example.com/stats"},
	} {
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", row.listen)
		if err != nil {
			t.Fatal(err)
		}
		f := webFlags{PublicURL: row.flag}
		if got := f.url(l); !strings.HasPrefix(got, row.want) {
			t.Errorf("%+v: %s", row, got)
		}
		l.Close()
	}
}
