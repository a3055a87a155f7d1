package site

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestRules(t *testing.T) {
	w := newWorld(t)
	a, b := w.ready(w.registry()), w.ready(w.registry())
	put := Rules{
		Hostnames:        []string{" Example.com", "*.Shop.example.com", "localhost", "example.com"},
		BlockedAddresses: []string{"192.0.2.77/24", "192.0.2.1", "2001:DB8::1", "::ffff:198.51.100.1"},
		BlockedCountries: []string{"de", "DE", "FR"},
		BlockedPaths:     []string{"/admin/**", "/private"},
	}
	if err := a.Put(t.Context(), Site{Domain: "example.com", Rules: put}); err != nil {
		t.Fatal(err)
	}
	w.soon("the other has it", func() bool { _, ok := b.Lookup("example.com"); return ok })
	s, _ := b.Lookup("example.com")
	want := Rules{
		[]string{"example.com", "*.shop.example.com", "localhost"},
		[]string{"192.0.2.0/24", "192.0.2.1", "2001:db8::1", "198.51.100.1"},
		[]string{"DE", "FR"},
		[]string{"/admin/**", "/private"},
	}
	if fmt.Sprint(s.Rules) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", s.Rules, want)
	}
	for _, c := range []struct {
		host, addr, country, path string
		want                      Reason
	}{
		{"example.com", "8.8.8.8", "US", "/", NotDropped},
		{"www.example.com", "8.8.8.8", "", "/a", NotDropped},
		{"a.b.shop.example.com", "8.8.8.8", "", "/a", NotDropped},
		{"www.shop.example.com", "8.8.8.8", "", "/a", NotDropped},
		{"shop.example.com", "8.8.8.8", "", "/a", HostnameNotListed},
		{"notexample.com", "8.8.8.8", "", "/a", HostnameNotListed},
		{"", "8.8.8.8", "", "/a", HostnameNotListed},
		{"localhost", "192.0.2.255", "", "/a", AddressBlocked},
		{"localhost", "192.0.3.0", "", "/a", NotDropped},
		{"localhost", "198.51.100.1", "", "/a", AddressBlocked},
		{"localhost", "2001:db8::1", "", "/a", AddressBlocked},
		{"localhost", "2001:db8::2", "", "/a", NotDropped},
		{"localhost", "8.8.8.8", "DE", "/a", CountryBlocked},
		{"localhost", "8.8.8.8", "CH", "/a", NotDropped},
		{"localhost", "8.8.8.8", "CH", "/private", PathBlocked},
		{"localhost", "8.8.8.8", "CH", "/private/", NotDropped},
		{"localhost", "8.8.8.8", "CH", "/admin/a/b", PathBlocked},
		{"localhost", "8.8.8.8", "CH", "/admin", NotDropped},
	} {
		got := s.RuleSet().DropReason(c.host, netip.MustParseAddr(c.addr), c.country, c.path)
		if got != c.want {
			t.Errorf("%v: %d", c, got)
		}
	}
	if err := a.Put(t.Context(), Site{Domain: "example.com"}); err != nil {
		t.Fatal(err)
	}
	if s, _ := a.Lookup(
		"example.com",
	); s.RuleSet() != nil ||
		s.RuleSet().DropReason("", netip.Addr{}, "DE", "/private") != NotDropped {
		t.Error("rules that were removed")
	}
}

func TestRulesClean(t *testing.T) {
	many := make([]string, maxRules+1)
	for i := range many {
		many[i] = fmt.Sprintf("h%d.example", i)
	}
	for _, c := range []struct {
		rules Rules
		want  string
	}{
		{Rules{Hostnames: many}, "101 rules of the kind hostname; give at most 100"},
		{Rules{Hostnames: []string{"https://example.com"}},
			`"https://example.com" is no hostname; give it as example.com`},
		{Rules{Hostnames: []string{"a.*.example.com"}}, "no hostname"},
		{Rules{Hostnames: []string{"*"}}, "no hostname"},
		{Rules{Hostnames: []string{"*."}}, "no hostname"},
		{Rules{Hostnames: []string{""}}, "no hostname"},
		{Rules{BlockedAddresses: []string{"10.0.0.0/33"}},
			`"10.0.0.0/33" is no address; give it as 192.0.2.1`},
		{Rules{BlockedAddresses: []string{"fe80::1%eth0"}}, "no address"},
		{Rules{BlockedAddresses: []string{"::ffff:1.2.3.4/90"}}, "no address"},
		{Rules{BlockedCountries: []string{"Germany"}}, `"Germany" is no country; give its two letters`},
		{Rules{BlockedCountries: []string{"D1"}}, "no country"},
		{Rules{BlockedPaths: []string{"admin"}}, `"admin" is no path; begin it with /`},
		{Rules{BlockedPaths: []string{"/" + strings.Repeat("a", 255)}}, "no path"},
		{Rules{BlockedPaths: []string{"/a\n"}}, ""},
		{Rules{BlockedPaths: []string{"/a\nb"}}, "no path"},
		{Rules{BlockedPaths: []string{"/\xff"}}, "no path"},
		{Rules{Hostnames: many[1:], BlockedPaths: []string{"**"}}, ""},
	} {
		_, err := c.rules.Clean()
		if (err == nil) != (c.want == "") ||
			err != nil && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%.80v: %v, want %q", c.rules, err, c.want)
		}
	}
}

