package site

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Link lets its holder read one site until it is removed. Only the hash of its secret is stored.
type Link struct {
	ID      string    `json:"id"`
	Site    string    `json:"site"`
	Name    string    `json:"name"` // what it is for
	Hash    string    `json:"hash"` // hex SHA-256 of the secret
	Created time.Time `json:"created"`
}

const (
	linkSecretPrefix = "ncl_" // marks the secret of a share link
	maxLinks         = 100    // per site
)

// Link finds a link by its id. A link ends with its site, also if a site of the same name is made later.
func (r *Registry) Link(id string) (Link, bool) {
	s := r.state.Load()
	l, ok := s.links[id]
	return l, ok && s.valid(l)
}

// valid reports whether the link's site is still the one that it was made for.
func (s *state) valid(l Link) bool {
	st, ok := s.sites[l.Site]
	return ok && !l.Created.Before(st.Created)
}

// Links returns a site's links by creation, then id.
func (r *Registry) Links(domain string) []Link {
	s := r.state.Load()
	var all []Link
	for _, l := range s.links {
		if l.Site == domain && s.valid(l) {
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
	if name = strings.TrimSpace(name); name == "" || len(name) > 100 {
		return Link{}, "", fmt.Errorf("%w: a link needs a name of at most 100 bytes", ErrInvalid)
	}
	if len(r.Links(domain)) >= maxLinks {
		return Link{}, "", fmt.Errorf("%w: %s has %d links; remove one first", ErrInvalid, domain, maxLinks)
	}
	var id [6]byte
	_, _ = rand.Read(id[:])
	secret := newSecret(linkSecretPrefix)
	l := Link{
		ID:      hex.EncodeToString(id[:]),
		Site:    domain,
		Name:    name,
		Hash:    hash(secret),
		Created: time.Now().UTC().Truncate(time.Millisecond),
	}
	if l.Created.Before(st.Created) { // the site was made by a process whose clock is ahead
		l.Created = st.Created
	}
	return l, secret, r.set(ctx, linkRecord+l.ID, l)
}

// DeleteLink removes a site's link. It fails with ErrNotFound.
func (r *Registry) DeleteLink(ctx context.Context, domain, id string) error {
	if l, ok := r.Link(id); !ok || l.Site != domain {
		return fmt.Errorf("link %s of %s: %w", shorten(id), shorten(domain), ErrNotFound)
	}
	return r.set(ctx, linkRecord+id, nil)
}

// deleteLinks removes all of a site's links, also those of an earlier site of that name.
func (r *Registry) deleteLinks(ctx context.Context, domain string) error {
	for _, l := range slices.Collect(maps.Values(r.state.Load().links)) {
		if l.Site == domain {
			if err := r.set(ctx, linkRecord+l.ID, nil); err != nil {
				return err
			}
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
	s := r.state.Load()
	l, ok := s.linkByHash[hash(secret)]
	return l, ok && s.valid(l)
}
