package history

import (
	"cmp"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"nowcast/internal/embedded"
	"nowcast/internal/warehouse"
	"nowcast/streamer/api"
)

func TestMain(m *testing.M) {
	if handled, code := embedded.Main(os.Args); handled {
		os.Exit(code)
	}
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set("500"); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// The one ClickHouse of these tests; every test has sites of its own.
var store struct {
	once sync.Once
	db   *warehouse.DB
	stop func() error
	err  error
}

func stop() error {
	if store.stop == nil {
		return nil
	}
	return store.stop()
}

// database starts the embedded ClickHouse, or skips the test where it isn't; where CI is set, its absence
// fails.
func database(t testing.TB) *warehouse.DB {
	t.Helper()
	library := ""
	const npm = "../../deployments/npm/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so"
	for _, p := range []string{"", npm, "../../bin/libchdb.so"} {
		if lib, err := embedded.FindLibrary(p); err == nil {
			library = lib
			break
		}
	}
	if library == "" && os.Getenv("CI") != "" {
		t.Fatal("libchdb.so is missing: run `npm ci --prefix deployments/npm`")
	}
	if library == "" {
		t.Skip("LEFT OUT: libchdb.so is missing; `npm ci --prefix deployments/npm` gets it")
	}
	store.once.Do(func() { store.err = start(library) })
	if store.err != nil {
		t.Fatal(store.err)
	}
	return store.db
}

func start(library string) error {
	dir, err := os.MkdirTemp("", "query-test-")
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	h, err := embedded.NewClickHouse(
		embedded.Config{Dir: dir, Log: log, Metrics: prometheus.NewRegistry(), Library: library},
	)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	db, err := warehouse.Open(h.DSN())
	if err != nil {
		cancel()
		return err
	}
	store.db = db
	store.stop = func() error {
		db.Close()
		cancel()
		err := <-ended
		os.RemoveAll(dir)
		return err
	}
	ready, done := context.WithTimeout(ctx, time.Minute)
	defer done()
	if err := db.Wait(ready, log); err != nil {
		return err
	}
	return db.Migrate(ready)
}

// public is the principal of requests without a key.
var public = api.Principal{Kind: api.Public}

func newEngine(t testing.TB, db querier, cfg Config) *Engine {
	t.Helper()
	e, err := New(db, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// An event as the tests make them.
type event struct {
	at                                                              time.Time
	visitor                                                         uint64
	offset                                                          uint64
	kind, name, hostname, path, referrer, source                    string
	utmSource, utmMedium, utmCampaign, utmContent, utmTerm          string
	country, region, device, browser, browserVersion, os, osVersion string
	channel, city, screen, language                                 string
	depth                                                           uint8
	engaged                                                         uint32 // ms
	props                                                           map[string]string
	interactive, late, fresh                                        bool
}

const insert = `INSERT INTO events (site, ts, visitor, id, kpart, koff, kidx, kind, name, hostname, path,
referrer, source, utm_source, utm_medium, utm_campaign, utm_content, utm_term, country, region, device,
browser, browser_version, os, os_version, props, interactive, late, fresh, channel, city, screen, language,
scroll_depth, engaged_ms, day, utc_offset)`

// put writes events, and each one that again picks a second time, as a replay would. They are as those of
// before ingest knew the sites' days.
func put(t testing.TB, site string, events []event, again func(i int) bool) {
	t.Helper()
	putIn(t, site, nil, events, again)
}

// putIn writes events that were received by the clocks of a zone; nil: ingest didn't know them.
func putIn(t testing.TB, site string, zone *time.Location, events []event, again func(i int) bool) {
	t.Helper()
	db := database(t)
	for round := range 2 {
		b, err := db.PrepareBatch(t.Context(), insert)
		if err != nil {
			t.Fatal(err)
		}
		rows := 0
		for i, e := range events {
			if round == 1 && (again == nil || !again(i)) {
				continue
			}
			rows++
			id := make([]byte, 16)
			binary.LittleEndian.PutUint64(id, e.offset)
			day, clocks := civil(e.at.UTC()), int32(-1)
			if zone != nil {
				day, clocks = civil(e.at.In(zone)), int32(offset(e.at.In(zone))/time.Second)
			}
			err := b.Append(
				site, e.at, e.visitor, string(id), uint16(e.visitor%4), e.offset, uint16(0), e.kind, e.name,
				e.hostname, e.path, e.referrer, e.source, e.utmSource, e.utmMedium, e.utmCampaign,
				e.utmContent, e.utmTerm, e.country, e.region, e.device, e.browser, e.browserVersion, e.os,
				e.osVersion, e.props, e.interactive, e.late, e.fresh, e.channel, e.city, e.screen,
				e.language, e.depth, e.engaged, day, clocks,
			)
			if err != nil {
				t.Fatal(err)
			}
		}
		if rows == 0 {
			b.Abort()
			continue
		}
		if err := b.Send(); err != nil {
			t.Fatal(err)
		}
	}
}

// Strings that have to come back as they went in.
var hostile = []string{
	"", "/", "/a", "/A", "/a/b", "/a'b", `/q"\x`, `\`, `\N`, "/ü", "/Ü", "/日本", "tab\tnew\nline",
	"nul\x00byte", "(not set)", "(none)", "Direct / None", "{p0:String}", "{{.Site}}", "?", "$1", "@p0",
	"-- x", "/*", "'; DROP TABLE events", "%_%", "NULL", "[]", "🙂",
}

func one(r *rand.Rand, list ...string) string { return list[r.IntN(len(list))] }

// visitorID is salted by the day, as ingest does it.
func visitorID(person int, at time.Time) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, person, at.UTC().Format(time.DateOnly))
	return h.Sum64()
}

// history makes about n events from `from` on, by people who come, browse and go.
func history(r *rand.Rand, n int, from time.Time, length time.Duration) []event {
	var out []event
	for person := 0; len(out) < n; person++ {
		at := from.Add(time.Duration(r.Int64N(int64(length)))).Truncate(time.Millisecond)
		base := event{
			hostname: one(r, "example.com", "www.example.com", ""),
			country:  one(r, "DE", "US", "FR", ""),
			region:   one(r, "", "DE-BE"),
			device: one(
				r, "Desktop", "Mobile", "Tablet", "",
			),
			browser:        one(r, "Chrome", "Firefox", ""),
			browserVersion: one(r, "1", "2"),
			os:             one(r, "Windows", "iOS"),
			osVersion:      one(r, "10", "11", ""),
		}
		for range 1 + r.IntN(8) {
			e := base
			e.at, e.offset, e.fresh, e.late = at, uint64(
				len(out),
			)+uint64(
				r.IntN(2),
			)<<40, r.IntN(
				9,
			) > 0, r.IntN(
				9,
			) == 0
			e.visitor = visitorID(person, at)
			e.path, e.referrer, e.source = hostile[r.IntN(len(hostile))], one(
				r, "", "https://a.example/",
			), one(
				r, "", "", "Google", "google", hostile[r.IntN(len(hostile))],
			)
			e.utmSource, e.utmMedium, e.utmCampaign = one(
				r, "", "news",
			), one(
				r, "", "mail", "cpc",
			), one(
				r, "", "may", "(not set)",
			)
			e.language = one(r, "", "de", "pt-BR")
			e.channel, e.city, e.screen = one(
				r, "", "Direct", "Organic Search",
			), one(
				r, "", "Köln", "São Paulo",
			), one(
				r, "", "Laptop",
			)
			e.utmContent, e.utmTerm = one(r, "", "x"), one(r, "", "shoes")
			switch r.IntN(6) {
			case 0:
				e.kind, e.name, e.interactive = "engagement", "engagement", r.IntN(2) == 0
				e.depth, e.engaged = uint8(r.IntN(3)*20), uint32(r.IntN(3)*r.IntN(9000))
			case 1:
				e.kind, e.name, e.interactive = "custom", one(r, "Signup", "Buy", "pageview"), r.IntN(2) == 0
			default:
				e.kind, e.name, e.interactive = "pageview", "pageview", true
			}
			if r.IntN(3) == 0 {
				e.props = map[string]string{
					"plan": one(r, "pro", "free", ""), "it's": hostile[r.IntN(len(hostile))],
				}
			}
			out = append(out, e)
			// Pauses around the border of 30 minutes, to the millisecond, and several events at the same one.
			switch r.IntN(6) {
			case 0:
				at = at.Add(30 * time.Minute)
			case 1:
				at = at.Add(30*time.Minute - time.Millisecond)
			case 2: // at once
			case 3:
				at = at.Add(time.Duration(r.Int64N(int64(3 * time.Hour)))).Truncate(time.Millisecond)
			default:
				at = at.Add(time.Duration(r.Int64N(int64(10 * time.Minute)))).Truncate(time.Millisecond)
			}
		}
	}
	slices.SortStableFunc(
		out, func(a, b event) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.offset, b.offset)) },
	)
	return out
}
