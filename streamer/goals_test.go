package streamer

import (
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"strings"
	"sync"
	"testing"

	"nowcast/internal/site"
	"nowcast/streamer/api"
	"nowcast/streamer/streamertest"
)

const ownGoals = "/api/v1/sites/own.example.com/goals"

// made returns the id in an answer.
func made(t *testing.T, body string) string {
	t.Helper()
	var v struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(body), &v); err != nil || v.ID == "" {
		t.Fatalf("%s: %v", body, err)
	}
	return v.ID
}

func TestGoalsByAPI(t *testing.T) {
	w := newAccessWorld(t)
	admin := []string{"Authorization", "Bearer " + adminSecret}
	res, body := w.do("POST", ownGoals, `{"name":"Sale","event":"Purchase","currency":"eur",`+
		`"properties":[{"key":"plan","operator":"is","values":["pro"]}]}`, admin...)
	if res.StatusCode != 201 || res.Header.Get("ETag") != `"1"` ||
		!strings.Contains(body, `"currency":"EUR"`) ||
		strings.Contains(body, "page") || strings.Contains(body, "scroll") {
		t.Fatalf("%s %s %s", res.Status, res.Header, body)
	}
	goal := made(t, body)
	for _, row := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "", `{"name":"Sale","event":"Sale"}`, 409, `goal \"Sale\" exists already; give`},
		{"POST", "", `{"name":"x"}`, 400, "give exactly one of event and page"},
		{"POST", "", `{"name":"x","event":"a","page":"/"}`, 400, "give exactly one of event and page"},
		{"POST", "", `{"name":"x","event":""}`, 400, "event is empty; leave it out"},
		{"POST", "", `{"name":"x","page":"/","scroll_depth":0}`, 400, "scroll_depth is empty; leave it out"},
		{"POST", "", `{"name":"x","page":"/","engaged_seconds":0}`, 400, "engaged_seconds is empty"},
		{"POST", "", `{"name":"x","event":"a","properties":[]}`, 400, "properties is empty; leave it out"},
		{"POST", "", `{"name":"x","event":"a","properties":[{"key":"k","operator":"is","values":[]}]}`, 400,
			"compared with 0 values"},
		{"POST", "", `{"name":"x","event":"a","properties":[{"key":"k","operator":"is","value":"a"}]}`, 400,
			`unknown field \"properties[0].value\"`},
		{"POST", "", `{"name":"x","event":"a","properties":null}`, 400, "null is not allowed"},
		{"POST", "", `{"name":"x","event":"a","type":"b"}`, 400, `unknown field \"type\"`},
		{"POST", "", `{"name":"x","event":"a","revision":1}`, 400, "what is new has no revision"},
		{"POST", "", `{"name":"x","page":"pricing"}`, 400, "begin it with / or *"},
		{"PUT", "/nothing", goalBody, 404, "goal nothing of own.example.com: not found"},
		{"PUT", "/" + goal, `{"name":"Sale","event":"Buy","revision":7}`, 409, "was changed meanwhile"},
		{"PUT", "/" + goal, `{"name":"Sale","page":"/thanks","scroll_depth":50,"revision":1}`, 200,
			`"page":"/thanks"`},
		{"PUT", "/" + goal, `{"name":"Sale","page":"/thanks","revision":1}`, 409, "was changed meanwhile"},
		{"PUT", "/" + goal, `{"name":"Sale","page":"/bye"}`, 200, `"revision":3`},
		{"DELETE", "/nothing", ``, 404, "not found"},
	} {
		res, body := w.do(row.method, ownGoals+row.path, row.body, admin...)
		if res.StatusCode != row.status || !strings.Contains(body, row.want) {
			t.Errorf("%s %s %s: %s %s", row.method, row.path, row.body, res.Status, body)
		}
	}
	res, body = w.do("PUT", ownGoals+"/"+goal, `{"name":"Bye","page":"/bye"}`,
		append(admin, "If-Match", `"2"`)...)
	if res.StatusCode != 409 {
		t.Errorf("If-Match of an older revision: %s %s", res.Status, body)
	}
	_, key := w.key("own.example.com")
	if res, body := w.do("GET", ownGoals, "", "Authorization", "Bearer "+key); res.StatusCode != 200 ||
		!strings.Contains(body, `"page":"/bye"`) || strings.Contains(body, "EUR") {
		t.Errorf("%s %s", res.Status, body)
	}
	const other = "/api/v1/sites/OTHER.example.com/goals"
	if res, body := w.do("GET", other, "", admin...); body != `{"goals":[]}` {
		t.Errorf("of another site: %s %s", res.Status, body)
	}
	if res, body := w.do("DELETE", ownGoals+"/"+goal, "", admin...); res.StatusCode != 204 {
		t.Errorf("%s %s", res.Status, body)
	}
}

