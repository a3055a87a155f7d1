package imports

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// member is one stream of an export: a file, or a file in an archive.
type member struct {
	name string
	open func() (io.ReadCloser, error)
}

const (
	maxMembers = 10_000 // files in an archive
	sniffed    = 4096   // bytes from which a format is guessed
)

// expand lists the streams of the files.
func expand(files []File) (all []member, err error) {
	for _, f := range files {
		var magic [4]byte
		n, err := f.At.ReadAt(magic[:], 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read %s: %w", f.Name, err)
		}
		if !bytes.Equal(magic[:n], []byte("PK\x03\x04")) {
			all = append(all, member{f.Name, func() (io.ReadCloser, error) {
				return decoded(io.NopCloser(io.NewSectionReader(f.At, 0, f.Size)))
			}})
			continue
		}
		archive, err := zip.NewReader(f.At, f.Size)
		if err != nil {
			return nil, fmt.Errorf("read the archive %s: %w", f.Name, err)
		}
		if len(archive.File) > maxMembers {
			return nil, fmt.Errorf("the archive %s has over %d files", f.Name, maxMembers)
		}
		for _, z := range archive.File {
			if z.FileInfo().IsDir() || strings.HasPrefix(path.Base(z.Name), ".") ||
				strings.HasPrefix(z.Name, "__MACOSX/") {
				continue
			}
			all = append(all, member{f.Name + ":" + z.Name, func() (io.ReadCloser, error) {
				r, err := z.Open()
				if err != nil {
					return nil, err
				}
				return decoded(r)
			}})
		}
	}
	return all, nil
}

// base is the name of a member without its folders.
func (m member) base() string { return path.Base(m.name[strings.LastIndex(m.name, ":")+1:]) }

// head returns the first bytes of a member.
func (m member) head() ([]byte, error) {
	in, err := m.open()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", m.name, err)
	}
	defer in.Close()
	b := make([]byte, sniffed)
	n, err := io.ReadFull(in, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read %s: %w", m.name, err)
	}
	return b[:n], nil
}

// stream is a reader over another one that has to be closed.
type stream struct {
	io.Reader
	io.Closer
}

// decoded decompresses gzip and turns UTF-16, which Matomo writes, into UTF-8 without a mark.
func decoded(in io.ReadCloser) (io.ReadCloser, error) {
	r := bufio.NewReaderSize(in, 64<<10)
	if magic, _ := r.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(r)
		if err != nil {
			in.Close()
			return nil, err
		}
		r = bufio.NewReaderSize(z, 64<<10)
	}
	mark, _ := r.Peek(3)
	switch {
	case bytes.HasPrefix(mark, []byte{0xff, 0xfe}):
		return stream{&utf16Reader{in: r, order: binary.LittleEndian}, in}, nil
	case bytes.HasPrefix(mark, []byte{0xfe, 0xff}):
		return stream{&utf16Reader{in: r, order: binary.BigEndian}, in}, nil
	case bytes.Equal(mark, []byte("\uFEFF")):
		_, _ = r.Discard(3)
	}
	return stream{r, in}, nil
}

// utf16Reader reads UTF-16 as UTF-8.
type utf16Reader struct {
	in    io.Reader
	order binary.ByteOrder
	begun bool
	high  rune // a high surrogate that waits for its low one
	out   []byte
}

// Read implements io.Reader.
func (u *utf16Reader) Read(p []byte) (int, error) {
	for len(u.out) == 0 {
		var unit [2]byte
		if _, err := io.ReadFull(u.in, unit[:]); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				err = io.EOF
			}
			return 0, err
		}
		c := rune(u.order.Uint16(unit[:]))
		switch {
		case !u.begun:
			u.begun = true // the byte order mark
		case u.high != 0:
			u.out = utf8.AppendRune(u.out, utf16.DecodeRune(u.high, c))
			u.high = 0
		case utf16.IsSurrogate(c):
			u.high = c
		default:
			u.out = utf8.AppendRune(u.out, c)
		}
	}
	n := copy(p, u.out)
	u.out = append(u.out[:0], u.out[n:]...)
	return n, nil
}

// FormatOf returns the format that Run finds.
func FormatOf(want Format, files []File) (Format, error) {
	members, err := expand(files)
	if err != nil {
		return "", err
	}
	return formatOf(want, members)
}

// formatOf returns the format of all members: the one asked for, or the guess of the first one that has any.
func formatOf(want Format, members []member) (Format, error) {
	if want != "" {
		if parsers[want] == nil {
			return "", fmt.Errorf("%s is no format: there are %v", quoted(string(want)), Formats())
		}
		return want, nil
	}
	if len(members) == 0 {
		return "", errors.New("there is no file: name at least one")
	}
	for _, m := range members {
		head, err := m.head()
		if err != nil {
			return "", err
		}
		if f := guess(m, head); f != "" {
			return f, nil
		}
	}
	return "", fmt.Errorf("the format of %s can't be told: name it with --format", members[0].name)
}

// guess returns the format of a file that begins with head, "" if none fits.
func guess(m member, head []byte) Format {
	first := head
	for bytes.HasPrefix(first, []byte("# ")) || bytes.HasPrefix(first, []byte("#\n")) { // Google Analytics
		_, first, _ = bytes.Cut(first, []byte("\n"))
	}
	first, _, _ = bytes.Cut(bytes.TrimLeft(first, "\r\n"), []byte("\n"))
	names := headerNames(strings.Split(strings.ReplaceAll(string(first), `"`, ""), ","))
	has := func(all ...string) bool {
		for _, n := range all {
			if _, ok := names[n]; !ok {
				return false
			}
		}
		return true
	}
	_, isReport := matomoReport(m)
	switch {
	case plausibleTable(m) != "":
		return Plausible
	case goatCounterHeader.Match(first):
		return GoatCounter
	case isDump(head), has("websiteid", "sessionid", "createdat"):
		return Umami
	case has("nbvisits") || isReport:
		return Matomo
	case has("date") && ga4Metric(names):
		return GA4
	case logFormat(first) != nil || bytes.HasPrefix(head, []byte("#Version")):
		return Log
	}
	return ""
}
