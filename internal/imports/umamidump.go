package imports

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Bounds of a dump.
const (
	maxSessions = 5_000_000
	maxColumns  = 200
)

// isDump reports whether a file begins as the dumps of PostgreSQL, MySQL and MariaDB do.
func isDump(head []byte) bool {
	for _, begin := range []string{"--\n-- PostgreSQL database dump", "-- MySQL dump", "-- MariaDB dump",
		"/*M!999999\\- enable the sandbox mode */"} {
		if bytes.HasPrefix(head, []byte(begin)) {
			return true
		}
	}
	return false
}

// umamiDump reads a dump of Umami's database: the tables session, website and website_event, in this order,
// as pg_dump and mysqldump write them.
type umamiDump struct {
	run  *run
	m    member
	in   *bufio.Reader
	line int

	columns  map[string][]string // by table, as CREATE TABLE of MySQL or COPY has them
	sessions map[uint64]uint32   // index of attributes, by the hash of the id
	known    []Attributes
	index    map[Attributes]uint32
	website  string // the id of the one that is imported; "" until it is known
	websites map[string]string
}

func newUmamiDump(r *run, m member, in io.Reader) *umamiDump {
	return &umamiDump{run: r, m: m, in: bufio.NewReaderSize(in, 64<<10), columns: map[string][]string{},
		sessions: map[uint64]uint32{}, index: map[Attributes]uint32{}, websites: map[string]string{}}
}

var errLongLine = fmt.Errorf("a row is over %d bytes", maxRecord)

// readLine reads a line. A longer one than maxRecord is an error.
func (d *umamiDump) readLine() (line []byte, err error) {
	d.line++
	for {
		part, err := d.in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxRecord:
			return nil, errLongLine
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		}
		return line, err
	}
}

// read reads the dump to its end.
func (d *umamiDump) read() error {
	for {
		if err := d.run.ctx.Err(); err != nil {
			return err
		}
		begin, err := d.in.Peek(len("INSERT INTO"))
		if errors.Is(err, io.EOF) && len(begin) == 0 {
			break
		}
		if string(begin) == "INSERT INTO" {
			err = d.insert()
		} else {
			err = d.statement()
		}
		if err != nil {
			return failed(d.m, d.line, "%w", err)
		}
	}
	if d.columns["website_event"] == nil {
		return fmt.Errorf("%s has no table website_event", d.m.name)
	}
	return nil
}

// statement reads a line that is no INSERT, and the rows of a COPY.
func (d *umamiDump) statement() error {
	line, err := d.readLine()
	if err != nil {
		return err
	}
	text := strings.TrimSpace(string(line))
	if name, ok := strings.CutPrefix(text, "CREATE TABLE `"); ok {
		name, _, _ = strings.Cut(name, "`")
		return d.create(name)
	}
	rest, ok := strings.CutPrefix(text, "COPY ")
	if !ok || !strings.HasSuffix(text, " FROM stdin;") {
		return nil
	}
	name, list, _ := strings.Cut(rest, " (")
	list, _, _ = strings.Cut(list, ")")
	name = name[strings.LastIndexByte(name, '.')+1:]
	d.columns[name] = columnNames(strings.Split(list, ","))
	for {
		line, err := d.readLine()
		if err != nil {
			return fmt.Errorf("the rows of %s have no end: %w", name, unexpected(err))
		}
		line = bytes.TrimRight(line, "\r\n")
		if string(line) == `\.` {
			return nil
		}
		values := strings.Split(string(line), "\t")
		for i := range values {
			values[i] = copyValue(values[i])
		}
		if err := d.row(name, values); err != nil {
			return err
		}
	}
}

// columnNames normalizes names.
func columnNames(list []string) []string {
	for i := range list {
		list[i] = normal(list[i])
	}
	return list[:min(len(list), maxColumns)]
}

var copyEscapes = strings.NewReplacer(`\\`, `\`, `\t`, "\t", `\n`, "\n", `\r`, "\r", `\b`, "\b", `\f`, "\f",
	`\v`, "\v")

// copyValue reads a value of COPY; NULL is "".
func copyValue(s string) string {
	if s == `\N` {
		return ""
	}
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	return copyEscapes.Replace(s)
}

// create reads the columns of MySQL's CREATE TABLE.
func (d *umamiDump) create(name string) error {
	var list []string
	for {
		line, err := d.readLine()
		if err != nil {
			return unexpected(err)
		}
		text := strings.TrimSpace(string(line))
		column, ok := strings.CutPrefix(text, "`")
		if !ok || len(list) == maxColumns {
			if strings.HasPrefix(text, ")") {
				d.columns[name] = list
				return nil
			}
			continue // a key
		}
		column, _, _ = strings.Cut(column, "`")
		list = append(list, normal(column))
	}
}

