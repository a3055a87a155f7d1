package ingest

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"nowcast/ingest/dialect"
	"nowcast/ingest/publisher/logtest"
	"nowcast/internal/event"
)

// TestUmami sends beacons of Umami and compares events in the log. The first ones are those of its
// clients.
func TestUmami(t *testing.T) {
	w := start(t, Config{})
	long, many := strings.Repeat("x", 3000), strings.Repeat(`"k":{`, 20)+`"k":1`+strings.Repeat("}", 20)
	for _, c := range []struct{ name, payload, want string }{
		{"node track", `"website":"example.com","url":"/home"`,
			`pageview pageview example.com /home host=(none)`},
		{"node track by name", `"website":"example.com","name":"signup","data":{"plan":"pro"}`,
			`custom signup example.com / host=(none) plan:pro`},
		{"browser", `"website":"example.com","screen":"1920x1080","language":"de-CH","title":"Home",` +
			`"hostname":"www.example.com","url":"https://www.example.com/home?utm_source=news#top",` +
			`"referrer":"https://news.ycombinator.com/item?id=1"`,
			`pageview pageview example.com /home#top ref=news.ycombinator.com/item src=news by=Referral ` +
				`screen=Desktop utm=news////`},
		{"browser within a site", `"website":"example.com","hostname":"example.com","url":"/a?b=c#",` +
			`"referrer":"/b"`, `pageview pageview example.com /a`},
		{"own referrer", `"website":"example.com","hostname":"www.example.com","url":"/a",` +
			`"referrer":"https://example.com/b"`, `pageview pageview example.com /a`},
		{"website in capitals with www", `"website":" WWW.Example.com ","hostname":"example.com:3000",` +
			`"url":"/a"`, `pageview pageview example.com /a`},
		{"tag", `"website":"example.com","hostname":"example.com","url":"/a","tag":"blue"`,
			`pageview pageview example.com /a tag:blue`},
		{"null", `"website":"example.com","hostname":"example.com","url":"/a","tag":null,"referrer":null,` +
			`"data":null`, `pageview pageview example.com /a`},
		{"nested data", `"website":"example.com","hostname":"example.com","name":"x",` +
			`"data":{"a":{"b":{"c":1.5}},"l":[1,"b"],"n":null,"t":true,"e":{}}`,
			`custom x example.com / a.b.c:1.5 l:[1,"b"] t:true`},
		{"deep data", `"website":"example.com","hostname":"example.com","name":"x","data":{` + many + `}`,
			`custom x example.com /`},
		{"revenue", `"website":"example.com","hostname":"example.com","name":"buy",` +
			`"data":{"revenue":9.99,"currency":"usd"}`,
			`custom buy example.com / rev=9990000 USD revenue:9.99 currency:usd`},
		{"name of 60", `"website":"example.com","hostname":"example.com","name":"` + strings.Repeat("é",
			60) + `"`, `custom ` + strings.Repeat("é", 50) + ` example.com /`},
		{"long value", `"website":"example.com","hostname":"example.com","name":"x",` +
			`"data":{"k":"` + long + `"}`, `custom x example.com / k:` + long[:2000]},
		{"what it must not believe", `"website":"example.com","hostname":"example.com","url":"/a",` +
			`"ip":"9.9.9.9","userAgent":"Googlebot/2.1","timestamp":1,"id":"alice@example.com",` +
			`"browser":"x","os":"y","device":"z"`, `pageview pageview example.com /a`},
	} {
		before := len(w.events(t))
		a := w.request(t, "POST /api/send", `{"type":"event","payload":{`+c.payload+`}}`, "Content-Type",
			"application/json", "X-Umami-Cache", "anything")
		if a.status != 200 || a.body != umamiAnswer || a.header.Get("Access-Control-Allow-Origin") != "*" ||
			!strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
			t.Errorf("%s: %+v", c.name, a)
			continue
		}
		after := w.events(t)
		if len(after) != before+1 {
			t.Errorf("%s: %d events in the log, want 1", c.name, len(after)-before)
			continue
		}
		e := after[before]
		if got := show(e); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
		if age := time.Since(time.UnixMilli(e.Time)); age < -time.Second || age > time.Minute ||
			e.Browser != "Chrome" || e.OS != "Windows" || e.HasID {
			t.Errorf("%s: believed what anybody could say: %+v", c.name, e)
		}
		if want := map[bool]string{true: "de-CH"}[c.name == "browser"]; e.Language != want {
			t.Errorf("%s: language %q, want %q", c.name, e.Language, want)
		}
	}
}

