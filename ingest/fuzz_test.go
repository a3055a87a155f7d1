package ingest

import "testing"

func FuzzAcceptEncoding(f *testing.F) {
	f.Add("br, gzip;q=0.8")
	f.Add(" \xff,;")
	f.Fuzz(func(_ *testing.T, header string) { _ = acceptsGzip(header) })
}
