package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"

	"nowcast/internal/topic"
)

// ErrMismatch is a topic that exists with other settings than it needs. The error's text is the sentence of topic.Spec.Check.
var ErrMismatch = errors.New("topic doesn't fit")

// What was made, by us or by another, counts only once the broker that we ask next knows it and it is as it should be.
var errMade = errors.New("topics are being made")

// Ensure makes the topics that are missing and checks those that are there. While the brokers are away or just starting it tries
// again until ctx ends; said is told why, once for each new reason. It fails with ErrMismatch.
func (c *Client) Ensure(ctx context.Context, specs []topic.Spec, said func(error)) error {
	var wait time.Duration
	var why error // the last trouble of its own, not that time is over
	for {
		err := c.ensure(ctx, specs)
		if err == nil || errors.Is(err, ErrMismatch) || !Retryable(err) && !errors.Is(err, kafka.InvalidReplicationFactor) {
			return err
		}
		if ctx.Err() != nil {
			if why == nil {
				why = err
			}
			return fmt.Errorf("%w: %w", ctx.Err(), why)
		}
		if !errors.Is(err, errMade) {
			if said != nil && (why == nil || why.Error() != err.Error()) {
				said(err)
			}
			why = err
		}
		c.Refresh()
		wait = backoff(wait)
		pause(ctx, wait)
	}
}

func (c *Client) ensure(ctx context.Context, specs []topic.Spec) error {
	found, err := c.describe(ctx, specs)
	if err != nil {
		return err
	}
	var missing []kafka.TopicConfig
	for _, s := range specs {
		if f, ok := found[s.Name]; ok {
			if sentence := s.Check(f.partitions, f.replication, f.settings); sentence != "" {
				return fmt.Errorf("%w: %s", ErrMismatch, sentence)
			}
			continue
		}
		t := kafka.TopicConfig{Topic: s.Name, NumPartitions: s.Partitions, ReplicationFactor: s.Replication}
		for _, name := range slices.Sorted(maps.Keys(s.Settings)) {
			t.ConfigEntries = append(t.ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: s.Settings[name]})
		}
		missing = append(missing, t)
	}
	if len(missing) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	r, err := c.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: missing})
	if err != nil {
		return fmt.Errorf("make topics: %w", err)
	}
	for name, err := range r.Errors {
		switch {
		case err == nil || errors.Is(err, kafka.TopicAlreadyExists): // somebody else was faster
		case errors.Is(err, kafka.InvalidReplicationFactor):
			spec, _ := topic.Find(specs, name)
			return fmt.Errorf("make topic %s: fewer than %d brokers are up; start them, or use a lower --replication: %w", name, spec.Replication, err)
		default:
			return fmt.Errorf("make topic %s: %w", name, err)
		}
	}
	return errMade
}

type found struct {
	partitions, replication int
	settings                map[string]string
}

// describe finds those of the topics that exist.
func (c *Client) describe(ctx context.Context, specs []topic.Spec) (map[string]found, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var names []string
	for _, s := range specs {
		names = append(names, s.Name)
	}
	meta, err := c.Metadata(ctx, &kafka.MetadataRequest{Topics: names})
	if err != nil {
		return nil, fmt.Errorf("ask Kafka for its topics: %w", err)
	}
	out := map[string]found{}
	ask := &kafka.DescribeConfigsRequest{}
	for _, t := range meta.Topics {
		spec, ours := topic.Find(specs, t.Name)
		switch {
		case !ours || errors.Is(t.Error, kafka.UnknownTopicOrPartition):
			continue
		case t.Error != nil:
			return nil, fmt.Errorf("ask for topic %s: %w", t.Name, t.Error)
		}
		f := found{partitions: len(t.Partitions), replication: spec.Replication, settings: map[string]string{}}
		for _, p := range t.Partitions {
			f.replication = min(f.replication, len(p.Replicas))
		}
		out[t.Name] = f
		ask.Resources = append(ask.Resources, kafka.DescribeConfigRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: t.Name,
			ConfigNames: slices.Sorted(maps.Keys(spec.Settings))})
	}
	if len(out) == 0 {
		return out, nil
	}
	conf, err := c.DescribeConfigs(ctx, ask)
	if err != nil {
		return nil, fmt.Errorf("ask for the topics' settings: %w", err)
	}
	for _, r := range conf.Resources {
		if r.Error != nil {
			return nil, fmt.Errorf("ask for the settings of %s: %w", r.ResourceName, r.Error)
		}
		for _, e := range r.ConfigEntries {
			if f, ok := out[r.ResourceName]; ok {
				f.settings[e.ConfigName] = e.ConfigValue
			}
		}
	}
	return out, nil
}
