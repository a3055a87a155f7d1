package imports

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Whatever bytes a file has, an import ends with sums that the API takes or with an error that names it.
func FuzzRun(f *testing.F) {
	for i, x := range fixtures {
		for _, file := range filesOf(f, x.dir) {
			b, err := os.ReadFile(filepath.Join("testdata", x.dir, file.Name))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), file.Name, string(b))
		}
	}
	f.Fuzz(func(t *testing.T, format uint8, name, text string) {
		name = "f-" + name
		if strings.HasPrefix(name, "f-imported_") {
			name = name[2:]
		}
		for _, asked := range []Format{"", Formats()[int(format)%len(Formats())]} {
			_, err := Run(t.Context(), Config{Format: asked, Zone: time.FixedZone("", 5*3600+2700),
				Classify: classifier{}, Emit: func(s Sum) error {
					if err := s.Check(); err != nil && !strings.Contains(err.Error(), "2^53") {
						t.Errorf("%+v: %v", s, err)
					}
					return nil
				}}, []File{textFile(name, text)})
			if err != nil && !strings.Contains(err.Error(), name) &&
				!strings.Contains(err.Error(), "format") {
				t.Errorf("no file in %v", err)
			}
		}
	})
}

// What ParseSum takes is written and read back the same.
func FuzzParseSum(f *testing.F) {
	f.Add(`{"day":"2025-01-01","dim":"event:page","value":"/","visitors":4,"pageviews":5}`)
	f.Add(`{"day":"20250101","visits":0}`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSum([]byte(text))
		if err != nil {
			return
		}
		if back, err := ParseSum(s.AppendJSON(nil)); err != nil || back != s {
			t.Errorf("%s is read back as %+v: %v", s.AppendJSON(nil), back, err)
		}
	})
}
