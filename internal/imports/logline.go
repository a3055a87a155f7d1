package imports

import (
	"bytes"
	"encoding/json"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// logFormat returns the format of a line, nil if it is of none.
func logFormat(line []byte) lineFormat {
	line = bytes.TrimSpace(line)
	if len(line) > 0 && line[0] == '{' {
		if _, ok := jsonLine(line); ok {
			return jsonLine
		}
		return nil
	}
	if _, ok := combined(line); ok {
		return combined
	}
	return nil
}

const combinedTime = "02/Jan/2006:15:04:05 -0700"

// combined reads `address - user [time] "request" status bytes "referrer" "agent"`, with or without a host
// before it. What follows is left out.
func combined(b []byte) (q request, ok bool) {
	line := string(b)
	before, rest, ok := strings.Cut(line, " [")
	if !ok {
		return q, false
	}
	switch words := strings.Fields(before); {
	case len(words) == 4: // Apache's vhost_combined
		q.host, q.address = words[0], words[1]
	case len(words) >= 3:
		q.address = words[0]
	default:
		return q, false
	}
	at, rest, ok := strings.Cut(rest, "] ")
	if !ok {
		return q, false
	}
	var err error
	if q.at, err = time.Parse(combinedTime, at); err != nil {
		return q, false
	}
	asked, rest, ok := quotedField(rest)
	if !ok {
		return q, false
	}
	words := strings.Fields(asked)
	if len(words) >= 2 {
		q.method, q.uri = words[0], words[1]
	}
	after := strings.Fields(rest)
	if len(after) < 2 {
		return q, false
	}
	if q.status, err = strconv.Atoi(after[0]); err != nil {
		return q, false
	}
	if q.referrer, rest, ok = quotedField(rest); !ok {
		return q, true // the Common format: without an agent it is a robot's
	}
	q.agent, _, _ = quotedField(rest)
	if strings.HasPrefix(q.uri, "http://") || strings.HasPrefix(q.uri, "https://") {
		if u, err := url.Parse(q.uri); err == nil {
			q.host, q.uri = u.Host, u.RequestURI()
		}
	}
	return q, true
}

// quotedField returns the next text in quotes, in which \" stands for a quote, and what follows it.
func quotedField(s string) (field, rest string, ok bool) {
	i := strings.IndexByte(s, '"')
	if i < 0 {
		return "", "", false
	}
	s = s[i+1:]
	for j := 0; j < len(s); j++ {
		switch s[j] {
		case '\\':
			j++
		case '"':
			return strings.ReplaceAll(s[:j], `\"`, `"`), s[j+1:], true
		}
	}
	return "", "", false
}

// jsonLine reads an object of Caddy's, Traefik's or nginx's JSON log.
func jsonLine(b []byte) (q request, ok bool) {
	var fields map[string]any
	if json.Unmarshal(b, &fields) != nil {
		return q, false
	}
	headers, _ := fields["headers"].(map[string]any)
	if nested, isObject := fields["request"].(map[string]any); isObject { // Caddy
		headers, _ = nested["headers"].(map[string]any)
		for k, v := range nested {
			if _, taken := fields[k]; !taken {
				fields[k] = v
			}
		}
	}
	text := func(names ...string) string {
		for _, n := range names {
			for _, in := range [...]map[string]any{fields, headers} {
				switch v := in[n].(type) {
				case string:
					return v
				case []any:
					if len(v) > 0 {
						s, _ := v[0].(string)
						return s
					}
				}
			}
		}
		return ""
	}
	if q.at, ok = jsonTime(fields); !ok {
		return q, false
	}
	q.address = text("client_ip", "remote_ip", "remote_addr", "ClientHost", "clientip", "ip")
	q.method = text("request_method", "RequestMethod", "method")
	q.uri = text("request_uri", "RequestPath", "uri", "path", "url")
	if asked := strings.Fields(text("request")); q.method == "" && len(asked) >= 2 {
		q.method, q.uri = asked[0], asked[1]
	}
	q.host = text("http_host", "host", "RequestHost", "server_name", "vhost")
	q.referrer = text("http_referer", "referer", "referrer", "Referer", "request_Referer")
	q.agent = text("http_user_agent", "user_agent", "agent", "User-Agent", "request_User-Agent")
	q.languages = text("http_accept_language", "Accept-Language")
	for _, n := range [...]string{"status", "DownstreamStatus", "OriginStatus", "response_code"} {
		switch v := fields[n].(type) {
		case float64:
			q.status = int(v)
		case string:
			q.status, _ = strconv.Atoi(v)
		default:
			continue
		}
		break
	}
	return q, q.method != "" && q.uri != ""
}

// jsonTime finds the time of a line.
func jsonTime(fields map[string]any) (time.Time, bool) {
	for _, n := range [...]string{"ts", "time", "time_iso8601", "StartUTC", "timestamp", "@timestamp", "msec",
		"time_local"} {
		switch v := fields[n].(type) {
		case float64:
			if v <= 0 || v > 1e14 {
				return time.Time{}, false
			}
			if v > 1e11 { // milliseconds
				v /= 1000
			}
			whole, part := math.Modf(v)
			return time.Unix(int64(whole), int64(part*1e9)), true
		case string:
			for _, layout := range [...]string{time.RFC3339, combinedTime, "2006-01-02 15:04:05"} {
				if t, err := time.Parse(layout, v); err == nil {
					return t, true
				}
			}
			if f, err := strconv.ParseFloat(v, 64); err == nil && f > 0 && f < 1e11 {
				whole, part := math.Modf(f)
				return time.Unix(int64(whole), int64(part*1e9)), true
			}
		}
	}
	return time.Time{}, false
}

// cloudFront reads lines of tabs with the fields that #Fields names. Values are percent-encoded, agents
// twice.
func cloudFront(fields []string) lineFormat {
	columns := map[string]int{}
	for i, f := range fields {
		columns[f] = i
	}
	return func(line []byte) (q request, ok bool) {
		values := strings.Split(string(line), "\t")
		get := func(name string) string {
			i, ok := columns[name]
			if !ok || i >= len(values) || values[i] == "-" {
				return ""
			}
			return values[i]
		}
		var err error
		if q.at, err = time.Parse(time.DateTime, get("date")+" "+get("time")); err != nil {
			return q, false
		}
		if q.status, err = strconv.Atoi(get("sc-status")); err != nil {
			return q, false
		}
		q.address, q.method, q.uri = get("c-ip"), get("cs-method"), get("cs-uri-stem")
		if query := get("cs-uri-query"); query != "" {
			q.uri += "?" + query
		}
		if q.host = get("x-host-header"); q.host == "" {
			q.host = get("cs(Host)")
		}
		q.referrer, q.agent = unescaped(get("cs(Referer)")), unescaped(unescaped(get("cs(User-Agent)")))
		return q, q.method != "" && q.uri != ""
	}
}

func unescaped(s string) string {
	if u, err := url.PathUnescape(s); err == nil {
		return u
	}
	return s
}
