package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

const perCrowd = 15_000 // viewers a process; the limit is 20,000 open files

// crowds are viewers in as many processes as it takes.
type crowds struct {
	each  []*crowdProcess
	began time.Time
}

type crowdProcess struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// gather starts n viewers of a server, and returns once all have what until says. numbered is the number of the first.
func gather(ctx context.Context, addr, target, key string, n, numbered int, until string) (*crowds, tallied, error) {
	c := &crowds{began: time.Now()}
	self, err := os.Executable()
	if err != nil {
		return nil, tallied{}, err
	}
	processes := max(1, (n+perCrowd-1)/perCrowd)
	for i := range processes {
		mine := n*(i+1)/processes - n*i/processes
		j := job{Addr: addr, First: numbered + n*i/processes, N: mine, Until: until,
			Request: "GET " + target + " HTTP/1.1\r\nHost: " + addr + "\r\nAccept: text/event-stream\r\nAuthorization: Bearer " + key + "\r\n\r\n"}
		p := &crowdProcess{cmd: exec.CommandContext(ctx, self, "streamer-crowd")}
		p.cmd.Stderr = os.Stderr
		if p.in, err = p.cmd.StdinPipe(); err != nil {
			return c, tallied{}, err
		}
		out, err := p.cmd.StdoutPipe()
		if err != nil {
			return c, tallied{}, err
		}
		p.out = bufio.NewScanner(out)
		p.out.Buffer(nil, 4<<20)
		if err := p.cmd.Start(); err != nil {
			return c, tallied{}, err
		}
		c.each = append(c.each, p)
		if err := json.NewEncoder(p.in).Encode(j); err != nil {
			return c, tallied{}, err
		}
	}
	for {
		t, err := c.ask("say")
		if err != nil {
			return c, t, err
		}
		if t.Failed > 0 || t.Lost > 0 {
			return c, t, fmt.Errorf("%d of %d viewers could not connect, %d were cut", t.Failed, n, t.Lost)
		}
		if t.Up == n {
			return c, t, nil
		}
		if time.Since(c.began) > 3*time.Minute {
			return c, t, fmt.Errorf("only %d of %d viewers are there after 3 minutes", t.Up, n)
		}
		pause(ctx, 20*time.Millisecond)
		if ctx.Err() != nil {
			return c, t, ctx.Err()
		}
	}
}

// ask adds up what the crowds say.
func (c *crowds) ask(what string) (all tallied, err error) {
	all.Seconds = map[int64]burst{}
	for _, p := range c.each {
		if _, err := fmt.Fprintln(p.in, what); err != nil {
			return all, fmt.Errorf("ask viewers: %w", err)
		}
	}
	for _, p := range c.each {
		if !p.out.Scan() {
			return all, fmt.Errorf("viewers are gone: %w", p.out.Err())
		}
		var t tallied
		if err := json.NewDecoder(strings.NewReader(p.out.Text())).Decode(&t); err != nil {
			return all, err
		}
		all.Up, all.Failed, all.Lost = all.Up+t.Up, all.Failed+t.Failed, all.Lost+t.Lost
		all.Frames, all.Bytes, all.Skipped = all.Frames+t.Frames, all.Bytes+t.Bytes, all.Skipped+t.Skipped
		all.Took = max(all.Took, t.Took)
		for sec, b := range t.Seconds {
			sum, ok := all.Seconds[sec]
			if !ok {
				sum = b
			} else {
				sum.N, sum.First, sum.Last = sum.N+b.N, min(sum.First, b.First), max(sum.Last, b.Last)
			}
			all.Seconds[sec] = sum
		}
	}
	return all, nil
}

func (c *crowds) leave() {
	if c == nil {
		return
	}
	for _, p := range c.each {
		p.in.Close()
	}
	for _, p := range c.each {
		_ = p.cmd.Wait()
	}
}

// spreads are the times from the first viewer to the last of those frames that all of them were given.
func (t tallied) spreads(viewers int) (d []time.Duration) {
	for _, b := range t.Seconds {
		if b.N == viewers {
			d = append(d, time.Duration(b.Last-b.First))
		}
	}
	return d
}
