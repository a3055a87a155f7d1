package site

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Goal is what the owner of a site wants its visitors to do.
type Goal struct {
	ID   string `json:"id"`
	Name string `json:"name"` // unique among the site's goals
	Condition
	// Currency (ISO 4217) is that of the goal's revenue; "": it has none. Revenue in other currencies is not
	// the goal's: it is never converted.
	Currency string    `json:"currency,omitempty"`
	Created  time.Time `json:"created"`
	Revision int64     `json:"revision"` // counts the changes, from 1
}

// Condition is what an event has to be. Exactly one of Event and Page is set. The zero Condition holds for no
// event.
type Condition struct {
	Event Pattern `json:"event,omitempty"` // of the name of a custom event
	// Page is of the path of a page that is viewed or, with ScrollDepth or EngagedSeconds, of the page that
	// an engagement is about.
	Page           Pattern `json:"page,omitempty"`
	ScrollDepth    int     `json:"scroll_depth,omitempty"`    // percent of the page at least
	EngagedSeconds int     `json:"engaged_seconds,omitempty"` // on one page in one visit at least
	// Properties have to hold all. Engagements have no properties.
	Properties []PropertyCondition `json:"properties,omitempty"`
}

// PropertyCondition is a condition on a property of an event. A property that the event lacks is empty.
type PropertyCondition struct {
	Key      string           `json:"key"`
	Operator PropertyOperator `json:"operator"`
	Values   []string         `json:"values"` // one or more; none is empty
}

// PropertyOperator says how a property is compared, as in the filters of the Stats API.
type PropertyOperator string

// The operators of properties.
const (
	PropertyIs          PropertyOperator = "is"           // one of the values
	PropertyIsNot       PropertyOperator = "is_not"       // none of them
	PropertyContains    PropertyOperator = "contains"     // has one of the values in it
	PropertyContainsNot PropertyOperator = "contains_not" // has none of them in it
)

// Names of events that are no custom events.
const (
	pageviewName   = "pageview"
	engagementName = "engagement"
)

// Event is what conditions look at in an event.
type Event struct {
	Name        string // "pageview", "engagement" or the name of a custom event
	Path        string
	ScrollDepth int // of an engagement: percent
	// Engaged is of an engagement: how long the visitor has been engaged with the page in this visit by now,
	// which is the sum over the engagements of the visit with this path.
	Engaged    time.Duration
	Properties map[string]string
}

// Matches reports whether an event reaches the goal.
func (g Goal) Matches(e Event) bool { return g.Condition.Matches(e) }

// Matches reports whether the condition holds for an event.
func (c Condition) Matches(e Event) bool {
	custom := e.Name != pageviewName && e.Name != engagementName
	switch {
	case c.Event != "" && c.Page != "":
		return false
	case c.Event != "":
		return custom && c.Event.Match(e.Name) && c.propertiesHold(e)
	case c.Page == "" || custom || !c.Page.Match(e.Path):
		return false
	case c.ScrollDepth > 0:
		return e.Name == engagementName && e.ScrollDepth >= c.ScrollDepth
	case c.EngagedSeconds > 0:
		return e.Name == engagementName && e.Engaged >= time.Duration(c.EngagedSeconds)*time.Second
	}
	return e.Name == pageviewName && c.propertiesHold(e)
}

func (c Condition) propertiesHold(e Event) bool {
	return !slices.ContainsFunc(c.Properties, func(p PropertyCondition) bool {
		return !p.Matches(e.Properties[p.Key])
	})
}

// Matches reports whether the condition holds for a value of its property.
func (p PropertyCondition) Matches(value string) bool {
	switch p.Operator {
	case PropertyIs:
		return slices.Contains(p.Values, value)
	case PropertyIsNot:
		return len(p.Values) > 0 && !slices.Contains(p.Values, value)
	}
	contained := slices.ContainsFunc(p.Values, func(v string) bool { return strings.Contains(value, v) })
	switch p.Operator {
	case PropertyContains:
		return contained
	case PropertyContainsNot:
		return len(p.Values) > 0 && !contained
	}
	return false
}

// Bounds of a condition.
const (
	maxGoalPattern    = 500 // bytes of a name or path
	maxEngagedSeconds = 24 * 60 * 60
	maxProperties     = 10  // conditions
	maxPropertyValues = 20  // of a condition
	maxPropertyKey    = 300 // bytes
	maxPropertyValue  = 500 // bytes
)

