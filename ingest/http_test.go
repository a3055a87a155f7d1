package ingest

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"nowcast/internal/event"
)

// show prints the fields of an event that the tables compare.
func show(e event.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s %s", e.Kind, e.Name, e.Site, e.Path)
	for _, f := range []struct {
		name string
		v    any
	}{
		{"host", strings.TrimSuffix(e.Hostname, e.Site)}, {"ref", e.Referrer}, {"src", e.Source},
		{"by", strings.ReplaceAll(strings.TrimSuffix(e.Channel, "Direct"), " ", "-")},
		{"screen", e.Screen}, {"utm", e.UTMSource + "/" + e.UTMMedium + "/" + e.UTMCampaign + "/" +
			"" + e.UTMContent + "/" + e.UTMTerm},
		{"rev", strings.TrimSpace(fmt.Sprintf("%d %s", e.RevenueMicros, e.Currency))},
		{"sd", e.ScrollDepth}, {"e", e.EngagedMS},
	} {
		if s := fmt.Sprint(f.v); s != "" && s != "0" && s != "////" {
			fmt.Fprintf(&b, " %s=%s", f.name, s)
		}
	}
	if !e.Interactive {
		b.WriteString(" passive")
	}
	_ = event.EachProp(e.Props, func(k, v string) bool { fmt.Fprintf(&b, " %s:%s", k, v); return true })
	return b.String()
}

