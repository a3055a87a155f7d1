package streamer

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"nowcast/internal/site"
	"nowcast/streamer/streamertest"
)

// matrix says how each operation of the contract answers each credential. A line is a target, which replaces
// SITE in the path and body, and a status for each column of matrixColumns:
//
//	nobody · keys of own, of other, of all sites, of an admin · sessions with the keys of own, of all, of an
//	admin · a ticket, a link and a link's cookie of own · the admin's session in a page of another site
//
// An operation without a parameter for tickets or links refuses one with 400, which is as good as the
// status here. Where a request is authorized, 503 means that there is no ClickHouse here, 400 that the body
// is refused after that, and 404 that there is nothing of this name. For every credential that has ended, is
// forged or of another kind, the answer is nobody's.
var matrix = map[string]struct{ path, body, want string }{
	"getSession":          {"/api/v1/session", "", everybody},
	"listSites":           {"/api/v1/sites", "", everybody},
	"getSite":             {"/api/v1/sites/SITE", "", reading},
	"getRealtimeVisitors": {"/api/v1/stats/realtime/visitors?site_id=SITE", "", reading},
	"streamEvents":        {"/api/events?site=SITE", "", reading},
	"postQuery": {"/api/v2/query", `{"site_id":"SITE","metrics":["visitors"],"date_range":"day"}`,
		asking},
	"postDashboard": {"/api/v2/dashboard", `{"site_id":"SITE","date_range":"day","cards":[]}`, asking},
	"postFunnel": {"/api/v2/funnel",
		`{"site_id":"SITE","date_range":"day","steps":[{"page":"/"},{"page":"/a"}]}`, asking},
	"postJourneys":  {"/api/v2/journeys", `{"site_id":"SITE","date_range":"day","page":"/"}`, asking},
	"postPage":      {"/api/v2/page", `{"site_id":"SITE","date_range":"day","page":"/"}`, asking},
	"postRetention": {"/api/v2/retention", `{"site_id":"SITE","date_range":"day"}`, asking},
	"getLedger": {"/api/v1/sites/SITE/ledger", "", `
		own     401  503 403 503 503  503 503 503  401 401 401  401
		other   401  403 503 503 503  403 503 503  401 401 401  401
		open    401  403 403 503 503  403 503 503  401 401 401  401
		nobody  401  403 403 404 404  403 404 404  401 401 401  401`},
	"createTicket": {"/api/v1/tickets", `{"sites":["SITE"]}`, `
		own     401  201 403 201 201  201 201 201  401 201 201  403
		other   401  403 201 201 201  403 201 201  401 403 403  403
		open    401  201 201 201 201  201 201 201  401 201 201  403
		nobody  401  403 403 403 403  403 403 403  401 403 403  403`},
	"createLoginCode": {"/api/v1/codes", "", `
		-       401  201 201 201 201  401 401 401  401 401 401  401`},
	"listSessions": {"/api/v1/sessions", "", administering("200")},
	"endSession":   {"/api/v1/sessions/nothing", "", administering("404")},
	"createSite":   {"/api/v1/sites", `{"domain":"no domain"}`, administering("400")},
	"updateSite":   {"/api/v1/sites/SITE", `{}`, administering("200") + administeringNobody},
	"deleteSite":   {"/api/v1/sites/nobody.example", "", administering("404")},
	"listLinks":    {"/api/v1/sites/SITE/links", "", administering("200") + administeringNobody},
	"createLink":   {"/api/v1/sites/own.example.com/links", `{"name":""}`, administering("400")},
	"deleteLink":   {"/api/v1/sites/SITE/links/nothing", "", administering("404") + administeringNobody},
	"listKeys":     {"/api/v1/keys", "", administering("200")},
	"createKey":    {"/api/v1/keys", `{"name":""}`, administering("400")},
	"deleteKey":    {"/api/v1/keys/nothing", "", administering("404")},
	"listGoals":    {"/api/v1/sites/SITE/goals", "", byKey},
	"createGoal":   {"/api/v1/sites/own.example.com/goals", `{"name":""}`, administering("400")},
	"updateGoal": {"/api/v1/sites/SITE/goals/nothing", goalBody,
		administering("404") + administeringNobody},
	"deleteGoal": {"/api/v1/sites/SITE/goals/nothing", "",
		administering("404") + administeringNobody},
	"listFunnels":  {"/api/v1/sites/SITE/funnels", "", byKey},
	"createFunnel": {"/api/v1/sites/own.example.com/funnels", `{"name":""}`, administering("400")},
	"updateFunnel": {"/api/v1/sites/SITE/funnels/nothing", funnelBody,
		administering("404") + administeringNobody},
	"deleteFunnel": {"/api/v1/sites/SITE/funnels/nothing", "",
		administering("404") + administeringNobody},
	"listSegments":       {"/api/v1/sites/SITE/segments", "", byKey},
	"createSegment":      {"/api/v1/sites/SITE/segments", `{"name":""}`, writing("400")},
	"updateSegment":      {"/api/v1/sites/SITE/segments/nothing", segmentBody, writing("404")},
	"deleteSegment":      {"/api/v1/sites/SITE/segments/nothing", "", writing("404")},
	"listAnnotations":    {"/api/v1/sites/SITE/annotations", "", byKey},
	"createAnnotation":   {"/api/v1/sites/SITE/annotations", `{"at":""}`, writing("400")},
	"updateAnnotation":   {"/api/v1/sites/SITE/annotations/nothing", annotationBody, writing("404")},
	"deleteAnnotation":   {"/api/v1/sites/SITE/annotations/nothing", "", writing("404")},
	"listPlausibleGoals": {"/api/v1/sites/goals?site_id=SITE", "", byKey},
	"putPlausibleGoal":   {"/api/v1/sites/goals", `{"site_id":"own.example.com"}`, administering("400")},
	"deletePlausibleGoal": {"/api/v1/sites/goals/nothing", `{"site_id":"SITE"}`,
		administering("404") + administeringNobody},

	"createErasure": {"/api/v1/sites/SITE/erasures", `{"visitor":""}`, administering("400")},
	"listErasures":  {"/api/v1/erasures", "", administering("200")},
	"getErasure":    {"/api/v1/erasures/nothing", "", administering("404")},
	"getVisitorEvents": {"/api/v1/sites/SITE/visitors/0123456789abcdef", "",
		administering("503")},
	"listImports":  {"/api/v1/sites/SITE/imports", "", administering("503") + administeringNobody},
	"createImport": {"/api/v1/sites/SITE/imports", "{}", administering("503") + administeringNobody},
	"deleteImport": {"/api/v1/sites/SITE/imports/nothing", "", administering("503") + administeringNobody},
	"getExport":    {"/api/v1/sites/SITE/export", "", administering("503") + administeringNobody},
	"rotateSecret": {"/api/v1/secret/rotate", "", administering("200")},

	"getHealth": {"/healthz", "", everybody}, "headHealth": {"/healthz", "", everybody},
	"getReadiness": {"/readyz", "", everybody}, "headReadiness": {"/readyz", "", everybody},
}

