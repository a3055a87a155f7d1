package frame

import (
	"strconv"
	"strings"

	"nowcast/internal/window"
)

// ID is how far a viewer is after a message; it means the same on every instance.
//
// It is written epoch-second-revision. A stream of several sites gives a second by one message a site; after all but the last of them the
// id has two parts more: of how many sites the second has been given, and the second that the others are at.
type ID struct {
	LastSecond int64  // the newest final second given, unix
	Revision   uint32 // of the open second that the frame shows; 0: none
	SentSites  int    // the first so many sites of the stream are at Final; 0: all are
	PrevSecond int64  // the others are here; 0: they have nothing yet
}

// Append adds the id's text.
func (id ID) Append(b []byte) []byte {
	b = strconv.AppendUint(b, window.Epoch, 10)
	b = strconv.AppendInt(append(b, '-'), id.LastSecond, 10)
	b = strconv.AppendUint(append(b, '-'), uint64(id.Revision), 10)
	if id.SentSites > 0 {
		b = strconv.AppendInt(append(b, '-'), int64(id.SentSites), 10)
		b = strconv.AppendInt(append(b, '-'), id.PrevSecond, 10)
	}
	return b
}

func (id ID) String() string { return string(id.Append(nil)) }

// ParseID reads an id. Whatever is no id of this epoch isn't ok.
func ParseID(text string) (id ID, ok bool) {
	parts := strings.Split(text, "-")
	if len(text) > 128 || len(parts) != 3 && len(parts) != 5 || parts[0] != strconv.Itoa(window.Epoch) {
		return ID{}, false
	}
	var err error
	if id.LastSecond, err = strconv.ParseInt(parts[1], 10, 64); err != nil || id.LastSecond <= 0 {
		return ID{}, false
	}
	revision, err := strconv.ParseUint(parts[2], 10, 32)
	if err != nil {
		return ID{}, false
	}
	id.Revision = uint32(revision)
	if len(parts) == 5 {
		if id.SentSites, err = strconv.Atoi(parts[3]); err != nil || id.SentSites <= 0 {
			return ID{}, false
		}
		if id.PrevSecond, err = strconv.ParseInt(parts[4], 10, 64); err != nil || id.PrevSecond < 0 || id.PrevSecond > id.LastSecond {
			return ID{}, false
		}
	}
	return id, true
}

// SiteSecond is how far the site is that the stream has at place i; 0: nowhere yet.
func (id ID) SiteSecond(i int) int64 {
	if id.SentSites > 0 && i >= id.SentSites {
		return id.PrevSecond
	}
	return id.LastSecond
}
