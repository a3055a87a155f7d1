package ingest

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"nowcast/internal/event"
)

// The limits of Umami's dialect, where they aren't those of the other one.
const (
	maxUmamiName = 50  // characters; the rest is cut off, as its clients say
	maxHost      = 253 // bytes
	maxFlat      = 8   // levels of data that become properties
	maxBatch     = 1_000
)

// umamiAnswer is what a client of Umami is told, whoever it is: the cache is a token without content that comes back as X-Umami-Cache
// and is ignored, and the ids are the nil UUID. A real id would be a supercookie: any page on the web could ask for it.
const umamiAnswer = `{"cache":"nowcast","sessionId":"00000000-0000-0000-0000-000000000000","visitId":"00000000-0000-0000-0000-000000000000"}`

// umamiSent is what a client of Umami said, checked.
type umamiSent struct {
	beacon
	kept     bool   // it is an event; the other types are understood and not kept
	language string // "": as the request's header says
}

// umamiError is the JSON of an error in Umami's dialect.
type umamiError struct {
	Error struct {
		Message string `json:"message"`
		Code    string `json:"code"`
		Status  int    `json:"status"`
	} `json:"error"`
}

func newUmamiError(status int, message string) (e umamiError) {
	e.Error.Message, e.Error.Status = message, status
	e.Error.Code = strings.ReplaceAll(strings.ToLower(http.StatusText(status)), " ", "-")
	return e
}

const noWebsite = "Website not found. The website (data-website-id) is the site's domain here, such as example.com, and the site has to exist"

// postSend takes one beacon.
func (s *Service) postSend(c *gin.Context, addr netip.Addr) {
	start := time.Now()
	w := s.work.Get().(*work)
	defer s.putBack(w)
	body, ok := s.readUmami(c, w)
	if !ok {
		return
	}
	from := s.sender(c.Request, addr)
	pending, dropped, problem, err := s.offer(nil, &w.draft, body, &from, start)
	if err == nil {
		err = s.acknowledged(pending, start)
	}
	switch {
	case err != nil:
		s.unavailable(c, err)
	case problem != "":
		c.JSON(http.StatusBadRequest, newUmamiError(http.StatusBadRequest, problem))
	case from.says.bot:
		c.Header("x-plausible-dropped", "1")
		c.JSON(http.StatusOK, gin.H{"beep": "boop"})
	default:
		if dropped {
			c.Header("x-plausible-dropped", "1")
		}
		c.Data(http.StatusOK, "application/json; charset=utf-8", []byte(umamiAnswer))
	}
}

// batchError says which of a batch wasn't counted and why.
type batchError struct {
	Index    int        `json:"index"`
	Response umamiError `json:"response"`
}

// postBatch takes many beacons of one sender. Those that aren't valid are listed and don't keep the others from being counted; when the
// log didn't acknowledge every other one, the answer is 503 for all.
func (s *Service) postBatch(c *gin.Context, addr netip.Addr) {
	start := time.Now()
	w := s.work.Get().(*work)
	defer s.putBack(w)
	body, ok := s.readUmami(c, w)
	if !ok {
		return
	}
	size, objects := 0, true
	ok = utf8.ValidString(body) && elements(body, func(v value) {
		size++
		objects = objects && v.kind == kindObject
	})
	if !ok || !objects || size > maxBatch {
		s.meter.invalid.Inc()
		c.JSON(http.StatusBadRequest, newUmamiError(http.StatusBadRequest, "the body must be a JSON array of at most "+strconv.Itoa(maxBatch)+" objects"))
		return
	}
	var (
		pending []*envelope
		err     error
		dropped int
	)
	from, at, details := s.sender(c.Request, addr), 0, []batchError{}
	if !s.alsoFrom(c, from.addr, size-1) {
		return
	}
	elements(body, func(v value) {
		if err != nil {
			return
		}
		var (
			drop    bool
			problem string
		)
		pending, drop, problem, err = s.offer(pending, &w.draft, v.raw, &from, start)
		if problem != "" {
			details = append(details, batchError{at, newUmamiError(http.StatusBadRequest, problem)})
		}
		if drop {
			dropped++
		}
		at++
	})
	if err == nil {
		err = s.acknowledged(pending, start)
	}
	if err != nil {
		s.unavailable(c, err)
		return
	}
	if dropped > 0 {
		c.Header("x-plausible-dropped", strconv.Itoa(dropped))
	}
	c.JSON(http.StatusOK, gin.H{"size": size, "processed": size - len(details), "errors": len(details), "details": details})
}

