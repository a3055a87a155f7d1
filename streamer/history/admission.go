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
	public bool
	limit  int // of the principal; 0: the limit of all queries is reached
}

func (e *Busy) Error() string {
	const most = " are running already, which is the most"
	const advice = "; try again in a few seconds, " +
		"and ask for shorter ranges or fewer dimensions so that they end sooner"
	switch {
	case e.limit == 0:
		return "too many queries are running" + advice
	case e.public:
		return fmt.Sprintf("%d queries without a key", e.limit) + most + advice
	}
	return fmt.Sprintf("%d queries of this key", e.limit) + most + advice
}

// admission limits how many queries run at a time, in all and for each principal. All requests without a key
// are one principal: a crowd on a public page thus runs as many queries as one key, and a request with a key
// still finds a slot. Addresses would not do, because behind a proxy they are often the proxy's.
//
// A query beyond the limits waits in a queue. A slot that becomes free goes to the first query in the queue
// whose principal is below its limit, so that no principal waits for another's limit. The queue holds at
// most queueFactor queries for each slot; a query that finds it full is refused at once.
type admission struct {
	limit        int           // queries at a time
	perPrincipal int           // of them, of one principal
	timeout      time.Duration // in the queue

	mu      sync.Mutex
	running int
	counts  map[api.Principal]int // of the running queries, for principals that have any
	queue   []*waiter
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
	return a.running < a.limit && a.counts[p] < a.perPrincipal
}

func (a *admission) take(p api.Principal) {
	a.running++
	if a.counts == nil {
		a.counts = map[api.Principal]int{}
	}
	a.counts[p]++
}

func (a *admission) queueFull(p api.Principal) bool {
	own := 0
	for _, w := range a.queue {
		if w.principal == p {
			own++
		}
	}
	return own >= queueFactor*a.perPrincipal || len(a.queue) >= queueFactor*a.limit
}

func (a *admission) busy(p api.Principal) *Busy {
	if a.counts[p] < a.perPrincipal {
		return &Busy{}
	}
	return &Busy{public: p.Kind == api.Public, limit: a.perPrincipal}
}
