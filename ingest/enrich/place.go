package enrich

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

	"nowcast/ingest/dialect"
)

//go:embed all:geodata
var geodata embed.FS

const (
	maxPlaces = 16_384 // decoded records in each generation of the cache
	maxCity   = 100    // bytes of a city's name
)

// place is where an address is. Fields that the database doesn't have are "".
type place struct {
	country string // ISO 3166-1 alpha-2
	region  string // ISO 3166-2
	city    string // English name
}

// places finds addresses in the current database: the built-in one or the operator's.
type places struct {
	current atomic.Pointer[placeDatabase] // nil if there is none
}

// newPlaces opens the built-in database. If the build left it out, all places are unknown.
func newPlaces(log *slog.Logger) (*places, error) {
	p := &places{}
	data, err := geodata.ReadFile("geodata/country.mmdb")
	if errors.Is(err, fs.ErrNotExist) {
		log.Warn("countries stay empty: this program was built without the country database",
			"do", "build it with make build")
		return p, nil
	}
	var db *placeDatabase
	if err == nil {
		db, err = openPlaceDatabase(data)
	}
	if err != nil {
		return nil, fmt.Errorf("open country database: %w", err)
	}
	p.current.Store(db)
	return p, nil
}

// find returns the place of an address. That of a private or unknown address is the zero place:
// registries list some private ranges under the country that documents them.
func (p *places) find(addr netip.Addr) place {
	db := p.current.Load()
	if db == nil || !addr.IsValid() || addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast() {
		return place{}
	}
	return db.place(db.reader.Lookup(addr))
}

// placeDatabase is a database in the MaxMind format, with the record layout of MaxMind or of
// ip-location-db.
type placeDatabase struct {
	reader *maxminddb.Reader
	cache  *cache[uintptr, place] // by a record's offset
}

func openPlaceDatabase(data []byte) (*placeDatabase, error) {
	reader, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("read MaxMind format: %w", err)
	}
	return &placeDatabase{reader, newCache[uintptr, place](maxPlaces)}, nil
}

// verify reads all records, which takes one or two seconds for a database of cities. It fails if a record
// is corrupt or no record has a country. Reader.Verify of maxminddb checks the layout of MaxMind and
// refuses that of ip-location-db.
func (db *placeDatabase) verify() error {
	seen := map[uintptr]struct{}{}
	hasCountry := false
	for r := range db.reader.Networks() {
		if err := r.Err(); err != nil {
			return fmt.Errorf("read networks: %w", err)
		}
		if _, ok := seen[r.Offset()]; ok {
			continue
		}
		seen[r.Offset()] = struct{}{}
		var record struct{}
		if err := r.Decode(&record); err != nil {
			return fmt.Errorf("read record of %s: %w", r.Prefix(), err)
		}
		hasCountry = hasCountry || decodePlace(r).country != ""
	}
	if !hasCountry {
		return fmt.Errorf(
			"it is of type %q and names no countries: give one as GeoLite2-City or GeoLite2-Country",
			db.reader.Metadata.DatabaseType)
	}
	return nil
}

func (db *placeDatabase) builtAt() time.Time {
	return time.Unix(int64(db.reader.Metadata.BuildEpoch), 0)
}

func (db *placeDatabase) place(r maxminddb.Result) place {
	if !r.Found() {
		return place{}
	}
	if p, ok := db.cache.get(r.Offset()); ok {
		return p
	}
	p := decodePlace(r)
	db.cache.put(r.Offset(), p)
	return p
}

// decodePlace reads a record. A field that is missing or of another type stays "".
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
	p.city = dialect.Truncate(p.city, maxCity)
	return p
}