// readUmami reads the body, or answers why it can't.
func (s *Service) readUmami(c *gin.Context, w *work) (string, bool) {
	allowAny(c)
	body, errs := w.read(c.Request.Body)
	if errs != nil {
		s.meter.invalid.Inc()
		c.JSON(http.StatusBadRequest, newUmamiError(http.StatusBadRequest, "request: "+errs["request"][0]))
		return "", false
	}
	return body, true
}

func (s *Service) unavailable(c *gin.Context, err error) {
	var over *overRate
	if errors.As(err, &over) {
		tooMany(c, over.wait, err.Error())
		return
	}
	c.Header("Retry-After", "1")
	c.JSON(http.StatusServiceUnavailable, newUmamiError(http.StatusServiceUnavailable, "not counted yet: "+err.Error()+"; send it again, with the same payload.eid"))
}

// offer puts a beacon on its way and adds to pending what has to be acknowledged. A problem is the client's, an error is ours.
func (s *Service) offer(pending []*envelope, d *draft, body string, from *sender, start time.Time) (_ []*envelope, dropped bool, problem string, err error) {
	sent, problem := parseUmami(body)
	if problem != "" {
		s.meter.invalid.Inc()
		return pending, false, problem, nil
	}
	if s.identity.Load() == nil {
		s.meter.refused.Inc()
		return pending, false, "", errStarting
	}
	found, ok := s.lookup(sent.domains[0])
	if !ok {
		s.meter.unknown.Inc()
		return pending, false, noWebsite, nil
	}
	if !sent.kept && !from.says.bot {
		s.drop(found.Domain, "not_kept")
		return pending, true, "", nil
	}
	who := *from
	if sent.language != "" {
		who.language = sent.language
	}
	pending, n, err := s.enqueue(pending, s.publisher, d, &sent.beacon, &who, start)
	return pending, n > 0, "", err
}

// parseUmami reads {"type", "payload"}. What else is in the payload is ignored, above all ip, userAgent and timestamp, which anybody could
// write there, and id, which names a person.
func parseUmami(body string) (*umamiSent, string) {
	var kind, payload value
	if !utf8.ValidString(body) || !members(body, func(key string, v value) {
		switch key {
		case "type":
			kind = v
		case "payload":
			payload = v
		}
	}) {
		return nil, "the body must be a JSON object with type and payload"
	}
	sent, unkeptTypes := &umamiSent{}, []string{"identify", "performance", "engagement", "error"}
	switch {
	case kind.kind != kindString:
		return nil, "type: must be a string"
	case kind.str() == "event":
		sent.kept = true
	case !slices.Contains(unkeptTypes, kind.str()):
		return nil, "type: must be event or identify"
	}
	if payload.kind != kindObject {
		return nil, "payload: must be an object"
	}
	return sent, sent.setPayload(payload.raw)
}

// texts are the members of a payload that are read, all of them strings.
type texts struct{ website, url, referrer, hostname, language, screen, name, tag, eid string }

func (t *texts) field(key string) *string {
	switch key {
	case "website":
		return &t.website
	case "url":
		return &t.url
	case "referrer":
		return &t.referrer
	case "hostname":
		return &t.hostname
	case "language":
		return &t.language
	case "screen":
		return &t.screen
	case "name":
		return &t.name
	case "tag":
		return &t.tag
	case "eid":
		return &t.eid
	}
	return nil
}

