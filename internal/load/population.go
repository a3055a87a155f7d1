package load

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
)

// population is all visitors. Each visits once, in random order, before any visits again.
type population struct {
	cfg    Config
	random *rand.Rand
	order  []int32 // visitors of this round that have not visited yet
	sites  []*website
	pick   *zipf
}

func newPopulation(cfg Config) *population {
	random := rand.New(rand.NewPCG(cfg.Seed, 2)) //nolint:gosec // not a secret
	p := &population{cfg: cfg, random: random, pick: newZipf(len(cfg.Sites), 1.1)}
	for i, domain := range cfg.Sites {
		r := rand.New(rand.NewPCG(cfg.Seed, uint64(100+i))) //nolint:gosec // not a secret
		p.sites = append(p.sites, newWebsite(domain, r))
	}
	return p
}

// arrive begins the visit of the next visitor. In a small population an earlier visit of theirs may still
// be open, as with two tabs of a browser.
func (p *population) arrive() *visit {
	if len(p.order) == 0 {
		p.order = make([]int32, p.cfg.Visitors)
		for i, n := range p.random.Perm(p.cfg.Visitors) {
			p.order[i] = int32(n) //nolint:gosec // at most ten million
		}
	}
	n := p.order[len(p.order)-1]
	p.order = p.order[:len(p.order)-1]
	return newVisit(newVisitor(p.cfg.Seed, int(n)), p.sites[p.pick.draw(p.random)], p.random)
}

// visitor is a person with a browser. It is a function of the seed and the visitor's number.
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

// addressIn is a random address of a block, neither the first nor the last of a /24.
func addressIn(block netip.Prefix, r *rand.Rand) netip.Addr {
	a := block.Addr().As4()
	n := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	n |= r.Uint32() >> block.Bits()
	n = n&^0xff | uint32(1+r.IntN(254)) //nolint:gosec // below 255
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// visit is a visitor's page views of a site, with some engagement and custom events, and an engagement
// event at the end.
type visit struct {
	visitor *visitor
	site    *website
	random  *rand.Rand
	page    string // URL of the current page; "" before the first
	pages   int    // page views that remain
}

// Shares of the steps that are no page view.
const (
	shareEngagement = 0.20
	shareCustom     = 0.05
)

func newVisit(who *visitor, site *website, random *rand.Rand) *visit {
	// 40 % of the visits are bounces; the others have three or four more pages on average.
	pages := 1
	if random.Float64() > 0.4 {
		pages += 1 + int(random.ExpFloat64()*3)
	}
	return &visit{visitor: who, site: site, random: random, pages: min(pages, 30)}
}

// step returns the visit's next beacon, and whether more follow.
func (v *visit) step() (b *beacon, more bool) {
	b = &beacon{visitor: v.visitor, Domain: v.site.domain}
	switch roll := v.random.Float64(); {
	case v.page == "":
		v.arrive(b)
	case v.pages == 0 || roll < shareEngagement:
		b.Name, b.URL = "engagement", v.page
		b.Depth, b.Engaged = 20+v.random.IntN(81), 1000+int(v.random.ExpFloat64()*15_000)
		return b, v.pages > 0
	case roll < shareEngagement+shareCustom:
		v.custom(b)
		return b, true
	default:
		v.view(b, v.site.next(v.page, v.random))
	}
	v.pages--
	return b, true
}

// arrive fills in the first page view, with a source.
func (v *visit) arrive(b *beacon) {
	s := choose(v.random, sources, func(s source) int { return s.weight })
	v.view(b, v.site.entry(v.random)+s.query)
	b.Referrer = s.referrer
}

// view fills in a page view and makes its page the current one.
func (v *visit) view(b *beacon, path string) {
	b.Name, b.Referrer = "pageview", v.page
	v.page = "https://" + v.site.domain + path
	b.URL = v.page
}

// custom fills in a custom event on the current page.
func (v *visit) custom(b *beacon) {
	b.URL = v.page
	switch v.random.IntN(6) {
	case 0:
		b.Name, b.Props = "Purchase", map[string]string{"plan": plans[v.random.IntN(len(plans))]}
		b.Revenue = &revenue{fmt.Sprintf("%d.%02d", 5+v.random.IntN(95), v.random.IntN(100)), "USD"}
	case 1, 2:
		b.Name, b.Props = "Signup", map[string]string{"plan": plans[v.random.IntN(len(plans))]}
	default:
		b.Name, b.Props = "Download", map[string]string{"file": fmt.Sprintf("guide-%d.pdf",
			1+v.random.IntN(5))}
	}
}

// zipf draws numbers from 0 to n-1 by Zipf's law: k with a probability proportional to 1/(k+1)^exponent.
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

// choose draws an element of a list, each with a probability proportional to its weight.
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
