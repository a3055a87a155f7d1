// Package load sends the beacons of realistic visitors to a Nowcast, at a given rate, and measures the answers. It knows only HTTP.
//
// Beacons go out when they are due, whatever the answers, and a beacon's latency counts from when it was due, not from when
// it was sent: a server that stalls, or a sender that can't keep up, shows in the latencies instead of hiding behind them. When the
// server answers so slowly that all connections are busy, what is due waits; the wait counts. Nothing is sent again. What was due and
// couldn't be sent until 15 s after the end is left and counted as unsent.
package load

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Config says what is sent.
type Config struct {
	Server   string        // http://host:port
	Sites    []string      // the busiest first
	Rate     float64       // beacons a second, above 0, at most 100,000
	Visitors int           // different ones, 1 to 10,000,000
	Duration time.Duration // 0: until the context ends
	Seed     uint64        // the same seed gives the same visitors and the same steps
	Progress io.Writer     // gets a line a second; may be nil
}

// Validate says in one sentence what can't be meant.
func (c *Config) Validate() error {
	u, err := url.Parse(c.Server)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return fmt.Errorf("server %q is no address: give one as http://127.0.0.1:8080", c.Server)
	case len(c.Sites) == 0:
		return errors.New("there is no site: give at least one")
	case !(c.Rate > 0 && c.Rate <= 100_000):
		return fmt.Errorf("rate is %g: give more than 0 and at most 100000 beacons a second", c.Rate)
	case c.Visitors < 1 || c.Visitors > 10_000_000:
		return fmt.Errorf("visitors is %d: give 1 to 10000000", c.Visitors)
	case c.Duration < 0:
		return fmt.Errorf("duration is %s: give 0 or more", c.Duration)
	}
	return nil
}

const (
	connections = 256 // at most so many beacons are under way at a time
	backlog     = 256 // due ones that wait for a connection; when it is full the schedule waits too, and its lateness counts
	answerTime  = 15 * time.Second
	thinkTime   = 8 * time.Second // between two beacons of a visitor, where there are enough visitors for the rate
)

// Load is a stream of visitors.
type Load struct {
	cfg    Config
	client *http.Client
	crowd  *crowd
	tally  *tally
}

// New validates and sends nothing.
func New(cfg Config) (*Load, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections, DisableCompression: true,
	}
	return &Load{cfg: cfg, client: &http.Client{Transport: t, Timeout: answerTime}, crowd: newCrowd(cfg), tally: newTally()}, nil
}

// job is one beacon and when it is due.
type job struct {
	due    time.Time
	beacon *beacon
}

// Run sends until the duration is over or ctx ends, which is no error, waits for the answers under way and returns the summary. It
// fails at once when nothing listens at the server's address.
func (l *Load) Run(ctx context.Context) (*Summary, error) {
	defer l.client.CloseIdleConnections()
	if err := l.knock(ctx); err != nil {
		return nil, err
	}
	sending := ctx // its end ends what is under way too; the end of the duration doesn't
	if l.cfg.Duration > 0 {
		var stop context.CancelFunc
		sending, stop = context.WithTimeout(ctx, l.cfg.Duration+answerTime)
		defer stop()
	}
	jobs := make(chan job, backlog)
	var workers, progress sync.WaitGroup
	for range connections {
		workers.Go(func() {
			for j := range jobs {
				l.send(ctx, j)
			}
		})
	}
	start := time.Now()
	reporting, quiet := context.WithCancel(context.WithoutCancel(ctx))
	defer quiet()
	progress.Go(func() { l.report(reporting, start) })
	handed := l.schedule(sending, start, jobs)
	close(jobs)
	workers.Wait()
	took := time.Since(start)
	quiet()
	progress.Wait()
	sum := l.tally.summary(took)
	if sending.Err() != nil && ctx.Err() == nil {
		sum.Unsent = max(0, int64(l.cfg.Rate*l.cfg.Duration.Seconds())-handed)
	}
	return sum, nil
}

func (l *Load) knock(ctx context.Context) error {
	u, err := url.Parse(l.cfg.Server)
	if err != nil {
		return fmt.Errorf("read server's address: %w", err)
	}
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return fmt.Errorf("%s doesn't answer (%w): start it with `nowcast all`, or name another with --server", l.cfg.Server, err)
	}
	return c.Close()
}

// schedule hands out beacons when they are due, until the duration is over or ctx ends, and returns how many. As many visitors browse
// at a time as the rate needs; where they are fewer, they hurry.
func (l *Load) schedule(ctx context.Context, start time.Time, jobs chan<- job) (handed int64) {
	browsing := min(max(1, int(l.cfg.Rate*thinkTime.Seconds())), l.cfg.Visitors)
	think := time.Duration(float64(browsing) / l.cfg.Rate * float64(time.Second))
	random := rand.New(rand.NewPCG(l.cfg.Seed, 1)) //nolint:gosec // not a secret
	due := make(queue, 0, browsing)
	for range browsing {
		// Everybody is somewhere between two beacons, more likely so in a long pause: begun otherwise, the rate would swing.
		pause := math.Sqrt(0.25 + 2*random.Float64())
		due = append(due, step{time.Duration(pause * random.Float64() * float64(think)), l.crowd.arrive()})
	}
	heap.Init(&due)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for next := due[0]; l.cfg.Duration == 0 || next.at < l.cfg.Duration; next = due[0] {
		at := start.Add(next.at)
		if wait := time.Until(at); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return handed
			}
		}
		b, more := next.who.step()
		select {
		case jobs <- job{at, b}:
			handed++
		case <-ctx.Done():
			return handed
		}
		if !more {
			next.who = l.crowd.arrive()
		}
		// Between half and one and a half: people differ, the mean stays.
		due[0] = step{next.at + think/2 + time.Duration(random.Int64N(int64(think)+1)), next.who}
		heap.Fix(&due, 0)
	}
	return handed
}

// step is when somebody's next beacon is due, from the start.
type step struct {
	at  time.Duration
	who *visit
}

type queue []step

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(step)) }
func (q *queue) Pop() any          { old := *q; x := old[len(old)-1]; *q = old[:len(old)-1]; return x }
