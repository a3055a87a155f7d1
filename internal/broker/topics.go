package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/segmentio/kafka-go"

	"nowcast/internal/retry"
	"nowcast/internal/topic"
)

// Shape returns how many partitions and replicas a topic has. It fails with ErrUnknownTopic.
func (c *Client) Shape(ctx context.Context, topic string) (partitions, replicas int, err error) {
	r, err := c.kafka.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return 0, 0, fmt.Errorf("read metadata of %s: %w", topic, c.explainFirst(err))
	}
	for _, t := range r.Topics {
		if t.Name != topic {
			continue
		}
		if t.Error != nil {
			return 0, 0, fmt.Errorf("read metadata of %s: %w", topic, c.explainFirst(t.Error))
		}
		return len(t.Partitions), leastReplicas(t.Partitions), nil
	}
	return 0, 0, fmt.Errorf("read metadata of %s: %w", topic, ErrUnknownTopic)
}

// leastReplicas returns the number of replicas of the partition that has the fewest.
func leastReplicas(partitions []kafka.Partition) (n int) {
	for i, p := range partitions {
		if i == 0 || len(p.Replicas) < n {
			n = len(p.Replicas)
		}
	}
	return n
}

// InSyncReplicas returns the number of in-sync replicas of the partition that has the fewest, over all of
// the topics. It fails with ErrUnknownTopic when one of them doesn't exist.
func (c *Client) InSyncReplicas(ctx context.Context, topics ...string) (int, error) {
	r, err := c.kafka.Metadata(ctx, &kafka.MetadataRequest{Topics: topics})
	if err != nil {
		return 0, fmt.Errorf("read metadata: %w", err)
	}
	fewest := -1
	for _, t := range r.Topics {
		if t.Error != nil {
			return 0, fmt.Errorf("read metadata of %s: %w", t.Name, t.Error)
		}
		for _, p := range t.Partitions {
			if fewest < 0 || len(p.Isr) < fewest {
				fewest = len(p.Isr)
			}
		}
	}
	if fewest < 0 {
		return 0, fmt.Errorf("read metadata of %v: %w", topics, ErrUnknownTopic)
	}
	return fewest, nil
}

// Partitions returns how many partitions a topic has.
func (c *Client) Partitions(ctx context.Context, topic string) (int, error) {
	n, _, err := c.Shape(ctx, topic)
	return n, err
}

// Existing returns which of the topics exist. It tries again until Kafka answers or ctx ends. An error that
// is Denied isn't tried again.
func (c *Client) Existing(ctx context.Context, specs []topic.Spec) (map[string]bool, error) {
	var backoff retry.Backoff
	for {
		found, err := c.describe(ctx, specs)
		if err == nil {
			exists := map[string]bool{}
			for name := range found {
				exists[name] = true
			}
			return exists, nil
		}
		c.Refresh()
		if Denied(err) || backoff.Wait(ctx) != nil {
			return nil, err
		}
	}
}

// errTopicsPending says that topics were just made, by this process or another. They count once the broker
// that is asked next describes them as they should be.
var errTopicsPending = errors.New("topics are being made")

// Ensure makes the topics that are missing and checks the others. While brokers are down or starting it
// tries again until ctx ends, and calls onError, unless it is nil, with each error that differs from the
// one before. It fails with ErrMismatch, and at once with an error that is Denied.
func (c *Client) Ensure(ctx context.Context, specs []topic.Spec, onError func(error)) error {
	var backoff retry.Backoff
	var last error // the newest failure that isn't the end of ctx
	for {
		err := c.ensure(ctx, specs)
		waitForBrokers := Retryable(err) || errors.Is(err, kafka.InvalidReplicationFactor)
		if err == nil || errors.Is(err, ErrMismatch) || Denied(err) || !waitForBrokers {
			if Denied(err) {
				c.Refresh()
			}
			return err
		}
		if ctx.Err() != nil {
			if last == nil {
				last = err
			}
			return fmt.Errorf("%w: %w", ctx.Err(), last)
		}
		if !errors.Is(err, errTopicsPending) {
			if onError != nil && (last == nil || last.Error() != err.Error()) {
				onError(err)
			}
			last = err
		}
		c.Refresh()
		_ = backoff.Wait(ctx)
	}
}

