//go:build linux && !noembed

// Package facade serves over an embedded engine as much of ClickHouse's HTTP interface as clickhouse-go uses, so that the
// laptop and the cluster are reached by one client with one dialect of SQL.
//
// It promises what a server promises there: an answer of 200 to an insert means that all of its rows are durable, a request
// that is torn or empty inserts nothing, a request that goes away stops its statement, and an error is told as ClickHouse
// tells it, before the first byte of a reply or inside it. More requests than sessions wait for one.
package facade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"nowcast/internal/embedded/chdb"
)

// maxStatement bounds the SQL of a request, in bytes; the engine's own parser stops at a quarter of it.
const maxStatement = 1 << 20

// Server is an http.Handler over a pool of sessions.
type Server struct {
	idle  chan *session
	all   []*session
	admin *session // runs KILL QUERY and nothing else
	kill  sync.Mutex
	hello []string
	bufs  sync.Pool
}

// New opens the engine with args and n sessions on it.
func New(lib *chdb.Library, n int, args ...string) (*Server, error) {
	s := &Server{idle: make(chan *session, n), bufs: sync.Pool{New: func() any { b := make([]byte, 1<<18); return &b }}}
	var err error
	if s.admin, err = open(lib, "admin", args); err != nil {
		return nil, err
	}
	for i := range n {
		ss, err := open(lib, fmt.Sprintf("session-%d", i), args)
		if err != nil {
			s.Close()
			return nil, err
		}
		s.all = append(s.all, ss)
		s.idle <- ss
	}
	r, err := s.admin.conn.Query("SELECT displayName(), version(), timezone()", "TSV")
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("ask engine for its version: %w", err)
	}
	defer r.Free()
	s.hello = strings.Split(strings.TrimSpace(string(r.Bytes())), "\t")
	return s, nil
}

// Close waits for the statements under way and ends the sessions. No request may come in any more.
func (s *Server) Close() {
	for range s.all {
		(<-s.idle).conn.Close()
	}
	s.admin.conn.Close()
}

// Version is the engine's.
func (s *Server) Version() string { return s.hello[1] }

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/ping" {
		io.WriteString(w, "Ok.\n")
		return
	}
	q := r.URL.Query()
	out := newReply(w, r, q)
	if err := s.serve(out, r, q); err != nil {
		out.fail(err)
		return
	}
	out.finish()
}

// refusal is an error of the façade itself, in the form of the engine's.
func refusal(code int, text string) error {
	return &chdb.Error{Code: code, Text: fmt.Sprintf("Code: %d. DB::Exception: %s", code, text)}
}

var (
	comments    = `(?:\s+|--[^\n]*\n|/\*.*?\*/)*`
	insertStart = regexp.MustCompile(`(?is)^` + comments + `INSERT\b`)
	selectStart = regexp.MustCompile(`(?is)^` + comments + `(?:\(|SELECT\b|WITH\b)`)
	formatEnd   = regexp.MustCompile(`(?is)\s+FORMAT\s+([A-Za-z0-9]+)\s*;?\s*$`)
)

// helloQuery is what clickhouse-go sends on a new connection.
const helloQuery = "SELECT displayName(), version(), revision(), timezone()"

func (s *Server) serve(out *reply, r *http.Request, q url.Values) error {
	body, err := requestBody(r, q)
	if err != nil {
		return err
	}
	query := q.Get("query")
	insert := insertStart.MatchString(query)
	if !insert {
		b, err := io.ReadAll(io.LimitReader(body, maxStatement+1))
		if err != nil {
			return fmt.Errorf("read statement: %w", err)
		}
		if query += string(b); len(query) > maxStatement {
			return refusal(62, "the statement is longer than 1 MiB; send values as parameters or as an insert (SYNTAX_ERROR)")
		}
	}
	if query == helloQuery {
		return s.sayHello(out, q)
	}
	var params []chdb.Param
	for k, v := range q {
		if name, ok := strings.CutPrefix(k, "param_"); ok {
			params = append(params, chdb.Param{Name: name, Value: v[0]})
		}
	}
	format := q.Get("default_format")
	if format == "" {
		format = "TabSeparated"
	}

	ctx := r.Context()
	var ss *session
	select {
	case ss = <-s.idle:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.idle <- ss }()
	if err := ss.apply(q); err != nil {
		return err
	}
	unwatch := s.watch(ctx, ss)
	defer unwatch()

	switch {
	case insert:
		err = s.insert(ss, query, body, params)
	case selectStart.MatchString(query):
		err = ss.stream(out, query, format, params)
	default:
		err = ss.whole(out, query, format, params)
	}
	if err != nil {
		// A session holds a failed statement's memory until its next statement.
		_ = ss.exec("SELECT 1")
	}
	return err
}

// watch kills the session's statement when ctx ends before the returned function is called, which waits, so that no kill can
// hit the session's next statement.
func (s *Server) watch(ctx context.Context, ss *session) func() {
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		select {
		case <-done:
			return
		case <-ctx.Done():
		}
		again := time.NewTicker(50 * time.Millisecond) // the statement may not have begun yet
		defer again.Stop()
		for {
			s.kill.Lock()
			_ = s.admin.exec("KILL QUERY WHERE Settings['log_comment'] = " + quote(ss.id) + " ASYNC")
			s.kill.Unlock()
			select {
			case <-done:
				return
			case <-again.C:
			}
		}
	}()
	return func() { close(done); <-gone }
}

func (s *Server) insert(ss *session, query string, data io.Reader, params []chdb.Param) error {
	format := "Values"
	if m := formatEnd.FindStringSubmatchIndex(query); m != nil {
		format, query = query[m[2]:m[3]], query[:m[0]]
	}
	in, err := ss.conn.Insert(query, format, params...)
	if err != nil {
		return err
	}
	buf := s.bufs.Get().(*[]byte)
	defer s.bufs.Put(buf)
	empty := true
	for {
		n, readErr := data.Read(*buf)
		if n > 0 {
			empty = false
			if _, err := in.Write((*buf)[:n]); err != nil {
				return in.Done() // which says why
			}
		}
		if errors.Is(readErr, io.EOF) { // ch-go's reader wraps EOF
			break
		}
		if readErr != nil {
			in.Cancel()
			return fmt.Errorf("read data: %w", readErr)
		}
	}
	if empty {
		// clickhouse-go sends nothing, and reports success, when it couldn't encode a batch (columns of unequal length).
		in.Cancel()
		return refusal(108, "INSERT without data: are the batch's columns of one length? (NO_DATA_TO_INSERT)")
	}
	return in.Done()
}