// TestUmamiRefused sends beacons that are invalid, dropped, or of types that aren't stored.
func TestUmamiRefused(t *testing.T) {
	w := start(t, Config{})
	const site = `{"type":"event","payload":{"website":"example.com"`
	for _, c := range []struct {
		name, body, agent string
		status            int
		want              string
	}{
		{"nothing", ``, chrome, 400, `{"error":{"message":"the body must be`},
		{"not UTF-8", site + ",\"url\":\"\xff\"}}", chrome, 400, `{"error":{"message":"the body must be`},
		{"no type", `{"payload":{"website":"example.com"}}`, chrome, 400, `{"error":{"message":"type:`},
		{"unknown type", `{"type":"x","payload":{"website":"example.com"}}`, chrome, 400,
			`{"error":{"message":"type:`},
		{"no payload", `{"type":"event"}`, chrome, 400, `{"error":{"message":"payload:`},
		{"no website", `{"type":"event","payload":{}}`, chrome, 400, `{"error":{"message":"payload.website:`},
		{"a UUID", `{"type":"event","payload":{"website":"50429a93-8479-4073-be80-d5d29c09c2ec"}}`, chrome,
			400, `{"error":{"message":"Website not found.`},
		{"two websites", `{"type":"event","payload":{"website":"example.com,other.example"}}`, chrome, 400,
			`{"error":{"message":"Website not found.`},
		{"a number for a url", site + `,"url":5}}`, chrome, 400, `{"error":{"message":"payload.url:`},
		{"data url", site + `,"url":"data:text/html,x"}}`, chrome, 400, `{"error":{"message":"payload.url:`},
		{"long url", site + `,"url":"/` + strings.Repeat("a", 2000) + `"}}`, chrome, 400,
			`{"error":{"message":"payload.url:`},
		{"long hostname", site + `,"hostname":"` + strings.Repeat("a", 254) + `"}}`, chrome, 400,
			`{"error":{"message":"payload.hostname:`},
		{"long eid", site + `,"eid":"` + strings.Repeat("a", 65) + `"}}`, chrome, 400,
			`{"error":{"message":"payload.eid:`},
		{"data that is no object", site + `,"data":[1]}}`, chrome, 400, `{"error":{"message":"payload.data:`},
		{"long key", site + `,"data":{"` + strings.Repeat("k", 200) + `":{"` + strings.Repeat("k",
			200) + `":1}}}}`, chrome, 400, `{"error":{"message":"payload.data:`},
		{"long key above many", site + `,"data":{"` + strings.Repeat("k",
			400_000) + `":{` + strings.Repeat(`"a":1,`, 80_000) + `"b":1}}}}`, chrome, 400,
			`{"error":{"message":"payload.data:`},
		{"over the limit", site + `,"title":"` + strings.Repeat("a", dialect.MaxBody) + `"}}`, chrome, 400,
			`{"error":{"message":"request:`},
		{"bot", site + `}}`, "Googlebot/2.1", 200, `{"beep":"boop"}`},
		{"identify", `{"type":"identify","payload":{"website":"example.com",` +
			`"data":{"email":"a@example.com"},"id":"alice"}}`, chrome, 200, umamiAnswer},
		{"identify by a bot", `{"type":"identify","payload":{"website":"example.com"}}`, "Googlebot/2.1",
			200, `{"beep":"boop"}`},
		{"identify for nobody", `{"type":"identify","payload":{"website":"nobody.example"}}`, chrome, 400,
			`{"error":{"message":"Website not found.`},
		{"performance", `{"type":"performance","payload":{"website":"example.com","url":"/a","lcp":12}}`,
			chrome, 200, umamiAnswer},
	} {
		a := w.request(t, "POST /api/send", c.body, "User-Agent", c.agent)
		if a.status != c.status || !strings.HasPrefix(a.body, c.want) ||
			a.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %.300s, want %d %s", c.name, a.status, a.body, c.status, c.want)
		}
		if dropped := a.header.Get("x-plausible-dropped"); (dropped == "1") != (c.status == 200) {
			t.Errorf("%s: dropped=%q", c.name, dropped)
		}
		if c.status == 400 && !strings.HasSuffix(a.body, `"code":"bad-request","status":400}}`) {
			t.Errorf("%s: no error of the dialect: %s", c.name, a.body)
		}
	}
	if n := len(w.events(t)); n != 0 {
		t.Errorf("%d events in the log", n)
	}
}

