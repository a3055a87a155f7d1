package ingest

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
)

// script serves the tracker, plain or compressed. A nil script answers 404.
type script struct {
	plain, gzipped []byte
	etag           string
}

func newScript(b []byte) (*script, error) {
	if len(b) == 0 {
		return nil, nil
	}
	var z bytes.Buffer
	w, err := gzip.NewWriterLevel(&z, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("compress tracker: %w", err)
	}
	sum := sha256.Sum256(b)
	return &script{plain: b, gzipped: z.Bytes(), etag: `W/"` + hex.EncodeToString(sum[:8]) + `"`}, nil
}

// get answers the tracker. Its URL stays the same when its content changes, so browsers cache it for a
// day and then revalidate it by ETag.
func (s *script) get(c *gin.Context) {
	h := c.Writer.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	if s == nil {
		c.JSON(http.StatusNotFound, gin.H{
			"error": "this program was built without the tracker: build it with make build",
		})
		return
	}
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("Cache-Control", "public, max-age=86400, stale-while-revalidate=604800")
	h.Set("ETag", s.etag)
	h.Set("Vary", "Accept-Encoding")
	b := s.plain
	if acceptsGzip(c.GetHeader("Accept-Encoding")) {
		b = s.gzipped
		h.Set("Content-Encoding", "gzip")
	}
	http.ServeContent(c.Writer, c.Request, "script.js", time.Time{}, bytes.NewReader(b))
}

// acceptsGzip reports whether an Accept-Encoding header lists gzip with a weight above 0 (RFC 9110,
// 12.5.3).
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, weight, weighted := strings.Cut(part, ";")
		if strings.TrimSpace(name) == "gzip" {
			return !weighted || strings.Trim(weight, " q=0.") != ""
		}
	}
	return false
}
