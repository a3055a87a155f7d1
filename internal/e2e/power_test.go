package e2e

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nowcast/internal/verify"
	"nowcast/internal/warehouse"
	liveframe "nowcast/streamer/frame"
)

var cuts = flag.Int("cuts", 6, "how many losses of power TestPower simulates")

// unsynced is what a loss of power may take: the log is synced once a second, and a sync takes time.
const unsynced = 1500 * time.Millisecond

// Everything is killed under load. Then files of the data dir lose up to a second's bytes at their end, or
// get garbage. The next start comes up by itself, live moves, each beacon that was acknowledged a second
// before is stored once, a viewer who returns has seen what there is or begins again, `nowcast verify` finds
// no difference that it can't explain, and history names each cut of the log.
func TestPower(t *testing.T) {
	p := &power{laptop: startLaptop(t), rand: rand.New(rand.NewPCG(*chaosSeed, 13)),
		acked: map[string]time.Time{}}
	p.sites = []string{p.site(t, true), p.site(t, true)}
	begin := time.Now()
	for i := 1; i <= *cuts && !t.Failed(); i++ {
		p.cycle(t, i)
	}
	p.check(t, begin)
	t.Logf("%d losses of power: slowest start %v, slowest live %v; %d beacons acknowledged, of which %d in "+
		"a lost second and not stored; %d resets of returning viewers, who got several seconds as one "+
		"%d times; verify: %d cuts, %d rows and %d stored events of lost seconds", *cuts, p.slowestStart,
		p.slowestLive, len(p.acked), p.lost, p.resets, p.merged, p.seenCuts, p.rows, p.storedOnly)
}

type power struct {
	*laptop
	rand  *rand.Rand
	sites []string

	mu    sync.Mutex
	acked map[string]time.Time // by page
	kills []time.Time
	sent  int

	slowestStart, slowestLive                        time.Duration
	lost, resets, merged, seenCuts, rows, storedOnly int
}

// cycle runs under load, loses power and comes up again.
func (p *power) cycle(t *testing.T, i int) {
	ctx, stop := context.WithCancel(t.Context())
	var senders sync.WaitGroup
	for s := range 3 {
		senders.Go(func() { p.send(ctx, s) })
	}
	viewer := p.follow(t, p.streamers[0], p.sites[0], "rate", "1s")
	seen := newReceived()
	sizes := p.watchSizes(time.Duration(900+p.rand.IntN(900))*time.Millisecond, func() {
		for drained := false; !drained; {
			select {
			case f, open := <-viewer.frames:
				if open {
					seen.add(f)
				}
				drained = !open
			default:
				drained = true
			}
		}
	})
	killed := time.Now()
	p.killAll(t)
	stop()
	senders.Wait()
	viewer.cancel()
	p.kills = append(p.kills, killed)
	damage := p.damage(t, i, sizes, killed)
	started := time.Now()
	p.start(t)
	up := time.Since(started)
	p.moves(t)
	live := time.Since(started)
	p.slowestStart, p.slowestLive = max(p.slowestStart, up), max(p.slowestLive, live)
	p.returns(t, seen)
	if i%3 == 0 {
		p.repaired(t)
	}
	t.Logf("%4d  ready %4d ms  live %5d ms  %s", i, up.Milliseconds(), live.Milliseconds(), damage)
	if i%25 == 0 {
		p.check(t, p.kills[max(0, len(p.kills)-26)].Add(-10*time.Second))
	}
}

