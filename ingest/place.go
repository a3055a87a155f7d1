package ingest

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

//go:embed all:geodata
var geodata embed.FS

const (
	placesMax = 16_384 // records of a database that are remembered decoded, and as many older ones
	maxCity   = 100    // bytes of a city's name
)

// place is where an address is, as far as is known.
type place struct {
	country string // ISO 3166-1 alpha-2
	region  string // ISO 3166-2
	city    string // its English name
}

// places finds where addresses are: in the database that is built in, or in one of the operator's.
type places struct {
	now atomic.Pointer[atlas] // nil where there is no database
}

// newPlaces opens the database that is built in. Without one all countries are unknown, which is said once.
func newPlaces(log *slog.Logger) (*places, error) {
	p := &places{}
	data, err := geodata.ReadFile("geodata/country.mmdb")
	if errors.Is(err, fs.ErrNotExist) {
		log.Warn("countries stay empty: this program was built without the country database", "do", "build it with make build")
		return p, nil
	}
	var a *atlas
	if err == nil {
		a, err = newAtlas(data)
	}
	if err != nil {
		return nil, fmt.Errorf("open country database: %w", err)
	}
	p.now.Store(a)
	return p, nil
}

// of finds an address. One that is unknown or private is nowhere.
func (p *places) of(addr netip.Addr) place {
	a := p.now.Load()
	// registries list some private ranges under the country that documents them
	if a == nil || !addr.IsValid() || addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast() {
		return place{}
	}
	return a.find(a.db.Lookup(addr))
}

// atlas is one database, in the MaxMind format and the layout of either MaxMind or ip-location-db.
type atlas struct {
	db    *maxminddb.Reader
	known *recent[uintptr, place] // by a record's offset
}

func newAtlas(data []byte) (*atlas, error) {
	db, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("read MaxMind format: %w", err)
	}
	return &atlas{db, newRecent[uintptr, place](placesMax)}, nil
}

// check reads the whole database, which takes a second or two for one with cities, and wants countries in it. (The reader's own
// Verify is about how one ought to be made, and refuses those of ip-location-db.)
func (a *atlas) check() error {
	seen := map[uintptr]struct{}{}
	named := false
	for r := range a.db.Networks() {
		if err := r.Err(); err != nil {
			return fmt.Errorf("read networks: %w", err)
		}
		if _, ok := seen[r.Offset()]; ok {
			continue
		}
		seen[r.Offset()] = struct{}{}
		var whole struct{}
		if err := r.Decode(&whole); err != nil {
			return fmt.Errorf("read record of %s: %w", r.Prefix(), err)
		}
		named = named || decodePlace(r).country != ""
	}
	if !named {
		return fmt.Errorf("it is of type %q and names no countries: give one as GeoLite2-City or GeoLite2-Country", a.db.Metadata.DatabaseType)
	}
	return nil
}

func (a *atlas) built() time.Time { return time.Unix(int64(a.db.Metadata.BuildEpoch), 0) }

func (a *atlas) find(r maxminddb.Result) place {
	if !r.Found() {
		return place{}
	}
	if p, ok := a.known.get(r.Offset()); ok {
		return p
	}
	p := decodePlace(r)
	a.known.put(r.Offset(), p)
	return p
}

// decodePlace reads a record. What it doesn't have, or has in another shape, stays empty.
func decodePlace(r maxminddb.Result) (p place) {
	text := func(path ...any) (s string) {
		if r.DecodePath(&s, path...) != nil {
			return ""
		}
		return strings.ToValidUTF8(s, "")
	}
	if p.country = text("country", "iso_code"); p.country == "" {
		p.country = text("country_code")
	}
	if len(p.country) != 2 {
		return place{}
	}
	if code := text("subdivisions", 0, "iso_code"); code != "" && len(code) <= 3 {
		p.region = p.country + "-" + code
	}
	if p.city = text("city", "names", "en"); p.city == "" {
		p.city = text("city")
	}
	p.city = cut(p.city, maxCity)
	return p
}