func TestFunnelsByAPI(t *testing.T) {
	w := newAccessWorld(t)
	admin := []string{"Authorization", "Bearer " + adminSecret}
	const funnels = "/api/v1/sites/own.example.com/funnels"
	_, body := w.do("POST", ownGoals, `{"name":"Sale","event":"Purchase"}`, admin...)
	goal := made(t, body)
	res, body := w.do("POST", funnels, `{"name":"Buy","steps":[{"page":"/cart","name":"Cart"},{"goal":"`+goal+
		`"}],"scope":"day","strict":true}`, admin...)
	if res.StatusCode != 201 || !strings.Contains(body, `"scope":"day"`) ||
		!strings.Contains(body, `{"goal":"`+goal+`"}`) || !strings.Contains(body, `"strict":true`) {
		t.Fatalf("%s %s", res.Status, body)
	}
	funnel := made(t, body)
	for _, row := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "", `{"name":"Buy","steps":[{"page":"/a"},{"page":"/b"}]}`, 409, "exists already"},
		{"POST", "", `{"name":"x","steps":[{"page":"/a"}]}`, 400, "has 1 steps; give 2 to 8"},
		{"POST", "", `{"name":"x","steps":[]}`, 400, "has 0 steps; give 2 to 8"},
		{"POST", "", `{"name":"x","steps":[{"page":"/a"},{}]}`, 400, "step 2: "},
		{"POST", "", `{"name":"x","steps":[{"page":"/a"},{"goal":"nothing"}]}`, 400, "there is no goal"},
		{"POST", "", `{"name":"x","steps":[{"page":"/a"},{"goal":"` + goal + `","page":"/b"}]}`, 400,
			"give a goal, or a condition"},
		{"POST", "", `{"name":"x","steps":[{"page":"/a"},{"page":"/b"}],"scope":"week"}`, 400, "or day"},
		{"POST", "", `{"name":"x","steps":[{"page":"/a"},{"page":"/b"}],"scope":""}`, 400, "scope is empty"},
		{"POST", "", `{"name":"x","steps":[{"page":"/a"},{"page":"/b","Event":"y"}]}`, 400, "unknown field"},
		{"DELETE", "/../goals/" + goal, ``, 409, `in use: funnel \"Buy\" has it as a step`},
		{"PUT", "/" + funnel, `{"name":"Buy","steps":[{"page":"/a"},{"page":"/b"}]}`, 200, `"scope":"visit"`},
		{"PUT", "/" + funnel, `{"name":"Buy","steps":[{"page":"/a"},{"page":"/c"}],"revision":1}`, 409,
			"meanwhile"},
		{"DELETE", "/../goals/" + goal, ``, 204, ``},
		{"GET", "", ``, 200, `"steps":[{"page":"/a"},{"page":"/b"}],"strict":false`},
		{"DELETE", "/" + funnel, ``, 204, ``},
		{"GET", "", ``, 200, `{"funnels":[]}`},
	} {
		path := strings.ReplaceAll(funnels+row.path, "/funnels/..", "")
		res, body := w.do(row.method, path, row.body, admin...)
		if res.StatusCode != row.status || !strings.Contains(body, row.want) {
			t.Errorf("%s %s %s: %s %s", row.method, row.path, row.body, res.Status, body)
		}
	}
}