// clean normalises a condition. It fails with ErrInvalid, which says what to give.
func (c *Condition) clean() error {
	c.Event = Pattern(strings.TrimSpace(string(c.Event)))
	c.Page = Pattern(strings.TrimSpace(string(c.Page)))
	switch {
	case (c.Event == "") == (c.Page == ""):
		return fmt.Errorf("%w: give exactly one of event and page", ErrInvalid)
	case c.Event != "" && (c.ScrollDepth != 0 || c.EngagedSeconds != 0):
		return fmt.Errorf("%w: scroll_depth and engaged_seconds are of a page; give page instead of event",
			ErrInvalid)
	case c.ScrollDepth != 0 && c.EngagedSeconds != 0:
		return fmt.Errorf("%w: give only one of scroll_depth and engaged_seconds", ErrInvalid)
	case c.ScrollDepth < 0 || c.ScrollDepth > 100:
		return fmt.Errorf("%w: scroll_depth is %d; give 1 to 100 (percent)", ErrInvalid, c.ScrollDepth)
	case c.EngagedSeconds < 0 || c.EngagedSeconds > maxEngagedSeconds:
		return fmt.Errorf("%w: engaged_seconds is %d; give 1 to %d", ErrInvalid, c.EngagedSeconds,
			maxEngagedSeconds)
	case len(c.Properties) > 0 && (c.ScrollDepth != 0 || c.EngagedSeconds != 0):
		return fmt.Errorf("%w: engagements have no properties; leave properties out", ErrInvalid)
	case !isShown(string(cmp.Or(c.Event, c.Page)), maxGoalPattern):
		return fmt.Errorf("%w: event and page have at most %d bytes and no control characters", ErrInvalid,
			maxGoalPattern)
	case c.Page != "" && c.Page[0] != '/' && c.Page[0] != '*':
		return fmt.Errorf("%w: %s is no page; begin it with / or *; * is anything up to the next /, "+
			"** anything at all", ErrInvalid, quote(string(c.Page)))
	}
	if name, ok := c.Event.Exact(); ok && (name == pageviewName || name == engagementName) {
		return fmt.Errorf("%w: %s is no custom event; give page, and scroll_depth or engaged_seconds with it",
			ErrInvalid, name)
	}
	return cleanProperties(c.Properties)
}

func cleanProperties(all []PropertyCondition) error {
	if len(all) > maxProperties {
		return fmt.Errorf("%w: there are %d conditions on properties; give at most %d", ErrInvalid, len(all),
			maxProperties)
	}
	operators := []PropertyOperator{PropertyIs, PropertyIsNot, PropertyContains, PropertyContainsNot}
	for _, p := range all {
		switch {
		case p.Key == "" || !isShown(p.Key, maxPropertyKey):
			return fmt.Errorf("%w: a property's key has 1 to %d bytes and no control characters", ErrInvalid,
				maxPropertyKey)
		case !slices.Contains(operators, p.Operator):
			return fmt.Errorf("%w: the operator of property %s is %s; give is, is_not, contains or "+
				"contains_not", ErrInvalid, quote(p.Key), quote(string(p.Operator)))
		case len(p.Values) == 0 || len(p.Values) > maxPropertyValues:
			return fmt.Errorf("%w: property %s is compared with %d values; give 1 to %d", ErrInvalid,
				quote(p.Key), len(p.Values), maxPropertyValues)
		}
		for _, v := range p.Values {
			if v == "" || len(v) > maxPropertyValue || !utf8.ValidString(v) {
				return fmt.Errorf("%w: a value of property %s has 1 to %d bytes", ErrInvalid, quote(p.Key),
					maxPropertyValue)
			}
		}
	}
	return nil
}

// isShown reports whether a text is valid, has no control characters, and is at most so many bytes long.
func isShown(s string, most int) bool {
	return len(s) <= most && utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}

// clean normalises a goal. It fails with ErrInvalid.
func (g *Goal) clean() (err error) {
	if g.Name, err = cleanName("goal", g.Name); err != nil {
		return err
	}
	if err := g.Condition.clean(); err != nil {
		return err
	}
	if g.Currency == "" {
		return nil
	}
	if g.Currency = strings.ToUpper(g.Currency); g.Event == "" {
		return fmt.Errorf("%w: only custom events have revenue; leave currency out", ErrInvalid)
	}
	if len(g.Currency) != 3 || strings.Trim(g.Currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return fmt.Errorf("%w: %s is no currency; give its three letters (ISO 4217), as EUR", ErrInvalid,
			quote(g.Currency))
	}
	return nil
}
