package history

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
)

func rowsOf(n int) []Row {
	v := float64(n)
	return []Row{{Metrics: []*float64{&v}, Dimensions: []string{fmt.Sprint(n)}}}
}

func about(n int) statement {
	s := statement{sql: "SELECT"}
	s.bind("seals", []uint64{1<<63 + uint64(n)})
	return s
}

// Equal statements at one time run once, and a kept answer isn't changed by the one who was given it.
func TestAnswersAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers(1 << 20)
		runs, release := 0, make(chan struct{})
		run := func() ([]Row, uint64, error) { runs++; <-release; return rowsOf(7), 9, nil }
		got := make(chan string, 3)
		for range 3 {
			go func() {
				rows, total, _, err := a.get(t.Context(), about(1), run)
				got <- fmt.Sprint(describe(rows), total, err)
				rows[0].Metrics[0] = nil
			}()
		}
		synctest.Wait()
		close(release)
		for range 3 {
			if s := <-got; s != "[\"7\"] 7\n9 <nil>" {
				t.Errorf("got %s", s)
			}
		}
		rows, _, kept, err := a.get(t.Context(), about(1), nil)
		if err != nil || !kept || describe(rows) != "[\"7\"] 7\n" || runs != 1 {
			t.Errorf("%d runs, then %s %t %v", runs, describe(rows), kept, err)
		}
		if _, _, kept, _ := a.get(t.Context(), about(2), func() ([]Row, uint64, error) {
			return nil, 0, nil
		}); kept {
			t.Error("another statement has the same answer")
		}
	})
}

// A client that goes away doesn't fail those that wait for its statement, an error isn't kept, and one who
// waits may go away.
func TestAnswersFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers(1 << 20)
		leader, leave := context.WithCancel(t.Context())
		ended := make(chan error, 3)
		wait := func() ([]Row, uint64, error) { <-leader.Done(); return nil, 0, leader.Err() }
		go func() { _, _, _, err := a.get(leader, about(1), wait); ended <- err }()
		synctest.Wait()
		gone, leaveToo := context.WithCancel(t.Context())
		go func() { _, _, _, err := a.get(gone, about(1), nil); ended <- err }()
		synctest.Wait()
		leaveToo()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("one who waited: %v", err)
		}
		fault := errors.New("fault")
		go func() {
			failing := func() ([]Row, uint64, error) { return nil, 0, fault }
			_, _, _, err := a.get(t.Context(), about(1), failing)
			ended <- err
		}()
		synctest.Wait()
		leave()
		first, second := <-ended, <-ended
		if !errors.Is(errors.Join(first, second), context.Canceled) ||
			!errors.Is(errors.Join(first, second), fault) {
			t.Errorf("%v and %v, want one of each", first, second)
		}
		rows, _, kept, err := a.get(t.Context(), about(1), func() ([]Row, uint64, error) {
			return rowsOf(1), 1, nil
		})
		if len(rows) != 1 || kept || err != nil {
			t.Errorf("after an error: %v %t %v", rows, kept, err)
		}
	})
}

// The bytes that are kept are bounded, what was used longest ago goes first, and a large answer isn't kept.
func TestAnswersAreBounded(t *testing.T) {
	size := sizeOf(rowsOf(10))
	a := newAnswers(10 * size)
	ask := func(n int) bool {
		run := func() ([]Row, uint64, error) { return rowsOf(n), 1, nil }
		_, _, kept, err := a.get(t.Context(), about(n), run)
		if err != nil {
			t.Fatal(err)
		}
		return kept
	}
	for n := 10; n < 20; n++ {
		ask(n)
	}
	if !ask(10) || ask(20) || !ask(10) || ask(11) {
		t.Error("not the one used longest ago went")
	}
	if a.bytes > a.limit || a.bytes != int64(len(a.kept))*size || a.used.Len() != len(a.kept) {
		t.Errorf("%d bytes of %d in %d answers", a.bytes, a.limit, len(a.kept))
	}
	for range 2 {
		rows := make([]Row, 100)
		if _, _, kept, _ := a.get(t.Context(), about(1), func() ([]Row, uint64, error) {
			return rows, 1, nil
		}); kept {
			t.Error("a large answer is kept")
		}
	}
}
