package streamer

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"nowcast/streamer/access"
	"nowcast/streamer/streamertest"
)

// another starts one more streamer with a registry of its own, as on another machine.
func (w *world) another() string {
	w.T.Helper()
	s, err := New(Config{Access: access.Config{AdminKey: adminSecret}}, Deps{
		Broker: w.Kafka, Sites: w.Sites(),
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		w.T.Fatal(err)
	}
	w.Run(s.Run)
	e := gin.New()
	s.Routes(e)
	srv := httptest.NewServer(e)
	w.T.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	streamertest.Eventually(w.T, "ready", func() bool { ok, _ := s.Ready(); return ok })
	return srv.URL
}

// patch changes a site at two streamers at once and returns the answers.
func patch(w *world, bases [2]string, bodies [2]string) (status [2]int, answers [2]string) {
	var wg sync.WaitGroup
	for i := range bases {
		wg.Go(func() {
			res, body := w.get("PATCH", bases[i]+"/api/v1/sites/own.example.com", adminSecret, bodies[i])
			status[i], answers[i] = res.StatusCode, body
		})
	}
	wg.Wait()
	return status, answers
}

// Two changes of different fields at once, at two streamers, are both in effect; of two that are based on the
// same revision one is refused. No change that was answered 200 is lost.
func TestTwoChangesAtOnce(t *testing.T) {
	w := newWorld(t)
	bases := [2]string{w.streamer(Config{}), w.another()}
	get := func(base string) string {
		_, body := w.get("GET", base+"/api/v1/sites/own.example.com", adminSecret, "")
		return body
	}
	zones := [2]string{"Europe/Berlin", "Asia/Tokyo"}
	refused := 0
	for round := range 500 {
		days, zone := 1+round, zones[round%2]
		status, answers := patch(w, bases, [2]string{
			fmt.Sprintf(`{"retention_days":%d}`, days), fmt.Sprintf(`{"timezone":%q}`, zone)})
		if status != [2]int{200, 200} {
			t.Fatalf("round %d: %d %q", round, status, answers)
		}
		for _, base := range bases {
			streamertest.Eventually(t, "both changes are in effect", func() bool {
				body := get(base)
				return strings.Contains(body, fmt.Sprintf(`"retention_days":%d,`, days)) &&
					strings.Contains(body, zone)
			})
		}
	}
	for round := range 500 {
		_, body := w.get("PATCH", bases[round%2]+"/api/v1/sites/own.example.com", adminSecret, `{}`)
		_, revision, _ := strings.Cut(body, `"revision":`)
		revision, _, _ = strings.Cut(revision, ",")
		revision = strings.TrimSuffix(revision, "}")
		status, answers := patch(w, bases, [2]string{
			fmt.Sprintf(`{"retention_days":%d,"revision":%s}`, 2000+round, revision),
			fmt.Sprintf(`{"retention_days":%d,"revision":%s}`, 1000+round, revision)})
		if status != [2]int{200, 409} && status != [2]int{409, 200} {
			t.Fatalf("round %d from revision %s: %d %q", round, revision, status, answers)
		}
		won := fmt.Sprintf(`"retention_days":%d,`, 2000+round)
		if status[1] == 200 {
			won = fmt.Sprintf(`"retention_days":%d,`, 1000+round)
		}
		for _, base := range bases {
			streamertest.Eventually(t, "the accepted change is in effect", func() bool {
				return strings.Contains(get(base), won)
			})
		}
	}
	for round := range 200 { // without a revision: of one field at once
		status, answers := patch(w, bases, [2]string{`{"public":true}`, `{"public":false}`})
		for i, s := range status {
			switch s {
			case 200:
			case 409:
				refused++
				const want = "own.example.com was changed meanwhile; read it and try again"
				if !strings.Contains(answers[i], want) {
					t.Errorf("%s", answers[i])
				}
			default:
				t.Fatalf("round %d: %d %q", round, status, answers)
			}
		}
		if status[0] == 409 && status[1] == 409 {
			t.Fatalf("round %d: both are refused", round)
		}
	}
	t.Logf("%d of 200 pairs were refused one", refused)
}

// A change may name the revision that it is based on, in the body or as If-Match.
func TestChangeOfARevision(t *testing.T) {
	w := newWorld(t)
	base := w.streamer(Config{})
	at := base + "/api/v1/sites/own.example.com"
	res, body := w.get("GET", at, adminSecret, "")
	tag := res.Header.Get("ETag")
	if tag != `"1"` || !strings.Contains(body, `"revision":1`) {
		t.Fatalf("%s %s", tag, body)
	}
	res, body = w.get("GET", base+"/api/v1/sites/open.example.com", "", "")
	if strings.Contains(body, "revision") ||
		res.Header.Get("ETag") != "" || !strings.Contains(body, `"retention_days":395`) {
		t.Errorf("without a key: %s %s", res.Header, body)
	}
	for _, row := range []struct {
		body   string
		header []string
		want   int
	}{
		{`{"listed":true}`, []string{"If-Match", tag}, http.StatusOK},
		{`{"listed":true}`, []string{"If-Match", tag}, http.StatusConflict},
		{`{"listed":true,"revision":1}`, nil, http.StatusConflict},
		{`{"listed":true,"revision":2}`, nil, http.StatusOK},
		{`{"listed":false}`, []string{"If-Match", "*"}, http.StatusOK},
		{`{"listed":false}`, []string{"If-Match", "now"}, http.StatusBadRequest},
		{`{"retention_days":3651}`, nil, http.StatusBadRequest},
		{`{"retention_days":-1}`, nil, http.StatusBadRequest},
		{`{"retention_days":0}`, nil, http.StatusOK},
	} {
		if res, body := w.get("PATCH", at, adminSecret, row.body, row.header...); res.StatusCode != row.want {
			t.Errorf("%s %s: %s %s, want %d", row.body, row.header, res.Status, body, row.want)
		}
	}
	res, body = w.get("POST", base+"/api/v1/sites", adminSecret,
		`{"domain":"new.example.com","listed":true,"retention_days":30}`)
	if res.StatusCode != 201 || !strings.Contains(body, `"listed":true`) ||
		!strings.Contains(body, `"retention_days":30`) {
		t.Errorf("%s %s", res.Status, body)
	}
	res, body = w.get("POST", base+"/api/v1/sites", adminSecret, `{"domain":"new.example.com"}`)
	if res.StatusCode != 409 ||
		!strings.Contains(body, "new.example.com exists already; change it with PATCH") {
		t.Errorf("%s %s", res.Status, body)
	}
}
