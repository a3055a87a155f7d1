package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"nowcast/internal/warehouse"
)

// nowcast runs a command against a laptop and returns its output and exit code.
func (l *laptop) nowcast(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(t), args...)
	b, _ := cmd.CombinedOutput()
	return string(b), cmd.ProcessState.ExitCode()
}

// server are the flags that name a laptop's server.
func (l *laptop) server() []string {
	return []string{"--server", "http://" + l.listen, "--data-dir", l.dir}
}

// rowsOf counts the rows of a site in ClickHouse, by table, as they are on disk.
func rowsOf(t *testing.T, l *laptop, site string) map[string]uint64 {
	t.Helper()
	db, err := warehouse.Open(endpointsOf(t, l).Clickhouse)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows := map[string]uint64{}
	for _, table := range []string{"events", "windows", "ledger", "ledger_rollup"} {
		var n uint64
		if err := db.QueryRow(t.Context(), "SELECT count() FROM "+table+" WHERE site = '"+site+
			"' SETTINGS apply_deleted_mask = 0").Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			rows[table] = n
		}
	}
	return rows
}

func (l *laptop) explained(t *testing.T, erased int) {
	t.Helper()
	if r, code := verified(t, "--data-dir", l.dir); code != 0 || r.Different > 0 || r.Erased != erased {
		t.Fatalf("nowcast verify: exit %d, %d erased, want %d: %+v", code, r.Erased, erased, r.Differences)
	}
}

// rewind writes all rows again from the log.
func (l *laptop) rewind(t *testing.T) {
	t.Helper()
	if out, code := l.nowcast(t, "aggregator", "--lanes", "store", "--from", "1h", "--data-dir",
		l.dir); code != 0 {
		t.Fatal(out)
	}
}

// Visitors see their own id, and who is told it erases their events. A site is removed with its data. Neither
// comes back from the log; nothing else changes; the recount explains it; a site that is made again starts
// empty.
func TestErasure(t *testing.T) {
	l := startLaptop(t)
	gone, kept := l.site(t, false), l.site(t, true)
	for i := range 20 {
		l.view(t, gone, "/a", 1+i%5)
		l.view(t, kept, "/a", 1+i%5)
	}
	l.total(t, gone, "pageviews", 20)
	l.total(t, kept, "pageviews", 20)
	l.explained(t, 0)

	// agent(1) asks for the id, and for nobody else's.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, l.ingest+"/api/visitor?site="+kept,
		nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", agent(1))
	a, err := do(req)
	var own struct{ Visitor string }
	if err != nil || json.Unmarshal([]byte(a.body), &own) != nil || own.Visitor == "" {
		t.Fatal(err, a)
	}
	if out, code := l.nowcast(t, append([]string{"visitor", "--site", kept, "--visitor", own.Visitor},
		l.server()...)...); code != 0 || strings.Count(out, `"path": "/a"`) != 4 ||
		!strings.Contains(out, `"browser": "Chrome"`) {
		t.Fatalf("exit %d: %s", code, out)
	}
	erase := append([]string{"erase", "--site", kept, "--visitor", own.Visitor}, l.server()...)
	if out, code := l.nowcast(t, erase...); code != 1 || !strings.Contains(out, "--yes") {
		t.Fatalf("without a terminal and --yes: exit %d: %s", code, out)
	}
	out, code := l.nowcast(t, append(erase, "--yes")...)
	if code != 0 || !strings.Contains(out, "ClickHouse events") || !strings.Contains(out,
		"nowcast.events.v1") {
		t.Fatalf("exit %d: %s", code, out)
	}
	l.total(t, kept, "pageviews", 16)
	l.total(t, kept, "visitors", 4)
	l.explained(t, 4)

	remove := append([]string{"site", "remove", gone, "--with-data", "--yes"}, l.server()...)
	if out, code = l.nowcast(t, remove...); code != 0 || !strings.Contains(out, "nowcast.windows.v1") {
		t.Fatalf("exit %d: %s", code, out)
	}
	if rows := rowsOf(t, l, gone); len(rows) > 0 {
		t.Fatalf("left in ClickHouse: %v", rows)
	}
	l.explained(t, 4+20+1) // one more event of the site made it known
	l.rewind(t)
	if rows := rowsOf(t, l, gone); len(rows) > 0 {
		t.Fatalf("a rewind brought back %v", rows)
	}
	l.total(t, kept, "pageviews", 16)

	a = l.must(t, http.MethodPost, l.streamers[0]+"/api/v1/sites", map[string]any{"domain": gone})
	if a.status != http.StatusCreated {
		t.Fatal(a)
	}
	eventually(t, 10*time.Second, "the new site counts", func(ctx context.Context) error {
		a, err := l.beacon(ctx, gone, "/new", 1, nil)
		if err != nil || a.header.Get("x-plausible-dropped") != "" {
			return fmt.Errorf("%v %+v", err, a)
		}
		return nil
	})
	l.total(t, gone, "pageviews", 1)
	l.rewind(t)
	l.total(t, gone, "pageviews", 1)
	l.total(t, kept, "pageviews", 16)
	l.explained(t, 4+20+1)
	if out, code := l.nowcast(t, append([]string{"erasures"}, l.server()...)...); code != 0 ||
		strings.Count(out, " done") != 2 {
		t.Errorf("exit %d: %s", code, out)
	}
}

