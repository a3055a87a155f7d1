package imports

import (
	"encoding/binary"
	"hash/maphash"
	"net/url"
	"strings"
)

// browsers are our names of browsers by those of other tools, in lower case.
var browsers = map[string]string{
	"microsoft edge": "Edge", "edge-chromium": "Edge", "edge-ios": "Edge", "edge": "Edge",
	"chrome": "Chrome", "crios": "Chrome", "chromium-webview": "Chrome", "firefox": "Firefox",
	"fxios": "Firefox", "safari": "Safari", "ios": "Safari", "ios-webview": "Safari", "opera": "Opera",
	"samsung": "Samsung Browser", "samsung internet": "Samsung Browser", "ie": "Internet Explorer",
	"instagram": "Instagram App", "facebook": "Facebook App", "android": "Android Browser",
}

func browserName(v string) string {
	if n, ok := browsers[strings.ToLower(v)]; ok {
		return n
	}
	return v
}

// systemName is our name of an operating system by that of another tool.
func systemName(v string) string {
	l := strings.ToLower(v)
	switch {
	case strings.HasPrefix(l, "mac"):
		return "macOS"
	case strings.HasPrefix(l, "windows phone"):
		return "Windows Phone"
	case strings.HasPrefix(l, "windows"):
		return "Windows"
	case strings.HasPrefix(l, "android"):
		return "Android"
	case l == "linux", l == "gnu/linux":
		return "Linux"
	case l == "chrome os", l == "chromeos":
		return "ChromeOS"
	case l == "ios":
		return "iOS"
	}
	return v
}

// withVersion splits "Firefox 115" into a name and a version.
func withVersion(s string) (name, version string) {
	i := strings.LastIndexByte(s, ' ')
	if i < 0 || i+1 == len(s) || s[i+1] < '0' || s[i+1] > '9' {
		return s, ""
	}
	return s[:i], s[i+1:]
}

func titled(v string) string {
	if v == "" {
		return ""
	}
	return strings.ToUpper(v[:1]) + v[1:]
}

// source is our name of the source that another tool names by a word or a host.
func (r *run) source(tag string) string {
	if tag == "" || r.cfg.Classify == nil {
		return tag
	}
	_, a, _ := r.cfg.Classify.Classify(Page{Path: "/?utm_source=" + url.QueryEscape(tag)})
	return a.Source
}

// visitorHash makes the number of a visitor of what an export knows of one. It has a key of its own in every
// import, and the key is never stored, so a number tells nothing outside of it.
type visitorHash struct{ seed maphash.Seed }

func (v visitorHash) of(parts ...string) uint64 {
	var h maphash.Hash
	h.SetSeed(v.seed)
	var length [4]byte
	for _, p := range parts {
		binary.LittleEndian.PutUint32(length[:], uint32(len(p))) //nolint:gosec // of a record
		_, _ = h.Write(length[:])
		_, _ = h.WriteString(p)
	}
	return h.Sum64()
}

// withParameter adds a parameter to the query of a path.
func withParameter(path, name, value string) string {
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	return path + separator + name + "=" + url.QueryEscape(value)
}

// clone copies the texts, which are parts of a record.
func (a Attributes) clone() Attributes {
	for _, s := range []*string{&a.Source, &a.Channel, &a.Referrer, &a.UTMSource, &a.UTMMedium,
		&a.UTMCampaign, &a.UTMContent, &a.UTMTerm, &a.Country, &a.Region, &a.City, &a.Device, &a.Screen,
		&a.Browser, &a.BrowserVersion, &a.OS, &a.OSVersion, &a.Language} {
		*s = strings.Clone(*s)
	}
	return a
}
