package ingest

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestGCRA takes events: the burst at once, then as many as the rate allows, else it tells how long to
// wait.
func TestGCRA(t *testing.T) {
	const s = int64(time.Second)
	for _, c := range []struct {
		limit Limit
		n, at []int64 // in order: how many, and when
		want  string  // of each: ok, or for how long to wait
	}{
		{Limit{10, 3}, []int64{1, 1, 1, 1, 1}, []int64{0, 0, 0, 0, s / 10}, "ok ok ok 100ms ok"},
		{Limit{10, 4}, []int64{3, 1, 1, 3, 3}, []int64{0, 0, s / 20, s / 4, s}, "ok ok 50ms 50ms ok"},
		{Limit{10, 3}, []int64{1, 99, 1}, []int64{0, 0, 0}, "ok ok 100ms"},
		{Limit{2, 0}, []int64{9, 1, 1}, []int64{0, 0, 0}, "ok ok 500ms"},
		{Limit{0.1, 0}, []int64{1, 1}, []int64{0, s}, "ok 9s"},
		{Limit{1e6, 1}, []int64{1, 1, 1}, []int64{5, 6, 1005}, "ok 999ns ok"},
	} {
		table := &gcraTable{}
		var got []string
		for i := range c.n {
			if wait, ok := table.take(7, newGCRA(c.limit), c.n[i], c.at[i]); ok {
				got = append(got, "ok")
			} else {
				got = append(got, wait.String())
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%v: %s, want %s", c, s, c.want)
		}
	}
}

// TestGCRAOfAMillionKeys lets a million senders come: none is refused, and a sender over its rate gets no
// new burst.
func TestGCRAOfAMillionKeys(t *testing.T) {
	table, limit := &gcraTable{}, newGCRA(Limit{100, 500})
	l, err := newRateLimiter(Limit{Rate: 1}, Limit{})
	if err != nil {
		t.Fatal(err)
	}
	key := func(n int) uint64 {
		return l.hashAddress(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}))
	}
	for range 500 {
		if _, ok := table.take(key(0), limit, 1, 0); !ok {
			t.Fatal("refused within its burst")
		}
	}
	for n := 1; n <= 1_000_000; n++ {
		now := int64(n) * 1000 // a second in all: 100 more events of the first
		if _, ok := table.take(key(n), limit, 1, now); !ok {
			t.Fatalf("sender %d refused", n)
		}
	}
	taken := 0
	for range 1000 {
		if _, ok := table.take(key(0), limit, 1, int64(time.Second)); ok {
			taken++
		}
	}
	if taken != 100 {
		t.Errorf("the first one had %d events more, want 100", taken)
	}
}

// TestGCRAInParallel takes from several goroutines: no more than the burst.
func TestGCRAInParallel(t *testing.T) {
	table, limit := &gcraTable{}, newGCRA(Limit{1, 1000})
	var taken [3]atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 3000 {
				if _, ok := table.take(uint64(i%3)*gcraGroups, limit, 1, 0); ok { // keys of one group
					taken[i%3].Add(1)
				}
			}
		})
	}
	wg.Wait()
	for i := range taken {
		if n := taken[i].Load(); n != 1000 {
			t.Errorf("%d taken, want 1000", n)
		}
	}
}

