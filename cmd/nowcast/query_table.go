package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// writeTable prints range, time zone, rows, and what to know about them. Where the terminal is narrower than
// the table, long values of dimensions are cut; width 0 is no terminal.
func (a *queryAnswer) writeTable(w io.Writer, timezone string, width int) error {
	_, err := fmt.Fprintf(w, "%s, %s\n\n", printable(a.Query.SiteID), spanOf(a.Query.DateRange, timezone))
	if err != nil {
		return err
	}
	if err := writeLines(w, a.lines(printable), len(a.Query.Dimensions), width); err != nil {
		return err
	}
	if total := a.Meta.TotalRows; total != nil && *total > len(a.Results) {
		fmt.Fprintf(w, "\n%d of %d rows\n", len(a.Results), *total)
	} else if len(a.Results) == 0 {
		fmt.Fprintln(w, "\nNo rows: nothing was counted.")
	}
	if len(a.Meta.Warnings) > 0 {
		fmt.Fprintln(w)
		a.writeWarnings(w)
	}
	return nil
}

// writeLines prints lines as a table: the first columns, of texts, to the left, and the others, of numbers,
// to the right. Where the width is less than the table's, texts are cut; 0 is no bound.
func writeLines(w io.Writer, lines [][]string, texts, width int) error {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], textWidth(cell))
		}
	}
	if width > 0 {
		shrink(widths, texts, width)
	}
	for _, line := range lines {
		var b strings.Builder
		for i, cell := range line {
			if i > 0 {
				b.WriteString("  ")
			}
			cell = cut(cell, widths[i])
			pad := strings.Repeat(" ", widths[i]-textWidth(cell))
			if i < texts {
				b.WriteString(cell + pad)
			} else {
				b.WriteString(pad + cell)
			}
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// spanOf is the date range of an answer: days where it is of whole ones.
func spanOf(dates [2]string, timezone string) string {
	first, last := dates[0], dates[1]
	from, errFrom := time.Parse(time.RFC3339, first)
	to, errTo := time.Parse(time.RFC3339, last)
	if errFrom == nil && errTo == nil {
		layout := time.DateTime
		if from.Format(time.TimeOnly) == "00:00:00" && to.Format(time.TimeOnly) == "23:59:59" {
			layout = time.DateOnly
		}
		first, last = from.Format(layout), to.Format(layout)
		if timezone == "" {
			timezone = "UTC" + from.Format("-07:00")
		}
	}
	if first != last {
		first += " to " + last
	}
	if timezone != "" {
		first += ", " + timezone
	}
	return printable(first)
}

// minValue is how much of a dimension's value a narrow terminal shows at least, in columns.
const minValue = 12

// shrink makes the widest of the first columns narrower until all fit, or none can be.
func shrink(widths []int, dimensions, most int) {
	total := 2 * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	for total > most {
		widest := -1
		for i := range dimensions {
			if widths[i] > minValue && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
		total--
	}
}

// cut shortens text to a width in columns.
func cut(text string, width int) string {
	if textWidth(text) <= width {
		return text
	}
	at := 0
	for i, r := range text {
		if at += runeWidth(r); at > width-1 {
			return text[:i] + "…"
		}
	}
	return text
}

func textWidth(text string) (n int) {
	for _, r := range text {
		n += runeWidth(r)
	}
	return n
}

// runeWidth is how many columns of a terminal a character has: two for the wide ones of East Asia and emoji
// (Unicode Standard Annex 11), none for marks that combine.
func runeWidth(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana),
		r >= 0xff01 && r <= 0xff60, r >= 0x1f300 && r <= 0x1faff:
		return 2
	}
	return 1
}

// printable escapes what isn't shown as a character. Visitors choose paths and other values, so they could
// hold a terminal's control sequences.
func printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}
