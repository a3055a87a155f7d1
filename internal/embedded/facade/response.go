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

// requestBody returns the request's body, decompressed.
func requestBody(r *http.Request, q url.Values) (io.Reader, error) {
	body := io.Reader(r.Body)
	switch r.Header.Get("Content-Encoding") {
	case "", "lz4", "zstd": // clickhouse-go's names for the compression of decompress=1
	case "gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, fmt.Errorf("read gzip: %w", err)
		}
		body = z
	default:
		return nil, newException(codeNotImplemented,
			"this Content-Encoding is not supported here; use gzip, lz4 or zstd (NOT_IMPLEMENTED)")
	}
	if q.Get("decompress") == "1" {
		body = compress.NewReader(body)
	}
	return body, nil
}

// answerHandshake answers handshakeQuery. The engine writes blocks in protocol revision 0, so that is
// the revision reported, in which clickhouse-go decodes all later blocks. Only this block is in the
// revision that the client asked for.
func (s *Server) answerHandshake(out *response, q url.Values) error {
	revision, _ := strconv.ParseUint(q.Get("client_protocol_version"), 10, 64)
	b := proto.NewBlock()
	for _, c := range [][2]string{{"displayName()", "String"}, {"version()", "String"},
		{"revision()", "UInt32"}, {"timezone()", "String"}} {
		if err := b.AddColumn(c[0], column.Type(c[1])); err != nil {
			return err
		}
	}
	if err := b.Append(s.engine.displayName, s.engine.version, uint32(0), s.engine.timezone); err != nil {
		return err
	}
	buf := &chproto.Buffer{}
	if err := b.Encode(buf, revision); err != nil {
		return err
	}
	_, err := out.Write(buf.Buf)
	return err
}

// response writes a response's body: plain, as gzip, or in ClickHouse's compressed blocks.
type response struct {
	w            http.ResponseWriter
	gzip         *gzip.Writer     // nil: no gzip
	blocks       *compress.Writer // nil: no compressed blocks
	exceptionTag string           // marks an exception inside the body
	started      bool             // the status was sent
}

func newResponse(w http.ResponseWriter, r *http.Request, q url.Values) *response {
	o := &response{w: w, exceptionTag: rand.Text()[:16]}
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
	h.Set("X-ClickHouse-Exception-Tag", o.exceptionTag)
	return o
}

func (o *response) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if !o.started && o.gzip != nil {
		o.w.Header().Set("Content-Encoding", "gzip")
	}
	o.started = true
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

func (o *response) finish() {
	switch {
	case !o.started:
		o.w.Header().Set("Content-Length", "0")
		o.w.WriteHeader(http.StatusOK)
	case o.gzip != nil:
		_ = o.gzip.Close() // fails only if the client has disconnected
	}
}

// fail reports err: by status and header before the first byte of the body, and otherwise by the tagged
// block that ClickHouse appends to a body that it can't complete. That block is plain text also after
// compressed blocks.
func (o *response) fail(err error) {
	code := codeUnknownException
	text := err.Error()
	var e *chdb.Error
	if errors.As(err, &e) && e.Code > 0 {
		code = e.Code
		text = text[max(0, strings.Index(text, "Code: ")):]
	} else {
		text = fmt.Sprintf("Code: %d. DB::Exception: %s", code, text)
	}
	if !o.started {
		o.w.Header().Set("X-ClickHouse-Exception-Code", strconv.Itoa(code))
		o.w.WriteHeader(http.StatusInternalServerError)
		o.gzip = nil
		_, _ = o.Write([]byte(text))
		return
	}
	o.blocks = nil
	_, _ = fmt.Fprintf(o, "\r\n__exception__\r\n%s\r\n%s\n%d %s\r\n__exception__\r\n",
		o.exceptionTag, text, len(text)+1, o.exceptionTag)
	if o.gzip != nil {
		_ = o.gzip.Close()
	}
}
