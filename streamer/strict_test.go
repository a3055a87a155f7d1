package streamer

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"nowcast/streamer/api"
)

// A request with a field or query parameter that the contract doesn't have changes nothing, and the answer
// names it.
func TestUnknownFieldsAreRefused(t *testing.T) {
	w := newAccessWorld(t)
	admin := []string{"Authorization", "Bearer " + adminSecret}
	for _, row := range []struct{ method, path, body, want string }{
		{"PATCH", "/api/v1/sites/own.example.com", `{"domain":"new"}`, `unknown field \"domain\"`},
		{"PATCH", "/api/v1/sites/own.example.com", `{"pubic":true}`, `unknown field \"pubic\"`},
		{"PATCH", "/api/v1/sites/own.example.com", `{"public":true,"Public":true}`,
			`unknown field \"Public\"`},
		{"PATCH", "/api/v1/sites/own.example.com", `{"public":true,"public":false}`,
			`\"public\" is there twice`},
		{"PATCH", "/api/v1/sites/own.example.com", `{"rules":{"hosts":[]}}`, `unknown field \"rules.hosts\"`},
		{"POST", "/api/v1/sites", `{"domain":"new.example.com","created":"2020-01-01T00:00:00Z"}`,
			`unknown field \"created\"`},
		{"POST", "/api/v1/sites", `{"Domain":"new.example.com"}`, `unknown field \"Domain\"`},
		{"POST", "/api/v1/sites/own.example.com/links", `{"name":"x","password":"y"}`,
			`unknown field \"password\"`},
		{"POST", "/api/v1/keys", `{"name":"x","site":["own.example.com"]}`, `unknown field \"site\"`},
		{"POST", "/api/v1/keys", `{"name":"x","ADMIN":true}`, `unknown field \"ADMIN\"`},
		{"POST", "/api/v1/keys", `{"name":"x","all_sites":true,"expires":1,"Sites":[]}`,
			`unknown fields \"expires\", \"Sites\"`},
		{"POST", "/api/v1/tickets", `{"sites":["own.example.com"],"TTL":300}`, `unknown field \"TTL\"`},
		{"GET", "/api/v1/sites?public=true", ``, `unknown query parameter \"public\"`},
		{"GET", "/api/v1/keys?limit=1", ``, `unknown query parameter \"limit\"`},
		{"DELETE", "/api/v1/sites/own.example.com?dry_run=1", ``, `unknown query parameter \"dry_run\"`},
		{"GET", "/api/v1/sites/own.example.com/ledger?form=2026-11-01", ``,
			`unknown query parameter \"form\"; this takes from, to, by`},
		{"GET", "/api/v1/stats/realtime/visitors?site_id=own.example.com&SITE_ID=x", ``,
			`unknown query parameter \"SITE_ID\"`},
	} {
		res, body := w.do(row.method, row.path, row.body, admin...)
		if res.StatusCode != http.StatusBadRequest || !strings.Contains(body, row.want) {
			t.Errorf("%s %s %s: %s %s", row.method, row.path, row.body, res.Status, body)
		}
	}
	if st, ok := w.sites.Lookup("own.example.com"); !ok || st.Public || st.Revision != 1 {
		t.Errorf("a refused request has changed the site: %t %+v", ok, st)
	}
	if _, ok := w.sites.Lookup("new.example.com"); ok ||
		len(w.sites.Keys())+len(w.sites.Links("own.example.com")) != 0 {
		t.Error("a refused request has made something")
	}
}