func TestMatchPath(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"/", "/", true},
		{"/a", "/a/", false},
		{"/*", "/a", true},
		{"/*", "/", true},
		{"/*", "/a/b", false},
		{"/**", "/a/b", true},
		{"**", "", true},
		{"*", "/", false},
		{"/a/*/c", "/a/b/c", true},
		{"/a/*/c", "/a/b/b/c", false},
		{"/a/**/c", "/a/b/b/c", true},
		{"/a/**/c", "/a/c", false},
		{"/*.php", "/x.php.php", true},
		{"**/*.php", "/x/y.php", true},
		{"**.php", "/x/y.php?", false},
		{"/a***b", "/a/b", true},
		{"/Ä*", "/Äpfel", true},
		{"/a?", "/ab", false},
	} {
		if got := matchPath(c.pattern, c.path); got != c.want {
			t.Errorf("matchPath(%q, %q) = %t", c.pattern, c.path, got)
		}
	}
}

// expression is what a pattern means.
func expression(pattern string) *regexp.Regexp {
	var b strings.Builder
	for p := pattern; p != ""; {
		switch {
		case strings.HasPrefix(p, "**"):
			b.WriteString("[\x00-\U0010FFFF]*")
			p = strings.TrimLeft(p, "*")
		case p[0] == '*':
			b.WriteString("[^/]*")
			p = p[1:]
		default:
			literal, _, _ := strings.Cut(p, "*")
			b.WriteString(regexp.QuoteMeta(literal))
			p = p[len(literal):]
		}
	}
	return regexp.MustCompile("^(?s:" + b.String() + ")$")
}

// matchPath says what a regular expression says, on short texts of few letters, where chances to be wrong
// are many.
func TestMatchPathIsItsExpression(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	text := func(letters string, n int) string {
		b := make([]byte, r.IntN(n))
		for i := range b {
			b[i] = letters[r.IntN(len(letters))]
		}
		return string(b)
	}
	matched := 0
	for range 50_000 {
		pattern, path := text("ab//**", 10), text("ab/", 12)
		want := expression(pattern).MatchString(path)
		if got := matchPath(pattern, path); got != want {
			t.Fatalf("matchPath(%q, %q) = %t", pattern, path, got)
		}
		if want {
			matched++
		}
	}
	if matched < 1000 {
		t.Errorf("only %d of them matched: that shows little", matched)
	}
}

func FuzzMatchPath(f *testing.F) {
	for _, s := range [][2]string{{"/a/*/c**d*", "/a/b/c/xd1"}, {"**", ""}, {"/é*", "/éa"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, path string) {
		pattern, path = strings.ToValidUTF8(pattern, ""), strings.ToValidUTF8(path, "")
		if len(pattern)+len(path) > 500 {
			return
		}
		if got, want := matchPath(pattern, path), expression(pattern).MatchString(path); got != want {
			t.Errorf("matchPath(%q, %q) = %t", pattern, path, got)
		}
	})
}

// The search among sorted networks says what looking at each of them says.
func TestNetworksAreSearched(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	addr := func() netip.Addr { // few different ones, so that they meet
		if r.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{10, byte(r.IntN(2)), byte(r.IntN(3)), byte(r.IntN(8))})
		}
		return netip.AddrFrom16([16]byte{0: 0x20, 1: 1, 7: byte(r.IntN(3)), 15: byte(r.IntN(8))})
	}
	for range 500 {
		var rules Rules
		var all []netip.Prefix
		for range r.IntN(12) {
			a := addr()
			p := netip.PrefixFrom(a, a.BitLen()-r.IntN(12)).Masked()
			all = append(all, p)
			rules.BlockedAddresses = append(rules.BlockedAddresses, p.String())
		}
		f, err := compileRules(rules)
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			a := addr()
			want := slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
			if got := f.DropReason("", a, "", "/") == AddressBlocked; got != want {
				t.Fatalf("%v in %v: %t", a, all, got)
			}
		}
	}
}

func BenchmarkFilter(b *testing.B) {
	var r Rules
	for i := range maxRules {
		r.Hostnames = append(r.Hostnames, fmt.Sprintf("*.h%d.example.com", i))
		r.BlockedAddresses = append(r.BlockedAddresses, fmt.Sprintf("10.%d.0.0/16", i))
		r.BlockedCountries = append(r.BlockedCountries, string([]byte{'A' + byte(i/26), 'A' + byte(i%26)}))
		r.BlockedPaths = append(r.BlockedPaths, fmt.Sprintf("/private-%d/**/x/*", i))
	}
	for _, c := range []struct {
		name  string
		rules Rules
	}{
		{"none", Rules{}},
		{"one of each", Rules{[]string{"example.com"}, []string{"10.0.0.0/8"}, []string{"AQ"},
			[]string{"/admin/**"}}},
		{"a hundred of each", r},
	} {
		f, err := compileRules(c.rules)
		if err != nil {
			b.Fatal(err)
		}
		addr, host := netip.MustParseAddr("8.8.8.8"), "www.example.com"
		if len(c.rules.Hostnames) > 1 {
			host = "www.h99.example.com"
		}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if f.DropReason(host, addr, "US", "/private/pages/of/mine") != NotDropped {
					b.Fatal()
				}
			}
		})
	}
}
