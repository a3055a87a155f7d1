// Package load sends the beacons of realistic visitors to a Nowcast at a given rate and measures the
// answers. It knows only HTTP.
//
// The load is open-loop: beacons are sent when they are due, whatever the answers. A latency counts from
// when the beacon was due, not from when it was sent, so that a stalled server or a slow sender shows in
// the latencies (otherwise this is known as coordinated omission). When all connections are busy, due
// beacons wait, and the wait counts. A beacon is never retried. Beacons that are not sent within 15 s after
// the end are counted as unsent.
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
	Visitors int           // distinct visitors, 1 to 10,000,000
	Duration time.Duration // 0: until the context ends
	Seed     uint64        // the same seed gives the same visitors and the same steps
	Progress io.Writer     // gets a line a second; may be nil
}

// Validate returns an error that names the first invalid field and its range.
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
	connections   = 256 // the most requests in flight
	backlog       = 256 // due beacons that wait for a connection; when it is full the schedule runs late
	answerTimeout = 15 * time.Second
	thinkTime     = 8 * time.Second // mean time between two beacons of a visitor, given enough visitors
)

// Load is a stream of visitors.
type Load struct {
	cfg        Config
	client     *http.Client
	population *population
	tally      *tally
}

// New validates cfg and sends nothing.
func New(cfg Config) (*Load, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections, DisableCompression: true,
	}
	client := &http.Client{Transport: t, Timeout: answerTimeout}
	return &Load{cfg: cfg, client: client, population: newPopulation(cfg), tally: &tally{}}, nil
}

// job is a beacon and the moment at which it is due.
type job struct {
	due    time.Time
	beacon *beacon
}

// Run sends until the duration is over or ctx ends, waits for outstanding answers and returns the summary.
// The end of ctx is no error. Run fails at once if nothing listens at the server's address.
func (l *Load) Run(ctx context.Context) (*Summary, error) {
	defer l.client.CloseIdleConnections()
	if err := l.checkServer(ctx); err != nil {
		return nil, err
	}
	sending := ctx // the end of ctx cancels requests in flight; the end of the duration doesn't
	if l.cfg.Duration > 0 {
		var stop context.CancelFunc
		sending, stop = context.WithTimeout(ctx, l.cfg.Duration+answerTimeout)
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
	reporting, stopReport := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReport()
	progress.Go(func() { l.report(reporting, start) })
	scheduled := l.schedule(sending, start, jobs)
	close(jobs)
	workers.Wait()
	took := time.Since(start)
	stopReport()
	progress.Wait()
	sum := l.tally.summary(took)
	if sending.Err() != nil && ctx.Err() == nil {
		sum.Unsent = max(0, int64(l.cfg.Rate*l.cfg.Duration.Seconds())-scheduled)
	}
	return sum, nil
}

// checkServer fails if nothing listens at the server's address.
func (l *Load) checkServer(ctx context.Context) error {
	u, err := url.Parse(l.cfg.Server)
	if err != nil {
		return fmt.Errorf("parse server address: %w", err)
	}
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(),
		port))
	if err != nil {
		return fmt.Errorf("%s doesn't answer (%w): start it with `nowcast all`, "+
			"or name another with --server", l.cfg.Server, err)
	}
	return c.Close()
}

// schedule sends beacons to jobs when they are due, until the duration is over or ctx ends, and returns
// their number. The rate decides how many visitors are active at a time. With fewer visitors than that, the
// time between two beacons of a visitor is shorter than thinkTime.
func (l *Load) schedule(ctx context.Context, start time.Time, jobs chan<- job) (scheduled int64) {
	active := min(max(1, int(l.cfg.Rate*thinkTime.Seconds())), l.cfg.Visitors)
	think := time.Duration(float64(active) / l.cfg.Rate * float64(time.Second))
	random := rand.New(rand.NewPCG(l.cfg.Seed, 1)) //nolint:gosec // not a secret
	due := make(queue, 0, active)
	for range active {
		// A visitor starts at a random point of a pause. Long pauses are more likely by their length (the
		// inspection paradox); otherwise the rate would oscillate at first.
		pause := math.Sqrt(0.25 + 2*random.Float64())
		due = append(due, step{time.Duration(pause * random.Float64() * float64(think)),
			l.population.arrive()})
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
				return scheduled
			}
		}
		b, more := next.visit.step()
		select {
		case jobs <- job{at, b}:
			scheduled++
		case <-ctx.Done():
			return scheduled
		}
		if !more {
			next.visit = l.population.arrive()
		}
		// Uniform from half of think to one and a half, so that the mean is think.
		due[0] = step{next.at + think/2 + time.Duration(random.Int64N(int64(think)+1)), next.visit}
		heap.Fix(&due, 0)
	}
	return scheduled
}

// step is the next beacon of a visit.
type step struct {
	at    time.Duration // due, from the start
	visit *visit
}

// queue is a heap of steps, the next due first.
type queue []step

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(step)) }
func (q *queue) Pop() any          { old := *q; x := old[len(old)-1]; *q = old[:len(old)-1]; return x }
