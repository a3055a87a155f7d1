// Package enrichtest makes databases of places for tests.
package enrichtest

import (
	"bytes"
	"net"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// GeoDatabase returns a database in the MaxMind format with a record for each network.
func GeoDatabase(t testing.TB, kind string, records map[string]mmdbtype.Map) []byte {
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

// City returns a record with the layout of GeoLite2-City. Region and city may be "".
func City(country, region, city string) mmdbtype.Map {
	text := func(s string) mmdbtype.String { return mmdbtype.String(s) }
	r := mmdbtype.Map{"country": mmdbtype.Map{"iso_code": text(country), "geoname_id": mmdbtype.Uint32(1)}}
	if region != "" {
		r["subdivisions"] = mmdbtype.Slice{
			mmdbtype.Map{"iso_code": text(region)}, mmdbtype.Map{"iso_code": text("XX")},
		}
	}
	if city != "" {
		r["city"] = mmdbtype.Map{"names": mmdbtype.Map{"en": text(city), "de": text("auf Deutsch")}}
	}
	return r
}
