package load

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
)

// crowd is all visitors. Everybody comes once, in random order, before anybody comes again.
type crowd struct {
	cfg    Config
	random *rand.Rand
	order  []int32 // the rest of this round
	sites  []*website
	pick   *zipf
}

func newCrowd(cfg Config) *crowd {
	c := &crowd{cfg: cfg, random: rand.New(rand.NewPCG(cfg.Seed, 2)), pick: newZipf(len(cfg.Sites), 1.1)} //nolint:gosec // not a secret
	for i, domain := range cfg.Sites {
		c.sites = append(c.sites, newWebsite(domain, rand.New(rand.NewPCG(cfg.Seed, uint64(100+i))))) //nolint:gosec // not a secret
	}
	return c
}

// arrive is the next visitor's visit. In a crowd of few they may still have another one open, as people with two tabs.
func (c *crowd) arrive() *visit {
	if len(c.order) == 0 {
		c.order = make([]int32, c.cfg.Visitors)
		for i, n := range c.random.Perm(c.cfg.Visitors) {
			c.order[i] = int32(n) //nolint:gosec // at most ten million
		}
	}
	n := c.order[len(c.order)-1]
	c.order = c.order[:len(c.order)-1]
	return newVisit(newVisitor(c.cfg.Seed, int(n)), c.sites[c.pick.draw(c.random)], c.random)
}

// visitor is a person with a browser, the same for the same seed and number.
type visitor struct {
	address  netip.Addr
	agent    string
	language string
}

func newVisitor(seed uint64, n int) *visitor {
	r := rand.New(rand.NewPCG(seed, 1<<40+uint64(n))) //nolint:gosec // not a secret
	p := choose(r, places, func(p place) int { return p.weight })
	block := p.blocks[r.IntN(len(p.blocks))]
	return &visitor{address: addressIn(block, r), agent: newAgent(r, n), language: p.language}
}

// addressIn is any address of a block, but neither its first nor its last of a /24.
func addressIn(block netip.Prefix, r *rand.Rand) netip.Addr {
	a := block.Addr().As4()
	n := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	n |= r.Uint32() >> block.Bits()
	n = n&^0xff | uint32(1+r.IntN(254)) //nolint:gosec // below 255
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// visit is a visitor's way over a site: a page view, others after it, now and then something done, and the leaving.
type visit struct {
	who    *visitor
	site   *website
	random *rand.Rand
	page   string // the address that is looked at; empty at first
	pages  int    // still to be seen
}

// Shares of what a step does beside the next page.
const (
	shareEngagement = 0.20
	shareCustom     = 0.05
)

func newVisit(who *visitor, site *website, random *rand.Rand) *visit {
	// Two of five leave after their first page; the others see three or four more on average.
	pages := 1
	if random.Float64() > 0.4 {
		pages += 1 + int(random.ExpFloat64()*3)
	}
	return &visit{who: who, site: site, random: random, pages: min(pages, 30)}
}

// step is the visit's next beacon, and whether there are more.
func (v *visit) step() (b *beacon, more bool) {
	b = &beacon{from: v.who, Domain: v.site.domain}
	switch roll := v.random.Float64(); {
	case v.page == "":
		v.arrive(b)
	case v.pages == 0 || roll < shareEngagement:
		b.Name, b.URL, b.Depth, b.Engaged = "engagement", v.page, 20+v.random.IntN(81), 1000+int(v.random.ExpFloat64()*15_000)
		return b, v.pages > 0
	case roll < shareEngagement+shareCustom:
		v.act(b)
		return b, true
	default:
		v.view(b, v.site.next(v.page, v.random))
	}
	v.pages--
	return b, true
}

func (v *visit) arrive(b *beacon) {
	from := choose(v.random, origins, func(o origin) int { return o.weight })
	v.view(b, v.site.entry(v.random)+from.query)
	b.Referrer = from.referrer
}

func (v *visit) view(b *beacon, path string) {
	b.Name, b.Referrer = "pageview", v.page
	v.page = "https://" + v.site.domain + path
	b.URL = v.page
}

func (v *visit) act(b *beacon) {
	b.URL = v.page
	switch v.random.IntN(6) {
	case 0:
		b.Name, b.Props = "Purchase", map[string]string{"plan": plans[v.random.IntN(len(plans))]}
		b.Revenue = &revenue{fmt.Sprintf("%d.%02d", 5+v.random.IntN(95), v.random.IntN(100)), "USD"}
	case 1, 2:
		b.Name, b.Props = "Signup", map[string]string{"plan": plans[v.random.IntN(len(plans))]}
	default:
		b.Name, b.Props = "Download", map[string]string{"file": fmt.Sprintf("guide-%d.pdf", 1+v.random.IntN(5))}
	}
}

// zipf draws 0 to n-1, each as often as its rank says: the first most.
type zipf struct{ sums []float64 }

func newZipf(n int, exponent float64) *zipf {
	z := &zipf{sums: make([]float64, n)}
	sum := 0.0
	for i := range n {
		sum += 1 / math.Pow(float64(i+1), exponent)
		z.sums[i] = sum
	}
	return z
}

func (z *zipf) draw(r *rand.Rand) int {
	x := r.Float64() * z.sums[len(z.sums)-1]
	lo, hi := 0, len(z.sums)-1
	for lo < hi {
		if mid := (lo + hi) / 2; z.sums[mid] < x {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// choose draws one of a list by weight.
func choose[T any](r *rand.Rand, list []T, weight func(T) int) T {
	sum := 0
	for _, x := range list {
		sum += weight(x)
	}
	n := r.IntN(sum)
	for _, x := range list {
		if n -= weight(x); n < 0 {
			return x
		}
	}
	return list[len(list)-1]
}
