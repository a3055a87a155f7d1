package streamer

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"nowcast/internal/site"
)

const (
	sessionCookie    = "nowcast_session"
	linkCookiePrefix = "nowcast_link_"
	operatorID       = "operator"
	maxLinkCookies   = 20
)

// cluster signs the texts of cookies and tickets as every instance of a cluster does.
type cluster struct {
	key   func(purpose string) [32]byte
	sites *site.Registry
}

func (w *world) cluster() cluster { return cluster{w.sites.SigningKey, w.sites} }

func (c cluster) sign(purpose, id, text string) string {
	key := c.key(purpose)
	m := hmac.New(sha256.New, key[:])
	fmt.Fprintf(m, "%s %s", purpose, text)
	if id == operatorID {
		fmt.Fprintf(m, " %x", sha256.Sum256([]byte(adminSecret)))
	}
	return text + "." + base64Text(string(m.Sum(nil)))
}

// cookie is the value of a cookie for a key ("session") or a link ("link").
func (c cluster) cookie(purpose, id string, expires time.Time) string {
	return c.sign(purpose, id, fmt.Sprintf("%s.%d", id, expires.Unix()))
}

// ticket is the value of a ticket of a key.
func (c cluster) ticket(keyID string, expires time.Time, sites ...string) string {
	for i, domain := range sites {
		st, _ := c.sites.Lookup(domain)
		sites[i] = fmt.Sprintf("%s=%d", domain, st.Generation)
	}
	text := fmt.Sprintf("k %s %d %s", keyID, expires.UnixMilli(), strings.Join(sites, ","))
	return c.sign("ticket", keyID, base64Text(text))
}

func base64Text(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
