package topic

import (
	"maps"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSpecs(t *testing.T) {
	for _, c := range []struct {
		name          string
		partitions    int
		setting, want string
	}{
		{Events, 12, "retention.ms", "2592000000"},
		{Events, 12, "message.timestamp.type", "CreateTime"},
		{Events, 12, "message.timestamp.after.max.ms", "5000"},
		{Events, 12, "min.insync.replicas", "2"},
		{Windows, 12, "retention.ms", "604800000"},
		{Windows, 12, "message.timestamp.after.max.ms", ""},
		{Sites, 1, "cleanup.policy", "compact"},
		{Sites, 1, "retention.ms", ""},
		{Salts, 1, "retention.ms", "187200000"},
		{DeadLetter, 1, "retention.ms", "2592000000"},
		{Erasures, 1, "retention.ms", "3888000000"},
		{Erasures, 1, "cleanup.policy", "delete"},
	} {
		s, ok := Find(Specs(12, 3), c.name)
		if !ok || s.Partitions != c.partitions || s.Replication != 3 || s.Settings[c.setting] != c.want {
			t.Errorf("%s, %s: %+v", c.name, c.setting, s)
		}
	}
	if s, _ := Find(Specs(4, 1), Events); s.Settings["min.insync.replicas"] != "1" {
		t.Error("min.insync.replicas is above the replication factor")
	}
	if _, ok := Find(Specs(4, 1), "other"); ok {
		t.Error("found an unknown topic")
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		topic                   string
		partitions, replication int
		setting, value          string
		want                    string // parts of the sentence, separated by |; empty if the topic fits
	}{
		{Events, 4, 3, "", "", ""},
		{Events, 4, 3, "unclean.leader.election.enable", "true", ""},
		{Events, 4, 5, "min.insync.replicas", "3", ""},
		{Events, 4, 3, "min.insync.replicas", "1", "min.insync.replicas=1 and needs 2|--alter " +
			"--entity-type topics --entity-name nowcast.events.v1 --add-config min.insync.replicas=2"},
		{Events, 4, 3, "retention.ms", "60000", "retention.ms=60000 and needs 2592000000|kafka-configs.sh|" +
			"--add-config retention.ms=2592000000"},
		{Sites, 1, 3, "cleanup.policy", "delete", "cleanup.policy=delete and needs compact|" +
			"--add-config cleanup.policy=compact"},
		{Events, 8, 3, "", "", "8 partitions and needs 4|--partitions 8|kafka-topics.sh"},
		{Sites, 8, 3, "", "", "8 partitions and needs 1|kafka-topics.sh"},
		{Events, 4, 1, "", "", "factor 1 and needs 3|kafka-reassign-partitions.sh|--replication 1"},
	} {
		s, _ := Find(Specs(4, 3), c.topic)
		settings := maps.Clone(s.Settings)
		if c.setting != "" {
			settings[c.setting] = c.value
		}
		got := s.Check(c.partitions, c.replication, settings)
		if (got == "") != (c.want == "") {
			t.Errorf("%+v: %q", c, got)
		}
		for _, part := range strings.Split(c.want, "|") {
			if !strings.Contains(got, part) {
				t.Errorf("%q isn't in %q", part, got)
			}
		}
	}
}
