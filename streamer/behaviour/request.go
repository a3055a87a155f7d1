package behaviour

import (
	"encoding/json"
	"slices"
	"strings"

	"nowcast/streamer/history"
)

// Limits of questions. They bound the size of a statement and of an answer; history.Config bounds the cost.
const (
	minSteps, maxSteps = 2, 8
	minPath, maxPath   = 2, 6
	maxLimit           = 1000
	maxPageLimit       = 100
	defaultLimit       = 10
	maxName            = 2000 // bytes of a page or an event's name
)

// visits are what every question begins with: which visits it is about.
type visits struct {
	SiteID    string          `json:"site_id"`
	DateRange json.RawMessage `json:"date_range"`
	Filters   json.RawMessage `json:"filters"`

	dates   history.DateRange
	filters []history.Filter
	reader  *history.FilterReader
}

func (v *visits) common() *visits { return v }

func (v *visits) check() (err error) {
	if v.SiteID == "" {
		return history.NewInvalid("", "site_id is missing; name a site")
	}
	if v.dates, err = history.ReadDateRange(v.DateRange); err != nil {
		return err
	}
	v.reader = history.NewFilterReader()
	v.filters, err = v.reader.Read("filters", v.Filters)
	return err
}

// checkLimit sets a limit that is left out.
func checkLimit(given *int, most int) (int, error) {
	switch {
	case given == nil:
		return defaultLimit, nil
	case *given < 1 || *given > most:
		return 0, history.NewInvalid("limit", "want a whole number from 1 to %d", most)
	}
	return *given, nil
}

// checkChoice sets a choice that is left out to the first of the list.
func checkChoice(field, given string, list ...string) (string, error) {
	if given == "" {
		return list[0], nil
	}
	if !slices.Contains(list, given) {
		return "", history.NewInvalid(field, "%s is not known; choose from %s", history.Quote(given),
			strings.Join(list, ", "))
	}
	return given, nil
}

// checkText refuses a page or name that is empty or too long.
func checkText(field, text string) error {
	if text == "" || len(text) > maxName {
		return history.NewInvalid(field, "want 1 to %d bytes", maxName)
	}
	return nil
}
