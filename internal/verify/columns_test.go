package verify

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"nowcast/internal/event"
)

// TestColumns checks that the comparison reads every column of `events` that the store lane writes, but the
// partition, which the query is limited to, and the id, which is a part of the row's key only.
func TestColumns(t *testing.T) {
	insert, err := os.ReadFile("../../aggregator/sql/insert_events.sql")
	if err != nil {
		t.Fatal(err)
	}
	_, written, _ := strings.Cut(string(insert), "(")
	written, _, _ = strings.Cut(written, ")")
	read, _, _ := strings.Cut(strings.TrimPrefix(selectEvents, "SELECT"), "FROM")
	read = regexp.MustCompile(`\w+\((\w+)\)`).ReplaceAllString(read, "$1")
	columns := func(list string) []string {
		all := regexp.MustCompile(`\w+`).FindAllString(list, -1)
		slices.Sort(all)
		return all
	}
	want := slices.DeleteFunc(columns(written), func(c string) bool { return c == "id" || c == "kpart" })
	if got := columns(read); len(want) < 30 || !slices.Equal(got, want) {
		t.Errorf("sql/events.sql reads   %v,\nand insert_events.sql writes %v", got, want)
	}
}

// TestContent checks that every field of an event changes the content that is compared, but the ids, which
// aren't a part of it.
func TestContent(t *testing.T) {
	var empty event.Event
	for _, field := range reflect.VisibleFields(reflect.TypeFor[event.Event]()) {
		var e event.Event
		switch f := reflect.ValueOf(&e).Elem().FieldByIndex(field.Index); f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Int32, reflect.Int64:
			f.SetInt(1)
		case reflect.Uint8, reflect.Uint32, reflect.Uint64:
			f.SetUint(1)
		case reflect.Slice:
			f.SetBytes(event.AppendProp(nil, "k", "v"))
		case reflect.Array:
			f.Index(0).SetUint(1)
		default:
			t.Fatalf("set a field of kind %s: not implemented", f.Kind())
		}
		ids := []string{"ID", "HasID", "PreviousVisitor", "PreviousID", "HasPreviousID"}
		want := !slices.Contains(ids, field.Name)
		if got := contentOf(&e, false, false) != contentOf(&empty, false, false); got != want {
			t.Errorf("%s changes the content: %v, want %v", field.Name, got, want)
		}
	}
}