const everybody = `
		-       200  200 200 200 200  200 200 200  200 200 200  200`

const reading = `
		own     401  200 403 200 200  200 200 200  200 200 200  401
		other   401  403 200 200 200  403 200 200  403 403 403  401
		open    200  200 200 200 200  200 200 200  200 200 200  200
		nobody  401  403 403 404 404  403 404 404  403 403 403  401`

// asking is reading what needs ClickHouse, which isn't here.
var asking = strings.ReplaceAll(reading, "200", "503")

// byKey needs a key or a session that may read the site, also where the site is public.
const byKey = `
		own     401  200 403 200 200  200 200 200  401 401 401  401
		other   401  403 200 200 200  403 200 200  401 401 401  401
		open    401  403 403 200 200  403 200 200  401 401 401  401
		nobody  401  403 403 404 404  403 404 404  401 401 401  401`

// writing needs an admin's key, or one that may write.
func writing(admin string) string {
	return strings.ReplaceAll(`
		own     401  403 403 403 ADM  403 403 ADM  401 401 401  401
		other   401  403 403 403 ADM  403 403 ADM  401 401 401  401
		open    401  403 403 403 ADM  403 403 ADM  401 401 401  401
		nobody  401  403 403 404 404  403 404 404  401 401 401  401`, "ADM", admin)
}

