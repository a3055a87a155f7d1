package ingest

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/oschwald/maxminddb-golang/v2"
)

//go:embed all:geodata
var geodata embed.FS

// countries finds the country of an address in the bundled database.
type countries struct {
	db    *maxminddb.Reader // nil where the program was built without the database
	codes sync.Map          // offset of a record (one a country) → code
}

// newCountries opens the bundled database. Without one all countries are unknown, which is said once.
func newCountries(log *slog.Logger) (*countries, error) {
	data, err := geodata.ReadFile("geodata/country.mmdb")
	if errors.Is(err, fs.ErrNotExist) {
		log.Warn("countries stay empty: this program was built without the country database", "do", "build it with make build")
		return &countries{}, nil
	}
	var db *maxminddb.Reader
	if err == nil {
		db, err = maxminddb.OpenBytes(data)
	}
	if err != nil {
		return nil, fmt.Errorf("open country database: %w", err)
	}
	return &countries{db: db}, nil
}

// code returns the ISO 3166-1 alpha-2 code of an address's country, "" where it is unknown or the address is a private one.
func (c *countries) code(addr netip.Addr) string {
	// registries list some private ranges under the country that documents them
	if c.db == nil || !addr.IsValid() || addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast() {
		return ""
	}
	r := c.db.Lookup(addr)
	if !r.Found() {
		return ""
	}
	if code, ok := c.codes.Load(r.Offset()); ok {
		return code.(string)
	}
	var code string
	if err := r.DecodePath(&code, "country_code"); err != nil || len(code) != 2 {
		code = ""
	}
	c.codes.Store(r.Offset(), code)
	return code
}
