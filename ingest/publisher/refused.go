package publisher

import (
	"fmt"
	"path/filepath"
	"time"

	"nowcast/ingest/publisher/spool"
)

// keepRefused keeps an envelope that the disk has acknowledged and the log refuses for good, so that the
// others behind it go on.
func (p *Publisher) keepRefused(partition int, e *Envelope, reason error) {
	err := p.spool.Refuse(spool.Refused{At: time.UnixMilli(e.timestamp).UTC(), Partition: partition,
		Events: e.events, Reason: reason.Error(), Data: e.data})
	kept := "yes"
	if err != nil {
		kept = "no"
		p.metrics.lost.Add(float64(e.events))
	}
	p.metrics.refused.WithLabelValues(kept).Add(float64(e.events))
	p.logger.Error("the log refuses an envelope on disk for good: it is kept aside, unless there is an "+
		"error of keeping it", "partition", partition, "events", e.events, "reason", reason,
		"file", filepath.Join(p.spool.Dir(), spool.RefusedFile), "error of keeping", err)
}

// refusedReason says what the log has refused for good, for as long as the file with it is there; "" if there
// is none.
func (p *Publisher) refusedReason() string {
	if p.spool == nil {
		return ""
	}
	envelopes, events, reason := p.spool.RefusedCount()
	if envelopes == 0 {
		return ""
	}
	return fmt.Sprintf("the log has refused %d envelopes with %d events that this machine's disk had "+
		"acknowledged (%s): they are kept in %s of the spool's directory; move that file away and restart "+
		"when you have looked at it", envelopes, events, reason, spool.RefusedFile)
}
