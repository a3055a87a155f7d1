package process

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// recorder records what happens, in order.
type recorder struct {
	mu    sync.Mutex
	lines []string
}

func (r *recorder) add(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
}

// member returns a run function that drains for a while after its context has ended.
func (r *recorder) member(name string, drain time.Duration, err error) func(context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		r.add("stop " + name)
		time.Sleep(drain)
		r.add("end " + name)
		return err
	}
}

func TestGroupStopsLastAddedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rec recorder
		var g Group
		g.Add("broker", rec.member("broker", time.Second, nil))
		g.Add("publisher", rec.member("publisher", 2*time.Second, context.Canceled))
		g.Add("listener", rec.member("listener", 3*time.Second, nil))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		start := time.Now()
		if err := g.Run(ctx); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != time.Minute+6*time.Second {
			t.Errorf("it took %v", took)
		}
		want := []string{"stop listener", "end listener", "stop publisher", "end publisher",
			"stop broker", "end broker"}
		if !slices.Equal(rec.lines, want) {
			t.Errorf("order: %v", rec.lines)
		}
	})
}

func TestGroupEndsWithItsFirstMember(t *testing.T) {
	broken, stopping := errors.New("it broke"), errors.New("stopping failed too")
	for _, row := range []struct {
		name string
		err  error
		want []string
	}{
		{"error", broken, []string{"worker: it broke", "other: stopping failed too"}},
		{"own end", context.Canceled, []string{"worker: context canceled", "other: stopping failed too"}},
		{"plain end", nil, []string{"other: stopping failed too"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var rec recorder
				var g Group
				g.Add("other", rec.member("other", time.Second, stopping))
				g.Add("worker", func(context.Context) error { time.Sleep(time.Second); return row.err })
				g.Add("listener", rec.member("listener", time.Second, nil))
				err := g.Run(t.Context())
				if err == nil || err.Error() != strings.Join(row.want, "\n") ||
					row.err != nil && !errors.Is(err, row.err) {
					t.Errorf("error %q, want %q", err, row.want)
				}
				want := []string{"stop listener", "end listener", "stop other", "end other"}
				if !slices.Equal(rec.lines, want) {
					t.Errorf("order: %v", rec.lines)
				}
			})
		})
	}
}

func TestGroupStopIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var rec recorder
		g := Group{Limit: 10 * time.Second}
		g.Add("first", rec.member("first", time.Second, nil))
		g.Add("stuck", func(context.Context) error { <-release; return nil })
		g.Add("last", rec.member("last", time.Second, nil))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		err := g.Run(ctx)
		if err == nil || !strings.Contains(err.Error(), "stuck didn't stop within 13s") ||
			strings.Contains(err.Error(), "first") {
			t.Errorf("error %v", err)
		}
		if took := time.Since(start); took != 13*time.Second {
			t.Errorf("it took %v", took)
		}
		want := []string{"stop last", "end last", "stop first", "end first"}
		if !slices.Equal(rec.lines, want) {
			t.Errorf("order: %v", rec.lines)
		}
		close(release)
		synctest.Wait()
	})
}

func TestGroupWithoutMembers(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var g Group
	if err := g.Run(ctx); err != nil {
		t.Error(err)
	}
}
