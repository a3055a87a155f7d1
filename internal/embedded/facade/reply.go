//go:build linux && !noembed

package facade

import (
	"compress/gzip"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"

	"nowcast/internal/embedded/chdb"
)

// requestBody is the request's body without its compressions.
func requestBody(r *http.Request, q url.Values) (io.Reader, error) {
	body := io.Reader(r.Body)
	switch r.Header.Get("Content-Encoding") {
	case "", "lz4", "zstd": // clickhouse-go names so what decompress=1 means
	case "gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, fmt.Errorf("read gzip: %w", err)
		}
		body = z
	default:
		return nil, refusal(48, "this Content-Encoding is not supported here; use gzip, lz4 or zstd (NOT_IMPLEMENTED)")
	}
	if q.Get("decompress") == "1" {
		body = compress.NewReader(body)
	}
	return body, nil
}

// sayHello answers clickhouse-go's first question. The engine writes blocks of revision 0, so that is the revision reported
// and clickhouse-go decodes all later ones so; only this block is in the revision that the client asked for.
func (s *Server) sayHello(out *reply, q url.Values) error {
	revision, _ := strconv.ParseUint(q.Get("client_protocol_version"), 10, 64)
	b := proto.NewBlock()
	for _, c := range [][2]string{{"displayName()", "String"}, {"version()", "String"}, {"revision()", "UInt32"}, {"timezone()", "String"}} {
		if err := b.AddColumn(c[0], column.Type(c[1])); err != nil {
			return err
		}
	}
	if err := b.Append(s.hello[0], s.hello[1], uint32(0), s.hello[2]); err != nil {
		return err
	}
	buf := &chproto.Buffer{}
	if err := b.Encode(buf, revision); err != nil {
		return err
	}
	_, err := out.Write(buf.Buf)
	return err
}

// reply writes a response's body: plain, as gzip or as ClickHouse's compressed blocks.
type reply struct {
	w      http.ResponseWriter
	gzip   *gzip.Writer
	blocks *compress.Writer
	tag    string
	begun  bool
}

func newReply(w http.ResponseWriter, r *http.Request, q url.Values) *reply {
	o := &reply{w: w, tag: rand.Text()[:16]}
	switch {
	case q.Get("compress") == "1":
		method := compress.LZ4
		if strings.EqualFold(q.Get("network_compression_method"), "zstd") {
			method = compress.ZSTD
		}
		o.blocks = compress.NewWriter(compress.LevelZero, method)
	case strings.Contains(r.Header.Get("Accept-Encoding"), "gzip"):
		o.gzip = gzip.NewWriter(w)
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-ClickHouse-Exception-Tag", o.tag)
	return o
}

func (o *reply) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if !o.begun && o.gzip != nil {
		o.w.Header().Set("Content-Encoding", "gzip")
	}
	o.begun = true
	switch {
	case o.blocks != nil:
		const block = 1 << 20
		for rest := p; len(rest) > 0; rest = rest[min(len(rest), block):] {
			if err := o.blocks.Compress(rest[:min(len(rest), block)]); err != nil {
				return 0, err
			}
			if _, err := o.w.Write(o.blocks.Data); err != nil {
				return 0, err
			}
		}
		return len(p), nil
	case o.gzip != nil:
		return o.gzip.Write(p)
	default:
		return o.w.Write(p)
	}
}

func (o *reply) finish() {
	switch {
	case !o.begun:
		o.w.Header().Set("Content-Length", "0")
		o.w.WriteHeader(http.StatusOK)
	case o.gzip != nil:
		_ = o.gzip.Close() // the client has gone
	}
}

// fail tells err: by status and header before the first byte, else by the tagged block that ClickHouse appends to a stream
// that it can't go on with. That block is plain text even among compressed ones.
func (o *reply) fail(err error) {
	const unknown = 1002
	code := unknown
	text := err.Error()
	var e *chdb.Error
	if errors.As(err, &e) && e.Code > 0 {
		code = e.Code
		text = text[max(0, strings.Index(text, "Code: ")):]
	} else {
		text = fmt.Sprintf("Code: %d. DB::Exception: %s", code, text)
	}
	if !o.begun {
		o.w.Header().Set("X-ClickHouse-Exception-Code", strconv.Itoa(code))
		o.w.WriteHeader(http.StatusInternalServerError)
		o.gzip = nil
		_, _ = o.Write([]byte(text))
		return
	}
	o.blocks = nil
	_, _ = fmt.Fprintf(o, "\r\n__exception__\r\n%s\r\n%s\n%d %s\r\n__exception__\r\n", o.tag, text, len(text)+1, o.tag)
	if o.gzip != nil {
		_ = o.gzip.Close()
	}
}
