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

// session is one connection of the engine and what has been set on it.
type session struct {
	conn     *chdb.Conn
	id       string // also its log_comment, by which KILL QUERY finds its statement
	database string
	settings map[string]string
}

func open(lib *chdb.Library, id string, args []string) (*session, error) {
	conn, err := lib.Connect(args...)
	if err != nil {
		return nil, err
	}
	ss := &session{conn: conn, id: id, database: "default", settings: map[string]string{}}
	// A server's default, so that a typing error in SQL is one here too.
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
	// What a URL of the HTTP interface holds that is no setting.
	noSetting = []string{"buffer_size", "client_protocol_version", "close_session", "compress", "database", "decompress",
		"default_format", "network_compression_method", "network_zstd_compression_level", "password", "query", "query_id",
		"quota_key", "role", "session_check", "session_id", "session_timeout", "stacktrace", "user", "wait_end_of_query",
		// Of a server's HTTP interface: this one always stops what nobody waits for, and a session that can't be written is no use to the next.
		"cancel_http_readonly_queries_on_client_close", "readonly"}
	// What holds a session together and is not the client's to change.
	reserved = []string{"implicit_select", "log_comment"}
)

// apply makes the session's database and settings those of the request: what an earlier one set and this one doesn't goes
// back to its default.
func (ss *session) apply(q url.Values) error {
	if db := q.Get("database"); db != "" && db != ss.database {
		if err := ss.exec("USE `" + strings.ReplaceAll(strings.ReplaceAll(db, `\`, `\\`), "`", "\\`") + "`"); err != nil {
			return err
		}
		ss.database = db
	}
	want := map[string]string{}
	for k, v := range q {
		if slices.Contains(noSetting, k) || slices.Contains(reserved, k) || strings.HasPrefix(k, "param_") {
			continue
		}
		if !settingName.MatchString(k) {
			return refusal(115, "no setting has such a name (UNKNOWN_SETTING)")
		}
		want[k] = v[0]
	}
	var set []string
	for k := range ss.settings {
		if _, ok := want[k]; !ok {
			set = append(set, k+" = DEFAULT")
		}
	}
	for k, v := range want {
		if had, ok := ss.settings[k]; !ok || had != v {
			set = append(set, k+" = "+quote(v))
		}
	}
	if len(set) == 0 {
		return nil
	}
	slices.Sort(set)
	if err := ss.exec("SET " + strings.Join(set, ", ")); err != nil {
		return err // the engine checks them all before it applies one
	}
	ss.settings = want
	return nil
}

// stream runs a SELECT and passes its blocks on as they come.
func (ss *session) stream(out *reply, query, format string, params []chdb.Param) error {
	st, err := ss.conn.Stream(query, format, params...)
	if err != nil {
		var e *chdb.Error
		if errors.As(err, &e) && e.Code == 36 && strings.Contains(e.Text, "Streaming query is not supported") {
			return ss.whole(out, query, format, params)
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

// whole runs any statement.
func (ss *session) whole(out *reply, query, format string, params []chdb.Param) error {
	r, err := ss.conn.Query(query, format, params...)
	if err != nil {
		return err
	}
	defer r.Free()
	_, err = out.Write(r.Bytes())
	return err
}