const (
	goalBody       = `{"name":"x","event":"x"}`
	funnelBody     = `{"name":"x","steps":[{"page":"/a"},{"page":"/b"}]}`
	segmentBody    = `{"name":"x","filters":[["is","visit:country",["DE"]]]}`
	annotationBody = `{"at":"2026-11-30","text":"x"}`
)

const administeringNobody = `
		nobody  401  403 403 403 404  403 403 404  401 401 401  401`

func administering(admin string) string {
	return strings.ReplaceAll(`
		own     401  403 403 403 ADM  403 403 ADM  401 401 401  401`, "ADM", admin)
}

// operation is one of the contract's.
type operation struct{ id, method string }

// operations reads those that the streamer serves from the contract.
func operations(t *testing.T) (all []operation) {
	t.Helper()
	var document struct {
		Paths map[string]map[string]yaml.Node
	}
	if err := yaml.Unmarshal(contract, &document); err != nil {
		t.Fatal(err)
	}
	for path, methods := range document.Paths {
		for method, node := range methods {
			var o struct {
				OperationID string `yaml:"operationId"`
				Tags        []string
			}
			if method == "parameters" {
				continue
			}
			if err := node.Decode(&o); err != nil || o.OperationID == "" {
				t.Errorf("%s %s has no operationId: %v", method, path, err)
			}
			if !slices.Contains(o.Tags, "ingest") {
				all = append(all, operation{o.OperationID, strings.ToUpper(method)})
			}
		}
	}
	slices.SortFunc(all, func(a, b operation) int {
		if last := "rotateSecret"; (a.id == last) != (b.id == last) { // it ends tickets and cookies of links
			return map[bool]int{true: 1, false: -1}[a.id == last]
		}
		return strings.Compare(a.id, b.id)
	})
	return all
}

// credentials of the matrix.
type credentials struct {
	columns []shown          // those that are valid, in the order of the columns
	dead    map[string]shown // those that are not
}

// Every credential at every operation of the contract.
func TestAuthorizationMatrix(t *testing.T) {
	w := newAccessWorld(t)
	c := w.credentials()
	all := operations(t)
	for _, o := range all {
		row, ok := matrix[o.id]
		if !ok {
			t.Errorf("the operation %s has no row in the matrix: say who may do what", o.id)
			continue
		}
		for line := range strings.Lines(strings.TrimSpace(row.want)) {
			w.checkLine(o, row.path, row.body, strings.Fields(line), c)
		}
	}
	for id := range matrix {
		if !slices.ContainsFunc(all, func(o operation) bool { return o.id == id }) {
			t.Errorf("the contract has no operation %s", id)
		}
	}
}

var matrixTargets = map[string]string{"-": "", "own": "own.example.com", "other": "other.example.com",
	"open": "open.example.com", "nobody": "nobody.example"}

