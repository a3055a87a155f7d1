package site

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

var (
	german     = Segment{Name: "German", Filters: []byte(`[["is","visit:country",["DE"]]]`)}
	launch     = Annotation{At: "2026-11-30", Text: "Launch"}
	anyFilters = func([]byte) error { return nil }
)

func TestSegments(t *testing.T) {
	w := newWorld(t)
	r := w.ready(w.registry())
	w.shop(r)
	ctx := t.Context()
	unknown := errors.New("unknown dimension")
	valid := func(filters []byte) error {
		if bytes.Contains(filters, []byte("planet")) {
			return unknown
		}
		return nil
	}
	for _, row := range []struct {
		name, filters string
		want          error
		says          string
	}{
		{"", `[["is","visit:country",["DE"]]]`, ErrInvalid, "needs a name"},
		{"x", ``, ErrInvalid, "a list in JSON"},
		{"x", `{}`, ErrInvalid, "a list in JSON"},
		{"x", `null`, ErrInvalid, "at least one filter"},
		{"x", `[]`, ErrInvalid, "at least one filter"},
		{"x", ` [ ] `, ErrInvalid, "at least one filter"},
		{"x", `[["is"]] x`, ErrInvalid, "a list in JSON"},
		{"x", `[["is","visit:country",["` + strings.Repeat("x", maxFilters) + `"]]]`, ErrInvalid, "16 KB"},
		{"x", `[["is","visit:planet",["Mars"]]]`, unknown, "unknown dimension"},
	} {
		s := Segment{Name: row.name, Filters: []byte(row.filters)}
		_, err := r.CreateSegment(ctx, shop, "k", s, valid)
		if !errors.Is(err, row.want) || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%q %.80s: %v", row.name, row.filters, err)
		}
	}
	mine, err := r.CreateSegment(ctx, shop, "k", Segment{Name: "Mine",
		Filters: []byte(` [ ["is", "event:page", ["\u002fa<b"] , {"case_sensitive" : false}] ] `)}, valid)
	if err != nil || string(mine.Filters) != `[["is","event:page",["/a\u003cb"],{"case_sensitive":false}]]` ||
		mine.By != "k" {
		t.Fatalf("%+v %s %v", mine, mine.Filters, err)
	}
	shared := german
	shared.Shared = true
	shared, err = r.CreateSegment(ctx, shop, "k", shared, valid)
	if err != nil {
		t.Fatal(err)
	}
	if all := r.Segments(shop, "k"); len(all) != 2 || all[0].Name != "German" {
		t.Errorf("%+v", all)
	}
	if all := r.Segments(shop, "other"); len(all) != 1 || all[0].ID != shared.ID {
		t.Errorf("another key sees %+v", all)
	}
	rename := func(s *Segment) error { s.Name = "Renamed"; return nil }
	hide := func(s *Segment) error { s.Shared = false; return nil }
	if _, err := r.ChangeSegment(ctx, shop, mine.ID, "other", valid, rename); !errors.Is(err, ErrNotFound) {
		t.Errorf("another key changes a personal one: %v", err)
	}
	if err := r.DeleteSegment(ctx, shop, mine.ID, "other"); !errors.Is(err, ErrNotFound) {
		t.Errorf("another key removes a personal one: %v", err)
	}
	if _, err := r.ChangeSegment(ctx, shop, shared.ID, "other", valid, hide); !errors.Is(err, ErrInvalid) {
		t.Errorf("another key takes it: %v", err)
	}
	if s, err := r.ChangeSegment(ctx, shop, shared.ID, "other", valid, rename); err != nil || s.By != "k" ||
		s.Revision != 2 || s.Name != "Renamed" {
		t.Errorf("%+v %v", s, err)
	}
	if err := r.DeleteSegment(ctx, "nobody.example", shared.ID, "k"); !errors.Is(err, ErrNotFound) {
		t.Errorf("by another site's name: %v", err)
	}
	if err := r.DeleteSegment(ctx, shop, shared.ID, "other"); err != nil {
		t.Error(err)
	}
	for i := len(r.Segments(shop, "k")); i < maxSegments; i++ {
		if _, err := r.CreateSegment(ctx, shop, "k", german, valid); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.CreateSegment(ctx, shop, "k", german, valid); !errors.Is(err, ErrInvalid) ||
		!strings.Contains(err.Error(), "has 200 segments; remove one first") {
		t.Errorf("one too many: %v", err)
	}
}

// The personal segments of a key end with it.
func TestPersonalSegmentsEndWithTheirKey(t *testing.T) {
	w := newWorld(t)
	r := w.ready(w.registry())
	w.shop(r)
	ctx := t.Context()
	k, _, err := r.AddKey(ctx, Key{Name: "k", Sites: []string{shop}, Write: true})
	if err != nil {
		t.Fatal(err)
	}
	st, _ := r.Lookup(shop)
	if !k.MayWrite(st) || k.MayWrite(Site{Domain: "other.example.com", Generation: st.Generation}) ||
		(Key{AllSites: true}).MayWrite(st) {
		t.Errorf("what %+v may write", k)
	}
	shared := german
	shared.Shared = true
	for _, s := range []Segment{german, shared} {
		if _, err := r.CreateSegment(ctx, shop, k.ID, s, anyFilters); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.CreateSegment(ctx, shop, "operator", german, anyFilters); err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteKey(ctx, k.ID); err != nil {
		t.Fatal(err)
	}
	if n := len(r.segments.list(shop)); n != 2 || len(r.Segments(shop, "operator")) != 2 {
		t.Errorf("%d are left", n)
	}
}

func TestAnnotations(t *testing.T) {
	w := newWorld(t)
	r := w.ready(w.registry())
	w.shop(r)
	ctx := t.Context()
	for _, row := range []struct{ at, text, want string }{
		{"2026-11-30", "", "has 0 characters; give 1 to 300"},
		{"2026-11-30", strings.Repeat("é", 301), "has 301 characters"},
		{"2026-11-30", "a\x1b[31m", "a control character"},
		{"2026-02-30", "x", "is no day and no time"},
		{"2026-11-30T14:05:00Z", "x", "is no day and no time"},
		{"yesterday", "x", "is no day and no time"},
		{"", "x", "is no day and no time"},
	} {
		_, err := r.CreateAnnotation(ctx, shop, "k", Annotation{At: row.at, Text: row.text})
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%+v: %v", row, err)
		}
	}
	for _, at := range []string{"2026-11-30T14:05", "2026-11-30", "2026-01-01"} {
		a, err := r.CreateAnnotation(ctx, shop, "k", Annotation{At: at, Text: strings.Repeat("é", 300)})
		if err != nil || a.By != "k" {
			t.Fatal(a, err)
		}
	}
	all := r.Annotations(shop)
	if len(all) != 3 || all[0].At != "2026-01-01" || all[2].At != "2026-11-30T14:05" {
		t.Errorf("%+v", all)
	}
	if err := r.DeleteAnnotation(ctx, shop, all[0].ID); err != nil || len(r.Annotations(shop)) != 2 {
		t.Error(err)
	}
}
