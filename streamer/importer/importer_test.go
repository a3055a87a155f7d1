package importer

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"go.uber.org/goleak"

	"nowcast/internal/imports"
	"nowcast/internal/site"
	"nowcast/internal/warehouse"
	"nowcast/streamer/api"
	"nowcast/streamer/streamertest"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	streamertest.Main(m, func() error { return goleak.Find() })
}

type open struct{}

func (open) RequireAdmin(*gin.Context, func(*gin.Context, error)) bool { return true }

// registry has sites by domain.
type registry map[string]site.Site

func (r registry) Lookup(domain string) (site.Site, bool) {
	st, ok := r[domain]
	return st, ok
}

type world struct {
	*testing.T
	db    *warehouse.DB
	sites registry
	h     *Handlers
}

func newWorld(t *testing.T) *world {
	w := &world{T: t, db: streamertest.ClickHouse(t), sites: registry{}}
	for _, d := range []string{"a.example", "b.example"} {
		w.sites[d] = site.Site{Domain: d, Created: time.Now().Add(-time.Minute), Generation: 1}
	}
	w.h = NewHandlers(w.db, w.sites, open{}, func(c *gin.Context, err error) {
		api.Refuse(c, http.StatusTeapot, "%v", err)
	})
	return w
}

// post imports a body and returns the answer, either half of which is empty.
func (w *world) post(domain, query string, body io.Reader) (status int, got api.Import, refusal string) {
	w.Helper()
	r := httptest.NewRequest(http.MethodPost, "/imports?"+query, body)
	rec := httptest.NewRecorder()
	c, _ := gin.CreateTestContext(rec)
	c.Request = r
	yes := true
	var p api.CreateImportParams
	if strings.Contains(query, "overlap") {
		p.Overlap = &yes
	}
	if strings.Contains(query, "dry_run") {
		p.DryRun = &yes
	}
	w.h.CreateImport(c, domain, p)
	var e api.Error
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
		w.Fatal(err)
	}
	_ = json.Unmarshal(rec.Body.Bytes(), &e)
	return rec.Code, got, e.Error
}

func (w *world) remove(domain, id string) int {
	rec := httptest.NewRecorder()
	c, _ := gin.CreateTestContext(rec)
	c.Request = httptest.NewRequest(http.MethodDelete, "/", nil)
	w.h.DeleteImport(c, domain, id)
	c.Writer.WriteHeaderNow()
	return rec.Code
}

func (w *world) one(query string) (s string) {
	w.Helper()
	if err := w.db.QueryRow(w.Context(), query).Scan(&s); err != nil {
		w.Fatal(query, err)
	}
	return s
}

// counts returns what counts of a site: rows, and the visits of the totals.
func (w *world) counts(domain string) string {
	return w.one(fmt.Sprintf("SELECT concat(toString(count()), ' ', toString(sumIf(visits, dim = ''))) "+
		"FROM imported WHERE site = '%s' AND batch IN (SELECT batch FROM imports FINAL)", domain))
}

// rows returns how many rows there are of all imports.
func (w *world) rows() string {
	return w.one("SELECT concat(toString((SELECT count() FROM imported)), ' ', " +
		"toString((SELECT count() FROM imports)))")
}

func day(d int, more string) string {
	return fmt.Sprintf(`{"day":"2025-01-%02d"%s}`+"\n", d, more)
}

// A file counts once, however often it is sent, at each site by itself; taken back, nothing of it is left.
func TestOnceAndBack(t *testing.T) {
	w := newWorld(t)
	for _, format := range []string{"plausible", "ga4", "umami", "matomo", "goatcounter", "log"} {
		body, err := os.ReadFile("../../internal/imports/testdata/" + format + ".golden.ndjson")
		if err != nil {
			t.Fatal(err)
		}
		sums := strings.Count(string(body), "\n")
		status, first, refusal := w.post("a.example", "", strings.NewReader(string(body)))
		if status != 201 || int(first.Sums) != sums || first.Days < 1 ||
			first.First.String() != "2025-01-01" {
			t.Fatalf("%s: %d %+v %s", format, status, first, refusal)
		}
		before := w.counts("a.example")
		status, again, _ := w.post("a.example", "", strings.NewReader(string(body)))
		if status != 200 || again.Id != first.Id || again.Repeated == nil || w.counts("a.example") != before {
			t.Errorf("%s again: %d %+v, %s then %s", format, status, again, before, w.counts("a.example"))
		}
		status, other, _ := w.post("b.example", "", strings.NewReader(string(body)))
		if status != 201 || other.Id == first.Id || w.counts("b.example") != before {
			t.Errorf("%s at another site: %d %+v", format, status, other)
		}
		if s := w.remove("b.example", first.Id); s != 404 {
			t.Errorf("the other site's import is removed: %d", s)
		}
		if a, b := w.remove("a.example", first.Id), w.remove("b.example", other.Id); a != 204 || b != 204 {
			t.Errorf("taking back: %d %d", a, b)
		}
		if got := w.rows(); got != "0 0" {
			t.Errorf("%s: %s rows are left", format, got)
		}
	}
}