func (w *accessWorld) checkLine(o operation, path, body string, line []string, c credentials) {
	w.T.Helper()
	target := matrixTargets[line[0]]
	path, body = strings.ReplaceAll(path, "SITE", target), strings.ReplaceAll(body, "SITE", target)
	want := line[1:]
	if len(want) != len(c.columns) {
		w.T.Errorf("%s of %s has %d statuses, want %d", o.id, line[0], len(want), len(c.columns))
		return
	}
	for i, v := range c.columns {
		if status, _, answer := w.ask(o.method, path, body, v); fmt.Sprint(status) != want[i] &&
			!refusesQuery(v, status, answer) {
			w.T.Errorf("%s of %s in column %d: %d, want %s: %.200s", o.id, line[0], i+1, status, want[i],
				answer)
		}
	}
	for name, v := range c.dead {
		if status, _, answer := w.ask(o.method, path, body, v); fmt.Sprint(status) != want[0] &&
			!refusesQuery(v, status, answer) {
			w.T.Errorf("%s of %s by %s: %d, want nobody's %s: %.200s", o.id, line[0], name, status, want[0],
				answer)
		}
	}
}

func refusesQuery(v shown, status int, answer string) bool {
	name, _, _ := strings.Cut(v.query, "=")
	return v.query != "" && status == http.StatusBadRequest && strings.Contains(answer, name)
}

// credentials makes those of the matrix.
func (w *accessWorld) credentials() (c credentials) {
	w.T.Helper()
	const forOwn = `{"sites":["own.example.com"]}`
	ownKey, own := w.key("own.example.com")
	_, other := w.key("other.example.com")
	_, everything := w.key()
	ownLink, share := w.link("own.example.com")
	ownSession, adminSession := w.session(own), w.session(adminSecret)
	ticket, cookie := w.ticket(forOwn, shown{bearer: own}), w.cookie("/share/"+share)
	c.columns = []shown{
		{}, {bearer: own}, {bearer: other}, {bearer: everything}, {bearer: adminSecret},
		{cookie: ownSession}, {cookie: w.session(everything)}, {cookie: adminSession},
		{query: "ticket=" + ticket}, {query: "share=" + share}, {cookie: cookie},
		{cookie: adminSession, origin: "https://evil.example"},
	}

	gone, goneSecret := w.key("own.example.com")
	goneLink, goneShare := w.link("own.example.com")
	ended := w.session(everything)
	_, code, err := w.sites.NewCode(w.T.Context(), ownKey)
	if err != nil {
		w.T.Fatal(err)
	}
	here, elsewhere := w.cluster(), w.cluster()
	elsewhere.key = func(string) [32]byte { return [32]byte{1} }
	past, soon := time.Now().Add(-time.Millisecond), time.Now().Add(time.Hour)
	value := func(cookie string) string { _, v, _ := strings.Cut(cookie, "="); return v }
	asSession := func(v string) shown { return shown{cookie: sessionCookie + "=" + v} }
	c.dead = map[string]shown{
		"a key that never was":       {bearer: "nck_unknown"},
		"a key that is removed":      {bearer: goneSecret},
		"a link as a key":            {bearer: share},
		"a session as a key":         {bearer: value(adminSession)},
		"a login code as a key":      {bearer: code},
		"a key as a session":         asSession(own),
		"a login code as a session":  asSession(code),
		"a session that never was":   asSession("ncs_unknown"),
		"a session of a removed key": {cookie: w.session(goneSecret)},
		"a session that is ended":    {cookie: ended},
		"a session that has expired": {cookie: w.world.session(ownKey, past)},
		"a session of another key of this name": {
			cookie: w.world.session(site.Key{ID: ownKey.ID, Hash: strings.Repeat("0", 64)}, soon),
		},
		"a session of the operator's former key": {cookie: w.world.session(
			site.Key{ID: operatorID, Hash: strings.Repeat("0", 64)}, soon)},
		"a session of the version before":    asSession(here.cookie("session", ownKey.ID, soon)),
		"a forged session":                   asSession(elsewhere.cookie("session", operatorID, soon)),
		"a link's cookie as a session":       asSession(value(cookie)),
		"a session under the name for https": {cookie: "__Host-" + adminSession},
		"a ticket that has expired": {
			query: "ticket=" + here.ticket(ownKey.ID, past, "own.example.com"),
		},
		"a forged ticket": {
			query: "ticket=" + elsewhere.ticket(ownKey.ID, soon, "own.example.com"),
		},
		"a ticket of a removed key": {
			query: "ticket=" + w.ticket(forOwn, shown{bearer: goneSecret}),
		},
		"a ticket of an ended session": {query: "ticket=" + w.ticket(forOwn, shown{cookie: ended})},
		"a ticket of a revoked link": {
			query: "ticket=" + w.ticket(forOwn, shown{query: "share=" + goneShare}),
		},
		"a session as a ticket":        {query: "ticket=" + value(adminSession)},
		"a key as a link":              {query: "share=" + own},
		"a link that is revoked":       {query: "share=" + goneShare},
		"a link that never was":        {query: "share=ncl_unknown"},
		"the cookie of a revoked link": {cookie: w.cookie("/share/" + goneShare)},
		"a link's cookie that has expired": {
			cookie: linkCookiePrefix + "x=" + here.cookie("link", ownLink.ID, past),
		},
		"a forged link's cookie": {
			cookie: linkCookiePrefix + "x=" + elsewhere.cookie("link", ownLink.ID, soon),
		},
	}
	if err := w.sites.DeleteKey(w.T.Context(), gone.ID); err != nil {
		w.T.Fatal(err)
	}
	if err := w.sites.DeleteLink(w.T.Context(), "own.example.com", goneLink.ID); err != nil {
		w.T.Fatal(err)
	}
	if res, body := w.do("POST", "/logout", "", "Cookie", ended); res.StatusCode != http.StatusNoContent {
		w.T.Fatal(res.Status, body)
	}
	streamertest.Eventually(w.T, "the records of sessions are read", func() bool {
		return len(w.sites.Sessions()) >= 6
	})
	return c
}

