// Package topic says which topics there are and with which settings; it knows no Kafka client.
//
// It promises that a topic which exists with other settings than it needs is never used in silence: Spec.Check says in one sentence
// what differs and which command mends it.
package topic

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The topics' names. The number at the end is the version of the schema's meaning and of the partitioning: a change makes a new topic.
const (
	Events     = "nowcast.events.v1"
	Windows    = "nowcast.windows.v1"
	Sites      = "nowcast.sites.v1"
	Salts      = "nowcast.salts.v1"
	DeadLetter = "nowcast.dead-letter.v1"
)

// Group is the consumer group of one of the aggregator's lanes.
func Group(lane string) string { return "nowcast-" + lane }

const minInsync = "min.insync.replicas"

// Spec is a topic as it has to be.
type Spec struct {
	Name        string
	Partitions  int
	Replication int
	Settings    map[string]string // as Kafka names them
}

// Specs are all topics, with partitions of the events topic and replication copies of each.
func Specs(partitions, replication int) []Spec {
	spec := func(name string, partitions int, cleanup string, keep time.Duration, more ...string) Spec {
		s := Spec{name, partitions, replication, map[string]string{
			"cleanup.policy":         cleanup,
			minInsync:                strconv.Itoa(min(2, replication)),
			"message.timestamp.type": "CreateTime",
		}}
		if keep > 0 {
			s.Settings["retention.ms"] = strconv.FormatInt(keep.Milliseconds(), 10)
		}
		for i := 0; i+1 < len(more); i += 2 {
			s.Settings[more[i]] = more[i+1]
		}
		return s
	}
	const day = 24 * time.Hour
	return []Spec{
		// A node whose clock is ahead is refused by the broker: nothing in the log is later than its record.
		spec(Events, partitions, "delete", 30*day, "message.timestamp.after.max.ms", "5000"),
		spec(Windows, partitions, "delete", 7*day),
		spec(Sites, 1, "compact", 0),
		// Kafka deletes whole closed segments: with its week-long ones a salt would outlive its two days by far.
		spec(Salts, 1, "delete", 2*day, "segment.ms", strconv.FormatInt(time.Hour.Milliseconds(), 10)),
		spec(DeadLetter, 1, "delete", 30*day),
	}
}

// Find is the spec with that name.
func Find(specs []Spec, name string) (Spec, bool) {
	i := slices.IndexFunc(specs, func(s Spec) bool { return s.Name == name })
	if i < 0 {
		return Spec{}, false
	}
	return specs[i], true
}

// Check compares a topic as it was found with its spec. It returns "" or one sentence that says what differs and how to mend it.
// Settings that the spec doesn't name may be anything; more copies than needed, and more of them in sync, are fine.
func (s Spec) Check(partitions, replication int, settings map[string]string) string {
	switch {
	case partitions != s.Partitions && s.single():
		return fmt.Sprintf("topic %s has %d partitions and needs 1: delete it with kafka-topics.sh --bootstrap-server … --delete --topic %s and start again", s.Name, partitions, s.Name)
	case partitions != s.Partitions:
		return fmt.Sprintf("topic %s has %d partitions and needs %d, and a topic with data can't change: start with --partitions %d, or delete the topic with kafka-topics.sh --bootstrap-server … --delete --topic %s",
			s.Name, partitions, s.Partitions, partitions, s.Name)
	case replication < s.Replication:
		return fmt.Sprintf("topic %s has %d copies and needs %d: mend it with kafka-reassign-partitions.sh --bootstrap-server … --execute, or start with --replication %d",
			s.Name, replication, s.Replication, replication)
	}
	var wrong, mend []string
	for _, name := range slices.Sorted(maps.Keys(s.Settings)) {
		if have, want := settings[name], s.Settings[name]; have != want && (name != minInsync || !atLeast(have, want)) {
			wrong = append(wrong, fmt.Sprintf("%s=%s and needs %s", name, have, want))
			mend = append(mend, name+"="+want)
		}
	}
	if len(wrong) == 0 {
		return ""
	}
	return fmt.Sprintf("topic %s has %s: mend it with kafka-configs.sh --bootstrap-server … --alter --entity-type topics --entity-name %s --add-config %s",
		s.Name, strings.Join(wrong, ", "), s.Name, strings.Join(mend, ","))
}

// single says that the topic has one partition whatever --partitions is.
func (s Spec) single() bool { return s.Name != Events && s.Name != Windows }

func atLeast(have, want string) bool {
	h, err := strconv.Atoi(have)
	w, err2 := strconv.Atoi(want)
	return err == nil && err2 == nil && h >= w
}
