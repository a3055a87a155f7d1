package main

import (
	"context"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"nowcast/aggregator/group"
	"nowcast/internal/broker"
	"nowcast/internal/topic"
)

// idleWork is a member's work that does nothing.
type idleWork struct{}

func (idleWork) Run(ctx context.Context)     { <-ctx.Done() }
func (idleWork) Positions() []group.Position { return nil }

func TestGroupReset(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	addr := cluster.ListenAddrs()[0]
	k := broker.New(broker.Config{Addrs: []string{addr}})
	defer k.Close()
	if err := k.Ensure(t.Context(), topic.Specs(2, 1), nil); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		for p := range 2 {
			if _, err := k.Produce(t.Context(), topic.Events, p, time.Now(), []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	name := topic.Group("windows")
	commit := func(offsets ...int64) {
		t.Helper()
		var all []broker.Position
		for p, offset := range offsets {
			all = append(all, broker.Position{Topic: topic.Events, Partition: p, Offset: offset,
				Metadata: "watermark=5"})
		}
		if err := k.Commit(t.Context(), broker.Membership{Group: name, Generation: -1}, all); err != nil {
			t.Fatal(err)
		}
	}
	reset := func(args ...string) (string, error) {
		var out strings.Builder
		args = append([]string{"group", "reset", "--kafka", addr, "--lane", "windows"}, args...)
		err := run(t.Context(), args, &stdio{nil, &out, os.Stderr})
		return out.String(), err
	}
	for _, row := range []struct {
		name, args, want string // of the two positions
	}{
		{"earliest", "--to earliest", "0 0"},
		{"latest", "--to latest", "10 10"},
		{"only those behind the end", "--to end-of-log", "10 4"},
		{"an offset of one partition", "--to 7 --partition 1", "50 7"},
		{"no such offset", "--to 11", "the offsets 0 to 10"},
		{"no such partition", "--to latest --partition 2", "none with the number 2"},
		{"nonsense", "--to yesterday", "earliest, latest"},
		{"a topic of the other lane", "--to latest --topic " + topic.Windows, "--lane store"},
	} {
		commit(50, 4)
		out, err := reset(strings.Fields(row.args)...)
		all, cErr := k.Committed(t.Context(), name, []int{0, 1}, topic.Events)
		if cErr != nil {
			t.Fatal(cErr)
		}
		if err != nil {
			if !strings.Contains(err.Error(), row.want) || all[0].Offset != 50 || all[1].Offset != 4 {
				t.Errorf("%s: %v, positions %v", row.name, err, all)
			}
			continue
		}
		var got []string
		for _, p := range all {
			got = append(got, strconv.FormatInt(p.Offset, 10))
		}
		if strings.Join(got, " ") != row.want || !strings.Contains(out, "BEFORE") {
			t.Errorf("%s: positions %v, want %s; printed\n%s", row.name, got, row.want, out)
		}
	}

	commit(50, 4)
	m := group.New(group.Config{Group: name, Topics: []string{topic.Events}, Instance: "static",
		Start: func([]int, []group.Position) group.Work { return idleWork{} }}, k,
		slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { m.Run(ctx) })
	defer running.Wait()
	defer stop()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if ok, reason := m.Ready(); ok {
			break
		} else if time.Now().After(end) {
			t.Fatal(reason)
		}
	}
	if _, err := reset("--to", "latest"); err == nil || !strings.Contains(err.Error(), "1 members") {
		t.Errorf("with a member: %v", err)
	}
	if out, err := reset("--to", "latest", "--force"); err != nil || !strings.Contains(out, "50") {
		t.Errorf("with a member and --force: %v\n%s", err, out)
	}
}