// TestDialect sends beacons of the Plausible Events API and compares events in the log.
func TestDialect(t *testing.T) {
	w := start(t, Config{})
	const u = `"d":"example.com","u":"https://example.com/a"`
	const pv = `"n":"pageview",` + u
	for _, c := range []struct{ name, body, want string }{
		{"short keys", `{"n":"pageview","u":"https://example.com/home","d":"example.com"}`,
			`pageview pageview example.com /home`},
		{"long keys", `{"name":"pageview","url":"https://example.com/home","domain":"example.com",` +
			`"referrer":"https://news.ycombinator.com/item?id=1"}`,
			`pageview pageview example.com /home ref=news.ycombinator.com/item src=Hacker News ` +
				`by=Organic-Social`},
		{"short goes first", `{"name":"x","n":"pageview","url":"http://b/","u":"https://example.com/s",` +
			`"d":"example.com"}`, `pageview pageview example.com /s`},
		{"null gives way", `{"n":null,"name":"pageview","u":false,"url":"https://example.com/l",` +
			`"d":"example.com"}`, `pageview pageview example.com /l`},
		{"new tracker", `{"n":"pageview","v":36,"u":"https://example.com/home?utm_source=news",` +
			`"d":"example.com","r":"https://ref.example/","p":{"plan":"pro"}}`,
			`pageview pageview example.com /home ref=ref.example src=news by=Referral utm=news//// plan:pro`},
		{"old tracker", `{"n":"pageview","u":"https://example.com/","d":"example.com","r":null,"w":1280,` +
			`"h":0,"p":"{\"tier\":\"gold\"}"}`, `pageview pageview example.com / screen=Laptop tier:gold`},
		{"custom", `{"n":"Signup",` + u + `,"$":{"amount":9.99,"currency":"USD"}}`,
			`custom Signup example.com /a rev=9990000 USD`},
		{"revenue as text", `{"n":"Buy",` + u + `,"revenue":"{\"amount\":\"-1000.5\",` +
			`\"currency\":\"eur\"}"}`, `custom Buy example.com /a rev=-1000500000 EUR`},
		{"revenue that is none", `{"n":"Buy",` + u + `,"$":{"amount":"much","currency":"USD"}}`,
			`custom Buy example.com /a`},
		{"revenue beyond", `{"n":"Buy",` + u + `,"$":{"amount":1e300,"currency":"USD"}}`,
			`custom Buy example.com /a`},
		{"integer name", `{"n":404,` + u + `}`, `custom 404 example.com /a`},
		{"engagement", `{"n":"engagement","sd":100,"d":"example.com","u":"https://example.com/a","e":613,` +
			`"v":36}`, `engagement engagement example.com /a sd=100 e=613`},
		{"engagement as text", `{"n":"engagement","sd":"40",` + u + `}`,
			`engagement engagement example.com /a sd=40`},
		{"engagement past the end", `{"n":"engagement","sd":140,"e":-1,` + u + `}`,
			`engagement engagement example.com /a sd=100`},
		{"engagement of a month", `{"n":"engagement","sd":1,"e":99999999999,` + u + `}`,
			`engagement engagement example.com /a sd=1`},
		{"passive", `{` + pv + `,"i":false}`, `pageview pageview example.com /a passive`},
		{"passive by the long key", `{` + pv + `,"interactive":false}`,
			`pageview pageview example.com /a passive`},
		{"domain from the url", `{"n":"pageview","u":"https://www.Example.com:8443/a"}`,
			`pageview pageview example.com /a`},
		{"domain with www", `{"n":"pageview","u":"https://www.example.com/a","d":" www.example.com "}`,
			`pageview pageview example.com /a`},
		{"site with www", `{"n":"pageview","u":"https://www.third.example/a"}`,
			`pageview pageview www.third.example /a host=third.example`},
		{"domain in capitals", `{"n":"pageview","u":"https://example.com/a","d":"EXAMPLE.com"}`,
			`pageview pageview example.com /a`},
		{"url without path", `{"n":"pageview","u":"https://example.com?x=1#y"}`,
			`pageview pageview example.com /`},
		{"url with spaces", `{"n":"pageview","u":"https://example.com/a b%20%zz%"}`,
			`pageview pageview example.com /a b %zz%`},
		{"path that isn't UTF-8", `{"n":"pageview","u":"https://example.com/%ff%C3%A9"}`,
			"pageview pageview example.com /\uFFFDé"},
		{"path in escapes", `{"n":"pageview","u":"https://example.com/\u00e9\ud83d\ude00"}`,
			`pageview pageview example.com /é😀`},
		{"hash mode", `{` + pv[:len(pv)-1] + `#/x%20y?z","h":1}`, `pageview pageview example.com /a#/x y`},
		{"no hash mode", `{` + pv[:len(pv)-1] + `#/x","h":0}`, `pageview pageview example.com /a`},
		{"app", `{"n":"pageview","u":"app://home/list","d":"example.com"}`,
			`pageview pageview example.com /list host=home`},
		{"no host", `{"n":"pageview","u":"/list","d":"example.com"}`,
			`pageview pageview example.com /list host=(none)`},
		{"own referrer", `{` + pv + `,"r":"https://www.example.com/b"}`, `pageview pageview example.com /a`},
		{"referrer of localhost", `{` + pv + `,"r":"http://localhost:3000/b"}`,
			`pageview pageview example.com /a`},
		{"referrer from an app", `{` + pv + `,"r":"android-app://com.google.android.gm/"}`,
			`pageview pageview example.com /a ref=com.google.android.gm src=Gmail by=Email`},
		{"referrer that is no string", `{` + pv + `,"r":7}`, `pageview pageview example.com /a`},
		{"referrer that is no url", `{` + pv + `,"r":"javascript:alert(1)"}`,
			`pageview pageview example.com /a`},
		{"all of utm", `{"n":"pageview","u":"https://example.com/?utm_source=fb&utm_medium=paid+social&` +
			`utm_campaign=a%26b&utm_content=c&utm_term=d","r":"https://x.com/p"}`,
			`pageview pageview example.com / ref=x.com/p src=Facebook by=Paid-Social utm=fb/paid ` +
				`social/a&b/c/d`},
		{"ref for a source", `{"n":"pageview","u":"https://example.com/?ref=ProductHunt"}`,
			`pageview pageview example.com / src=Product Hunt by=Organic-Social`},
		{"click on an ad", `{"n":"pageview","u":"https://example.com/?gclid=secret","d":"example.com",` +
			`"r":"https://www.google.com/"}`, `pageview pageview example.com / ref=google.com src=Google ` +
			`by=Paid-Search`},
		{"click without a referrer", `{"n":"pageview","u":"https://example.com/?x=1&msclkid=secret",` +
			`"d":"example.com"}`, `pageview pageview example.com / src=Bing by=Paid-Search`},
		{"empty click", `{"n":"pageview","u":"https://example.com/?gclid=","d":"example.com"}`,
			`pageview pageview example.com /`},
		{"parameters that nobody allowed", `{"n":"pageview",` +
			`"u":"https://example.com/a?email=secret&token=secret","d":"example.com",` +
			`"r":"https://ref.example/p?q=secret#secret"}`,
			`pageview pageview example.com /a ref=ref.example/p src=ref.example by=Referral`},
		{"name and password", `{"n":"pageview","u":"https://secret:secret@example.com/a",` +
			`"d":"example.com","r":"https://secret:secret@ref.example/p"}`,
			`pageview pageview example.com /a ref=ref.example/p src=ref.example by=Referral`},
		{"route with a query", `{` + pv[:len(pv)-1] + `?secret#/reset?token=secret","h":1}`,
			`pageview pageview example.com /a#/reset`},
		{"phone", `{` + pv + `,"w":390}`, `pageview pageview example.com /a screen=Mobile`},
		{"tablet", `{` + pv + `,"screen_width":"820"}`, `pageview pageview example.com /a screen=Tablet`},
		{"large", `{` + pv + `,"w":1440}`, `pageview pageview example.com /a screen=Desktop`},
		{"width that is none", `{` + pv + `,"w":"wide"}`, `pageview pageview example.com /a`},
		{"width below nothing", `{` + pv + `,"w":-5}`, `pageview pageview example.com /a`},
		{"props of all types", `{` + pv + `,"p":{"s":"x","i":7,"f":1.50,"b":true,"n":null,"o":{},"a":[1],` +
			`"blank":" ","":"x","s":"y"}}`, `pageview pageview example.com /a s:y i:7 f:1.50 b:true`},
		{"meta before props", `{` + pv + `,"p":{"a":1},"m":{"b":2}}`, `pageview pageview example.com /a b:2`},
		{"props that are none", `{` + pv + `,"p":[1,2]}`, `pageview pageview example.com /a`},
		{"props in bad text", `{` + pv + `,"p":"{\"a\":"}`, `pageview pageview example.com /a`},
		{"unknown keys", `{` + pv + `,"zzz":{"deep":[[[{}]]]}}`, `pageview pageview example.com /a`},
	} {
		before := len(w.events(t))
		if a := w.post(t, c.body); a.status != 202 || a.body != "ok" ||
			a.header.Get("x-plausible-dropped") != "" {
			t.Errorf("%s: %+v", c.name, a)
			continue
		}
		after := w.events(t)
		if len(after) != before+1 {
			t.Errorf("%s: %d events in the log, want 1", c.name, len(after)-before)
			continue
		}
		if strings.Contains(fmt.Sprintf("%+v %s", after[before], after[before].Props), "secret") {
			t.Errorf("%s: kept a secret: %+v", c.name, after[before])
		}
		if got := show(after[before]); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// TestInvalid sends invalid beacons: the answer is 400 with the field's name, and the log stays empty.
func TestInvalid(t *testing.T) {
	w := start(t, Config{})
	const pv = `"n":"pageview","d":"example.com","u":"https://example.com/a"`
	many := strings.Repeat(`"k":1,`, 100_000)
	for _, c := range []struct{ name, body, field string }{
		{"nothing", ``, "request"},
		{"no object", `[1]`, "request"},
		{"cut off", `{` + pv, "request"},
		{"two documents", `{` + pv + `}{}`, "request"},
		{"not UTF-8", "{" + pv + ",\"r\":\"\xff\"}", "request"},
		{"deep", `{` + pv + `,"p":` + strings.Repeat("[", 300_000) + strings.Repeat("]", 300_000) + `}`,
			"request"},
		{"over the limit", `{` + pv + `,"p":{` + strings.Repeat(`"a":"b",`, 200_000) + `"a":"b"}}`,
			"request"},
		{"no url", `{"n":"pageview","d":"example.com"}`, "url"},
		{"url of a number", `{"n":"pageview","d":"example.com","u":5}`, "url"},
		{"url of 10 kB", `{"n":"pageview","d":"example.com","u":"https://example.com/` + strings.Repeat("a",
			10_000) + `"}`, "url"},
		{"data url", `{"n":"pageview","d":"example.com","u":"DATA:text/html,x"}`, "url"},
		{"no name", `{"d":"example.com","u":"https://example.com/a"}`, "event_name"},
		{"blank name", `{"n":" ","d":"example.com","u":"https://example.com/a"}`, "event_name"},
		{"name of a fraction", `{"n":4.5,"d":"example.com","u":"https://example.com/a"}`, "event_name"},
		{"name of an object", `{"n":{},"d":"example.com","u":"https://example.com/a"}`, "event_name"},
		{"name of 121", `{"n":"` + strings.Repeat("é", 121) + `","d":"example.com",` +
			`"u":"https://example.com/a"}`, "event_name"},
		{"blank domain", `{"n":"pageview","d":"  ","u":"https://example.com/a"}`, "domain"},
		{"no domain at all", `{"n":"pageview","u":"/a"}`, "domain"},
		{"51 domains", `{"n":"pageview","u":"/a","d":"` + strings.Repeat("a,", 50) + `a"}`, "domain"},
		{"engagement with nothing", `{"n":"engagement","u":"https://example.com/a","sd":"x","e":0}`,
			"event_name"},
		{"long prop", `{` + pv + `,"p":{"a":"` + strings.Repeat("b", 2001) + `"}}`, "props"},
		{"long key", `{` + pv + `,"p":{"` + strings.Repeat("b", 301) + `":1}}`, "props"},
		{"id of a number", `{` + pv + `,"id":7}`, "id"},
		{"long id", `{` + pv + `,"id":"` + strings.Repeat("b", 65) + `"}`, "id"},
	} {
		a := w.post(t, c.body)
		if a.status != 400 || !strings.HasPrefix(a.body, `{"errors":{`) ||
			!strings.Contains(a.body, `"`+c.field+`":["`) {
			t.Errorf("%s: %d %.200s, want 400 and %s", c.name, a.status, a.body, c.field)
		}
	}
	if n := len(w.events(t)); n != 0 {
		t.Errorf("%d events in the log", n)
	}
	// of many properties, the first thirty count
	if a := w.post(t, `{`+pv+`,"p":{`+many+`"z":1}}`); a.status != 202 {
		t.Errorf("the same prop 100,000 times: %d %.200s", a.status, a.body)
	}
	var keys strings.Builder
	for i := range 60_000 {
		fmt.Fprintf(&keys, `"k%d":1,`, i)
	}
	if a := w.post(t, `{`+pv+`,"p":{`+keys.String()+`"z":1}}`); a.status != 202 {
		t.Errorf("60,000 props: %d %.200s", a.status, a.body)
	}
	n := 0
	for _, e := range w.events(t) {
		_ = event.EachProp(e.Props, func(string, string) bool { n++; return true })
	}
	if n != 2+30 {
		t.Errorf("%d props in the log, want 32", n)
	}
}

// TestDropped sends valid beacons that are dropped.
func TestDropped(t *testing.T) {
	w := start(t, Config{})
	const to = `{"n":"pageview","u":"https://example.com/a","d":`
	for _, c := range []struct {
		name, domains, agent, dropped string
		events                        int
	}{
		{"unknown site", `"nobody.example"`, chrome, "1", 0},
		{"two sites", `"example.com, other.example"`, chrome, "", 2},
		{"one of three", `"example.com,nobody.example,,other.example"`, chrome, "2", 2},
		{"search engine", `"example.com"`, "Mozilla/5.0 (compatible; Googlebot/2.1; " +
			"+http://www.google.com/bot.html)", "1", 0},
		{"headless", `"example.com"`, strings.Replace(chrome, "Chrome", "HeadlessChrome", 1), "1", 0},
		{"a made-up bot, two sites", `"example.com,other.example"`, "Acme-Bot/1.0", "2", 0},
		{"no user agent", `"example.com"`, "", "1", 0},
		{"node", `"example.com"`, "node", "", 1},
		{"curl", `"example.com"`, "curl/8.5.0", "", 1},
		{"a phone named so", `"example.com"`, "Mozilla/5.0 (Linux; Android 9; CUBOT P30) " +
			"AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36", "", 1},
	} {
		before := len(w.events(t))
		a := w.post(t, to+c.domains+`}`, "User-Agent", c.agent)
		if a.status != 202 || a.body != "ok" || a.header.Get("x-plausible-dropped") != c.dropped {
			t.Errorf("%s: %d %q dropped=%q, want %q", c.name, a.status, a.body,
				a.header.Get("x-plausible-dropped"), c.dropped)
		}
		if n := len(w.events(t)) - before; n != c.events {
			t.Errorf("%s: %d events in the log, want %d", c.name, n, c.events)
		}
	}
}

// TestOptOut sends headers that ask for no tracking.
func TestOptOut(t *testing.T) {
	asked, deaf := start(t, Config{RespectOptOut: true}), start(t, Config{})
	const two = `{"n":"pageview","u":"https://example.com/a","d":"example.com,other.example"}`
	for _, c := range []struct{ header, value, dropped string }{
		{"DNT", "1", "2"}, {"Sec-GPC", "1", "2"}, {"DNT", "0", ""}, {"Sec-GPC", "0", ""},
		{"DNT", "unspecified", ""}, {"DNT", "", ""},
	} {
		if a := asked.post(t, two, c.header, c.value); a.status != 202 ||
			a.header.Get("x-plausible-dropped") != c.dropped {
			t.Errorf("%s: %q: %+v", c.header, c.value, a)
		}
		if a := deaf.post(t, two, c.header, c.value); a.status != 202 ||
			a.header.Get("x-plausible-dropped") != "" {
			t.Errorf("%s: %q, without the option: %+v", c.header, c.value, a)
		}
	}
	if n := len(asked.events(t)); n != 8 {
		t.Errorf("%d events in the log, want 8", n)
	}
}

// TestVisitor compares visitors, partitions and event ids of different senders.
func TestVisitor(t *testing.T) {
	w := start(t, Config{})
	send := func(addr, agent, domain, id string) {
		t.Helper()
		if a := w.post(t, `{"n":"pageview","u":"https://example.com/a","d":"`+domain+`","id":"`+id+`"}`,
			"User-Agent", agent, "X-Forwarded-For", addr, "Accept-Language",
			"de-CH,de;q=0.9"); a.status != 202 {
			t.Fatal(a)
		}
	}
	const six = "2001:db8:1:2:"
	send("8.8.8.8", chrome, "example.com", "1")         // 0
	send("8.8.8.8", chrome, "example.com", "1")         // 1: the same event
	send("8.8.8.8", chrome, "other.example", "1")       // 2: another site
	send("8.8.4.4", chrome, "example.com", "1")         // 3: another address
	send("8.8.8.8", "curl/8", "example.com", "1")       // 4: another user agent
	send(six+":1", chrome, "example.com", "a")          // 5
	send(six+"5:6:7:8", chrome, "example.com", "b")     // 6: the same /64
	send("2001:db8:1:3::1", chrome, "example.com", "a") // 7: the next /64
	byVisitor := map[uint64][]int{}
	var all []event.Event
	parts := map[uint64]int{}
	for _, r := range w.log.Records(t) {
		for _, e := range r.Events {
			all = append(all, e)
			byVisitor[e.Visitor] = append(byVisitor[e.Visitor], len(all))
			if p, ok := parts[e.Visitor]; ok && p != r.Partition {
				t.Errorf("visitor %d is in partitions %d and %d", e.Visitor, p, r.Partition)
			}
			parts[e.Visitor] = r.Partition
			if !e.HasID || e.Time > r.At || e.Time <= r.Low || e.PreviousVisitor != 0 &&
				e.Time%dayMS > previousIDSpan || int64(e.Day) != e.Time/dayMS || e.UTCOffset != 0 {
				t.Errorf("%+v in %+v", e, r.Header)
			}
		}
	}
	if len(all) != 8 || len(byVisitor) != 6 {
		t.Fatalf("%d events of %d visitors, want 8 of 6: %v", len(all), len(byVisitor), byVisitor)
	}
	ids := map[[16]byte]int{}
	for _, e := range all {
		ids[e.ID]++
	}
	if len(ids) != 7 {
		t.Errorf("%d ids, want 7", len(ids))
	}
	for _, e := range all {
		if e.Language != "de-CH" {
			t.Errorf("language %q", e.Language)
		}
		if e.Browser == "Chrome" && (e.BrowserVersion != "126.0" || e.OS != "Windows" ||
			e.OSVersion != "10" || e.Device != "Desktop") {
			t.Errorf("%+v", e)
		}
	}
}

// TestAddress asks the server for the address of the sender. Only the header of the server's choice counts,
// which is in RemoteAddr: what a visitor writes into the others makes no second visitor.
func TestAddress(t *testing.T) {
	w := start(t, Config{})
	const body = `{"n":"pageview","u":"https://example.com/a"}`
	for _, c := range []struct{ header, value, want string }{
		{"X-Forwarded-For", "1.1.1.3", "1.1.1.3"},
		{"X-Forwarded-For", "::ffff:1.1.1.3", "1.1.1.3"},
		{"X-Plausible-IP", "1.1.1.1", "127.0.0.1"},
		{"CF-Connecting-IP", "2606:4700::1", "127.0.0.1"},
		{"B-Forwarded-For", "1.1.1.2", "127.0.0.1"},
		{"Forwarded", "for=6.6.6.6", "127.0.0.1"},
		{"X-Real-IP", "1.1.1.1", "127.0.0.1"},
		{"X-Client-IP", "1.1.1.1", "127.0.0.1"},
	} {
		if a := w.post(t, body, c.header, c.value, "X-Debug-Request", "true"); a.status != 200 ||
			a.body != c.want {
			t.Errorf("%s: %s: %d %s, want %s", c.header, c.value, a.status, a.body, c.want)
		}
	}
	if n := len(w.events(t)); n != 0 {
		t.Errorf("%d events in the log", n)
	}
	one := start(t, Config{})
	for i, name := range []string{"X-Plausible-IP", "CF-Connecting-IP", "B-Forwarded-For", "Forwarded"} {
		if a := one.post(t, page, name, fmt.Sprintf("8.8.8.%d", i)); a.status != 202 {
			t.Fatal(a)
		}
	}
	visitors := map[uint64]bool{}
	for _, e := range one.events(t) {
		visitors[e.Visitor] = true
	}
	if len(visitors) != 1 {
		t.Errorf("one sender is %d visitors", len(visitors))
	}
}

// TestPreflightAndScript requests preflights of all routes, and the tracker.
func TestPreflightAndScript(t *testing.T) {
	w := start(t, Config{Script: []byte("/*" + strings.Repeat("tracker", 50) + "*/")})
	get := func(method, path string, header ...string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, w.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res
	}
	if r := get("OPTIONS", "/api/event"); r.StatusCode != 204 ||
		r.Header.Get("Access-Control-Allow-Origin") != "*" ||
		!strings.Contains(r.Header.Get("Access-Control-Allow-Headers"), "Content-Type") {
		t.Errorf("preflight: %v", r)
	}
	for _, path := range []string{"/api/send", "/api/batch"} {
		if r := get("OPTIONS", path); r.StatusCode != 204 ||
			r.Header.Get("Access-Control-Allow-Origin") != "*" ||
			!strings.Contains(r.Header.Get("Access-Control-Allow-Headers"), "Content-Type, X-Umami-Cache") {
			t.Errorf("preflight of %s: %v", path, r)
		}
	}
	if a := w.post(t, `{}`); a.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("an error that no page can read: %v", a)
	}
	r := get("GET", "/js/script.js", "Accept-Encoding", "br, gzip;q=0.8")
	tag := r.Header.Get("ETag")
	if r.StatusCode != 200 || r.Header.Get("Content-Encoding") != "gzip" || tag == "" ||
		!strings.HasPrefix(r.Header.Get("Content-Type"), "text/javascript") ||
		!strings.Contains(r.Header.Get("Cache-Control"), "max-age") {
		t.Errorf("script: %v", r)
	}
	if r := get("GET", "/js/script.js", "If-None-Match", tag); r.StatusCode != 304 {
		t.Errorf("script that hasn't changed: %v", r)
	}
	if r := get("HEAD", "/js/script.js", "Accept-Encoding", "gzip;q=0"); r.StatusCode != 200 ||
		r.Header.Get("Content-Encoding") != "" || r.ContentLength != 354 {
		t.Errorf("plain script: %v", r)
	}
	if a := start(t, Config{}).request(t, "GET /js/script.js", ""); a.status != 404 {
		t.Errorf("no script: %v", a)
	}
}

// TestPartition compares partition and id of an event with those that its visitor key gives.
func TestPartition(t *testing.T) {
	w := start(t, Config{})
	if a := w.post(t, page); a.status != http.StatusAccepted {
		t.Fatal(a)
	}
	key := appendVisitorKey(nil, "example.com", netip.MustParseAddr("127.0.0.1"), chrome)
	for _, r := range w.log.Records(t) {
		for _, e := range r.Events {
			again := event.Event{}
			if w.salts.stamp(&again, &visitor{key, utcClock}, e.Time) != nil || e.Visitor != again.Visitor ||
				r.Partition != w.intake.identity.Load().partition(key) ||
				e.Site != "example.com" || e.Path != "/a" || e.Browser != "Chrome" {
				t.Errorf("%+v in partition %d, visitor %d", e, r.Partition, again.Visitor)
			}
		}
	}
	if n := len(w.events(t)); n != 1 {
		t.Errorf("%d events in the log", n)
	}
}
