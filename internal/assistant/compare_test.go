package assistant

import (
	"fmt"
	"strings"
	"testing"
)

// "Why did visitors drop yesterday?": the totals, and each source's part in the change, largest first.
func TestCompareYesterday(t *testing.T) {
	f := newFake(t)
	f.put("2026-11-28 12:00:00", "Google", 100)
	f.put("2026-11-28 23:59:59", "Bing", 10)
	f.put("2026-11-28 10:00:00", "Newsletter", 5)
	f.put("2026-11-29 00:00:00", "Google", 40)
	f.put("2026-11-29 12:00:00", "Bing", 25)
	f.put("2026-11-29 23:59:59", "Reddit", 5)
	f.put("2026-11-30 00:00:00", "Google", 7) // today
	c := connect(t, f.serve().URL, "nck_a")
	out := result[compareOut](t, c, "compare", `{"site_id":"a.example.com","date_range":"yesterday",`+
		`"metrics":["visitors","bounce_rate"],"by":"visit:source","limit":2}`)
	if out.DateRange != [2]string{"2026-11-29", "2026-11-29"} ||
		out.CompareTo != [2]string{"2026-11-28", "2026-11-28"} {
		t.Errorf("%v to %v", out.DateRange, out.CompareTo)
	}
	if got := show(out.Totals[0].change) + " " + show(out.Totals[1].change); len(out.Totals) != 2 ||
		got != "115 70 -45 -39.13 none none none none" {
		t.Errorf("totals: %s", got)
	}
	var got []string
	for _, x := range out.Contributions {
		got = append(got, fmt.Sprintf("%s %s of %v", x.Value, show(x.change), *x.Share))
	}
	if s := strings.Join(got, "; "); s != "Google 100 40 -60 -60 of 133.33; Bing 10 25 15 150 of -33.33" {
		t.Errorf("contributions: %s", s)
	}
	if out.Others == nil || *out.Others != (others{2, 0}) {
		t.Errorf("others: %+v", out.Others)
	}
	if len(out.Notes) != 1 || out.Notes[0] != "The server lost its power." {
		t.Errorf("notes: %q", out.Notes)
	}
}

func show(c change) string {
	s := make([]string, 0, 4)
	for _, x := range []*float64{c.Before, c.Now, c.Change, c.Percent} {
		if x == nil {
			s = append(s, "none")
		} else {
			s = append(s, fmt.Sprint(*x))
		}
	}
	return strings.Join(s, " ")
}

// A range that goes on is compared until now with the same span of the other one, not with all of it.
func TestCompareTodayIsFair(t *testing.T) {
	f := newFake(t) // it is 10:00
	f.put("2026-11-29 09:00:00", "Google", 4)
	f.put("2026-11-29 09:59:59", "Google", 1)
	f.put("2026-11-29 10:00:00", "Google", 50)
	f.put("2026-11-30 09:30:00", "Google", 3)
	c := connect(t, f.serve().URL, "nck_a")
	out := result[compareOut](t, c, "compare", `{"site_id":"a.example.com","date_range":"day"}`)
	if out.DateRange != [2]string{"2026-11-30T00:00:00", "2026-11-30T09:59:59"} ||
		out.CompareTo != [2]string{"2026-11-29T00:00:00", "2026-11-29T09:59:59"} ||
		show(out.Totals[0].change) != "5 3 -2 -40" || len(out.Notes) != 1 ||
		!strings.Contains(out.Notes[0], "isn't over") {
		t.Errorf("%+v", out)
	}
}

// Values that aren't counts have no shares, and values of several ranges that don't add up are told.
func TestCompareTellsWhatDoesNotAddUp(t *testing.T) {
	f := newFake(t)
	f.put("2026-11-29 12:00:00", "Google", 2)
	f.rows = 20_000
	c := connect(t, f.serve().URL, "nck_a")
	out := result[compareOut](t, c, "compare", `{"site_id":"a.example.com","date_range":"yesterday",`+
		`"metrics":["bounce_rate"],"by":"visit:source"}`)
	if len(out.Contributions) != 1 || out.Contributions[0].Share != nil || out.Contributions[0].Now != nil ||
		!strings.Contains(strings.Join(out.Notes, " "), "don't add up") {
		t.Errorf("%+v", out)
	}
	out = result[compareOut](t, c, "compare", `{"site_id":"a.example.com","date_range":"yesterday",`+
		`"by":"event:page","limit":1000}`)
	notes := strings.Join(out.Notes, " ")
	if len(out.Contributions) != maxContributions || len(out.Contributions[0].Value) > maxValue+3 ||
		!strings.Contains(notes, "20000 values") || !strings.Contains(notes, "counts for each") {
		t.Errorf("%d contributions, %q", len(out.Contributions), notes)
	}
}

func TestPeriods(t *testing.T) {
	const lastWeek = "2026-11-23T00:00:00+01:00"
	for _, row := range []struct{ from, to, name, wantFrom, wantTo string }{
		{"2026-11-29T00:00:00+01:00", "2026-11-29T23:59:59+01:00", previousPeriod,
			"2026-11-28", "2026-11-28"},
		{lastWeek, "2026-11-29T23:59:59+01:00", previousPeriod, "2026-11-16", "2026-11-22"},
		{"2026-11-29T00:00:00+01:00", "2026-11-29T23:59:59+01:00", previousWeek, "2026-11-22", "2026-11-22"},
		{"2026-11-01T00:00:00+01:00", "2026-11-30T23:59:59+01:00", previousWeek, "2026-09-27", "2026-10-26"},
		{lastWeek, "2026-11-29T23:59:59+01:00", previousWeek, "2026-11-16", "2026-11-22"},
		{"2024-02-29T00:00:00Z", "2024-02-29T23:59:59Z", yearOverYear, "2023-02-28", "2023-02-28"},
		// Over both days on which clocks change, a day is the same day of the calendar.
		{"2026-03-29T00:00:00+01:00", "2026-03-29T23:59:59+02:00", previousPeriod,
			"2026-03-28", "2026-03-28"},
		{"2026-10-25T00:00:00+02:00", "2026-10-25T23:59:59+01:00", previousPeriod,
			"2026-10-24", "2026-10-24"},
		{"2026-11-29T08:00:00+01:00", "2026-11-29T08:59:59+01:00", previousPeriod,
			"2026-11-29T07:00:00", "2026-11-29T07:59:59"},
		{"2026-11-29T08:00:00", "2026-11-29T08:59:59", previousWeek,
			"2026-11-22T08:00:00", "2026-11-22T08:59:59"},
		{"2026-11-29T00:00:00-03:30", "2026-11-29T00:59:59-03:30", previousPeriod,
			"2026-11-28T23:00:00", "2026-11-28T23:59:59"},
	} {
		p, _, err := periodOf([2]string{row.from, row.to})
		if err != nil {
			t.Fatal(err)
		}
		other, err := p.before(p, row.name)
		if got := other.dateRange(); err != nil || got != [2]string{row.wantFrom, row.wantTo} {
			t.Errorf("%s of %s to %s: %v %v, want %s to %s", row.name, row.from, row.to, got, err,
				row.wantFrom, row.wantTo)
		}
	}
	if _, _, err := periodOf([2]string{"soon", "later"}); err == nil {
		t.Error("soon is a time")
	}
}
