package ingest

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/internal/event"
)

// pixel is a transparent GIF of one pixel.
const pixel = "GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff" + "!\xf9\x04\x01\x00\x00\x00\x00" + ",\x00\x00\x00\x00\x01\x00\x01\x00\x00" + "\x02\x02D\x01\x00;"

// getPixel counts a page view where no script runs. The answer is always the image, for a page shows whatever comes; what is to be said is
// in the status and the headers.
func (s *Service) getPixel(c *gin.Context, addr netip.Addr) {
	start := time.Now()
	w := s.work.Get().(*work)
	defer s.putBack(w)
	pixelHeaders(c.Writer.Header())
	b, errs := parsePixel(c.Request.URL.RawQuery, c.Request.Referer())
	if errs != nil {
		s.meter.invalid.Inc()
		var why []string
		for field, texts := range errs {
			why = append(why, field+" "+strings.Join(texts, ", "))
		}
		slices.Sort(why)
		c.Header("x-nowcast-error", strings.Join(why, "; "))
		c.Data(http.StatusBadRequest, "image/gif", []byte(pixel))
		return
	}
	from := s.sender(c.Request, addr)
	dropped, err := s.publish(&w.draft, b, &from, start)
	var over *overRate
	if errors.As(err, &over) {
		retryAfter(c, over.wait)
		c.Data(http.StatusTooManyRequests, "image/gif", []byte(pixel))
		return
	}
	if err != nil {
		c.Header("Retry-After", "1")
		c.Data(http.StatusServiceUnavailable, "image/gif", []byte(pixel))
		return
	}
	if dropped > 0 {
		c.Header("x-plausible-dropped", strconv.Itoa(dropped))
	}
	c.Data(http.StatusOK, "image/gif", []byte(pixel))
}

// headPixel counts nothing: who asks for the headers shows no page.
func headPixel(c *gin.Context) {
	pixelHeaders(c.Writer.Header())
	c.Header("Content-Type", "image/gif")
	c.Header("Content-Length", strconv.Itoa(len(pixel)))
	c.Status(http.StatusOK)
}

func pixelHeaders(h http.Header) {
	h.Set("Cache-Control", "no-store, no-cache, must-revalidate, max-age=0")
	h.Set("Pragma", "no-cache")
	h.Set("Expires", "0")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "x-plausible-dropped, x-nowcast-error, Retry-After")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
}

// parsePixel reads site, url and referrer. Without a url the page is the one that shows the image, without a site it is the url's host.
// net/url isn't asked, since it leaves out a parameter with a lone % without a word.
func parsePixel(query, referer string) (*beacon, problems) {
	b, errs := &beacon{kind: event.Pageview, name: "pageview", interactive: true}, problems(nil)
	var site, page string
	for pair := range strings.SplitSeq(strings.ToValidUTF8(query, "\uFFFD"), "&") {
		key, v, _ := strings.Cut(pair, "=")
		switch v = decode(v, true); key {
		case "site":
			site = v
		case "url":
			page = v
		case "referrer":
			b.referrer = parseLink(cut(v, maxURL))
		}
	}
	if page == "" {
		page = strings.ToValidUTF8(referer, "\uFFFD")
	}
	if page == "" {
		errs.add("url", "is required, since the browser sent no Referer")
		return nil, errs
	}
	b.setURL(page, &errs)
	if site == "" {
		site = b.page.host
	}
	b.setDomainList(site, &errs)
	if errs != nil {
		return nil, errs
	}
	return b, nil
}