// insert reads MySQL's INSERT INTO `table` VALUES (…),(…); which is one line of any length.
func (d *umamiDump) insert() error {
	d.line++
	head, err := d.until("VALUES")
	if err != nil {
		return err
	}
	_, name, _ := strings.Cut(head, "`")
	name, list, _ := strings.Cut(name, "`")
	if _, named, ok := strings.Cut(list, "("); ok {
		named, _, _ = strings.Cut(named, ")")
		d.columns[name] = columnNames(strings.Split(named, ","))
	}
	for {
		c, err := d.in.ReadByte()
		if err != nil {
			return fmt.Errorf("the rows of %s have no end: %w", name, unexpected(err))
		}
		switch c {
		case ';':
			return nil
		case '\n':
			d.line++
		case '(':
			values, err := d.tuple()
			if err != nil {
				return unexpected(err)
			}
			if err := d.row(name, values); err != nil {
				return err
			}
		}
	}
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// until reads up to a word.
func (d *umamiDump) until(word string) (string, error) {
	var b []byte
	for !bytes.HasSuffix(b, []byte(word)) {
		c, err := d.in.ReadByte()
		if err != nil {
			return "", unexpected(err)
		}
		if b = append(b, c); len(b) > sniffed {
			return "", errors.New("an INSERT has no VALUES")
		}
	}
	return string(b), nil
}

// tuple reads the values of a row, up to its closing parenthesis.
func (d *umamiDump) tuple() (values []string, err error) {
	var b []byte
	quoted, bare, size := false, false, 0
	for {
		c, err := d.in.ReadByte()
		if err != nil {
			return nil, err
		}
		if size++; size > maxRecord {
			return nil, errLongLine
		}
		switch {
		case quoted && c == '\\':
			if c, err = d.in.ReadByte(); err != nil {
				return nil, err
			}
			b = append(b, mysqlEscape(c))
		case quoted && c == '\'':
			if next, err := d.in.Peek(1); err == nil && next[0] == '\'' {
				_, _ = d.in.Discard(1)
				b = append(b, '\'')
				continue
			}
			quoted = false
		case quoted:
			b = append(b, c)
		case c == '\'':
			quoted, bare, b = true, false, b[:0] // without a prefix such as _binary
		case c == ',' || c == ')':
			v := string(b)
			if bare && strings.EqualFold(strings.TrimSpace(v), "NULL") {
				v = ""
			}
			if values = append(values, v); len(values) > maxColumns {
				return nil, errors.New("a row has too many values")
			}
			if b, bare = b[:0], false; c == ')' {
				return values, nil
			}
		default:
			bare = true
			b = append(b, c)
		}
	}
}

func mysqlEscape(c byte) byte {
	if i := strings.IndexByte("0nrtbZ", c); i >= 0 {
		return "\x00\n\r\t\b\x1a"[i]
	}
	return c
}

// row takes a row of a table.
func (d *umamiDump) row(table string, values []string) error {
	columns := d.columns[table]
	get := func(name string) string {
		i := slices.Index(columns, name)
		if i < 0 || i >= len(values) {
			return ""
		}
		return values[i]
	}
	switch table {
	case "session":
		return d.session(get)
	case "website":
		d.websites[get("websiteid")] = get("domain")
		if strings.EqualFold(strings.TrimPrefix(get("domain"), "www."), d.run.cfg.Site) {
			d.website = get("websiteid")
		}
	case "website_event":
		return d.event(get)
	}
	return nil
}

// session keeps what the events of a session have in common.
func (d *umamiDump) session(get func(string) string) error {
	if len(d.sessions) >= maxSessions {
		return fmt.Errorf("there are over %d sessions", maxSessions)
	}
	a := umamiAttributes(get)
	i, ok := d.index[a]
	if !ok {
		a = a.clone()
		i = uint32(len(d.known)) //nolint:gosec // at most maxSessions
		d.known = append(d.known, a)
		d.index[a] = i
	}
	d.sessions[d.run.visitors.of(get("sessionid"))] = i
	return nil
}

// event counts a row of website_event.
func (d *umamiDump) event(get func(string) string) error {
	if d.website == "" {
		if len(d.websites) != 1 {
			return fmt.Errorf("none of the %d websites of the dump has the domain %s, and it can't be told "+
				"which is meant", len(d.websites), d.run.cfg.Site)
		}
		for d.website = range d.websites {
			break // the only one
		}
	}
	if get("websiteid") != d.website {
		d.run.skip("of another website")
		return nil
	}
	h, ok, err := d.run.umamiHit(get)
	if err != nil || !ok {
		return err
	}
	if i, ok := d.sessions[h.visitor]; ok {
		s := &d.known[i]
		h.Country, h.Region, h.City, h.Language = s.Country, s.Region, s.City, s.Language
		h.Browser, h.OS, h.Device = s.Browser, s.OS, s.Device
	}
	d.run.report.Rows++
	return d.run.days.add(h)
}
