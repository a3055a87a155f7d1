package behaviour_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"nowcast/internal/broker"
	"nowcast/internal/site"
	"nowcast/internal/topic"
	"nowcast/internal/warehouse"
	"nowcast/streamer"
	"nowcast/streamer/access"
	"nowcast/streamer/api/apitest"
	"nowcast/streamer/history"
	"nowcast/streamer/streamertest"
)

func TestMain(m *testing.M) { streamertest.Main(m, func() error { return goleak.Find() }) }

// world is a streamer over ClickHouse with one public site in Berlin.
type world struct {
	testing.TB
	db     *warehouse.DB
	url    string
	site   string
	zone   *time.Location
	events []event
	visits []visit // of the events, by brute force
	// keys of strings: rows with the same counts are cut by them, and then ordered by the strings
	keys map[string]uint64
}

const adminSecret = "nck_5f0c1e9ab27d4863a1f4c2d97e80b63d1c5a9f24e7b80d36"

func newWorld(t testing.TB, cfg history.Config) *world {
	t.Helper()
	w := &world{TB: t, db: streamertest.ClickHouse(t), site: "example.com"}
	var err error
	if w.zone, err = time.LoadLocation("Europe/Berlin"); err != nil {
		t.Fatal(err)
	}
	k, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	kafka := broker.New(broker.Config{Addrs: k.ListenAddrs()})
	t.Cleanup(kafka.Close)
	if err := kafka.Ensure(t.Context(), topic.Specs(1, 1), nil); err != nil {
		t.Fatal(err)
	}
	sites := site.NewRegistry(kafka, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = sites.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	if err := sites.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	st := site.Site{Domain: w.site, Public: true, Created: time.Unix(1, 0), Timezone: w.zone.String(),
		RetentionDays: site.MaxRetentionDays}
	if err := sites.Put(t.Context(), st); err != nil {
		t.Fatal(err)
	}
	s, err := streamer.New(streamer.Config{Access: access.Config{AdminKey: adminSecret}, History: cfg},
		streamer.Deps{Broker: kafka, Warehouse: w.db, Sites: sites, Log: slog.New(slog.DiscardHandler),
			Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	gin.SetMode(gin.TestMode)
	e := gin.New()
	s.Routes(e)
	srv := httptest.NewServer(e)
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close(); http.DefaultClient.CloseIdleConnections() })
	w.url = srv.URL
	return w
}

// post asks, checks the answer against the contract, and returns it without meta and query.
func (w *world) post(path, body string) (status int, answer any, text string) {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), http.MethodPost, w.url+path, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.Fatal(err)
	}
	contract, err := apitest.New()
	if err != nil {
		w.Fatal(err)
	}
	req.Body = io.NopCloser(bytes.NewReader([]byte(body)))
	if err := contract.Response(req, res.StatusCode, res.Header, b); err != nil {
		w.Errorf("%s %s: %v", path, body, err)
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		w.Fatal(err)
	}
	if m, ok := answer.(map[string]any); ok {
		delete(m, "meta")
		delete(m, "query")
	}
	return res.StatusCode, answer, string(b)
}

// event is a row of `events`.
type event struct {
	at                                              time.Time
	visitor, offset, user                           uint64
	kind, name, path, hostname, source, country, by string
	props                                           map[string]string
	interactive                                     bool
	engaged                                         uint32
	scroll                                          uint8
}

// put writes events, and every third of them again, as a replay does.
func (w *world) put(events []event) {
	w.Helper()
	for round := range 2 {
		b, err := w.db.PrepareBatch(w.Context(), `INSERT INTO events (site, day, utc_offset, ts, visitor, id,
			kpart, koff, kidx, kind, name, path, hostname, source, country, device, props, interactive,
			engaged_ms, scroll_depth, user, fresh)`)
		if err != nil {
			w.Fatal(err)
		}
		for i, e := range events {
			if round == 1 && i%3 != 0 {
				continue
			}
			id := make([]byte, 16)
			binary.LittleEndian.PutUint64(id, e.offset)
			local := e.at.In(w.zone)
			_, offset := local.Zone()
			err := b.Append(w.site, dayOf(local), int32(offset), e.at, e.visitor, string(id), uint16(0),
				e.offset, uint16(0), e.kind, e.name, e.path, e.hostname, e.source, e.country, e.by, e.props,
				e.interactive, e.engaged, e.scroll, e.user, true)
			if err != nil {
				w.Fatal(err)
			}
		}
		if err := b.Send(); err != nil {
			w.Fatal(err)
		}
	}
	w.events = append(w.events, events...)
	w.visits = visitsOf(w.events, w.zone)
	w.keys = map[string]uint64{}
	rows, err := w.db.Query(w.Context(),
		"SELECT DISTINCT if(path = '', '(not set)', path) AS p, cityHash64(p) FROM events")
	if err != nil {
		w.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var page string
		var key uint64
		if err := rows.Scan(&page, &key); err != nil {
			w.Fatal(err)
		}
		w.keys[page] = key
	}
	if rows.Err() != nil {
		w.Fatal(rows.Err())
	}
}