// A key reads what its request names. A request that doesn't say so, or names a site wrongly, makes no key.
func TestKeysFailClosed(t *testing.T) {
	w := newAccessWorld(t)
	admin := []string{"Authorization", "Bearer " + adminSecret}
	for _, row := range []struct{ body, want string }{
		{`{"name":"x"}`, `say \"all_sites\": true`},
		{`{"name":"x","sites":[]}`, `say \"all_sites\": true`},
		{`{"name":"x","sites":[],"all_sites":false}`, `say \"all_sites\": true`},
		{`{"name":"x","all_sites":false,"admin":false}`, `say \"all_sites\": true`},
		{`{"name":"x","sites":[],"all_sites":true}`, `give only one of sites, all_sites and admin`},
		{`{"name":"x","sites":["own.example.com"],"all_sites":true}`, `give only one of`},
		{`{"name":"x","sites":["own.example.com"],"admin":true}`, `give only one of`},
		{`{"name":"x","sites":[],"admin":true}`, `give only one of`},
		{`{"name":"x","admin":true,"all_sites":true}`, `give only one of`},
		{`{"name":"x","sites":[""]}`, `there is no site`},
		{`{"name":"x","sites":["own.exmaple.com"]}`, `there is no site \"own.exmaple.com\"`},
		{`{"name":"x","sites":["own.example.com","nobody.example"]}`, `there is no site \"nobody.example\"`},
		{`{"name":"x","sites":["Own.example.com"]}`,
			`write the site \"Own.example.com\" as \"own.example.com\"`},
		{`{"name":"x","sites":[" own.example.com"]}`, `write the site \" own.example.com\" as`},
		{`{"name":"x","sites":["https://own.example.com"]}`, `as \"own.example.com\"`},
		{`{"name":"x","sites":["own.example.com","own.example.com"]}`, `is named twice`},
		{`{"name":"x","sites":["*"]}`, `there is no site \"*\"`},
		{`{"name":"x\u202e","all_sites":true}`, `control or format character`},
		{`{"name":"x\u0000y","all_sites":true}`, `control or format character`},
		{`{"name":" ","all_sites":true}`, `needs a name`},
	} {
		if res, body := w.do("POST", "/api/v1/keys", row.body, admin...); res.StatusCode != 400 ||
			!strings.Contains(strings.ReplaceAll(body, `\\`, `\`), row.want) {
			t.Errorf("%s: %s %s", row.body, res.Status, body)
		}
	}
	if keys := w.sites.Keys(); len(keys) != 0 {
		t.Errorf("there are keys: %+v", keys)
	}
	if res, body := w.do("POST", "/api/v1/sites/own.example.com/links", `{"name":"a\u2028b"}`, admin...); res.
		StatusCode != 400 || !strings.Contains(body, "control or format character") {
		t.Errorf("%s %s", res.Status, body)
	}
	for _, row := range []struct {
		body      string
		own, open int // statuses of reading own.example.com and other.example.com
		shown     string
	}{
		{`{"name":"some","sites":["own.example.com"]}`, 200, 403, `"sites":["own.example.com"]`},
		{`{"name":"all","all_sites":true}`, 200, 200, `"all_sites":true`},
		{`{"name":"boss","admin":true}`, 200, 200, `"admin":true`},
	} {
		res, body := w.do("POST", "/api/v1/keys", row.body, admin...)
		var made api.KeyCreated
		if err := json.Unmarshal([]byte(body), &made); err != nil || res.StatusCode != 201 ||
			!strings.Contains(body, row.shown) {
			t.Fatalf("%s: %s %s", row.body, res.Status, body)
		}
		for domain, want := range map[string]int{"own.example.com": row.own, "other.example.com": row.open} {
			res, body := w.do("GET", "/api/v1/sites/"+domain, "", "Authorization", "Bearer "+made.Secret)
			if res.StatusCode != want {
				t.Errorf("%s reads %s: %s %s", made.Name, domain, res.Status, body)
			}
		}
		if _, body := w.do("GET", "/api/v1/keys", "", admin...); !strings.Contains(body, row.shown) {
			t.Errorf("the list of keys: %s", body)
		}
	}
}

// Names that would be files of a server, and ports that can't be, are no sites.
func TestSiteNamesThatAreRefused(t *testing.T) {
	w := newAccessWorld(t)
	for domain, want := range map[string]string{
		"favicon.ico": "is the name of a file", "robots.txt": "is the name of a file",
		"index.html": "is the name of a file", "app.js": "is the name of a file",
		"example.com:0": "a port that can't be", "example.com:99999": "a port that can't be",
		"example.com:080": "a port that can't be", "exam\u200dple.com": "is no domain",
	} {
		b, _ := json.Marshal(map[string]string{"domain": domain})
		res, body := w.do("POST", "/api/v1/sites", string(b), "Authorization", "Bearer "+adminSecret)
		if res.StatusCode != 400 || !strings.Contains(body, want) {
			t.Errorf("%s: %s %s", domain, res.Status, body)
		}
	}
}

// A rotation makes another secret; a ticket of before stays valid until the next one.
func TestRotateSecretByAPI(t *testing.T) {
	w := newAccessWorld(t)
	admin := []string{"Authorization", "Bearer " + adminSecret}
	_, key := w.key()
	res, _ := w.do("POST", "/api/v1/secret/rotate", "", "Authorization", "Bearer "+key)
	if res.StatusCode != 403 {
		t.Errorf("a key that reads: %s", res.Status)
	}
	const forOwn = `{"sites":["own.example.com"]}`
	ticket := w.ticket(forOwn, shown{bearer: key})
	for i, want := range []int{200, 200, 401} { // the ticket is of this version, the former, the one before
		if i > 0 {
			res, body := w.do("POST", "/api/v1/secret/rotate", "", admin...)
			if res.StatusCode != 200 || !strings.Contains(body, fmt.Sprintf(`"version":%d`, i+1)) {
				t.Fatalf("%s %s", res.Status, body)
			}
		}
		res, body := w.do("GET", "/api/v1/stats/realtime/visitors?site_id=own.example.com&ticket="+ticket, "")
		if res.StatusCode != want {
			t.Errorf("after %d rotations: %s %s", i, res.Status, body)
		}
	}
	if ticket = w.ticket(forOwn, shown{bearer: key}); ticket == "" {
		t.Error("no ticket")
	}
}
