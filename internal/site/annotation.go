package site

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Annotation says what happened on a day or at a time, for people who look at a site's history.
type Annotation struct {
	Part
	// At is a day (2026-11-30) or a minute (2026-11-30T14:05) of the site's clock.
	At   string `json:"at"`
	Text string `json:"text"`
}

const (
	maxAnnotations    = 1000 // of a site
	maxAnnotationText = 300  // characters
)

func newAnnotations(r *Registry) *parts[Annotation] {
	return newParts(r, "annotation", maxAnnotations, func(a *Annotation) *Part { return &a.Part })
}

// Annotations returns a site's annotations by their time.
func (r *Registry) Annotations(domain string) []Annotation {
	all := r.annotations.list(domain)
	slices.SortFunc(all, func(a, b Annotation) int {
		return cmp.Or(strings.Compare(a.At, b.At), a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
	return all
}

// Annotation finds an annotation of a site by its id.
func (r *Registry) Annotation(domain, id string) (Annotation, bool) {
	if a := r.annotations.find(domain, id); a != nil {
		return *a, true
	}
	return Annotation{}, false
}

// CreateAnnotation makes an annotation of a site; key is the ID of the key that makes it. It fails with
// ErrNotFound when there is no such site, and with ErrInvalid for an annotation that can't be or is one too
// many.
func (r *Registry) CreateAnnotation(
	ctx context.Context, domain, key string, a Annotation,
) (Annotation, error) {
	if err := a.clean(); err != nil {
		return Annotation{}, err
	}
	return r.annotations.create(ctx, domain, key, a)
}

// ChangeAnnotation changes an annotation of a site as Change changes a site.
func (r *Registry) ChangeAnnotation(
	ctx context.Context, domain, id string, change func(*Annotation) error,
) (Annotation, error) {
	return r.annotations.change(ctx, domain, id, func(a *Annotation) error {
		if err := change(a); err != nil {
			return err
		}
		return a.clean()
	})
}

// DeleteAnnotation removes an annotation of a site. It fails with ErrNotFound.
func (r *Registry) DeleteAnnotation(ctx context.Context, domain, id string) error {
	return r.annotations.remove(ctx, domain, id, func(Annotation) error { return nil })
}

func (a *Annotation) clean() error {
	_, err := time.Parse(time.DateOnly, a.At)
	if err != nil {
		_, err = time.Parse("2006-01-02T15:04", a.At)
	}
	if err != nil {
		return fmt.Errorf("%w: %s is no day and no time; give it by the site's clock, as 2026-11-30 or "+
			"2026-11-30T14:05", ErrInvalid, quote(a.At))
	}
	a.Text = strings.TrimSpace(a.Text)
	hidden := func(r rune) bool { return r != '\n' && unicode.IsControl(r) }
	switch n := utf8.RuneCountInString(a.Text); {
	case n == 0 || n > maxAnnotationText:
		return fmt.Errorf("%w: the text of an annotation has %d characters; give 1 to %d", ErrInvalid, n,
			maxAnnotationText)
	case !utf8.ValidString(a.Text) || strings.ContainsFunc(a.Text, hidden):
		return fmt.Errorf("%w: the text of an annotation has a control character; leave it out", ErrInvalid)
	}
	return nil
}
