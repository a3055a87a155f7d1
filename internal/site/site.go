// Package site has the sites, the keys and share links that open them, the origins whose pages may read
// them, and the cluster's long-lived secret. They live in the compacted topic nowcast.sites.v1, which every
// process tails. Look-ups never wait. A change is visible in the process that made it when the call returns,
// and in others within about a second. While Kafka is down the registry serves the last known state and
// changes fail.
package site

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Reasons why a change is refused.
var (
	ErrNotFound = errors.New("not found")
	ErrInvalid  = errors.New("not valid")
	ErrExists   = errors.New("exists already")
	ErrConflict = errors.New("changed meanwhile; read it and try again")
)

// Site is one website whose visitors are counted.
type Site struct {
	Domain   string    `json:"domain"`   // lower case host name, as beacons name it
	Public   bool      `json:"public"`   // readable without a credential
	Timezone string    `json:"timezone"` // IANA name
	Created  time.Time `json:"created"`
	Rules    Rules     `json:"rules,omitzero"`
	// whose pages may read it in a browser; none: see ReadableFrom
	Origins       []string `json:"origins,omitempty"`
	Listed        bool     `json:"listed,omitempty"`         // with Public: shown in lists to everybody
	RetentionDays int      `json:"retention_days,omitempty"` // days its history is kept; 0: see Retention

	// Generation tells the site from those of its domain that were removed before.
	Generation int64 `json:"generation,omitempty"`
	Revision   int64 `json:"-"` // counts the changes; the registry sets it

	ruleSet *RuleSet // Rules compiled; nil in sites that no registry returned
}

// RuleSet returns the compiled Rules.
func (s Site) RuleSet() *RuleSet { return s.ruleSet }

// Bounds of Site.RetentionDays.
const (
	DefaultRetentionDays = 395 // 13 months
	MaxRetentionDays     = 3650
)

// Retention returns for how many days the site's history is kept.
func (s Site) Retention() int { return cmp.Or(s.RetentionDays, DefaultRetentionDays) }

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
	if s.RetentionDays < 0 || s.RetentionDays > MaxRetentionDays {
		return fmt.Errorf("%w: retention_days is %d; give 1 to %d, or 0 for the default of %d",
			ErrInvalid, s.RetentionDays, MaxRetentionDays, DefaultRetentionDays)
	}
	return nil
}

func shorten(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