// TestUmamiBatch sends batches, valid and invalid.
func TestUmamiBatch(t *testing.T) {
	w := start(t, Config{})
	const one = `{"type":"event","payload":{"website":"example.com","url":"/a"}}`
	for _, c := range []struct {
		name, body, agent string
		status, events    int
		want              string
	}{
		{"none", `[]`, chrome, 200, 0, `{"details":[],"errors":0,"processed":0,"size":0}`},
		{"three", "[" + one + "," + one + " , " + one + "]", chrome, 200, 3,
			`{"details":[],"errors":0,"processed":3,"size":3}`},
		{"one that isn't valid", "[" + one + `,{"type":"event","payload":{}},` + one + "]", chrome, 200, 2,
			`{"details":[{"index":1,"response":{"error":{"message":"payload.website: is required; it is ` +
				`the site's domain","code":"bad-request","status":400}}}],` +
				`"errors":1,"processed":2,"size":3}`},
		{"a bot's", "[" + one + "," + one + "]", "Googlebot/2.1", 200, 0,
			`{"details":[],"errors":0,"processed":2,"size":2}`},
		{"identify", `[{"type":"identify","payload":{"website":"example.com","data":{"a":1}}},` + one + "]",
			chrome, 200, 1, `{"details":[],"errors":0,"processed":2,"size":2}`},
		{"no array", one, chrome, 400, 0, `{"error":{"message":"the body must be`},
		{"an array of numbers", `[1]`, chrome, 400, 0, `{"error":{"message":"the body must be`},
		{"too many", "[" + strings.Repeat(`{},`, dialect.MaxBatch) + "{}]", chrome, 400, 0,
			`{"error":{"message":"the body must be`},
		{"cut off", "[" + one + ",", chrome, 400, 0, `{"error":{"message":"the body must be`},
	} {
		before := len(w.events(t))
		a := w.request(t, "POST /api/batch", c.body, "User-Agent", c.agent)
		if n := len(w.events(t)) - before; a.status != c.status || !strings.HasPrefix(a.body, c.want) ||
			n != c.events {
			t.Errorf("%s: %d %.300s and %d events, want %d %s and %d", c.name, a.status, a.body, n,
				c.status, c.want, c.events)
		}
	}
}

// TestDialectsNotAcknowledged lets the broker refuse events: each route answers 503 in its dialect.
func TestDialectsNotAcknowledged(t *testing.T) {
	w := start(t, Config{AckTimeout: 100 * time.Millisecond})
	fault := w.refuse(kerr.LeaderNotAvailable)
	const one = `{"type":"event","payload":{"website":"example.com","url":"/a","eid":"1"}}`
	for _, c := range []struct{ what, body, want string }{
		{"POST /api/send", one, `{"error":{"message":"not counted yet: `},
		{"POST /api/batch", "[" + one + "]", `{"error":{"message":"not counted yet: `},
		{"GET /pixel.gif?url=https://example.com/a", "", pixel},
	} {
		a := w.request(t, c.what, c.body)
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "1" ||
			!strings.HasPrefix(a.body, c.want) {
			t.Errorf("%s: %+v", c.what, a)
		}
	}
	fault.Remove()
	logtest.Until(t, "in the log", func() bool { return len(w.events(t)) == 3 })
}

// TestRetries sends each beacon four times: with an event id, all four events have the same id. Umami's
// id of a person is no event id.
func TestRetries(t *testing.T) {
	w := start(t, Config{})
	const send = "POST /api/send"
	for _, c := range []struct {
		name, what, body string
		ids              int // 0: none
	}{
		{"plausible", "POST /api/event", `{"n":"pageview","u":"https://example.com/a","id":"retry-1"}`, 1},
		{"plausible, the long key", "POST /api/event", `{"n":"pageview","u":"https://example.com/a",` +
			`"eid":"retry-2"}`, 1},
		{"umami", send, `{"type":"event","payload":{"website":"example.com","url":"/a","eid":"retry-3"}}`, 1},
		{"umami batch", "POST /api/batch", `[{"type":"event","payload":{"website":"example.com",` +
			`"url":"/a","eid":"retry-4"}}]`, 1},
		{"umami's person", send, `{"type":"event","payload":{"website":"example.com","url":"/a",` +
			`"id":"alice"}}`, 0},
	} {
		before := len(w.events(t))
		for range 4 {
			if a := w.request(t, c.what, c.body); a.status > 202 {
				t.Errorf("%s: %+v", c.name, a)
			}
		}
		got := w.events(t)[before:]
		ids := map[[16]byte]bool{}
		for _, e := range got {
			if e.HasID {
				ids[e.ID] = true
			}
		}
		if len(got) != 4 || len(ids) != c.ids {
			t.Errorf("%s: %d events with %d ids, want 4 with %d", c.name, len(got), len(ids), c.ids)
		}
		for _, e := range got {
			_ = event.EachProp(e.Props, func(k, v string) bool {
				t.Errorf("%s: kept %s:%s", c.name, k,
					v)
				return true
			})
		}
	}
}
