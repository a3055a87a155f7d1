package history

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"nowcast/streamer/api"
)

// Busy is the error of a query that was not admitted. It maps to 429.
type Busy struct {
	public  bool
	address bool // limit is that of the client's address
	limit   int  // of the principal; 0: the limit of all queries is reached
}

func (e *Busy) Error() string {
	const most = " are running already, which is the most"
	const advice = "; try again in a few seconds, " +
		"and ask for shorter ranges or fewer dimensions so that they end sooner"
	switch {
	case e.limit == 0:
		return "too many queries are running" + advice
	case e.address:
		return fmt.Sprintf("%d queries without a key from your address", e.limit) + most + advice
	case e.public:
		return fmt.Sprintf("%d queries without a key", e.limit) + most + advice
	}
	return fmt.Sprintf("%d queries of this key", e.limit) + most + advice
}

// admission limits how many queries run at a time, in all and for each principal. All requests without a key
// together run as many queries as one key, so that a request with a key still finds a slot; of those, one
// address runs half, so that one client doesn't keep the others out. Behind a proxy that isn't trusted, all
// clients have one address.
//
// A query beyond the limits waits in a queue. A slot that becomes free goes to the first query in the queue
// whose principal is below its limit, so that no principal waits for another's limit. The queue holds at
// most queueFactor queries for each slot; a query that finds it full is refused at once.
type admission struct {
	limit        int           // queries at a time
	perPrincipal int           // of them, of one principal
	timeout      time.Duration // in the queue

	mu        sync.Mutex
	running   int
	anonymous int                   // of the running queries, those without a key
	counts    map[api.Principal]int // of the running queries, for principals that have any
	queue     []*waiter
}

const queueFactor = 4

type waiter struct {
	principal api.Principal
	admitted  chan struct{} // closed when the query may run
}

// acquire takes a slot, which release returns. It fails with *Busy or with ctx's error.
func (a *admission) acquire(ctx context.Context, p api.Principal) error {
	a.mu.Lock()
	if a.available(p) {
		a.take(p)
		a.mu.Unlock()
		return nil
	}
	if a.queueFull(p) {
		defer a.mu.Unlock()
		return a.busy(p)
	}
	w := &waiter{p, make(chan struct{})}
	a.queue = append(a.queue, w)
	a.mu.Unlock()
	timeout := time.NewTimer(a.timeout)
	defer timeout.Stop()
	select {
	case <-w.admitted:
		return nil
	case <-ctx.Done():
	case <-timeout.C:
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.Index(a.queue, w)
	if i < 0 {
		return nil // it was admitted at this very moment; if ctx has ended, the first statement fails
	}
	a.queue = slices.Delete(a.queue, i, i+1)
	if err := ctx.Err(); err != nil {
		return err
	}
	return a.busy(p)
}

// release returns a slot of a principal and admits the next query.
func (a *admission) release(p api.Principal) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running--
	if p.Kind == api.Public {
		a.anonymous--
	}
	if a.counts[p]--; a.counts[p] == 0 {
		delete(a.counts, p)
	}
	i := slices.IndexFunc(a.queue, func(w *waiter) bool { return a.available(w.principal) })
	if i < 0 {
		return
	}
	w := a.queue[i]
	a.queue = slices.Delete(a.queue, i, i+1)
	a.take(w.principal)
	close(w.admitted)
}

// available reports whether a query of a principal may run.
func (a *admission) available(p api.Principal) bool {
	return a.running < a.limit && a.counts[p] < a.slots(p) && !a.anonymousFull(p)
}

// slots is how many queries of a principal may run: of an address, half of a key's.
func (a *admission) slots(p api.Principal) int {
	if byAddress(p) {
		return max(1, a.perPrincipal/2)
	}
	return a.perPrincipal
}

func byAddress(p api.Principal) bool { return p.Kind == api.Public && p.ID != "" }

// anonymousFull reports whether a query has no key and as many without one run as may.
func (a *admission) anonymousFull(p api.Principal) bool {
	return p.Kind == api.Public && a.anonymous >= a.perPrincipal
}

func (a *admission) take(p api.Principal) {
	a.running++
	if p.Kind == api.Public {
		a.anonymous++
	}
	if a.counts == nil {
		a.counts = map[api.Principal]int{}
	}
	a.counts[p]++
}

// queueFull reports whether a query would find no place in the queue. Those without a key have as many
// places together as one key.
func (a *admission) queueFull(p api.Principal) bool {
	own, anonymous := 0, 0
	for _, w := range a.queue {
		if w.principal == p {
			own++
		}
		if w.principal.Kind == api.Public {
			anonymous++
		}
	}
	return own >= queueFactor*a.slots(p) || len(a.queue) >= queueFactor*a.limit ||
		p.Kind == api.Public && anonymous >= queueFactor*a.perPrincipal
}

func (a *admission) busy(p api.Principal) *Busy {
	switch {
	case a.anonymousFull(p):
		return &Busy{public: true, limit: a.perPrincipal}
	case a.counts[p] < a.slots(p):
		return &Busy{}
	}
	return &Busy{public: p.Kind == api.Public, address: byAddress(p), limit: a.slots(p)}
}