// Who is told the version, and that there is a session.
func TestSessionTellsTheVersionToKeysOnly(t *testing.T) {
	w := newAccessWorld(t)
	c := w.credentials()
	for i, v := range c.columns {
		_, _, body := w.ask("GET", "/api/v1/session", "", v)
		byKey := 1 <= i && i <= 7
		if byKey != strings.Contains(body, `"version"`) ||
			byKey != strings.Contains(body, `"authenticated":true`) {
			t.Errorf("column %d: %s", i+1, body)
		}
	}
}

// A private site and one that doesn't exist are answered alike, but for who may read all sites.
func TestExistenceIsNotTold(t *testing.T) {
	w := newAccessWorld(t)
	c := w.credentials()
	clean := func(h http.Header, body, domain string) string {
		h.Del("Date")
		h.Del("Content-Length") // the domain is in the body
		return fmt.Sprint(h) + strings.ReplaceAll(body, domain, "SITE")
	}
	origins := []string{"", "https://other.example.com", "https://nobody.example", "https://evil.example"}
	if _, err := w.sites.Change(t.Context(), "other.example.com", func(s *site.Site) error {
		s.Origins = []string{"https://evil.example"}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, o := range operations(t) {
		row := matrix[o.id]
		if !strings.Contains(row.path+row.body, "SITE") {
			continue
		}
		for i, v := range c.columns {
			if i == 2 || i == 3 || i == 4 || i == 6 || i == 7 || i == 11 { // they read other.example.com
				continue
			}
			for _, origin := range origins {
				v.origin = origin
				ask := func(domain string) string {
					path := strings.ReplaceAll(row.path, "SITE", domain)
					status, h, body := w.ask(o.method, path, strings.ReplaceAll(row.body, "SITE", domain), v)
					return fmt.Sprint(status) + clean(h, body, domain)
				}
				if private, none := ask("other.example.com"), ask("nobody.example"); private != none {
					t.Errorf("%s in column %d from %q tells whether the site exists:\n%s\n%s", o.id, i+1,
						origin,
						private, none)
				}
			}
		}
	}
}