func dayOf(local time.Time) time.Time {
	y, m, d := local.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

func one[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

var (
	pages = []string{"/", "/a", "/a/b", "/a/b/c", "/b*", `/c\d`, "/ü'\"", ""}
	names = []string{"Signup", "Buy", "pageview", "it's"}
)

// people makes about n events of visitors who come in the days from `from` on. Some are at once, some pauses
// are those that just end a visit or don't.
func people(r *rand.Rand, n int, from time.Time, days int, zone *time.Location) (out []event) {
	for person := uint64(0); len(out) < n; person++ {
		at := from.Add(time.Duration(r.Int64N(int64(days) * int64(24*time.Hour)))).Truncate(time.Millisecond)
		day := dayOf(at.In(zone))
		user := uint64(0)
		if r.IntN(3) == 0 {
			user = uint64(1 + r.IntN(12))
		}
		source, country := one(r, "", "Google", "Bing"), one(r, "", "DE", "FR")
		for range 1 + r.IntN(14) {
			if !dayOf(at.In(zone)).Equal(day) {
				break // a visitor's id is valid for one day
			}
			e := event{
				at: at, visitor: person<<16 | uint64(day.Unix()/86400),
				offset: uint64(len(out))<<8 | r.Uint64N(2)<<50, user: user,
				path: one(r, pages...), hostname: one(r, "example.com", "www.example.com"),
				source: source, country: country, by: one(r, "Desktop", "Mobile"),
				kind: "pageview", name: "pageview", interactive: true,
				props: map[string]string{"plan": one(r, "", "pro", "free")},
			}
			switch r.IntN(6) {
			case 0:
				e.kind, e.name, e.interactive = "engagement", "engagement", false
				e.engaged, e.scroll = uint32(r.IntN(9000)), uint8(r.IntN(101))
			case 1, 2:
				e.kind, e.name, e.interactive = "custom", one(r, names...), r.IntN(2) == 0
			}
			out = append(out, e)
			switch r.IntN(8) {
			case 0: // at once
			case 1:
				at = at.Add(30 * time.Minute)
			case 2:
				at = at.Add(30*time.Minute - time.Millisecond)
			default:
				at = at.Add(time.Duration(r.IntN(600_000)) * time.Millisecond)
			}
			if r.IntN(9) == 0 {
				source = one(r, "", "Google", "Bing")
			}
		}
	}
	return out
}

// hit is a page view or custom event, with the engagement that follows it.
type hit struct {
	event
	engagedMS int
	deepest   int
}

// visit is a chain of a visitor's events.
type visit struct {
	day     time.Time
	visitor uint64
	hits    []hit
}

// visitsOf makes the visits of events by their definition, in the order of time within a visitor's day.
func visitsOf(events []event, zone *time.Location) (out []visit) {
	type key struct {
		day     time.Time
		visitor uint64
	}
	all := map[key][]event{}
	var keys []key
	for _, e := range events {
		k := key{dayOf(e.at.In(zone)), e.visitor}
		if all[k] == nil {
			keys = append(keys, k)
		}
		all[k] = append(all[k], e)
	}
	for _, k := range keys {
		list := all[k]
		slices.SortFunc(list, func(a, b event) int {
			return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.offset, b.offset))
		})
		var v visit
		end := func() {
			if len(v.hits) > 0 {
				out = append(out, v)
			}
			v = visit{day: k.day, visitor: k.visitor}
		}
		end()
		for i, e := range list {
			if i > 0 && e.at.Sub(list[i-1].at) >= 30*time.Minute {
				end()
			}
			if e.kind != "engagement" {
				e.path = cmp.Or(e.path, "(not set)")
				v.hits = append(v.hits, hit{event: e})
			}
			if n := len(v.hits); n > 0 {
				last := &v.hits[n-1]
				last.engagedMS += int(e.engaged)
				last.deepest = max(last.deepest, int(e.scroll))
			}
		}
		end()
	}
	return out
}

// views returns the pages of a visit.
func (v visit) views() (out []string) {
	for _, h := range v.hits {
		if h.kind == "pageview" {
			out = append(out, h.path)
		}
	}
	return out
}

func (v visit) bounced() bool {
	return len(v.views()) <= 1 &&
		!slices.ContainsFunc(v.hits, func(h hit) bool { return h.kind == "custom" && h.interactive })
}

// same compares an answer with what is wanted; numbers of seconds may differ by a rounding.
func same(want, got any, slack float64) string {
	switch want := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(g) != len(want) {
			return fmt.Sprintf("%v, want %v", got, want)
		}
		for k, v := range want {
			if k == "seconds" {
				slack = 0.0015
			}
			if d := same(v, g[k], slack); d != "" {
				return k + ": " + d
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(want) {
			return fmt.Sprintf("%v, want %v", got, want)
		}
		for i, v := range want {
			if d := same(v, g[i], slack); d != "" {
				return fmt.Sprintf("[%d]: %s", i, d)
			}
		}
		return ""
	case float64:
		if g, ok := got.(float64); ok && max(g-want, want-g) <= slack {
			return ""
		}
	default:
		if want == got {
			return ""
		}
	}
	return fmt.Sprintf("%v, want %v", got, want)
}

// asJSON returns a value as encoding/json would read it.
func asJSON(v any) (out any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		panic(err)
	}
	return out
}
