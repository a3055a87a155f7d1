// Package process is what every nowcast process has beside its work: a group of members that start and
// stop together, the address for operators with metrics, health and profiles, and the logger.
//
// It promises that a process does all of its work or ends: the first member that returns stops the
// others, in reverse order of addition, and Run returns when all have returned. If a member doesn't stop
// within the group's limit, Run returns without it and its error names it. The package knows nothing of
// what the members do.
package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	defaultLimit = 25 * time.Second // below the 30 s that orchestrators commonly grant
	finalGrace   = 3 * time.Second  // for members that are cancelled only when the limit is over
)

// Group runs members together. A member may use the members that were added before it: the last added
// stops first, and each is cancelled only when all members added after it have returned. The zero value
// is ready for use.
type Group struct {
	// Limit bounds the whole stop; 0 means 25 s. When it is over, all remaining members are cancelled at
	// once.
	Limit time.Duration

	members []*member
}

type member struct {
	name   string
	run    func(context.Context) error
	cancel context.CancelFunc
	done   chan struct{} // closed when run has returned; err is set before
	err    error
}

// Add adds a member; call it before Run. run works until its context ends, then drains and returns nil
// or the context's error. A return at any other time, or with any other error, ends the group.
func (g *Group) Add(name string, run func(context.Context) error) {
	g.members = append(g.members, &member{name: name, run: run, done: make(chan struct{})})
}

// Run starts all members and returns when all have returned. The end of ctx is no error. If a member
// returns by itself, Run returns that member's error, joined with the errors that the others return
// while they stop.
func (g *Group) Run(ctx context.Context) error {
	returned := make(chan struct{}, len(g.members))
	// Members keep the values of ctx but not its end, because stopAll decides in which order they stop.
	base := context.WithoutCancel(ctx)
	for _, m := range g.members {
		var memberCtx context.Context
		memberCtx, m.cancel = context.WithCancel(base)
		defer m.cancel()
		go func() {
			defer func() { close(m.done); returned <- struct{}{} }()
			err := m.run(memberCtx)
			drained := memberCtx.Err() != nil && errors.Is(err, context.Canceled)
			if err != nil && !drained {
				m.err = fmt.Errorf("%s: %w", m.name, err)
			}
		}()
	}
	var cause error
	select {
	case <-ctx.Done():
	case <-returned:
		for _, m := range g.members {
			if m.hasReturned() {
				cause = errors.Join(cause, m.err)
			}
		}
	}
	return g.stopAll(cause)
}

func (m *member) hasReturned() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

func (g *Group) stopAll(cause error) error {
	limit := cmp.Or(g.Limit, defaultLimit)
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	inTime := true
	for i := len(g.members) - 1; i >= 0 && inTime; i-- {
		m := g.members[i]
		counted := m.hasReturned() // its error is in cause already
		m.cancel()
		select {
		case <-m.done:
			if !counted {
				cause = errors.Join(cause, m.err)
			}
		case <-timeout.C:
			inTime = false
		}
	}
	if inTime {
		return cause
	}
	for _, m := range g.members {
		m.cancel()
	}
	grace := time.NewTimer(finalGrace)
	defer grace.Stop()
	var stuck []string
	for _, m := range g.members {
		select {
		case <-m.done:
		case <-grace.C:
			grace.Reset(0) // all members share one grace
			if !m.hasReturned() {
				stuck = append(stuck, m.name)
			}
		}
	}
	if len(stuck) > 0 {
		cause = errors.Join(cause,
			fmt.Errorf("%s didn't stop within %s", strings.Join(stuck, ", "), limit+finalGrace))
	}
	return cause
}
