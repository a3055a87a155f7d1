//go:build linux && !noembed

// Package chdb calls libchdb, the ClickHouse engine as a shared library, without cgo.
//
// It promises that Go's signal handlers stay in place and that statements and data may hold any byte. A
// crash of the engine ends the process, so use it only in a process of its own. Open the engine once a
// process, since each close and reopen leaks threads, with any number of sessions (Conn) on one data
// path.
package chdb

import (
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strconv"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

type ptr = unsafe.Pointer

// statementFunc starts a statement: SQL q of qn bytes, with a format's name of fn bytes and n
// parameters.
type statementFunc = func(
	conn, q ptr, qn uint, format ptr, fn uint, names, nameLens, values, valueLens ptr, n uint,
) ptr

// Library is a loaded libchdb. Its fields are the C functions. All of them take strings as pointer and
// length.
type Library struct {
	setSignalHandlers func(enabled int32)
	connect           func(argc int32, argv ptr) ptr
	closeConn         func(conn ptr)
	query             statementFunc
	streamQuery       statementFunc
	streamFetch       func(conn, stream ptr) ptr
	streamCancel      func(conn, stream ptr)
	streamInsert      statementFunc
	insertAppend      func(insert, data ptr, n uint) int32
	insertDone        func(insert ptr) ptr
	insertCancel      func(insert ptr)
	insertError       func(insert ptr) ptr
	insertDestroy     func(insert ptr)
	resultDestroy     func(result ptr)
	resultBuffer      func(result ptr) ptr
	resultLength      func(result ptr) uint
	resultError       func(result ptr) ptr

	sigaction func(signal int32, act, old ptr) int32
	signals   sync.Mutex
}

// Load loads the library at path. Call it once a process.
func Load(path string) (*Library, error) {
	l := &Library{}
	libc, err := purego.Dlopen("libc.so.6", purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return nil, fmt.Errorf("load glibc, which the engine needs: %w", err)
	}
	purego.RegisterLibFunc(&l.sigaction, libc, "sigaction")
	lib, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", path, err)
	}
	for name, f := range map[string]any{
		"chdb_set_signal_handlers_enabled": &l.setSignalHandlers,
		"chdb_connect":                     &l.connect,
		"chdb_close_conn":                  &l.closeConn,
		"chdb_query_with_params_n":         &l.query,
		"chdb_stream_query_with_params_n":  &l.streamQuery,
		"chdb_stream_fetch_result":         &l.streamFetch,
		"chdb_stream_cancel_query":         &l.streamCancel,
		"chdb_stream_insert_with_params_n": &l.streamInsert,
		"chdb_stream_append":               &l.insertAppend,
		"chdb_stream_done":                 &l.insertDone,
		"chdb_stream_cancel_insert":        &l.insertCancel,
		"chdb_stream_insert_error":         &l.insertError,
		"chdb_destroy_insert_stream":       &l.insertDestroy,
		"chdb_destroy_query_result":        &l.resultDestroy,
		"chdb_result_buffer":               &l.resultBuffer,
		"chdb_result_length":               &l.resultLength,
		"chdb_result_error":                &l.resultError,
	} {
		address, err := purego.Dlsym(lib, name)
		if err != nil {
			return nil, fmt.Errorf("find %s in %s: %w", name, path, err)
		}
		purego.RegisterFunc(f, address)
	}
	l.keepSignals(func() { l.setSignalHandlers(0) })
	return l, nil
}

// keepSignals runs f and restores the action of every signal. When the library is told to install no
// handlers, and on every connect, it resets the signals of crashes, which Go turns into panics, to their
// default.
func (l *Library) keepSignals(f func()) {
	const size = 256 // bytes; at least sizeof(struct sigaction)
	const last, kill, stop = 31, 9, 19
	l.signals.Lock()
	defer l.signals.Unlock()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var saved [last + 1][size]byte
	for s := int32(1); s <= last; s++ {
		l.sigaction(s, nil, ptr(&saved[s][0]))
	}
	f()
	for s := int32(1); s <= last; s++ {
		if s != kill && s != stop {
			l.sigaction(s, ptr(&saved[s][0]), nil)
		}
	}
}

// Error is a ClickHouse exception. Code is 0 if the text names none.
type Error struct {
	Code int
	Text string
}

func (e *Error) Error() string { return e.Text }

var codePattern = regexp.MustCompile(`Code:\s*(\d+)\.`)

func newError(p ptr) error {
	if p == nil {
		return nil
	}
	n := 0
	for *(*byte)(unsafe.Add(p, n)) != 0 {
		n++
	}
	if n == 0 {
		return nil
	}
	e := &Error{Text: string(unsafe.Slice((*byte)(p), n))}
	if m := codePattern.FindStringSubmatch(e.Text); m != nil {
		e.Code, _ = strconv.Atoi(m[1])
	}
	return e
}

// Conn is one session, with its own settings and database. It runs one statement at a time.
type Conn struct {
	lib    *Library
	handle ptr // chdb_connection *
	conn   ptr // chdb_connection
}

