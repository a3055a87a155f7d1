package enrich

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"nowcast/ingest/enrich/enrichtest"
)

func TestBundledPlaces(t *testing.T) {
	p, err := newPlaces(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"127.0.0.1", "::1", "192.168.1.1", "fe80::1"} {
		if got := p.find(netip.MustParseAddr(addr)); got != (place{}) {
			t.Errorf("%s is in %+v", addr, got)
		}
	}
	if got := p.find(netip.Addr{}); got != (place{}) {
		t.Errorf("no address is in %+v", got)
	}
	if p.current.Load() == nil {
		t.Skip("built without the country database")
	}
	if err := p.current.Load().verify(); err != nil {
		t.Error(err)
	}
	for addr, want := range map[string]string{"8.8.8.8": "US", "193.0.6.139": "NL",
		"2001:67c:2e8:22::c100:68b": "NL"} {
		for range 2 {
			if got := p.find(netip.MustParseAddr(addr)); got != (place{country: want}) {
				t.Errorf("%s is in %+v, want %s", addr, got, want)
			}
		}
	}
}

func TestPlaceDatabases(t *testing.T) {
	for _, c := range []struct {
		name   string
		record mmdbtype.Map
		want   place
	}{
		{"GeoLite2-City", enrichtest.City("DE", "BE", "Berlin"), place{"DE", "DE-BE", "Berlin"}},
		{"letters and marks", enrichtest.City("BR", "SP", "São Paulo"), place{"BR", "BR-SP", "São Paulo"}},
		{"no region", enrichtest.City("SG", "", "Singapore"), place{"SG", "", "Singapore"}},
		{"GeoLite2-Country", enrichtest.City("FR", "", ""), place{country: "FR"}},
		{"ip-location-db country", mmdbtype.Map{"country_code": mmdbtype.String("NL")}, place{country: "NL"}},
		{"ip-location-db city", mmdbtype.Map{"country_code": mmdbtype.String("US"),
			"state1": mmdbtype.String("California"), "city": mmdbtype.String("Oakland")},
			place{"US", "", "Oakland"}},
		{"only registered",
			mmdbtype.Map{"registered_country": mmdbtype.Map{"iso_code": mmdbtype.String("US")}}, place{}},
		{"country of another shape", mmdbtype.Map{"country": mmdbtype.String("Germany")}, place{}},
		{"a long city", enrichtest.City("DE", "BE", strings.Repeat("ö", 100)),
			place{"DE", "DE-BE", strings.Repeat("ö", 50)}},
		{"a long region", enrichtest.City("DE", "Berlin", ""), place{country: "DE"}},
	} {
		a, err := openPlaceDatabase(enrichtest.GeoDatabase(t, "Test",
			map[string]mmdbtype.Map{"8.8.8.0/24": c.record}))
		if err != nil {
			t.Fatal(err)
		}
		p := &places{}
		p.current.Store(a)
		for range 2 {
			if got := p.find(netip.MustParseAddr("8.8.8.8")); got != c.want {
				t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
			}
		}
		if got := p.find(netip.MustParseAddr("9.9.9.9")); got != (place{}) {
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

// TestGeoFileReplaced replaces the file by usable and unusable ones and removes it.
func TestGeoFileReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "city.mmdb")
	berlin := enrichtest.GeoDatabase(t, "GeoLite2-City",
		map[string]mmdbtype.Map{"8.8.8.0/24": enrichtest.City("DE", "BE", "Berlin")})
	hamburg := enrichtest.GeoDatabase(t, "GeoLite2-City",
		map[string]mmdbtype.Map{"8.8.8.0/24": enrichtest.City("DE", "HH", "Hamburg")})
	bremen := enrichtest.GeoDatabase(t, "GeoLite2-City",
		map[string]mmdbtype.Map{"8.8.8.0/24": enrichtest.City("DE", "HB", "Bremen"),
			"9.9.9.0/24": enrichtest.City("DE", "HB", "Bremerhaven")})
	broken := bytes.Clone(hamburg)
	clear(broken[10:40])
	write(t, path, berlin)
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		p := &places{}
		g, err := newGeoFile(path, p, slog.New(slog.NewTextHandler(&logged,
			&slog.HandlerOptions{Level: slog.LevelError})), prometheus.NewRegistry())
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
			{"removed", func() { os.Remove(path) }, "Bremen", true, 2},
			{"a directory", func() { os.Mkdir(path, 0o700) }, "Bremen", true, 2},
			{"of something else", func() {
				os.Remove(path)
				write(t, path, enrichtest.GeoDatabase(t, "GeoLite2-ASN",
					map[string]mmdbtype.Map{"8.8.8.0/" +
						"24": {"autonomous_system_number": mmdbtype.Uint32(15169)}}))
			}, "Bremen", true, 3},
			{"back", func() { write(t, path, berlin) }, "Berlin", false, 3},
		} {
			c.change()
			time.Sleep(2*geoFilePoll + time.Second)
			synctest.Wait()
			if got := p.find(netip.MustParseAddr("8.8.8.8")); got.city != c.want ||
				g.broken.Load() != c.broken {
				t.Errorf("%s: %+v, broken %v, want %s, broken %v", c.name, got, g.broken.Load(), c.want,
					c.broken)
			}
			if n := strings.Count(logged.String(), "\n"); n != c.errors {
				t.Errorf("%s: %d errors logged, want %d: %s", c.name, n, c.errors, logged.String())
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
		filepath.Join(dir, "none.mmdb"): "--geo-file: look for " + filepath.Join(dir,
			"none.mmdb") + ": no such file or directory",
		dir:   "--geo-file: " + dir + " is no file",
		empty: "--geo-file: open " + empty + ": read MaxMind format: ",
	} {
		_, err := New(Config{GeoFile: path}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}
