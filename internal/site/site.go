// Package site has the sites with their goals, funnels, segments and annotations, the keys and share links
// that open them, the sessions and login codes made with keys, the origins whose pages may read the sites,
// and the cluster's long-lived secret. They live in the compacted topic nowcast.sites.v1, which every process
// tails. Look-ups never wait. A change is visible in the process that made it when the call returns, and in
// others within about a second. While Kafka is down the registry serves the last known state and changes
// fail.
package site

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Reasons why a change is refused.
var (
	ErrNotFound = errors.New("not found")
	ErrInvalid  = errors.New("not valid")
	ErrExists   = errors.New("exists already")
	ErrConflict = errors.New("changed meanwhile; read it and try again")
	ErrInUse    = errors.New("in use")
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
	// of its pages' addresses: holds what visitors search for on the site; "": none does
	SearchParameter string `json:"search_parameter,omitempty"`

	// Generation tells the site from those of its domain that were removed before; Previous is when the last
	// one of these was removed, zero if there was none.
	Generation int64     `json:"generation,omitempty"`
	Previous   time.Time `json:"previous,omitzero"`
	Revision   int64     `json:"-"` // counts the changes; the registry sets it

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

func (s Site) check() error {
	if d, err := Domain(s.Domain); err != nil {
		return err
	} else if d != s.Domain {
		return fmt.Errorf("%w: write the domain as %q", ErrInvalid, d)
	}
	if _, err := time.LoadLocation(s.Timezone); err != nil || s.Timezone == "Local" {
		return fmt.Errorf("%w: %s is no time zone; give an IANA name such as Europe/Berlin",
			ErrInvalid, quote(s.Timezone))
	}
	if s.RetentionDays < 0 || s.RetentionDays > MaxRetentionDays {
		return fmt.Errorf("%w: retention_days is %d; give 1 to %d, or 0 for the default of %d",
			ErrInvalid, s.RetentionDays, MaxRetentionDays, DefaultRetentionDays)
	}
	return nil
}
