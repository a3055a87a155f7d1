package sse

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestReader(t *testing.T) {
	for _, row := range []struct {
		name, stream string
		want         []Event
		retry        time.Duration
	}{
		{"all fields", "event: snapshot\nid: 1-2-0\ndata: {}\n\n", []Event{{"snapshot", "1-2-0", "{}"}}, 0},
		{"no space after the colon", "event:a\ndata:b\n\n", []Event{{"a", "", "b"}}, 0},
		{"only one space is removed", "data:  b\n\n", []Event{{"", "", " b"}}, 0},
		{"several lines of data", "data: a\ndata\ndata: b\n\n", []Event{{"", "", "a\n\nb"}}, 0},
		{"lines end with CR LF", "id: 1\r\ndata: a\r\n\r\n", []Event{{"", "1", "a"}}, 0},
		{"comments", ": hb\n\n: hb\ndata: a\n\n", []Event{{"", "", "a"}}, 0},
		{"no data is no event", "event: a\nid: 1\n\ndata: b\n\n", []Event{{"", "", "b"}}, 0},
		{"empty data is an event", "data\n\n", []Event{{"", "", ""}}, 0},
		{"the id belongs to its event", "id: 1\ndata: a\n\ndata: b\n\n",
			[]Event{{"", "1", "a"}, {"", "", "b"}}, 0},
		{"an event cut off", "data: a\n\ndata: b\n", []Event{{"", "", "a"}}, 0},
		{"retry", "retry: 1500\n\ndata: a\n\n", []Event{{"", "", "a"}}, 1500 * time.Millisecond},
		{"the last retry", "retry: 1\nretry: 2\n\n", nil, 2 * time.Millisecond},
		{"unknown field", "color: red\ndata: a\n\n", []Event{{"", "", "a"}}, 0},
		{"a line longer than the buffer", "data: " + strings.Repeat("x", 9000) + "\n\n",
			[]Event{{"", "", strings.Repeat("x", 9000)}}, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := NewReader(iotest.OneByteReader(strings.NewReader(row.stream)))
			for i, want := range row.want {
				if got, err := r.Next(); got != want || err != nil {
					t.Fatalf("event %d: %+v, %v, want %+v", i, got, err, want)
				}
			}
			if got, err := r.Next(); !errors.Is(err, io.EOF) {
				t.Errorf("after the last event: %+v, %v", got, err)
			}
			if d, err := r.Retry(); d != row.retry || err != nil {
				t.Errorf("retry %v, %v, want %v", d, err, row.retry)
			}
		})
	}
}

func TestReaderInvalidRetry(t *testing.T) {
	for _, value := range []string{"soon", "-1", "1.5", "", "99999999999"} {
		r := NewReader(strings.NewReader("retry: 5\nretry: " + value + "\n\n"))
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if d, err := r.Retry(); d != 0 || err == nil {
			t.Errorf("retry %q: %v, %v", value, d, err)
		}
	}
}
