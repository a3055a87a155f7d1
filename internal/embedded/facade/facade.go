//go:build linux && !noembed

// Package facade serves the part of ClickHouse's HTTP interface that clickhouse-go uses, on an embedded
// engine. So one client with one dialect of SQL reaches the embedded engine and a cluster.
//
// It keeps a ClickHouse server's promises: status 200 of an insert means that all of its rows are
// durable, an incomplete or empty insert commits no row, a client that disconnects stops its statement,
// and an exception is reported in ClickHouse's form, before the first byte of the response or inside it.
// A request waits while all sessions are busy. Source: https://clickhouse.com/docs/interfaces/http
package facade

import (
	"cmp"
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

const (
	maxStatement = 1 << 20               // bytes of a statement; the engine's parser allows a quarter of it
	insertBuffer = 1 << 18               // bytes of an insert that are passed to the engine at once
	killEvery    = 50 * time.Millisecond // until a cancelled statement has ended
)

// ClickHouse's error codes.
// Source: https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
const (
	codeBadArguments     = 36
	codeNotImplemented   = 48
	codeSyntaxError      = 62
	codeNoDataToInsert   = 108
	codeUnknownSetting   = 115
	codeUnknownException = 1002
)

// Server is an http.Handler over a pool of sessions.
type Server struct {
	idle    chan *session
	all     []*session
	admin   *session // runs only KILL QUERY
	adminMu sync.Mutex
	engine  engineInfo
	buffers sync.Pool // of *[]byte, insertBuffer long
}

// engineInfo is the answer to clickhouse-go's handshake.
type engineInfo struct{ displayName, version, timezone string }

// New opens the engine with args, and n sessions on it.
func New(lib *chdb.Library, n int, args ...string) (*Server, error) {
	s := &Server{idle: make(chan *session, n)}
	s.buffers.New = func() any { b := make([]byte, insertBuffer); return &b }
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
		return nil, fmt.Errorf("query engine's version: %w", err)
	}
	defer r.Free()
	info := strings.Split(strings.TrimSpace(string(r.Bytes())), "\t")
	if len(info) != 3 {
		s.Close()
		return nil, fmt.Errorf("read engine's version: got %q", info)
	}
	s.engine = engineInfo{info[0], info[1], info[2]}
	return s, nil
}

// Close waits for the running statements and closes the sessions. Serve no request after it.
func (s *Server) Close() {
	for range s.all {
		(<-s.idle).conn.Close()
	}
	s.admin.conn.Close()
}

// Version returns the engine's version.
func (s *Server) Version() string { return s.engine.version }

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/ping" {
		io.WriteString(w, "Ok.\n")
		return
	}
	q := r.URL.Query()
	out := newResponse(w, r, q)
	if err := s.serve(out, r, q); err != nil {
		out.fail(err)
		return
	}
	out.finish()
}

// newException returns an error of the facade itself, in the engine's form.
func newException(code int, text string) error {
	return &chdb.Error{Code: code, Text: fmt.Sprintf("Code: %d. DB::Exception: %s", code, text)}
}

var (
	comments    = `(?:\s+|--[^\n]*\n|/\*.*?\*/)*`
	insertStart = regexp.MustCompile(`(?is)^` + comments + `INSERT\b`)
	selectStart = regexp.MustCompile(`(?is)^` + comments + `(?:\(|SELECT\b|WITH\b)`)
	formatEnd   = regexp.MustCompile(`(?is)\s+FORMAT\s+([A-Za-z0-9]+)\s*;?\s*$`)
)

// handshakeQuery is the first statement of clickhouse-go on a new connection.
const handshakeQuery = "SELECT displayName(), version(), revision(), timezone()"

func (s *Server) serve(out *response, r *http.Request, q url.Values) error {
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
			return newException(codeSyntaxError,
				"the statement is longer than 1 MiB; send values as parameters or as an insert "+
					"(SYNTAX_ERROR)")
		}
	}
	if query == handshakeQuery {
		return s.answerHandshake(out, q)
	}
	var params []chdb.Param
	for k, v := range q {
		if name, ok := strings.CutPrefix(k, "param_"); ok {
			params = append(params, chdb.Param{Name: name, Value: v[0]})
		}
	}
	format := cmp.Or(q.Get("default_format"), "TabSeparated")

	ctx := r.Context()
	var ss *session
	select {
	case ss = <-s.idle:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.idle <- ss }()
	if err := ss.applySettings(q); err != nil {
		return err
	}
	defer s.killOnCancel(ctx, ss)()

	switch {
	case insert:
		err = s.insert(ss, query, body, params)
	case selectStart.MatchString(query):
		err = ss.stream(out, query, format, params)
	default:
		err = ss.run(out, query, format, params)
	}
	if err != nil {
		// A session keeps a failed statement's memory until its next statement.
		_ = ss.exec("SELECT 1")
	}
	return err
}

// killOnCancel kills the session's statement if ctx ends before stop is called. stop waits until no kill
// is running, so that none can hit the session's next statement.
func (s *Server) killOnCancel(ctx context.Context, ss *session) (stop func()) {
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-done:
			return
		case <-ctx.Done():
		}
		tick := time.NewTicker(killEvery) // the first kill may come before the statement has started
		defer tick.Stop()
		for {
			s.adminMu.Lock()
			_ = s.admin.exec("KILL QUERY WHERE Settings['log_comment'] = " + quote(ss.id) + " ASYNC")
			s.adminMu.Unlock()
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() { close(done); <-stopped }
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
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	empty := true
	for {
		n, readErr := data.Read(*buf)
		if n > 0 {
			empty = false
			if _, err := in.Write((*buf)[:n]); err != nil {
				return in.Done() // returns the cause
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
		// clickhouse-go sends an empty body, and reports success, if it fails to encode a batch (columns
		// of unequal length).
		in.Cancel()
		return newException(codeNoDataToInsert,
			"INSERT without data: are the batch's columns of one length? (NO_DATA_TO_INSERT)")
	}
	return in.Done()
}
