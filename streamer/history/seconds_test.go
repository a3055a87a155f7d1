package history

import (
	"fmt"
	"testing"
	"time"
)

// Partitions add up, of a row that was written several times the newest counts, and seconds without an event
// are left out.
func TestSeconds(t *testing.T) {
	db := database(t)
	T := time.Now().Unix() - 3600 // rows live for a week
	rows := ""
	for _, r := range []struct {
		at      int64
		part    int
		events  int
		version int
	}{
		{T, 0, 9, 1}, {T + 1, 0, 1, 1}, {T + 1, 0, 3, 2}, {T + 1, 1, 4, 1},
		{T + 2, 0, 0, 1}, {T + 3, 1, 2, 1}, {T + 4, 0, 7, 1},
	} {
		rows += fmt.Sprintf(
			"('seconds.example', toDateTime(%d, 'UTC'), %d, %d, 1, %[3]d, 5, %[4]d),", r.at, r.part,
			r.events, r.version,
		)
	}
	if err := db.Exec(t.Context(), "INSERT INTO windows (site, second, part, pageviews, visitors, "+
		"events, active, version) VALUES "+rows[:len(rows)-1]); err != nil {
		t.Fatal(err)
	}
	got, err := newEngine(t, db, Config{}).Seconds(t.Context(), "seconds.example", T, T+3)
	if want := fmt.Sprint([]WindowSecond{{T + 1, 7, 2, 7, 9}, {T + 3, 2, 1, 2, 3}}); err != nil ||
		fmt.Sprint(got) != want {
		t.Errorf("%v %v, want %s", got, err, want)
	}
}
