package publisher

import (
	"fmt"
	"time"
)

// Degraded is the reason why events wait on disk for the log, for as long as Ready reports that they can; ""
// when they don't.
func (p *Publisher) Degraded() string {
	if p.spool == nil {
		return ""
	}
	for _, w := range p.writers {
		if since, sendErr, _ := w.stuck(); since > stuckAfter {
			return fmt.Sprintf("the log hasn't acknowledged partition %d for %s, "+
				"and its events wait on disk: %v", w.partition, since.Round(time.Second), sendErr)
		}
	}
	return ""
}
