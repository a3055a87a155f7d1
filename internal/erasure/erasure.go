// Package erasure has the erasures of sites and of persons. They live in the topic nowcast.erasures.v1, which
// every reader of the log tails: an event that an erasure covers counts nowhere and is stored nowhere any
// more, although the log keeps its bytes until they expire.
//
// A record of the topic is a request, which is the tombstone, or the progress of the streamer that removes
// the rows in ClickHouse. The topic is the only state of an erasure: any streamer goes on with it.
package erasure

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Version of the records of the topic.
const Version = 1

// Grace is how far a request reaches beyond its own moment. A removed site is unknown everywhere within about
// a second, and the clocks of ingest nodes differ by at most 2 s.
const Grace = 5 * time.Second

// Kind is what an erasure is about.
type Kind string

// The kinds of erasures.
const (
	Site    Kind = "site"    // all that the site has received
	Visitor Kind = "visitor" // the events of one visitor of the site on the day of their id
)

// VisitorID is a visitor's id of a day. Its text is 16 hexadecimal digits.
type VisitorID uint64

func (v VisitorID) String() string { return fmt.Sprintf("%016x", uint64(v)) }

// MarshalText implements encoding.TextMarshaler.
func (v VisitorID) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (v *VisitorID) UnmarshalText(b []byte) (err error) {
	*v, err = ParseVisitorID(string(b))
	return err
}

// ErrInvalid means that a request isn't valid.
var ErrInvalid = errors.New("not valid")

// ParseVisitorID reads 16 hexadecimal digits.
func ParseVisitorID(s string) (VisitorID, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) != 16 || n == 0 {
		return 0, fmt.Errorf("%w: a visitor's id has 16 hexadecimal digits, "+
			"as GET /api/visitor?site=DOMAIN shows it", ErrInvalid)
	}
	return VisitorID(n), nil
}

// Request is a tombstone: the events of a site, or of one of its visitors, that were received before a moment
// are erased.
type Request struct {
	ID        string    `json:"id"`
	Kind      Kind      `json:"kind"`
	Site      string    `json:"site"`
	Visitor   VisitorID `json:"visitor,omitzero"`
	Before    time.Time `json:"before"` // events that were received before it
	Requested time.Time `json:"requested"`
	By        string    `json:"by,omitempty"` // who asked for it
}

func (r *Request) check() error {
	if r.ID == "" || r.Site == "" || r.Before.IsZero() || r.Requested.IsZero() {
		return errors.New("a request without id, site or time")
	}
	if r.Kind != Site && (r.Kind != Visitor || r.Visitor == 0) {
		return fmt.Errorf("a request of the unknown kind %q", r.Kind)
	}
	return nil
}

// State is how far an erasure is.
type State string

// The states of an erasure, in order.
const (
	Waiting    State = "waiting"    // no streamer works on it yet
	Removing   State = "removing"   // rows are being removed from ClickHouse
	Confirming State = "confirming" // none is left; aggregators may still insert what they read before it
	Done       State = "done"
)

// Progress is the newest account of an erasure.
type Progress struct {
	Of     string    `json:"of"` // the id of the request
	State  State     `json:"state"`
	Worker string    `json:"worker"`           // the process that works on it
	Reason string    `json:"reason,omitempty"` // why it waits
	At     time.Time `json:"at"`
	Tables []Removed `json:"tables"`
	// Copies that aren't removed at once, each with the latest time at which it expires.
	Copies []Copy `json:"copies,omitempty"`
}

// Removed is what an erasure has removed from a table of ClickHouse.
type Removed struct {
	Table string `json:"table"`
	Found uint64 `json:"found"` // rows, also those that were inserted meanwhile
	Left  uint64 `json:"left"`  // rows that are still there
}

// Copy is a copy of erased events that nothing reads any more.
type Copy struct {
	Where   string    `json:"where"`
	Note    string    `json:"note"`
	Expires time.Time `json:"expires"` // at the latest
}

// Erasure is a request and its newest progress.
type Erasure struct {
	Request
	Progress
}

// record is the value of a record of the topic. Its key is the erasure's id.
type record struct {
	Version  int       `json:"version"`
	Request  *Request  `json:"request,omitempty"`
	Progress *Progress `json:"progress,omitempty"`
}