// Connect opens a session. The first call opens the engine with args (--path=/absolute/path and
// settings); later calls have to name the same path.
func (l *Library) Connect(args ...string) (*Conn, error) {
	argv := []*byte{terminated("chdb")}
	for _, a := range args {
		argv = append(argv, terminated(a))
	}
	argc := int32(len(argv))
	argv = append(argv, nil)
	var h ptr
	l.keepSignals(func() { h = l.connect(argc, ptr(&argv[0])) })
	runtime.KeepAlive(argv)
	if h == nil {
		return nil, errors.New("open engine: the cause is in the log before this")
	}
	return &Conn{l, h, *(*ptr)(h)}, nil
}

// Close ends the session.
func (c *Conn) Close() {
	if c.handle != nil {
		c.lib.closeConn(c.handle)
		c.handle, c.conn = nil, nil
	}
}

func terminated(s string) *byte {
	b := make([]byte, len(s)+1)
	copy(b, s)
	return &b[0]
}

func start[T any](s []T) ptr { return ptr(unsafe.SliceData(s)) }

// Param is the value of a {name:Type} parameter, in ClickHouse's escaped text form.
type Param struct{ Name, Value string }

// statement holds the arguments of the calls that start a statement, and keeps their memory reachable
// during the call.
type statement struct {
	query, format       []byte
	names, values       []*byte
	nameLens, valueLens []uint
}

func newStatement(query, format string, params []Param) *statement {
	s := &statement{query: append([]byte(query), 0), format: append([]byte(format), 0)}
	for _, p := range params {
		s.names, s.nameLens = append(s.names, terminated(p.Name)), append(s.nameLens, uint(len(p.Name)))
		s.values, s.valueLens = append(s.values, terminated(p.Value)), append(s.valueLens, uint(len(p.Value)))
	}
	return s
}

func (s *statement) call(f statementFunc, conn ptr) ptr {
	p := f(conn, start(s.query), uint(len(s.query)-1), start(s.format), uint(len(s.format)-1),
		start(s.names), start(s.nameLens), start(s.values), start(s.valueLens), uint(len(s.names)))
	runtime.KeepAlive(s)
	return p
}

// Result is a block of result data in the engine's memory.
type Result struct {
	lib *Library
	r   ptr
}

// Bytes returns the data. It is valid until Free.
func (r *Result) Bytes() []byte {
	n := r.lib.resultLength(r.r)
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(r.lib.resultBuffer(r.r)), n)
}

// Free releases the engine's memory.
func (r *Result) Free() {
	if r.r != nil {
		r.lib.resultDestroy(r.r)
		r.r = nil
	}
}

func (l *Library) result(p ptr) (*Result, error) {
	if p == nil {
		return nil, errors.New("the engine returned no result")
	}
	if err := newError(l.resultError(p)); err != nil {
		l.resultDestroy(p)
		return nil, err
	}
	return &Result{l, p}, nil
}

// Query runs a statement and returns its whole result.
func (c *Conn) Query(query, format string, params ...Param) (*Result, error) {
	return c.lib.result(newStatement(query, format, params).call(c.lib.query, c.conn))
}

// Stream is a running SELECT.
type Stream struct {
	conn *Conn
	r    *Result
}

// Stream starts a SELECT. The engine refuses any other statement with code 36 before it runs.
func (c *Conn) Stream(query, format string, params ...Param) (*Stream, error) {
	r, err := c.lib.result(newStatement(query, format, params).call(c.lib.streamQuery, c.conn))
	if err != nil {
		return nil, err
	}
	return &Stream{c, r}, nil
}

// Next returns the next block, or nil at the end.
func (s *Stream) Next() (*Result, error) {
	r, err := s.conn.lib.result(s.conn.lib.streamFetch(s.conn.conn, s.r.r))
	if err != nil {
		return nil, err
	}
	if s.conn.lib.resultLength(r.r) == 0 {
		r.Free()
		return nil, nil
	}
	return r, nil
}

// Cancel stops the SELECT. Call Free after it.
func (s *Stream) Cancel() { s.conn.lib.streamCancel(s.conn.conn, s.r.r) }

// Free ends the stream.
func (s *Stream) Free() { s.r.Free() }

// Insert is a running INSERT. End it with Done or Cancel.
type Insert struct {
	lib *Library
	i   ptr
}

// Insert starts an INSERT. query must have neither a FORMAT clause nor data.
func (c *Conn) Insert(query, format string, params ...Param) (*Insert, error) {
	p := newStatement(query, format, params).call(c.lib.streamInsert, c.conn)
	if p == nil {
		return nil, errors.New("the engine started no insert")
	}
	if err := newError(c.lib.insertError(p)); err != nil {
		c.lib.insertDestroy(p)
		return nil, err
	}
	return &Insert{c.lib, p}, nil
}

// Write passes a copy of b to the engine. After an error of Write, Done returns the cause.
func (i *Insert) Write(b []byte) (int, error) {
	if len(b) > 0 && i.lib.insertAppend(i.i, ptr(&b[0]), uint(len(b))) != 0 {
		return 0, errors.New("the engine refused the data")
	}
	return len(b), nil
}

// Done commits the insert.
func (i *Insert) Done() error {
	r, err := i.lib.result(i.lib.insertDone(i.i))
	if err == nil {
		r.Free()
	}
	i.lib.insertDestroy(i.i)
	return err
}

// Cancel ends the insert without committing.
func (i *Insert) Cancel() {
	i.lib.insertCancel(i.i)
	i.lib.insertDestroy(i.i)
}
