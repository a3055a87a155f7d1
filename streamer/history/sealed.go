package history

import (
	"slices"
	"strings"
	"time"
)

// settleKeys decides which dimensions have keys in the statement: those of which a part has keys.
func (b *builder) settleKeys(c class) {
	b.keyed = make([]string, len(c.dimensions))
	if len(b.calendar.Sealed) == 0 {
		return
	}
	rolled := false
	for _, c := range c.split(b.grain) {
		for _, s := range b.sealedParts(c) {
			rolled = rolled || s.source == fromRollups
		}
	}
	for i, n := range c.dimensions {
		d, _ := lookup(n)
		if b.keyed[i] = d.Names; rolled && d.Grain == none {
			b.keyed[i] = d.names()
		}
	}
}

// sealedSet is days of which a part reads rows or sums.
type sealedSet struct {
	source source
	days   []sealedDay
	span   string // of sums: hour, day, month
}

// sealedPart returns the part of some sealed days.
func (b *builder) sealedPart(c class, s sealedSet) string {
	p := &partData{class: c, source: s.source, From: "hits"}
	p.Where = append(p.Where, b.ofSeals(s.days))
	switch s.source {
	case fromVisits:
		p.From = "visits"
	case fromRollups:
		p.From = "rollups"
		stored := "segment = 0 AND dim = '" + b.stored(c).stored() + "' AND span = '" + s.span + "'"
		if c.visitsOnly {
			stored += " AND visits > 0"
		}
		p.Where = append(p.Where, stored)
	}
	return b.write(b.describe(p), p)
}

// ofSeals returns the condition of the rows of sealed days.
func (b *builder) ofSeals(list []sealedDay) string {
	first, last := list[0], list[len(list)-1]
	b.lists++
	data := sealedData{
		First: b.list("sealed_day", first.Date.String()), Last: b.list("sealed_last_day", last.Date.String()),
	}
	var dates []localDate
	var seals, all []uint64
	for _, d := range list {
		dates, all = append(dates, d.Date), append(all, d.Seal)
		if !slices.Contains(seals, d.Seal) {
			seals = append(seals, d.Seal)
		}
	}
	data.All = b.list("seals", seals)
	if len(seals) > 1 || int(last.Date-first.Date)+1 != len(list) {
		data.Days, data.Seals = b.list("days", numbers(dates)), b.list("day_seals", all)
	}
	return strings.TrimSpace(b.write("sealed", data))
}

// sealedData is what the template "sealed" takes: parameters.
type sealedData struct{ First, Last, All, Days, Seals string }

// stored returns the dimension whose sums answer a class.
func (b *builder) stored(c class) (d dimension) {
	for _, n := range c.dimensions {
		if x, _ := lookup(n); x.Grain == none {
			d = x
		}
	}
	return d
}

// sealedParts says from what the sealed days of a class are answered.
func (b *builder) sealedParts(c class) (out []sealedSet) {
	rest := b.calendar.Sealed
	if span := b.storedSpan(c); span != "" {
		var months, rolled, other []sealedDay
		for _, d := range rest {
			first := d.Date.time()
			month := dateOf(time.Date(first.Year(), first.Month(), 1, 0, 0, 0, 0, time.UTC))
			switch {
			case d.Rolled && span == "day" && b.grain != day && b.grain != week &&
				slices.Contains(b.calendar.months, month):
				if len(months) == 0 || months[len(months)-1].Date != month {
					months = append(months, sealedDay{Date: month, Seal: d.Seal})
				}
			case d.Rolled:
				rolled = append(rolled, d)
			default:
				other = append(other, d)
			}
		}
		if len(months) > 0 {
			out = append(out, sealedSet{fromRollups, months, "month"})
		}
		if len(rolled) > 0 {
			out = append(out, sealedSet{fromRollups, rolled, span})
		}
		rest = other
	}
	if len(rest) == 0 {
		return out
	}
	if b.answeredByVisits(c) {
		return append(out, sealedSet{fromVisits, rest, ""})
	}
	return append(out, sealedSet{fromHits, rest, ""})
}

// storedSpan returns the spans of the stored sums that answer a class; "" where none do.
func (b *builder) storedSpan(c class) string {
	values := 0
	for _, n := range c.dimensions {
		d, _ := lookup(n)
		switch {
		case d.Grain != none:
		case d.Prop != "" || slices.Contains(b.calendar.labelled, d.names()):
			return ""
		default:
			values++
		}
	}
	switch {
	case b.cut || len(c.filters) > 0 || values > 1 || c.entered:
		return ""
	case b.grain == none || b.grain >= day:
		return "day"
	case b.grain == hour && values == 0:
		return "hour"
	}
	return ""
}

// answeredByVisits reports whether rows of visits have all that a class needs.
func (b *builder) answeredByVisits(c class) bool {
	byTime := b.cut || b.grain != none && b.grain < day
	return !c.any(ofEvent) && (!byTime || c.visitsOnly) && !slices.ContainsFunc(c.sums, func(s string) bool {
		return slices.Contains(engagedSums, s) || s == "exits"
	})
}
