package site

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Link lets its holder read one site until it is removed. Only the hash of its secret is stored.
type Link struct {
	ID   string `json:"id"`
	Site string `json:"site"`
	// Generation is that of the site for which the link was made; 0: it was made before generations
	Generation int64     `json:"generation,omitempty"`
	Name       string    `json:"name"` // what it is for
	Hash       string    `json:"hash"` // hex SHA-256 of the secret
	Created    time.Time `json:"created"`
}

const (
	linkSecretPrefix = "ncl_" // marks the secret of a share link
	maxLinks         = 100    // per site
)

// links are the records link/<id>.
type links struct {
	*table[Link]
	byHash index[string, Link]     // by hash of the secret
	bySite index[string, []string] // ids by domain; a slice is never changed
}

func newLinks(r *Registry) *links {
	l := &links{table: newTable(r, "link", checkLink)}
	l.changed = l.reindexed
	l.publishMore = func() { l.byHash.publish(); l.bySite.publish() }
	return l
}

func checkLink(id string, _ header, v *Link) error {
	if v.ID != id || v.Site == "" || len(v.Hash) != sha256.Size*2 {
		return errors.New("the value isn't the link's")
	}
	return nil
}

func (l *links) reindexed(before, after *Link) {
	if before != nil {
		l.byHash.delete(before.Hash)
		ids, _ := l.bySite.latest(before.Site)
		ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == before.ID })
		if l.bySite.set(before.Site, ids); len(ids) == 0 {
			l.bySite.delete(before.Site)
		}
	}
	if after != nil {
		l.byHash.set(after.Hash, *after)
		ids, _ := l.bySite.latest(after.Site)
		l.bySite.set(after.Site, append(slices.Clip(ids), after.ID))
	}
}

// Link finds a link by its id. A link ends with its site, also if a site of the same name is made later.
func (r *Registry) Link(id string) (Link, bool) {
	if l := r.links.get(id); l != nil && r.valid(*l) {
		return *l, true
	}
	return Link{}, false
}

// valid reports whether the link's site is still the one that it was made for.
func (r *Registry) valid(l Link) bool {
	st, ok := r.Lookup(l.Site)
	if l.Generation == 0 { // of a version before generations
		return ok && !l.Created.Before(st.Created)
	}
	return ok && l.Generation == st.Generation
}

// Links returns a site's links by creation, then id.
func (r *Registry) Links(domain string) []Link {
	var all []Link
	ids, _ := r.links.bySite.get(domain)
	for _, id := range ids {
		if l, ok := r.Link(id); ok {
			all = append(all, l)
		}
	}
	slices.SortFunc(
		all,
		func(a, b Link) int { return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID)) },
	)
	return all
}

// NewLink makes a link to a site and returns its secret, which is stored nowhere. It fails with ErrNotFound
// when there is no such site, and with ErrInvalid without a name or when the site has maxLinks links.
func (r *Registry) NewLink(ctx context.Context, domain, name string) (Link, string, error) {
	st, ok := r.Lookup(domain)
	if !ok {
		return Link{}, "", fmt.Errorf("site %s: %w", shorten(domain), ErrNotFound)
	}
	name, err := cleanName("link", name)
	if err != nil {
		return Link{}, "", err
	}
	if len(r.Links(domain)) >= maxLinks {
		return Link{}, "", fmt.Errorf("%w: %s has %d links; remove one first", ErrInvalid, domain, maxLinks)
	}
	secret := newSecret(linkSecretPrefix)
	l := Link{
		ID:         newID(),
		Site:       domain,
		Generation: st.Generation,
		Name:       name,
		Hash:       hash(secret),
		Created:    now(),
	}
	_, err = r.links.update(ctx, l.ID, func(entry[Link]) (*Link, error) { return &l, nil })
	return l, secret, err
}

// DeleteLink removes a site's link. It fails with ErrNotFound.
func (r *Registry) DeleteLink(ctx context.Context, domain, id string) error {
	_, err := r.links.update(ctx, id, func(current entry[Link]) (*Link, error) {
		if l := current.object(); l == nil || l.Site != domain || !r.valid(*l) {
			return nil, fmt.Errorf("link %s of %s: %w", shorten(id), shorten(domain), ErrNotFound)
		}
		return nil, nil
	})
	return err
}

// deleteLinks removes the links of a domain that have ended with their site.
func (r *Registry) deleteLinks(ctx context.Context, domain string) error {
	ids, _ := r.links.bySite.get(domain)
	for _, id := range ids {
		_, err := r.links.update(ctx, id, func(current entry[Link]) (*Link, error) {
			if l := current.object(); l == nil || r.valid(*l) {
				return nil, errUnchanged
			}
			return nil, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// AuthenticateLink finds the link of a secret. As with Authenticate, the time that it takes tells nothing
// about the secret.
func (r *Registry) AuthenticateLink(secret string) (Link, bool) {
	if !strings.HasPrefix(secret, linkSecretPrefix) {
		return Link{}, false
	}
	l, ok := r.links.byHash.get(hash(secret))
	return l, ok && r.valid(l)
}
