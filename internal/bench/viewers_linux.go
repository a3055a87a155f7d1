package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"nowcast/internal/retry"
)

const (
	maxOpenFiles = 20_000 // of a process, on the machines that the figures in the docs are from
	maxViewers   = maxOpenFiles - 100

	viewersPerProcess = 15_000
)

// viewers are the viewers of one server, in as many processes as their open files take.
type viewers struct {
	processes []*viewerChild
	began     time.Time
}

// viewerChild is a viewerProcess as its parent has it.
type viewerChild struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// startViewers starts n viewers of a server and returns once all have joined. first is the number of the
// first.
func startViewers(ctx context.Context, s *frameServer, n, first int) (*viewers, viewerReport, error) {
	v := &viewers{began: time.Now()}
	processes := max(1, (n+viewersPerProcess-1)/viewersPerProcess)
	for i := range processes {
		from, to := n*i/processes, n*(i+1)/processes
		err := v.start(ctx, viewerJob{Addr: s.addr, First: first + from, N: to - from, JoinedBy: s.joinedBy,
			Dialling: cmp.Or(s.dialling, defaultDialling),
			Request: "GET " + s.target + " HTTP/1.1\r\nHost: " + s.addr +
				"\r\nAccept: text/event-stream\r\nAuthorization: Bearer " + s.key + "\r\n\r\n"})
		if err != nil {
			return v, viewerReport{}, err
		}
	}
	for {
		r, err := v.command("report")
		if err != nil {
			return v, r, err
		}
		if r.Failed > 0 || r.Lost > 0 {
			return v, r, fmt.Errorf("start viewers: %d of %d could not connect, %d were cut", r.Failed, n,
				r.Lost)
		}
		if r.Joined == n {
			return v, r, nil
		}
		if time.Since(v.began) > 3*time.Minute {
			return v, r, fmt.Errorf("start viewers: only %d of %d joined within 3 minutes", r.Joined, n)
		}
		if err := retry.Sleep(ctx, 20*time.Millisecond); err != nil {
			return v, r, err
		}
	}
}

func (v *viewers) start(ctx context.Context, job viewerJob) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := &viewerChild{cmd: exec.CommandContext(ctx, self, viewerProcessName)}
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	c.out = bufio.NewScanner(out)
	c.out.Buffer(nil, 4<<20)
	if err := c.cmd.Start(); err != nil {
		return err
	}
	v.processes = append(v.processes, c)
	return json.NewEncoder(c.in).Encode(job)
}

// command sends a command ("report" or "reset") to every process and adds up the reports.
func (v *viewers) command(name string) (all viewerReport, err error) {
	for _, c := range v.processes {
		if _, err := fmt.Fprintln(c.in, name); err != nil {
			return all, fmt.Errorf("command viewers: %w", err)
		}
	}
	for _, c := range v.processes {
		if !c.out.Scan() {
			return all, fmt.Errorf("command viewers: no report: %w", c.out.Err())
		}
		var r viewerReport
		if err := json.Unmarshal(c.out.Bytes(), &r); err != nil {
			return all, fmt.Errorf("command viewers: %w", err)
		}
		all.add(r)
	}
	return all, nil
}

// add adds up counts; Took is the longest.
func (r *viewerReport) add(o viewerReport) {
	r.Joined, r.Failed, r.Lost = r.Joined+o.Joined, r.Failed+o.Failed, r.Lost+o.Lost
	r.Frames, r.Bytes, r.Skipped = r.Frames+o.Frames, r.Bytes+o.Bytes, r.Skipped+o.Skipped
	r.Took = max(r.Took, o.Took)
	if r.Seconds == nil {
		r.Seconds = map[int64]arrival{}
	}
	for sec, a := range o.Seconds {
		sum, ok := r.Seconds[sec]
		if !ok {
			r.Seconds[sec] = a
			continue
		}
		r.Seconds[sec] = arrival{N: sum.N + a.N, First: min(sum.First, a.First), Last: max(sum.Last, a.Last)}
	}
}

// stop closes all connections.
func (v *viewers) stop() {
	if v == nil {
		return
	}
	for _, c := range v.processes {
		c.in.Close()
	}
	for _, c := range v.processes {
		_ = c.cmd.Wait()
	}
}

// spreads are the times from the first viewer to the last, of the frames that all of them received.
func (r viewerReport) spreads(viewers int) (d []time.Duration) {
	for _, a := range r.Seconds {
		if a.N == viewers {
			d = append(d, time.Duration(a.Last-a.First))
		}
	}
	return d
}
