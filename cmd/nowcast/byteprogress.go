package main

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mattn/go-isatty"
)

const progressInterval = 500 * time.Millisecond

// byteProgress shows on a terminal how much of something is done, until stop.
type byteProgress struct {
	once sync.Once
	end  chan struct{}
	done sync.WaitGroup
}

// startProgress shows done of total bytes; total 0: it is unknown.
func startProgress(out *os.File, done *atomic.Int64, total int64) *byteProgress {
	p := &byteProgress{end: make(chan struct{})}
	if !isatty.IsTerminal(out.Fd()) {
		return p
	}
	p.done.Go(func() {
		t := time.NewTicker(progressInterval)
		defer t.Stop()
		for {
			select {
			case <-p.end:
				fmt.Fprint(out, "\r\033[K") // clears the line
				return
			case <-t.C:
			}
			fmt.Fprintf(out, "\r\033[K%.1f MB", float64(done.Load())/1e6)
			if total > 0 {
				fmt.Fprintf(out, ", %d %%", min(100, done.Load()*100/total))
			}
		}
	})
	return p
}

// stop may be called more than once.
func (p *byteProgress) stop() {
	p.once.Do(func() { close(p.end) })
	p.done.Wait()
}