// TestAddressLimit sends over the limit of an address.
func TestAddressLimit(t *testing.T) {
	w := start(t, Config{AddressLimit: Limit{Rate: 0.01, Burst: 3}})
	to := func(domains string) string {
		return `{"n":"pageview","u":"https://example.com/a","d":"` + domains + `"}`
	}
	for _, c := range []struct {
		name, addr, body string
		want             int
	}{
		{"first", "8.8.8.8", page, 202},
		{"two sites", "8.8.8.8", to("example.com,other.example"), 202},
		{"fourth", "8.8.8.8", page, 429},
		{"what isn't valid counts too", "8.8.8.8", `{`, 429},
		{"another address", "8.8.4.4", page, 202},
		{"more sites than are left", "8.8.4.4", to("example.com,other.example,nobody.example"), 429},
		{"more sites than a burst", "1.1.1.1", to("a.example,b.example,c.example,d.example,e.example," +
			"f.example"), 202},
		{"and then no more", "1.1.1.1", page, 429},
		{"IPv6", "2001:db8:1:2::1", page, 202},
		{"the same /64", "2001:db8:1:2::2", page, 202},
		{"the same /64", "2001:db8:1:2:3::", page, 202},
		{"the same /64", "2001:db8:1:2:ffff::", page, 429},
		{"the next /64", "2001:db8:1:3::1", page, 202},
	} {
		if a := w.post(t, c.body, "X-Forwarded-For", c.addr); a.status != c.want {
			t.Errorf("%s: %+v, want %d", c.name, a, c.want)
		}
	}
	a := w.post(t, page, "X-Forwarded-For", "8.8.8.8")
	if after, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || after < 90 || after > 100 ||
		!strings.HasPrefix(a.body, `{"error":"too many events from this address; `) ||
		a.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%+v", a)
	}
	for range 20 { // this machine, through a trusted proxy that sets no header
		if a := w.post(t, page); a.status != 202 {
			t.Fatalf("from loopback: %+v", a)
		}
	}
	for i := range 4 { // a loopback address in a header has a limit
		if a := w.post(t, page, "X-Forwarded-For", "127.0.0.9"); (a.status == 429) != (i == 3) {
			t.Errorf("loopback by a header, %d: %+v", i, a)
		}
	}
}

// TestSiteLimit sends over the limit of a site.
func TestSiteLimit(t *testing.T) {
	w := start(t, Config{SiteLimit: Limit{Rate: 0.01, Burst: 2}})
	to := func(domains string) string {
		return `{"n":"pageview","u":"https://example.com/a","d":"` + domains + `"}`
	}
	for _, c := range []struct {
		domains, dropped string
		want             int
	}{
		{"example.com", "", 202},
		{"example.com", "", 202},
		{"example.com", "", 429},
		{"www.example.com", "", 429},            // the same site
		{"other.example,example.com", "1", 202}, // one has room
		{"nobody.example,example.com", "", 429}, // none has
		{"other.example,localhost", "", 202},    //
		{"nobody.example", "1", 202},            // is no site
		{"other.example", "", 429},
	} {
		if a := w.post(t, to(c.domains)); a.status != c.want ||
			a.header.Get("x-plausible-dropped") != c.dropped ||
			(c.want == 429) != (a.header.Get("Retry-After") != "") {
			t.Errorf("%s: %+v, want %d", c.domains, a, c.want)
		}
	}
	if n := len(w.events(t)); n != 5 {
		t.Errorf("%d events in the log, want 5", n)
	}
}

// TestLimitCheck gives limits that aren't possible.
func TestLimitCheck(t *testing.T) {
	for _, l := range []Limit{{-1, 0}, {1e7, 0}, {1, -1}, {1, 0.5}, {1, 1e10}} {
		if _, err := newRateLimiter(l, Limit{}); err == nil ||
			!strings.HasPrefix(err.Error(), "address limit: ") {
			t.Errorf("%v: %v", l, err)
		}
		if _, err := newRateLimiter(Limit{}, l); err == nil ||
			!strings.HasPrefix(err.Error(), "site limit: ") {
			t.Errorf("%v: %v", l, err)
		}
	}
}

// BenchmarkLimiter takes events from different and from one address, and for a site.
func BenchmarkLimiter(b *testing.B) {
	l, err := newRateLimiter(Limit{Rate: 1e6}, Limit{Rate: 1e6})
	if err != nil {
		b.Fatal(err)
	}
	addrs := make([]netip.Addr, 1<<12)
	for i := range addrs {
		addrs[i] = netip.MustParseAddr(fmt.Sprintf("10.0.%d.%d", i>>8, i&255))
	}
	b.Run("address", func(b *testing.B) {
		b.ReportAllocs()
		for i, now := 0, time.Now(); b.Loop(); i++ {
			l.takeAddress(addrs[i%len(addrs)], 1, now)
		}
	})
	b.Run("site", func(b *testing.B) {
		b.ReportAllocs()
		for now := time.Now(); b.Loop(); {
			l.takeSite("example.com", now)
		}
	})
	b.Run("one address, in parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for now := time.Now(); pb.Next(); {
				l.takeAddress(addrs[0], 1, now)
			}
		})
	})
}
