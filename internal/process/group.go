// Package process is what every nowcast process has beside its work: a group of members that start and stop together, the ops
// address with metrics, health and profiles, and the logger.
//
// It promises that a process either does all of its work or ends: the first member that returns stops the others, in the opposite
// order of their adding, and Run returns when all are gone. A member that doesn't stop within the group's limit is named in the
// error that Run then returns without it. The package knows nothing of what the members do.
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
	defaultLimit = 25 * time.Second // of the whole stop: below the 30 s that orchestrators commonly grant
	lastChance   = 3 * time.Second  // for those that are told to stop only when the limit is over
)

// Group runs members together. Each may use those that were added before it, so the last added is stopped first, and each is told
// to stop only when all that were added after it have returned. The zero value is ready for use.
type Group struct {
	// Limit bounds the whole stop; 0 means 25 s. When it is over, all members that are left are told to stop at once.
	Limit time.Duration

	members []*member
}

type member struct {
	name string
	run  func(context.Context) error
	stop context.CancelFunc
	done chan struct{}
	err  error
}

// Add adds a member before Run. run works until its context ends, then drains and returns nil or the context's error; whatever
// else it returns, or when, ends the group.
func (g *Group) Add(name string, run func(context.Context) error) {
	g.members = append(g.members, &member{name: name, run: run, done: make(chan struct{})})
}

// Run starts all members and returns when all have returned. When ctx ends that is no error. When a member ends by itself, the
// error is that member's; errors of stopping the others are joined to it.
func (g *Group) Run(ctx context.Context) error {
	first := make(chan struct{}, len(g.members))
	// A member's context keeps the values of ctx but not its end: who stops when is decided here.
	base := context.WithoutCancel(ctx)
	for _, m := range g.members {
		var own context.Context
		own, m.stop = context.WithCancel(base)
		defer m.stop()
		go func() {
			defer func() { close(m.done); first <- struct{}{} }()
			err := m.run(own)
			if told := own.Err() != nil && errors.Is(err, context.Canceled); err != nil && !told {
				m.err = fmt.Errorf("%s: %w", m.name, err)
			}
		}()
	}
	var cause error
	select {
	case <-ctx.Done():
	case <-first:
		for _, m := range g.members {
			if m.over() {
				cause = errors.Join(cause, m.err)
			}
		}
	}
	return g.stopAll(cause)
}

func (m *member) over() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

func (g *Group) stopAll(cause error) error {
	limit := time.NewTimer(cmp.Or(g.Limit, defaultLimit))
	defer limit.Stop()
	inTime := true
	for i := len(g.members) - 1; i >= 0 && inTime; i-- {
		m := g.members[i]
		early := m.over()
		m.stop()
		select {
		case <-m.done:
			if !early {
				cause = errors.Join(cause, m.err)
			}
		case <-limit.C:
			inTime = false
		}
	}
	if inTime {
		return cause
	}
	for _, m := range g.members {
		m.stop()
	}
	last := time.NewTimer(lastChance)
	defer last.Stop()
	var stuck []string
	for _, m := range g.members {
		select {
		case <-m.done:
		case <-last.C:
			last.Reset(0) // the others get no second chance
			if !m.over() {
				stuck = append(stuck, m.name)
			}
		}
	}
	if len(stuck) > 0 {
		cause = errors.Join(cause, fmt.Errorf("%s didn't stop within %s", strings.Join(stuck, ", "), cmp.Or(g.Limit, defaultLimit)+lastChance))
	}
	return cause
}
