package frame

import (
	"strconv"
	"strings"

	"nowcast/internal/window"
)

// ID is the position of a viewer after a message: an SSE event id that means the same on every instance.
//
// Its text is epoch-second-revision. A stream of several sites sends a second as one message for each
// site. The ids of all but the last of these messages have two more parts: the number of sites that have
// been sent the second, and the second of the other sites.
type ID struct {
	LastSecond int64  // newest final second sent, unix
	Revision   uint32 // of the provisional second in the frame; 0: it has none
	SentSites  int    // the first SentSites sites have been sent LastSecond; 0: all have
	PrevSecond int64  // newest second of the other sites; 0: they have none yet
}

// Append appends the id's text.
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

// maxIDLength is the length in bytes of the longest text that ParseID reads.
const maxIDLength = 128

// ParseID parses an id's text. A text that isn't an id of this epoch isn't ok.
func ParseID(text string) (id ID, ok bool) {
	parts := strings.Split(text, "-")
	if len(text) > maxIDLength || len(parts) != 3 && len(parts) != 5 {
		return ID{}, false
	}
	if parts[0] != strconv.Itoa(window.Epoch) {
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
	if len(parts) == 3 {
		return id, true
	}
	if id.SentSites, err = strconv.Atoi(parts[3]); err != nil || id.SentSites <= 0 {
		return ID{}, false
	}
	id.PrevSecond, err = strconv.ParseInt(parts[4], 10, 64)
	if err != nil || id.PrevSecond < 0 || id.PrevSecond > id.LastSecond {
		return ID{}, false
	}
	return id, true
}

// SiteSecond is the newest final second that the stream's site with index i has been sent, unix; 0: none
// yet.
func (id ID) SiteSecond(i int) int64 {
	if id.SentSites > 0 && i >= id.SentSites {
		return id.PrevSecond
	}
	return id.LastSecond
}