// Segments and annotations are changed by keys that may write, and personal segments are nobody else's.
func TestSegmentsAndAnnotationsByAPI(t *testing.T) {
	w := newAccessWorld(t)
	add := func(k site.Key) string {
		_, secret, err := w.sites.AddKey(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	own := []string{"own.example.com"}
	keys := map[string]string{
		"admin":  adminSecret,
		"writer": add(site.Key{Name: "writer", Sites: own, Write: true}),
		"second": add(site.Key{Name: "second", AllSites: true, Write: true}),
		"reader": add(site.Key{Name: "reader", Sites: own}),
		"other":  add(site.Key{Name: "other", Sites: []string{"other.example.com"}, Write: true}),
		"nobody": "",
	}
	ids := map[string]string{} // by name or text
	const segment = `{"name":"German","filters":[["is","visit:country",["DE"]]]}`
	const shared = `{"name":"Shared","filters":[["is","visit:country",["DE"]]],"shared":true}`
	const annotation = `{"at":"2026-11-30T14:05","text":"Launch"}`
	for _, row := range []struct {
		who, method, path, body string
		status                  int
		want                    string
	}{
		{"nobody", "POST", "segments", segment, 401, ""},
		{"reader", "POST", "segments", segment, 403, "this key may only read; ask an admin"},
		{"other", "POST", "segments", segment, 403, "this key may not read own.example.com"},
		{"writer", "POST", "segments", segment, 201, `"shared":false`},
		{"writer", "POST", "segments", `{"name":"x","filters":[]}`, 400, "at least one filter"},
		{"writer", "POST", "segments", `{"name":"x","filters":[["is","visit:planet",["Mars"]]]}`, 400,
			"can't be filtered by"},
		{"writer", "POST", "segments", `{"name":"x","filters":[["is","visit:country",[]]]}`, 400,
			"want at least one value"},
		{"writer", "POST", "segments", `{"name":"x","filters":[null]}`, 400, "null is not allowed"},
		{"writer", "GET", "segments", "", 200, `"filters":[["is","visit:country",["DE"]]]`},
		{"second", "GET", "segments", "", 200, `{"segments":[]}`},
		{"admin", "GET", "segments", "", 200, `{"segments":[]}`},
		{"second", "PUT", "segments/German", shared, 404, "not found"},
		{"admin", "DELETE", "segments/German", "", 404, "not found"},
		{"second", "POST", "segments", shared, 201, `"shared":true`},
		{"reader", "GET", "segments", "", 200, `"name":"Shared"`},
		{"reader", "DELETE", "segments/Shared", "", 403, "may only read"},
		{"writer", "PUT", "segments/Shared", segment, 400, "only that one can make it personal"},
		{"writer", "PUT", "segments/Shared", `{"name":"Ours","filters":[["is","visit:os",["iOS"]]],` +
			`"shared":true,"revision":1}`, 200, `"revision":2`},
		{"writer", "PUT", "segments/Shared", strings.Replace(shared, "{", `{"revision":1,`, 1), 409,
			"meanwhile"},
		{"admin", "DELETE", "segments/Shared", "", 204, ""},
		{"nobody", "GET", "segments", "", 401, ""},

		{"reader", "POST", "annotations", annotation, 403, "may only read"},
		{"other", "POST", "annotations", annotation, 403, "may not read"},
		{"writer", "POST", "annotations", annotation, 201, `"text":"Launch"`},
		{"writer", "POST", "annotations", `{"at":"2026-11-30T25:00","text":"x"}`, 400, "no day and no time"},
		{"writer", "POST", "annotations", `{"at":"2026-11-30","text":" "}`, 400, "has 0 characters"},
		{"writer", "POST", "annotations", `{"at":"2026-11-30","text":"x","by":"me"}`, 400, "unknown field"},
		{"reader", "GET", "annotations", "", 200, `"at":"2026-11-30T14:05"`},
		{"second", "PUT", "annotations/Launch", `{"at":"2026-12-01","text":"Later"}`, 200,
			`"at":"2026-12-01"`},
		{"second", "PUT", "annotations/Launch", strings.Replace(annotation, "{", `{"revision":1,`, 1), 409,
			"meanwhile"},
		{"reader", "DELETE", "annotations/Launch", "", 403, "may only read"},
		{"other", "DELETE", "annotations/Launch", "", 403, "may not read"},
		{"writer", "DELETE", "annotations/Launch", "", 204, ""},
		{"writer", "DELETE", "annotations/Launch", "", 404, "not found"},
		{"writer", "POST", "goals", goalBody, 403, "needs an admin key"},
		{"writer", "DELETE", "funnels/x", "", 403, "needs an admin key"},
	} {
		path := "/api/v1/sites/own.example.com/" + row.path
		if kind, name, ok := strings.Cut(row.path, "/"); ok && ids[name] != "" {
			path = "/api/v1/sites/own.example.com/" + kind + "/" + ids[name]
		}
		var header []string
		if keys[row.who] != "" {
			header = []string{"Authorization", "Bearer " + keys[row.who]}
		}
		res, body := w.do(row.method, path, row.body, header...)
		if res.StatusCode != row.status || !strings.Contains(body, row.want) {
			t.Errorf("%s: %s %s %s: %s %s", row.who, row.method, row.path, row.body, res.Status, body)
		}
		if res.StatusCode == 201 {
			var v struct{ Name, Text string }
			if err := json.Unmarshal([]byte(body), &v); err != nil {
				t.Fatal(err)
			}
			ids[v.Name+v.Text] = made(t, body)
		}
	}
}

// A page of another site can't write with a browser's session, whatever the key behind it.
func TestWritesOfOtherPages(t *testing.T) {
	w := newAccessWorld(t)
	res, body := w.do("POST", "/api/v1/keys",
		`{"name":"writer","sites":["own.example.com"],"may_write":true}`,
		"Authorization", "Bearer "+adminSecret)
	var key api.KeyCreated
	if err := json.Unmarshal([]byte(body), &key); err != nil || res.StatusCode != 201 || key.MayWrite == nil {
		t.Fatalf("%s %s", res.Status, body)
	}
	session := w.session(key.Secret)
	const path, note = "/api/v1/sites/own.example.com/annotations", `{"at":"2026-11-30","text":"x"}`
	for from, want := range map[string]int{"same-origin": 201, "cross-site": 403, "same-site": 403} {
		res, body := w.do("POST", path, note, "Cookie", session, "Sec-Fetch-Site", from)
		if res.StatusCode != want {
			t.Errorf("%s: %s %s", from, res.Status, body)
		}
	}
	if all := w.sites.Annotations("own.example.com"); len(all) != 1 || all[0].By != key.Id {
		t.Errorf("%+v", all)
	}
}

// Two changes of one goal at once, at two streamers: one of them is refused, and the other is in effect.
func TestTwoChangesOfAGoalAtOnce(t *testing.T) {
	w := newWorld(t)
	bases := [2]string{w.streamer(Config{}), w.another()}
	res, body := w.get("POST", bases[0]+ownGoals, adminSecret, `{"name":"Sale","event":"Purchase"}`)
	if res.StatusCode != 201 {
		t.Fatal(res.Status, body)
	}
	id := made(t, body)
	for round := range 30 {
		var wg sync.WaitGroup
		var status [2]int
		for i := range bases {
			wg.Go(func() {
				body := fmt.Sprintf(`{"name":"Sale","event":"Purchase %d %d","revision":%d}`,
					round, i, round+1)
				res, _ := w.get("PUT", bases[i]+ownGoals+"/"+id, adminSecret, body)
				status[i] = res.StatusCode
			})
		}
		wg.Wait()
		if status != [2]int{200, 409} && status != [2]int{409, 200} {
			t.Fatalf("round %d: %d", round, status)
		}
		won := 0
		if status[1] == 200 {
			won = 1
		}
		for _, base := range bases {
			streamertest.Eventually(t, "the accepted change is in effect", func() bool {
				_, body := w.get("GET", base+ownGoals, adminSecret, "")
				return strings.Contains(body, fmt.Sprintf(`"event":"Purchase %d %d"`, round, won))
			})
		}
	}
}

// The goals in the dialect of Plausible's Sites API, with bodies as its documentation sends them.
func TestGoalsInPlausiblesDialect(t *testing.T) {
	w := newAccessWorld(t)
	const path = "/api/v1/sites/goals"
	send := func(method, path string, fields ...string) (*http.Response, string) {
		var b strings.Builder
		form := multipart.NewWriter(&b)
		for i := 0; i < len(fields); i += 2 {
			if err := form.WriteField(fields[i], fields[i+1]); err != nil {
				t.Fatal(err)
			}
		}
		if err := form.Close(); err != nil {
			t.Fatal(err)
		}
		return w.do(method, path, b.String(), "Authorization", "Bearer "+adminSecret, "Content-Type",
			form.FormDataContentType())
	}
	ids := map[string]bool{}
	for range 2 { // it finds what it has made
		res, body := send("PUT", path, "site_id", "own.example.com", "goal_type", "event", "event_name",
			"50% * off")
		if res.StatusCode != 200 || !strings.Contains(body, `"goal_type":"event"`) ||
			!strings.Contains(body, `"event_name":"50% * off"`) ||
			!strings.Contains(body, `"page_path":null`) ||
			!strings.Contains(body, `"domain":"own.example.com"`) ||
			!strings.Contains(body, `"display_name":"50% * off"`) {
			t.Fatalf("%s %s", res.Status, body)
		}
		ids[made(t, body)] = true
	}
	res, body := w.do("PUT", path, `{"site_id":"own.example.com","goal_type":"page","page_path":"/blog/**"}`,
		"Authorization", "Bearer "+adminSecret)
	page := made(t, body)
	if res.StatusCode != 200 || !strings.Contains(body, `"display_name":"Visit /blog/**"`) {
		t.Fatalf("%s %s", res.Status, body)
	}
	res, body = w.do("PUT", path,
		"site_id=own.example.com&goal_type=event&event_name=Signup&display_name=New",
		"Authorization", "Bearer "+adminSecret, "Content-Type", "application/x-www-form-urlencoded")
	if ids[made(t, body)] = true; res.StatusCode != 200 || !strings.Contains(body, `"display_name":"New"`) {
		t.Fatalf("%s %s", res.Status, body)
	}
	if goals := w.sites.Goals("own.example.com"); len(ids) != 2 || len(goals) != 3 ||
		!goals[0].Event.Match("50% * off") || goals[0].Event.Match("50% x off") ||
		!goals[1].Page.Match("/blog/a/b") {
		t.Errorf("%v %+v", ids, goals)
	}
	w.do("POST", ownGoals, `{"name":"Deep","page":"/a","scroll_depth":50}`, "Authorization",
		"Bearer "+adminSecret)
	_, key := w.key("own.example.com")
	res, body = w.do("GET", path+"?site_id=own.example.com", "", "Authorization", "Bearer "+key)
	if res.StatusCode != 200 || strings.Count(body, `"goal_type"`) != 3 || strings.Contains(body, "Deep") ||
		!strings.Contains(body, `"meta":{"after":null,"before":null,"limit":3}`) {
		t.Errorf("%s %s", res.Status, body)
	}
	for _, row := range []struct{ fields, want string }{
		{"site_id own.example.com", "give goal_type event with an event_name"},
		{"site_id own.example.com goal_type event", "give goal_type event with an event_name"},
		{"site_id own.example.com goal_type event event_name a page_path /", "give goal_type event with"},
		{"site_id own.example.com goal_type scroll page_path /", "give goal_type event with"},
		{"site_id own.example.com goal_type event event_name a name b", `unknown field \"name\"`},
		{"site_id own.example.com site_id other.example.com", `\"site_id\" is there twice`},
		{"site_id own.example.com goal_type event event_name pageview", "is no custom event"},
	} {
		res, body := send("PUT", path, strings.Fields(row.fields)...)
		if res.StatusCode != 400 || !strings.Contains(body, row.want) {
			t.Errorf("%s: %s %s", row.fields, res.Status, body)
		}
	}
	if res, body := send("DELETE", path+"/"+page, "site_id", "other.example.com"); res.StatusCode != 404 {
		t.Errorf("of another site: %s %s", res.Status, body)
	}
	res, body = send("DELETE", path+"/"+page, "site_id", "own.example.com")
	if res.StatusCode != 200 || body != `{"deleted":"true"}` || len(w.sites.Goals("own.example.com")) != 3 {
		t.Errorf("%s %s", res.Status, body)
	}
}

// The name of the parameter with search terms is a setting of the site, which only admins see.
func TestSearchParameter(t *testing.T) {
	w := newAccessWorld(t)
	const path = "/api/v1/sites/own.example.com"
	admin := []string{"Authorization", "Bearer " + adminSecret}
	for _, row := range []struct {
		body   string
		status int
		want   string
	}{
		{`{"search_parameter":"q"}`, 200, `"search_parameter":"q"`},
		{`{"listed":false}`, 200, `"search_parameter":"q"`},
		{`{"search_parameter":"a=b"}`, 400, "is no name of a parameter"},
		{`{"search_parameter":""}`, 200, `"search_parameter":""`},
		{`{"search_parameter":"query"}`, 200, `"search_parameter":"query"`},
	} {
		if res, body := w.do("PATCH", path, row.body, admin...); res.StatusCode != row.status ||
			!strings.Contains(body, row.want) {
			t.Errorf("%s: %s %s", row.body, res.Status, body)
		}
	}
	_, key := w.key("own.example.com")
	if _, body := w.do("GET", path, "", "Authorization", "Bearer "+key); strings.Contains(body, "search") {
		t.Errorf("%s", body)
	}
}