func (p *power) send(ctx context.Context, sender int) {
	for ctx.Err() == nil {
		p.mu.Lock()
		p.sent++
		n := p.sent
		p.mu.Unlock()
		page := fmt.Sprintf("/n%d", n)
		a, err := p.beacon(context.WithoutCancel(ctx), p.sites[n%len(p.sites)], page, n%60, nil)
		if err != nil || a.status != http.StatusAccepted {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		p.mu.Lock()
		p.acked[page] = time.Now()
		p.mu.Unlock()
		time.Sleep(20 * time.Millisecond)
	}
}

// watchSizes runs for a time and returns the sizes of all files as they were about a second before its end.
func (p *power) watchSizes(d time.Duration, meanwhile func()) map[string]int64 {
	time.Sleep(max(0, d-time.Second))
	sizes := map[string]int64{}
	p.files(func(name string, info fs.FileInfo) { sizes[name] = info.Size() })
	for end := time.Now().Add(min(d, time.Second)); time.Now().Before(end); {
		meanwhile()
		time.Sleep(20 * time.Millisecond)
	}
	return sizes
}

func (p *power) files(f func(name string, info fs.FileInfo)) {
	_ = filepath.WalkDir(p.dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil //nolint:nilerr // ClickHouse removes parts meanwhile
		}
		if info, err := e.Info(); err == nil {
			f(name, info)
		}
		return nil
	})
}

// killAll kills the process and its children at once.
func (p *power) killAll(t *testing.T) {
	t.Helper()
	ids := p.children("")
	_ = p.cmd.Process.Kill()
	for _, id := range ids {
		_ = syscall.Kill(id, syscall.SIGKILL)
	}
	<-p.gone
	for _, id := range ids {
		eventually(t, 10*time.Second, "a child's end", func(context.Context) error {
			if syscall.Kill(id, 0) == nil {
				b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
				if !strings.Contains(string(b), ") Z ") {
					return fmt.Errorf("process %d lives", id)
				}
			}
			return nil
		})
	}
}

// damage takes bytes from the ends of files, or adds some. Files that are synced before anything of them is
// acknowledged only get a torn write.
func (p *power) damage(t *testing.T, i int, before map[string]int64, killed time.Time) string {
	t.Helper()
	var all []string
	p.files(func(name string, info fs.FileInfo) {
		part := strings.Contains(name, "/clickhouse/data/store/") && strings.Contains(filepath.Base(
			filepath.Dir(name)), "_")
		switch rel, _ := filepath.Rel(p.dir, name); {
		case strings.HasSuffix(name, ".dat"), strings.HasSuffix(name, ".spool"),
			strings.HasSuffix(name, ".log"):
			all = append(all, rel)
		case strings.HasPrefix(rel, "broker/log/") && strings.HasSuffix(name, ".json"), rel == "broker/ends":
			all = append(all, rel)
		case part && killed.Sub(info.ModTime()) < unsynced:
			all = append(all, rel)
		}
	})
	slices.Sort(all)
	var done []string
	if i%3 == 0 {
		done = append(done, p.harm(t, p.one(all, "clickhouse/"), before))
	}
	for range 1 + p.rand.IntN(6) {
		rel := all[p.rand.IntN(len(all))]
		if p.rand.IntN(3) == 0 { // often the partitions, of which ClickHouse's files are many
			rel = p.one(all, "broker/log/partitions/nowcast.events")
		} else if p.rand.IntN(3) == 0 {
			rel = p.one(all, "broker/")
		}
		done = append(done, p.harm(t, rel, before))
	}
	return strings.Join(done, "; ")
}

func (p *power) one(all []string, prefix string) string {
	some := slices.DeleteFunc(slices.Clone(all), func(s string) bool { return !strings.HasPrefix(s, prefix) })
	if len(some) == 0 {
		some = all
	}
	return some[p.rand.IntN(len(some))]
}

