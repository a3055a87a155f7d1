package site

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Funnel is a row of steps that visitors are expected to take one after the other.
type Funnel struct {
	ID    string      `json:"id"`
	Name  string      `json:"name"` // unique among the site's funnels
	Steps []Step      `json:"steps"`
	Scope FunnelScope `json:"scope"`
	// Strict: a step has to be the next view or custom event after the step before it. Otherwise there may be
	// others in between.
	Strict   bool      `json:"strict,omitempty"`
	Created  time.Time `json:"created"`
	Revision int64     `json:"revision"` // counts the changes, from 1
}

// Step is a step of a funnel: a goal of the site, or a condition of its own.
type Step struct {
	Goal string `json:"goal,omitempty"` // ID of the goal; "": the condition counts
	Name string `json:"name,omitempty"` // of a condition, for people; may be empty
	Condition
}

// FunnelScope is within what a visitor has to take all steps.
type FunnelScope string

// The scopes of funnels.
const (
	WithinVisit FunnelScope = "visit"
	WithinDay   FunnelScope = "day" // of the site's clock; the id of a visitor lasts one
)

// Bounds of Funnel.Steps.
const (
	minSteps = 2
	maxSteps = 8
)

// clean normalises a funnel. It fails with ErrInvalid. isGoal reports whether the site has a goal.
func (f *Funnel) clean(isGoal func(id string) bool) (err error) {
	if f.Name, err = cleanName("funnel", f.Name); err != nil {
		return err
	}
	if len(f.Steps) < minSteps || len(f.Steps) > maxSteps {
		return fmt.Errorf("%w: the funnel has %d steps; give %d to %d", ErrInvalid, len(f.Steps), minSteps,
			maxSteps)
	}
	if f.Scope = cmp.Or(f.Scope, WithinVisit); f.Scope != WithinVisit && f.Scope != WithinDay {
		return fmt.Errorf("%w: the scope is %s; give visit or day", ErrInvalid, quote(string(f.Scope)))
	}
	f.Steps = slices.Clone(f.Steps)
	for i := range f.Steps {
		if err := f.Steps[i].clean(isGoal); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	return nil
}

func (s *Step) clean(isGoal func(id string) bool) (err error) {
	if s.Goal == "" {
		if s.Name != "" {
			if s.Name, err = cleanName("step", s.Name); err != nil {
				return err
			}
		}
		return s.Condition.clean()
	}
	if s.Name != "" || !s.isZero() {
		return fmt.Errorf("%w: give a goal, or a condition of the step's own", ErrInvalid)
	}
	if !isGoal(s.Goal) {
		return fmt.Errorf("%w: there is no goal %s; name one by its id", ErrInvalid, quote(s.Goal))
	}
	return nil
}

func (c Condition) isZero() bool {
	return c.Event == "" && c.Page == "" && c.ScrollDepth == 0 && c.EngagedSeconds == 0 &&
		len(c.Properties) == 0
}
