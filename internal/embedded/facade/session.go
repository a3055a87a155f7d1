//go:build linux && !noembed

package facade

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"nowcast/internal/embedded/chdb"
)

// session is a connection to the engine, with its current database and settings.
type session struct {
	conn     *chdb.Conn
	id       string // and its log_comment, by which KILL QUERY finds its statement
	database string
	settings map[string]string
}

func open(lib *chdb.Library, id string, args []string) (*session, error) {
	conn, err := lib.Connect(args...)
	if err != nil {
		return nil, err
	}
	ss := &session{conn: conn, id: id, database: "default", settings: map[string]string{}}
	// A server's default is 0. With 1, the engine would run a mistyped statement as an expression.
	return ss, ss.exec("SET implicit_select = 0, log_comment = " + quote(id))
}

func (ss *session) exec(query string) error {
	r, err := ss.conn.Query(query, "Null")
	if err == nil {
		r.Free()
	}
	return err
}

func quote(v string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v) + "'"
}

var (
	settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)
	// Parameters of the HTTP interface's URL that are no settings.
	urlParameters = []string{"buffer_size", "client_protocol_version", "close_session", "compress",
		"database", "decompress", "default_format", "network_compression_method",
		"network_zstd_compression_level", "password", "query", "query_id", "quota_key", "role",
		"session_check", "session_id", "session_timeout", "stacktrace", "user", "wait_end_of_query",
		// Settings of a server's HTTP interface. The facade always stops the statement of a client that
		// disconnects, and a read-only session would be useless for the next request.
		"cancel_http_readonly_queries_on_client_close", "readonly"}
	// Settings of the facade's own, which a client can't change.
	reservedSettings = []string{"implicit_select", "log_comment"}
)

// applySettings changes the session's database and settings to those of the request. A setting of an
// earlier request that this one doesn't name goes back to its default.
func (ss *session) applySettings(q url.Values) error {
	if db := q.Get("database"); db != "" && db != ss.database {
		identifier := "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(db) + "`"
		if err := ss.exec("USE " + identifier); err != nil {
			return err
		}
		ss.database = db
	}
	want := map[string]string{}
	for k, v := range q {
		if slices.Contains(urlParameters, k) || slices.Contains(reservedSettings, k) ||
			strings.HasPrefix(k, "param_") {
			continue
		}
		if !settingName.MatchString(k) {
			return newException(codeUnknownSetting, "no setting has such a name (UNKNOWN_SETTING)")
		}
		want[k] = v[0]
	}
	var changes []string
	for k := range ss.settings {
		if _, ok := want[k]; !ok {
			changes = append(changes, k+" = DEFAULT")
		}
	}
	for k, v := range want {
		if current, ok := ss.settings[k]; !ok || current != v {
			changes = append(changes, k+" = "+quote(v))
		}
	}
	if len(changes) == 0 {
		return nil
	}
	slices.Sort(changes)
	if err := ss.exec("SET " + strings.Join(changes, ", ")); err != nil {
		return err // no change was applied: the engine checks all of them first
	}
	ss.settings = want
	return nil
}

// stream runs a SELECT and writes its blocks as they come.
func (ss *session) stream(out *response, query, format string, params []chdb.Param) error {
	st, err := ss.conn.Stream(query, format, params...)
	if err != nil {
		var e *chdb.Error
		if errors.As(err, &e) && e.Code == codeBadArguments &&
			strings.Contains(e.Text, "Streaming query is not supported") {
			return ss.run(out, query, format, params)
		}
		return err
	}
	defer st.Free()
	for {
		r, err := st.Next()
		if err != nil || r == nil {
			return err
		}
		_, err = out.Write(r.Bytes())
		r.Free()
		if err != nil {
			st.Cancel()
			return err
		}
	}
}

// run runs any statement and writes its whole result.
func (ss *session) run(out *response, query, format string, params []chdb.Param) error {
	r, err := ss.conn.Query(query, format, params...)
	if err != nil {
		return err
	}
	defer r.Free()
	_, err = out.Write(r.Bytes())
	return err
}