// harm damages one file.
func (p *power) harm(t *testing.T, rel string, before map[string]int64) string {
	t.Helper()
	name := filepath.Join(p.dir, rel)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	synced := strings.Contains(rel, "sites.v1") || strings.Contains(rel, "salts.v1") ||
		strings.HasSuffix(rel, ".spool") || strings.HasSuffix(rel, ".json")
	room := len(b) - int(min(before[name], int64(len(b))))
	if strings.Contains(rel, "clickhouse/") {
		room = len(b)
	}
	what := ""
	switch kind := p.rand.IntN(4); {
	case kind < 2 && !synced && room > 0:
		n := 1 + p.rand.IntN(room)
		b, what = b[:len(b)-n], fmt.Sprintf("-%d of %d bytes", n, len(b))
	case kind == 2: // a file system that has the length and not the content
		n := 1 + p.rand.IntN(4096)
		b, what = append(b, make([]byte, n)...), fmt.Sprintf("+%d zeros", n)
	default:
		garbage := make([]byte, 1+p.rand.IntN(4096))
		for i := range garbage {
			garbage[i] = byte(p.rand.Uint32())
		}
		if strings.HasSuffix(rel, ".dat") && len(b) > 100 && kind == 1 { // a torn write
			garbage = b[:1+p.rand.IntN(len(b)-1)]
		}
		b, what = append(slices.Clip(b), garbage...), fmt.Sprintf("+%d bytes", len(garbage))
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(rel, "broker/log/") + " " + what
}

// moves waits until a new page view is seen live.
func (p *power) moves(t *testing.T) {
	t.Helper()
	from := time.Now()
	s := p.follow(t, p.streamers[0], p.sites[0], "rate", "100ms")
	defer s.cancel()
	eventually(t, 50*time.Second, "live moves", func(ctx context.Context) error {
		p.mu.Lock()
		p.sent += 2 // of this site
		page := fmt.Sprintf("/n%d", p.sent-p.sent%2)
		p.sent += 2
		p.mu.Unlock()
		a, err := p.beacon(ctx, p.sites[0], page, 1, nil)
		if err != nil || a.status != http.StatusAccepted {
			return fmt.Errorf("beacon: %d %s %w", a.status, a.body, err)
		}
		p.mu.Lock()
		p.acked[page] = time.Now()
		p.mu.Unlock()
		for {
			select {
			case f, open := <-s.frames:
				if !open {
					return fmt.Errorf("the stream has ended")
				}
				if f.Second != nil && f.Second.Pageviews > 0 && f.Second.At.After(from.Add(-time.Second)) {
					return nil
				}
			case <-time.After(300 * time.Millisecond):
				return fmt.Errorf("no frame with the view")
			}
		}
	})
}

// returns has a viewer return who saw seconds before the loss: the stream goes on with the next one, and
// each second that the viewer saw is the same in the snapshot of a new viewer, or the viewer begins again.
func (p *power) returns(t *testing.T, seen *received) {
	t.Helper()
	if seen.id == "" {
		return
	}
	for _, x := range seen.seconds {
		if !x.From.IsZero() {
			p.merged++
		}
	}
	s := p.follow(t, p.streamers[0], p.sites[0], "rate", "1s", "lastEventId", seen.id)
	defer s.cancel()
	f := s.waitFor(t, 20*time.Second, "the viewer returns", func(f frame) bool {
		return f.event == "reset" || f.event == "snapshot"
	})
	if f.event == "reset" {
		p.resets++
		f = s.waitFor(t, 20*time.Second, "a snapshot", func(f frame) bool { return f.event == "snapshot" })
		id, ok := liveframe.ParseID(seen.id)
		if !ok || f.Cut.At.Unix() < id.LastSecond || f.Cut.After.After(p.kills[len(p.kills)-1]) {
			t.Errorf("the snapshot after the reset of a viewer at %s says views from %s to %s may be missing",
				seen.id, f.Cut.After, f.Cut.At)
		}
		return
	}
	id, last := seen.id, seen.lastSecond
	seen.add(f)
	full := p.follow(t, p.streamers[0], p.sites[0], "rate", "1s")
	defer full.cancel()
	f = full.waitFor(t, 20*time.Second, "a snapshot", func(f frame) bool { return f.event == "snapshot" })
	if f.Second == nil || f.Second.At.Unix() < last {
		t.Errorf("a viewer was at %s, and a new one gets %+v", id, f.Second)
		return
	}
	for _, x := range append(seen.faults, seen.differences(f)...) {
		t.Errorf("%s, and the viewer, who was at %s, wasn't reset", x, id)
	}
}

// repaired waits until the rows of ClickHouse's broken parts are written again, if there are any.
func (p *power) repaired(t *testing.T) {
	t.Helper()
	eventually(t, 90*time.Second, "broken parts are written again", func(context.Context) error {
		out := p.out.String()
		if !strings.Contains(out, `"got partitions","lane":"store"`) {
			return fmt.Errorf("the store lane hasn't started")
		}
		if strings.Contains(out, "can't read parts") &&
			!strings.Contains(out, "wrote the rows of broken parts") {
			return fmt.Errorf("not yet")
		}
		return nil
	})
}

// check runs `nowcast verify` and compares the accepted beacons with the stored events.
func (p *power) check(t *testing.T, from time.Time) {
	t.Helper()
	p.repaired(t)
	time.Sleep(time.Second)
	var r verify.Report
	var code int
	to := time.Now().Add(time.Second)
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Second) {
		r, code = verified(t, "--data-dir", p.dir, "--wait", "30s", "--from",
			from.UTC().Truncate(time.Second).Format(time.RFC3339), "--to", to.UTC().Format(time.RFC3339))
		// ClickHouse's broken parts are written again meanwhile.
		if code == 0 && !r.Through.Before(to.Add(-2*time.Second)) || time.Now().After(end) {
			break
		}
	}
	if code != 0 || r.Through.Before(to.Add(-2*time.Second)) {
		t.Errorf("nowcast verify: exit %d, through %s of %s, %d differences, not compared %v", code,
			r.Through, to, r.Different, r.NotCompared)
		for _, d := range r.Differences[:min(20, len(r.Differences))] {
			t.Logf("%+v", d)
		}
	}
	p.seenCuts, p.rows, p.storedOnly = len(r.Cuts), 0, 0
	for _, c := range r.Cuts {
		p.rows, p.storedOnly = p.rows+c.Rows, p.storedOnly+c.StoredEvents
	}
	p.historySays(t, from, to, r.Cuts)
	p.checkStored(t)
}

