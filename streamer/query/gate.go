package query

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Asker is whose place a question takes: the id of a key. The zero Asker is everybody without one, together. A crowd on a public page thus has as
// many places as one key, and whoever has a key still finds one; addresses would give the crowd all of them, and behind a proxy they
// are often the proxy's.
type Asker string

// Busy is a question for which there was no place. It maps to 429.
type Busy struct {
	public bool
	most   int // of the asker; 0: all places are taken, by whomever
}

func (e *Busy) Error() string {
	const do = "; try again in a few seconds, and ask for shorter ranges or fewer dimensions so that they end sooner"
	switch {
	case e.most == 0:
		return "too many queries are running" + do
	case e.public:
		return fmt.Sprintf("%d queries without a key are running already, which is the most%s", e.most, do)
	}
	return fmt.Sprintf("%d queries of this key are running already, which is the most%s", e.most, do)
}

// gate lets questions in, so many at a time in all and of each asker. The others stand in line for a moment. The first in it that may goes in, so
// one asker's line is nobody else's. Where the line is full (4 times the places) a question is refused at once.
type gate struct {
	most, each int
	wait       time.Duration

	mu     sync.Mutex
	inside int
	of     map[Asker]int // inside, of those who have any there
	line   []*waiter
}

type waiter struct {
	by Asker
	in chan struct{} // closed when it is let in
}

// enter takes a place, which leave gives back, or fails with *Busy or ctx's error.
func (g *gate) enter(ctx context.Context, by Asker) error {
	w := &waiter{by, make(chan struct{})}
	g.mu.Lock()
	if g.room(by) {
		g.take(by)
		g.mu.Unlock()
		return nil
	}
	if g.full(by) {
		defer g.mu.Unlock()
		return g.busy(by)
	}
	g.line = append(g.line, w)
	g.mu.Unlock()
	patience := time.NewTimer(g.wait)
	defer patience.Stop()
	select {
	case <-w.in:
		return nil
	case <-ctx.Done():
	case <-patience.C:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.line {
		if g.line[i] == w {
			g.line = append(g.line[:i], g.line[i+1:]...)
			if err := ctx.Err(); err != nil {
				return err
			}
			return g.busy(by)
		}
	}
	return nil // it was let in at this very moment; who has gone meanwhile is found out by the first statement
}

func (g *gate) leave(by Asker) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.of[by]--; g.of[by] == 0 {
		delete(g.of, by)
	}
	for i, w := range g.line {
		if g.room(w.by) {
			g.line = append(g.line[:i], g.line[i+1:]...)
			g.take(w.by)
			close(w.in)
			return
		}
	}
}

func (g *gate) room(by Asker) bool { return g.inside < g.most && g.of[by] < g.each }

func (g *gate) take(by Asker) {
	g.inside++
	if g.of == nil {
		g.of = map[Asker]int{}
	}
	g.of[by]++
}

func (g *gate) full(by Asker) bool {
	mine := 0
	for _, w := range g.line {
		if w.by == by {
			mine++
		}
	}
	return mine >= 4*g.each || len(g.line) >= 4*g.most
}

func (g *gate) busy(by Asker) *Busy {
	if g.of[by] < g.each {
		return &Busy{}
	}
	return &Busy{by == "", g.each}
}
