// Package topic defines the topics of Nowcast: their names, partitions and settings. It knows no Kafka
// client.
//
// It promises that a topic which exists with other settings than it needs is never used silently:
// Spec.Check returns one sentence that says what differs and which command fixes it.
package topic

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The topics' names. The number at the end is the version of the schema's meaning and of the
// partitioning: a change of either makes a new topic.
const (
	Events     = "nowcast.events.v1"
	Windows    = "nowcast.windows.v1"
	Sites      = "nowcast.sites.v1"
	Salts      = "nowcast.salts.v1"
	DeadLetter = "nowcast.dead-letter.v1"
	Erasures   = "nowcast.erasures.v1"
)

// ErasureRetention is how long a tombstone is kept. It outlives every copy of an event in the log: Kafka
// deletes a record up to segment.ms (7 days by default) after the 30 days of the events topic.
const ErasureRetention = 45 * 24 * time.Hour

// SaltRetention is how long the salt of a date is kept. It is made an hour before the date begins in the
// first zone (UTC+14) and used until some minutes after it has ended in the last one (UTC-12).
const SaltRetention = 52 * time.Hour

// Group returns the consumer group of one of the aggregator's lanes.
func Group(lane string) string { return "nowcast-" + lane }

const minInsyncReplicas = "min.insync.replicas"

// Spec is what a topic has to be.
type Spec struct {
	Name        string
	Partitions  int
	Replication int               // replication factor
	Settings    map[string]string // by Kafka's names
}

// Specs returns the specs of all topics. The events and windows topics have as many partitions as given,
// the others have one; replication is the replication factor of all.
func Specs(partitions, replication int) []Spec {
	spec := func(name string, partitions int, cleanup string, retention time.Duration, more ...string) Spec {
		s := Spec{name, partitions, replication, map[string]string{
			"cleanup.policy":         cleanup,
			minInsyncReplicas:        strconv.Itoa(min(2, replication)),
			"message.timestamp.type": "CreateTime",
		}}
		if retention > 0 {
			s.Settings["retention.ms"] = strconv.FormatInt(retention.Milliseconds(), 10)
		}
		for i := 0; i+1 < len(more); i += 2 {
			s.Settings[more[i]] = more[i+1]
		}
		return s
	}
	const day = 24 * time.Hour
	return []Spec{
		// The broker refuses a record whose timestamp is more than 5 s ahead of its own clock.
		spec(Events, partitions, "delete", 30*day, "message.timestamp.after.max.ms", "5000"),
		spec(Windows, partitions, "delete", 7*day),
		spec(Sites, 1, "compact", 0),
		// Kafka deletes whole closed segments. With its default of a week a segment, a salt would
		// outlive its retention.
		spec(Salts, 1, "delete", SaltRetention,
			"segment.ms", strconv.FormatInt(time.Hour.Milliseconds(), 10)),
		spec(DeadLetter, 1, "delete", 30*day),
		spec(Erasures, 1, "delete", ErasureRetention),
	}
}

// Find returns the spec with that name.
func Find(specs []Spec, name string) (Spec, bool) {
	i := slices.IndexFunc(specs, func(s Spec) bool { return s.Name == name })
	if i < 0 {
		return Spec{}, false
	}
	return specs[i], true
}

// Check compares an existing topic with its spec. It returns "" if the topic fits, and otherwise one
// sentence that says what differs and how to fix it. Settings that the spec doesn't name may have any
// value. A higher replication factor and a higher min.insync.replicas fit too.
func (s Spec) Check(partitions, replication int, settings map[string]string) string {
	deletion := "kafka-topics.sh --bootstrap-server … --delete --topic " + s.Name
	switch {
	case partitions != s.Partitions && s.hasOnePartition():
		return fmt.Sprintf("topic %s has %d partitions and needs 1: delete it with %s and start again",
			s.Name, partitions, deletion)
	case partitions != s.Partitions:
		return fmt.Sprintf("topic %s has %d partitions and needs %d, and a topic with data can't change: "+
			"start with --partitions %d, or delete the topic with %s",
			s.Name, partitions, s.Partitions, partitions, deletion)
	case replication < s.Replication:
		return fmt.Sprintf("topic %s has replication factor %d and needs %d: raise it with "+
			"kafka-reassign-partitions.sh --bootstrap-server … --execute, or start with --replication %d",
			s.Name, replication, s.Replication, replication)
	}
	var wrong, fixes []string
	for _, name := range slices.Sorted(maps.Keys(s.Settings)) {
		got, want := settings[name], s.Settings[name]
		if got != want && (name != minInsyncReplicas || !isAtLeast(got, want)) {
			wrong = append(wrong, fmt.Sprintf("%s=%s and needs %s", name, got, want))
			fixes = append(fixes, name+"="+want)
		}
	}
	if len(wrong) == 0 {
		return ""
	}
	return fmt.Sprintf("topic %s has %s: fix it with kafka-configs.sh --bootstrap-server … --alter "+
		"--entity-type topics --entity-name %s --add-config %s",
		s.Name, strings.Join(wrong, ", "), s.Name, strings.Join(fixes, ","))
}

// hasOnePartition reports whether the topic has one partition for every value of --partitions.
func (s Spec) hasOnePartition() bool { return s.Name != Events && s.Name != Windows }

// isAtLeast compares two integers in text. It is false if either is none.
func isAtLeast(a, b string) bool {
	x, errX := strconv.Atoi(a)
	y, errY := strconv.Atoi(b)
	return errX == nil && errY == nil && x >= y
}