func (c *Client) ensure(ctx context.Context, specs []topic.Spec) error {
	found, err := c.describe(ctx, specs)
	if err != nil {
		return err
	}
	var missing []kafka.TopicConfig
	for _, s := range specs {
		f, ok := found[s.Name]
		if !ok {
			missing = append(missing, configOf(s))
		} else if sentence := s.Check(f.partitions, f.replication, f.settings); sentence != "" {
			return fmt.Errorf("%w: %s", ErrMismatch, sentence)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*promptTimeout)
	defer cancel()
	r, err := c.kafka.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: missing})
	if err != nil {
		return fmt.Errorf("make topics: %w", err)
	}
	for name, err := range r.Errors {
		switch {
		case err == nil || errors.Is(err, kafka.TopicAlreadyExists): // another process was faster
		case unauthorized(err):
			return fmt.Errorf(
				"topic %s is missing, and this process may not make it: run `nowcast topics` as a "+
					"user of Kafka who may: %w",
				name,
				err,
			)
		case errors.Is(err, kafka.InvalidReplicationFactor):
			spec, _ := topic.Find(specs, name)
			return fmt.Errorf("make topic %s: fewer than %d brokers are up; start them, or use a lower "+
				"--replication: %w",
				name,
				spec.Replication,
				err,
			)
		default:
			return fmt.Errorf("make topic %s: %w", name, err)
		}
	}
	return errTopicsPending
}

// Settings returns settings of a topic by name, with the broker's defaults.
func (c *Client) Settings(ctx context.Context, topic string, names ...string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, promptTimeout)
	defer cancel()
	r, err := c.kafka.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{{
			ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, ConfigNames: names,
		}}})
	if err != nil {
		return nil, fmt.Errorf("ask for the settings of %s: %w", topic, err)
	}
	settings := map[string]string{}
	for _, x := range r.Resources {
		if x.Error != nil {
			return nil, fmt.Errorf("ask for the settings of %s: %w", topic, x.Error)
		}
		for _, e := range x.ConfigEntries {
			settings[e.ConfigName] = e.ConfigValue
		}
	}
	return settings, nil
}

func configOf(s topic.Spec) kafka.TopicConfig {
	t := kafka.TopicConfig{Topic: s.Name, NumPartitions: s.Partitions, ReplicationFactor: s.Replication}
	for _, name := range slices.Sorted(maps.Keys(s.Settings)) {
		t.ConfigEntries = append(
			t.ConfigEntries,
			kafka.ConfigEntry{ConfigName: name, ConfigValue: s.Settings[name]},
		)
	}
	return t
}

// description is a topic as the brokers have it.
type description struct {
	partitions, replication int
	settings                map[string]string
}

// describe returns the topics that exist, by name.
func (c *Client) describe(ctx context.Context, specs []topic.Spec) (map[string]description, error) {
	ctx, cancel := context.WithTimeout(ctx, promptTimeout)
	defer cancel()
	names := make([]string, len(specs))
	for i, s := range specs {
		names[i] = s.Name
	}
	meta, err := c.kafka.Metadata(ctx, &kafka.MetadataRequest{Topics: names})
	if err != nil {
		return nil, fmt.Errorf("ask Kafka for its topics: %w", c.explainFirst(err))
	}
	found := map[string]description{}
	request := &kafka.DescribeConfigsRequest{}
	for _, t := range meta.Topics {
		spec, ours := topic.Find(specs, t.Name)
		switch {
		case !ours || errors.Is(t.Error, ErrUnknownTopic):
			continue
		case t.Error != nil:
			return nil, fmt.Errorf("ask for topic %s: %w", t.Name, c.explainFirst(t.Error))
		}
		replication := min(
			spec.Replication,
			leastReplicas(t.Partitions),
		) // Check asks for enough, not for an exact number
		found[t.Name] = description{len(t.Partitions), replication, map[string]string{}}
		request.Resources = append(request.Resources, kafka.DescribeConfigRequestResource{
			ResourceType: kafka.ResourceTypeTopic, ResourceName: t.Name,
			ConfigNames: slices.Sorted(maps.Keys(spec.Settings))})
	}
	if len(found) == 0 {
		return found, nil
	}
	configs, err := c.kafka.DescribeConfigs(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("ask for the topics' settings: %w", c.explainFirst(err))
	}
	for _, r := range configs.Resources {
		if r.Error != nil {
			return nil, fmt.Errorf("ask for the settings of %s: %w", r.ResourceName, c.explainFirst(r.Error))
		}
		for _, e := range r.ConfigEntries {
			if f, ok := found[r.ResourceName]; ok {
				f.settings[e.ConfigName] = e.ConfigValue
			}
		}
	}
	return found, nil
}