func (u *umamiSent) setPayload(raw string) (problem string) {
	var t texts
	var data value
	members(raw, func(key string, v value) {
		if key == "data" {
			data = v
			return
		}
		field := t.field(key)
		switch {
		case field == nil:
		case v.kind == kindString:
			*field = v.str()
		case v.kind == kindNull:
			*field = ""
		case problem == "":
			problem = "payload." + key + ": must be a string"
		}
	})
	if problem != "" {
		return problem
	}
	var errs problems
	u.setURL(t.url, &errs)
	switch website := strings.TrimSpace(t.website); {
	case errs != nil:
		return "payload.url: " + errs["url"][0]
	case website == "":
		return "payload.website: is required; it is the site's domain"
	case len(t.hostname) > maxHost:
		return "payload.hostname: should be at most " + strconv.Itoa(maxHost) + " bytes"
	case len(t.eid) > maxID:
		return "payload.eid: should be at most " + strconv.Itoa(maxID) + " bytes"
	default:
		u.domains = []string{strings.ToLower(website)}
	}
	if h := bare(strings.ToLower(hostOnly(t.hostname))); h != "" {
		u.hostname = h
	}
	u.fragment = u.page.fragment != "" // a page's name has it in this dialect
	u.interactive = true
	u.referrer, u.language, u.id = parseLink(cut(t.referrer, maxURL)), language(t.language), t.eid
	width, _, _ := strings.Cut(t.screen, "x") // 1920x1080
	u.width, _ = strconv.ParseInt(width, 10, 64)
	u.kind, u.name = event.Pageview, "pageview"
	if strings.TrimSpace(t.name) != "" {
		u.kind, u.name = event.Custom, firstChars(t.name, maxUmamiName)
	}
	return u.setData(data, t.tag)
}

// setData makes data, and the tag, properties.
func (u *umamiSent) setData(data value, tag string) string {
	var list propList
	list.put("tag", cut(tag, maxPropValue))
	switch data.kind {
	case kindObject:
		flatten(&list, "", data.raw, maxFlat)
	case kindNone, kindNull:
	default:
		return "payload.data: must be an object"
	}
	if list.long {
		return "payload.data: keys should have at most " + strconv.Itoa(maxPropKey) + " bytes"
	}
	u.props = list.append(u.props)
	u.setDataRevenue(data)
	return ""
}

// setDataRevenue takes the revenue and currency that are among the data, as Umami's reports do.
func (u *umamiSent) setDataRevenue(data value) {
	var amount, currency value
	if data.kind == kindObject {
		members(data.raw, func(key string, v value) {
			switch key {
			case "revenue":
				amount = v
			case "currency":
				currency = v
			}
		})
	}
	u.setAmount(amount, currency)
}

// flatten makes the members of an object properties, those of an object in it with a dotted key, an array as its JSON. Values are cut, null
// and what is deeper than levels is left out.
func flatten(list *propList, prefix, raw string, levels int) {
	members(raw, func(key string, v value) {
		// a long key is an error anyhow; before a thousand others it would be a thousand long ones
		if list.long || levels == 0 || v.kind == kindNull {
			return
		}
		if prefix != "" {
			key = prefix + "." + key
		}
		switch v.kind {
		case kindObject:
			if list.long = len(key) > maxPropKey; !list.long {
				flatten(list, key, v.raw, levels-1)
			}
		case kindString:
			list.put(key, cut(v.str(), maxPropValue))
		default:
			list.put(key, cut(v.raw, maxPropValue))
		}
	})
}

// firstChars shortens s to n characters.
func firstChars(s string, n int) string {
	for i := range s {
		if n--; n < 0 {
			return s[:i]
		}
	}
	return s
}