// historySays checks that the answers of history name the cuts of a span, each loss of power once.
func (p *power) historySays(t *testing.T, from, to time.Time, all []*verify.LogCut) {
	t.Helper()
	losses := map[int64]bool{} // each has cut all partitions
	for _, c := range all {
		if !c.At.Before(from.Truncate(time.Second)) {
			losses[c.At.UnixMilli()] = true
		}
	}
	want := map[int]string{0: `"meta":{}`, 1: "The server lost its power: some views "}[len(losses)]
	if want == "" {
		want = fmt.Sprintf("The server lost its power %d times: some views ", len(losses))
	}
	query := map[string]any{"site_id": p.sites[0], "metrics": []string{"pageviews"},
		"date_range": []string{from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339)}}
	eventually(t, 30*time.Second, "history names the cuts", func(ctx context.Context) error {
		a, err := p.call(ctx, http.MethodPost, p.streamers[0]+"/api/v2/query", p.key, query)
		if err != nil || a.status != http.StatusOK || !strings.Contains(a.body, want) {
			return fmt.Errorf("%d %s, want %s %w", a.status, a.body, want, err)
		}
		return nil
	})
}

func (p *power) checkStored(t *testing.T) {
	t.Helper()
	endpoints, err := os.ReadFile(filepath.Join(p.dir, "endpoints.json"))
	if err != nil {
		t.Fatal(err)
	}
	_, dsn, _ := strings.Cut(string(endpoints), `"clickhouse":`)
	dsn = strings.Trim(strings.TrimSpace(strings.Trim(strings.TrimSpace(dsn), "}")), `"`)
	db, err := warehouse.Open(dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var rows []struct {
		Path  string `ch:"path"`
		Times uint64 `ch:"times"`
	}
	if err := db.Select(t.Context(), &rows, "SELECT path, count() AS times FROM events FINAL "+
		"WHERE path LIKE '/n%' GROUP BY path"); err != nil {
		t.Fatal(err)
	}
	stored := map[string]bool{}
	for _, r := range rows {
		stored[r.Path] = true
		if r.Times != 1 {
			t.Errorf("%s is stored %d times", r.Path, r.Times)
		}
	}
	p.lost = 0
	for page, at := range p.acked {
		if stored[page] {
			continue
		}
		p.lost++
		if !slices.ContainsFunc(p.kills, func(kill time.Time) bool {
			return kill.Sub(at) < unsynced && at.Sub(kill) < unsynced
		}) {
			t.Errorf("%s, acknowledged at %s, isn't stored", page, at.Format(time.StampMilli))
		}
	}
}
