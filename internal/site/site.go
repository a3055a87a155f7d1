// Package site has the sites, the keys and share links that open them, the origins whose pages may read
// them, and the cluster's long-lived secret. They live in the compacted topic nowcast.sites.v1, which every
// process tails. Look-ups never wait. A change is visible in the process that made it when the call returns,
// and in others within about a second. While Kafka is down the registry serves the last known state and
// changes fail.
package site

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Reasons why a change is refused.
var (
	ErrNotFound = errors.New("not found")
	ErrInvalid  = errors.New("not valid")
)

// Site is one website whose visitors are counted.
type Site struct {
	Domain   string    `json:"domain"`   // lower case host name, as beacons name it
	Public   bool      `json:"public"`   // readable without a credential
	Timezone string    `json:"timezone"` // IANA name
	Created  time.Time `json:"created"`
	Rules    Rules     `json:"rules,omitzero"`
	// whose pages may read it in a browser; none: see ReadableFrom
	Origins []string `json:"origins,omitempty"`

	ruleSet *RuleSet // Rules compiled; nil in sites that no registry returned
}

// RuleSet returns the compiled Rules.
func (s Site) RuleSet() *RuleSet { return s.ruleSet }

// Key lets its holder read sites and, with Admin, administer. Only the hash of its secret is stored.
type Key struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Hash    string    `json:"hash"` // hex SHA-256 of the secret
	Admin   bool      `json:"admin"`
	Sites   []string  `json:"sites,omitempty"` // that it may read; none: all
	Created time.Time `json:"created"`
}

// MayRead reports whether the key opens a site.
func (k Key) MayRead(domain string) bool {
	return k.Admin || len(k.Sites) == 0 || slices.Contains(k.Sites, domain)
}

// keySecretPrefix marks a secret as Nowcast's, so that scanners of repositories can find one that leaked.
const keySecretPrefix = "nck_"

// NewSecret returns a new secret of a key: 192 random bits.
func NewSecret() string { return newSecret(keySecretPrefix) }

func newSecret(prefix string) string {
	var b [24]byte
	_, _ = rand.Read(b[:]) // never fails
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

func hash(secret string) string {
	h := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(h[:])
}

// Domain normalises a site's domain as a person types it: a host name of at most 253 bytes (letters, digits,
// hyphens, dots; other scripts as punycode), an IP address, or localhost, each with an optional port. It
// fails with ErrInvalid.
func Domain(s string) (string, error) {
	d := strings.ToLower(strings.TrimSpace(s))
	d = strings.TrimPrefix(strings.TrimPrefix(d, "https://"), "http://")
	d = strings.TrimSuffix(d, "/")
	host, port, hasPort := strings.Cut(d, ":")
	if d == "" || len(d) > 253 || hasPort && !isPort(port) || !isHost(host) {
		return "", fmt.Errorf("%w: %q is no domain; give a host name such as example.com "+
			"(other scripts as punycode, xn--…)", ErrInvalid, shorten(s))
	}
	return d, nil
}

func isPort(s string) bool {
	return s != "" && len(s) <= 5 && strings.Trim(s, "0123456789") == ""
}

func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil || s == "localhost" {
		return true
	}
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' ||
			strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return len(labels) > 1
}

func (s Site) check() error {
	if d, err := Domain(s.Domain); err != nil {
		return err
	} else if d != s.Domain {
		return fmt.Errorf("%w: write the domain as %q", ErrInvalid, d)
	}
	if _, err := time.LoadLocation(s.Timezone); err != nil || s.Timezone == "Local" {
		return fmt.Errorf("%w: %q is no time zone; give an IANA name such as Europe/Berlin",
			ErrInvalid, shorten(s.Timezone))
	}
	return nil
}

func shorten(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
