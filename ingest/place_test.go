package ingest

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestBundledPlaces(t *testing.T) {
	p, err := newPlaces(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"127.0.0.1", "::1", "192.168.1.1", "fe80::1"} {
		if got := p.of(netip.MustParseAddr(addr)); got != (place{}) {
			t.Errorf("%s is in %+v", addr, got)
		}
	}
	if got := p.of(netip.Addr{}); got != (place{}) {
		t.Errorf("no address is in %+v", got)
	}
	if p.now.Load() == nil {
		t.Skip("built without the country database")
	}
	if err := p.now.Load().check(); err != nil {
		t.Error(err)
	}
	for addr, want := range map[string]string{"8.8.8.8": "US", "193.0.6.139": "NL", "2001:67c:2e8:22::c100:68b": "NL"} {
		for range 2 {
			if got := p.of(netip.MustParseAddr(addr)); got != (place{country: want}) {
				t.Errorf("%s is in %+v, want %s", addr, got, want)
			}
		}
	}
}

// geoData is a database in the MaxMind format with the records by network.
func geoData(t testing.TB, kind string, records map[string]mmdbtype.Map) []byte {
	t.Helper()
	w, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: kind, RecordSize: 24})
	if err != nil {
		t.Fatal(err)
	}
	for network, record := range records {
		_, n, err := net.ParseCIDR(network)
		if err == nil {
			err = w.Insert(n, record)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type m = mmdbtype.Map

func text(s string) mmdbtype.String { return mmdbtype.String(s) }

// cityOf is a record as GeoLite2-City has them.
func cityOf(country, region, city string) m {
	r := m{"country": m{"iso_code": text(country), "geoname_id": mmdbtype.Uint32(1)}}
	if region != "" {
		r["subdivisions"] = mmdbtype.Slice{m{"iso_code": text(region)}, m{"iso_code": text("XX")}}
	}
	if city != "" {
		r["city"] = m{"names": m{"en": text(city), "de": text("auf Deutsch")}}
	}
	return r
}

func TestPlacesOfOperators(t *testing.T) {
	for _, c := range []struct {
		name   string
		record m
		want   place
	}{
		{"GeoLite2-City", cityOf("DE", "BE", "Berlin"), place{"DE", "DE-BE", "Berlin"}},
		{"letters and marks", cityOf("BR", "SP", "São Paulo"), place{"BR", "BR-SP", "São Paulo"}},
		{"no region", cityOf("SG", "", "Singapore"), place{"SG", "", "Singapore"}},
		{"GeoLite2-Country", cityOf("FR", "", ""), place{country: "FR"}},
		{"ip-location-db country", m{"country_code": text("NL")}, place{country: "NL"}},
		{"ip-location-db city", m{"country_code": text("US"), "state1": text("California"), "city": text("Oakland")}, place{"US", "", "Oakland"}},
		{"only registered", m{"registered_country": m{"iso_code": text("US")}}, place{}},
		{"country of another shape", m{"country": text("Germany")}, place{}},
		{"a long city", cityOf("DE", "BE", strings.Repeat("ö", 100)), place{"DE", "DE-BE", strings.Repeat("ö", 50)}},
		{"a long region", cityOf("DE", "Berlin", ""), place{country: "DE"}},
	} {
		a, err := newAtlas(geoData(t, "Test", map[string]m{"8.8.8.0/24": c.record}))
		if err != nil {
			t.Fatal(err)
		}
		p := &places{}
		p.now.Store(a)
		for range 2 {
			if got := p.of(netip.MustParseAddr("8.8.8.8")); got != c.want {
				t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
			}
		}
		if got := p.of(netip.MustParseAddr("9.9.9.9")); got != (place{}) {
			t.Errorf("%s: another address is in %+v", c.name, got)
		}
	}
}

// write puts a file in its place as a careful program does, by a rename.
func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestGeoFileByHTTP starts with a database of cities, and one beacon has all three.
func TestGeoFileByHTTP(t *testing.T) {
	path := filepath.Join(t.TempDir(), "city.mmdb")
	write(t, path, geoData(t, "GeoLite2-City", map[string]m{"8.8.8.0/24": cityOf("DE", "BE", "Berlin")}))
	w := start(t, Config{GeoFile: path, TrustedProxies: prefixes("127.0.0.0/8")})
	if a := w.post(t, page, "X-Forwarded-For", "8.8.8.8"); a.status != 202 {
		t.Fatal(a)
	}
	if e := w.events(t); len(e) != 1 || e[0].Country != "DE" || e[0].Region != "DE-BE" || e[0].City != "Berlin" {
		t.Errorf("%+v", e)
	}
}

// TestGeoFileReplaced replaces the file by good and bad ones, and takes it away.
func TestGeoFileReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "city.mmdb")
	berlin := geoData(t, "GeoLite2-City", map[string]m{"8.8.8.0/24": cityOf("DE", "BE", "Berlin")})
	hamburg := geoData(t, "GeoLite2-City", map[string]m{"8.8.8.0/24": cityOf("DE", "HH", "Hamburg")})
	bremen := geoData(t, "GeoLite2-City", map[string]m{"8.8.8.0/24": cityOf("DE", "HB", "Bremen"), "9.9.9.0/24": cityOf("DE", "HB", "Bremerhaven")})
	broken := bytes.Clone(hamburg)
	clear(broken[10:40])
	write(t, path, berlin)
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		p := &places{}
		g, err := newGeoFile(path, p, slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelError})), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go g.watch(ctx)
		for _, c := range []struct {
			name   string
			change func()
			want   string
			broken bool
			errors int // lines so far
		}{
			{"nothing", func() {}, "Berlin", false, 0},
			{"another", func() { write(t, path, hamburg) }, "Hamburg", false, 0},
			{"half of one", func() { write(t, path, bremen[:len(bremen)/2]) }, "Hamburg", true, 1},
			{"the same half", func() {}, "Hamburg", true, 1},
			{"the rest of it", func() { write(t, path, bremen) }, "Bremen", false, 1},
			{"damaged", func() { write(t, path, broken) }, "Bremen", true, 2},
			{"away", func() { os.Remove(path) }, "Bremen", true, 2},
			{"a directory", func() { os.Mkdir(path, 0o700) }, "Bremen", true, 2},
			{"of something else", func() {
				os.Remove(path)
				write(t, path, geoData(t, "GeoLite2-ASN", map[string]m{"8.8.8.0/24": {"autonomous_system_number": mmdbtype.Uint32(15169)}}))
			}, "Bremen", true, 3},
			{"back", func() { write(t, path, berlin) }, "Berlin", false, 3},
		} {
			c.change()
			time.Sleep(2*geoEvery + time.Second)
			synctest.Wait()
			if got := p.of(netip.MustParseAddr("8.8.8.8")); got.city != c.want || g.broken.Load() != c.broken {
				t.Errorf("%s: %+v, broken %v, want %s, broken %v", c.name, got, g.broken.Load(), c.want, c.broken)
			}
			if n := strings.Count(said.String(), "\n"); n != c.errors {
				t.Errorf("%s: %d errors said, want %d: %s", c.name, n, c.errors, said.String())
			}
		}
		if used := testutil.ToFloat64(g.loads); used != 4 {
			t.Errorf("%v databases used, want 4", used)
		}
	})
}

func TestGeoFileAtStart(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.mmdb")
	write(t, empty, nil)
	for path, want := range map[string]string{
		filepath.Join(dir, "none.mmdb"): "--geo-file: look for " + filepath.Join(dir, "none.mmdb") + ": no such file or directory",
		dir:                             "--geo-file: " + dir + " is no file",
		empty:                           "--geo-file: open " + empty + ": read MaxMind format: ",
	} {
		_, err := New(Config{GeoFile: path}, Deps{Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}
