package live

import (
	"fmt"
	"strings"
	"time"

	"nowcast/internal/topic"
	"nowcast/internal/window"
	"nowcast/streamer/board"
)

const (
	// quietAfter is the time without any emission after which Degraded says so. Aggregators emit every
	// second, also without events, for as long as an ingest runs.
	quietAfter = time.Minute

	maxNamedPartitions = 5 // that Degraded names one by one
)

// Degraded says why the frames lack something, under "live"; nil when they are complete.
func (s *Server) Degraded() map[string]string {
	current := s.tail.current.Load()
	if current == nil {
		return nil
	}
	var reasons []string
	faults := current.board.Faults()
	for i, f := range faults {
		if i == maxNamedPartitions {
			reasons = append(reasons, fmt.Sprintf("%d more partitions", len(faults)-i))
			break
		}
		reasons = append(reasons, describe(f))
	}
	at := s.tail.emissionAt.Load()
	if quiet := s.tail.now().Sub(time.Unix(0, at)); at != 0 && quiet > quietAfter {
		reasons = append(reasons, fmt.Sprintf("no windows have come for %s: see /readyz of the aggregators "+
			"and of ingest, and whether Kafka is up", quiet.Round(time.Second)))
	}
	if len(reasons) == 0 {
		return nil
	}
	return map[string]string{"live": strings.Join(reasons, "; ")}
}

// describe is a sentence about a partition that isn't on the board.
func describe(f board.Fault) string {
	name := fmt.Sprintf("partition %d of %s", f.Partition, topic.Windows)
	if f.Epoch >= 0 {
		name = otherEpoch(name, f.Epoch)
	} else {
		since := "in the last minutes"
		if f.Watermark > 0 {
			since = "since " + time.UnixMilli(f.Watermark).UTC().Format(time.RFC3339)
		}
		name = fmt.Sprintf("%s has sent nothing %s: see /readyz of its aggregator", name, since)
	}
	if f.Missing {
		name += "; the live view goes on without its visitors, and says that it is incomplete"
	}
	return name
}

func otherEpoch(name string, epoch int64) string {
	const format = "%s has windows of epoch %d, and this streamer reads those of epoch %d: "
	advice := "update the streamers"
	if epoch < window.Epoch {
		advice = "update the aggregators"
	}
	return fmt.Sprintf(format, name, epoch, window.Epoch) + advice
}

// otherEpochsOnly is the reason why there is nothing to serve, when all partitions have windows that this
// program can't read; else "".
func otherEpochsOnly(b *board.Board) string {
	faults := b.Faults()
	if len(faults) < b.Partitions() {
		return ""
	}
	for _, f := range faults {
		if f.Epoch < 0 {
			return ""
		}
	}
	return otherEpoch("the topic "+topic.Windows, faults[0].Epoch)
}