// An erasure that is answered happens, also when everything is killed right then and again later. Until it
// reaches no further, the site can't be made again. Only an admin erases.
func TestErasureKilled(t *testing.T) {
	l := startLaptop(t)
	gone := l.site(t, true)
	for i := range 20 {
		l.view(t, gone, "/a", 1+i%5)
	}
	l.total(t, gone, "pageviews", 20)
	path := l.streamers[0] + "/api/v1/sites/" + gone + "?with_data=true"
	var reader struct{ Secret string }
	a := l.must(t, http.MethodPost, l.streamers[0]+"/api/v1/keys", map[string]any{"name": "reader",
		"sites": []string{gone}})
	if err := json.Unmarshal([]byte(a.body), &reader); err != nil || reader.Secret == "" {
		t.Fatal(err, a)
	}
	for _, key := range []string{"", reader.Secret} {
		for _, x := range [][2]string{{http.MethodDelete, path}, {http.MethodGet, l.streamers[0] +
			"/api/v1/erasures"},
			{http.MethodGet, l.streamers[0] + "/api/v1/erasures/x"},
			{http.MethodGet, l.streamers[0] + "/api/v1/sites/" + gone + "/visitors/00000000000000ff"},
			{http.MethodPost, l.streamers[0] + "/api/v1/sites/" + gone + "/erasures"}} {
			a, err := l.call(t.Context(), x[0], x[1], key, nil)
			if want := 401 + 2*len(key)/max(1, len(key)); err != nil || a.status != want {
				t.Fatalf("%v with key %q: %v %+v, want %d", x, key, err, a, want)
			}
		}
	}
	a = l.must(t, http.MethodDelete, path, nil)
	var e struct{ ID, State string }
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || a.status != http.StatusAccepted ||
		e.ID == "" {
		t.Fatal(err, a)
	}
	again := l.must(t, http.MethodPost, l.streamers[0]+"/api/v1/sites", map[string]any{"domain": gone})
	if again.status != http.StatusConflict || !strings.Contains(again.body, "is being erased until") {
		t.Errorf("made again at once: %+v", again)
	}
	for range 2 {
		if err := l.cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-l.gone
		l.start(t)
	}
	eventually(t, time.Minute, "the erasure is done", func(ctx context.Context) error {
		a, err := l.call(ctx, http.MethodGet, l.streamers[0]+"/api/v1/erasures/"+e.ID, l.key, nil)
		if err != nil || !strings.Contains(a.body, `"state":"done"`) {
			return fmt.Errorf("%v %+v", err, a)
		}
		return nil
	})
	if rows := rowsOf(t, l, gone); len(rows) > 0 {
		t.Errorf("left in ClickHouse: %v", rows)
	}
	if a := l.must(t, http.MethodGet, l.streamers[0]+"/api/v1/sites/"+gone,
		nil); a.status != http.StatusNotFound {
		t.Errorf("the site: %+v", a)
	}
	l.explained(t, 21)
}