// Days with counts of their own are left out, by the site's events and by other imports, unless asked for.
func TestOverlap(t *testing.T) {
	w := newWorld(t)
	for _, row := range []string{"'a.example', '2025-01-03 10:00:00', '2025-01-03'",
		"'b.example', '2025-01-01 10:00:00', '2025-01-01'"} {
		query := "INSERT INTO events (site, ts, day) VALUES (" + row + ")"
		if err := w.db.Exec(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	again := w.sites["b.example"]
	again.Previous = again.Created.Add(-time.Second)
	w.sites["b.example"] = again // its event is of a site of the name that was removed
	pages := `,"dim":"event:page","value":"/","pageviews":3`
	all := day(1, `,"visits":1`) + day(2, `,"visits":2`) + day(3, `,"visits":4`) + day(4, `,"visits":8`)
	status, got, _ := w.post("a.example", "", strings.NewReader(all))
	if status != 201 || got.Sums != 2 || got.Last.String() != "2025-01-02" || len(got.Skipped) != 1 ||
		got.Skipped[0] != (api.ImportSkipped{Reason: skipOwn, Sums: 2}) {
		t.Errorf("%d %+v", status, got)
	}
	// another dimension of the same days is no overlap
	status, got, _ = w.post("a.example", "", strings.NewReader(day(1, `,"visits":16`)+day(1, pages)))
	if status != 201 || got.Sums != 1 || got.Skipped[0].Reason != skipImported {
		t.Errorf("%d %+v", status, got)
	}
	status, _, refusal := w.post("a.example", "", strings.NewReader(day(2, `,"visits":32`)+day(3, pages)))
	if status != 409 || !strings.Contains(refusal, "--overlap") {
		t.Errorf("%d %s", status, refusal)
	}
	if got := w.counts("a.example"); got != "3 3" {
		t.Error(got)
	}
	status, got, _ = w.post("a.example", "overlap=true", strings.NewReader(day(3, `,"visits":64`)))
	if status != 201 || got.Sums != 1 || w.counts("a.example") != "4 67" {
		t.Errorf("%d %+v %s", status, got, w.counts("a.example"))
	}
	if status, got, _ = w.post("b.example", "", strings.NewReader(all)); status != 201 || got.Sums != 4 {
		t.Errorf("%d %+v", status, got)
	}
}

// broken is a body that ends early.
type broken struct{ io.Reader }

func (b broken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// What is wrong or incomplete counts nowhere and leaves nothing, and a dry run stores nothing.
func TestNothingStored(t *testing.T) {
	w := newWorld(t)
	good := day(1, `,"visits":1`)
	many := strings.Repeat(good, block+1)
	for body, want := range map[string]string{
		"":                             "has no sum",
		"\n\n":                         "has no sum",
		good + "{}\n":                  `line 2: "day" is missing`,
		many + day(40, `,"visits":1`):  "is no day",
		good + day(2, `,"shoes":1`):    "unknown field",
		strings.Repeat("x", maxLine+9): "line 1: it is over",
	} {
		status, _, refusal := w.post("a.example", "", strings.NewReader(body))
		if status != 400 || !strings.Contains(refusal, want) {
			t.Errorf("%.30q: %d %s, want %s", body, status, refusal, want)
		}
	}
	for _, body := range []string{many, good + good[:9]} {
		status, _, refusal := w.post("a.example", "", broken{strings.NewReader(body)})
		if status != 400 || !strings.Contains(refusal, "didn't arrive whole") {
			t.Errorf("a body that ends early: %d %s", status, refusal)
		}
	}
	status, got, _ := w.post("a.example", "dry_run=true", strings.NewReader(many))
	if status != 200 || got.DryRun == nil || got.Sums != block+1 || got.Days != 1 {
		t.Errorf("a dry run: %d %+v", status, got)
	}
	w.h.slot <- struct{}{}
	if status, _, _ := w.post("a.example", "", strings.NewReader(good)); status != 429 {
		t.Errorf("a second import: %d", status)
	}
	<-w.h.slot
	a := attempt{site: w.sites["a.example"]}
	gone := func(site.Site) bool { return false }
	if _, err := w.h.store.create(t.Context(), &a, strings.NewReader(good), gone); err != errSiteChanged {
		t.Errorf("a site that is removed meanwhile: %v", err)
	}
	if got := w.rows(); got != "0 0" {
		t.Errorf("%s rows are left", got)
	}
}

// What a process that was killed has stored counts nowhere, and is dropped once it is of no import that runs.
func TestSweep(t *testing.T) {
	w := newWorld(t)
	for _, age := range []time.Duration{time.Minute, orphanAge + time.Minute} {
		at := time.Now().Add(-age)
		a := attempt{site: w.sites["a.example"], batch: newBatch(at), at: at}
		a.kept = []imports.Sum{{Day: 20_000, Known: 1}}
		if err := w.h.store.insert(t.Context(), &a); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.counts("a.example"); got != "0 0" {
		t.Errorf("counted: %s", got)
	}
	good := strings.NewReader(day(1, `,"visits":1`))
	if status, _, refusal := w.post("a.example", "", good); status != 201 {
		t.Fatal(status, refusal)
	}
	if got := w.rows(); got != "2 1" {
		t.Errorf("%s rows, want the import's and those of the last minute", got)
	}
}
