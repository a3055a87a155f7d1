package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"

	"nowcast/internal/broker"
	"nowcast/internal/credential"
	"nowcast/internal/topic"
)

// The topics that each role uses. docs/operations.md has the ACLs that follow from them.
var (
	ingestTopics     = []string{topic.Events, topic.Salts, topic.Sites}
	aggregatorTopics = []string{topic.Events, topic.Windows, topic.DeadLetter, topic.Erasures}
	// an erasure compares positions in the log with those of the store lane
	streamerTopics = []string{topic.Windows, topic.Sites, topic.Events, topic.Erasures}
	verifyTopics   = []string{topic.Events, topic.Windows, topic.Erasures}
	allTopics      = []string{topic.Events, topic.Windows, topic.Sites, topic.Salts, topic.DeadLetter,
		topic.Erasures}
)

// Flags about how Kafka is reached, of each command that does.
type (
	kafkaFlags struct {
		Kafka []string `required:"" placeholder:"HOST:PORT" help:"One or more of Kafka's brokers."`
		kafkaAccess
	}
	kafkaAccess struct {
		KafkaTLS          bool   `name:"kafka-tls" help:"Encrypt the connections to Kafka, and check its certificates."`
		KafkaCAFile       string `name:"kafka-ca-file" placeholder:"FILE" help:"Certificates (PEM) of the authorities that Kafka's are from; without it, the system's. All certificates and passwords are read again for each new connection."`
		KafkaCertFile     string `placeholder:"FILE" help:"This process's own certificate for Kafka (PEM), where Kafka asks for one."`
		KafkaKeyFile      string `placeholder:"FILE" help:"The key of --kafka-cert-file (PEM)."`
		KafkaSASL         string `name:"kafka-sasl" placeholder:"MECHANISM" help:"How to log in to Kafka: plain, scram-sha-256 or scram-sha-512."`
		KafkaUser         string `placeholder:"NAME" help:"The user to log in as."`
		KafkaPassword     string `hidden:"" secret:"file-flag" help:"The user's password; only as NOWCAST_KAFKA_PASSWORD, because other users of a machine can read command lines."`
		KafkaPasswordFile string `placeholder:"FILE" help:"A file with the user's password. NOWCAST_KAFKA_PASSWORD may have the password itself."`
	}
)

// check reports which flags don't go together, and files that can't be read. addrs are those that the flags
// are about; none is an embedded broker.
func (f *kafkaAccess) check(addrs []string) error {
	if err := broker.CheckAddrs(addrs); err != nil {
		return fmt.Errorf("--kafka: %w", err)
	}
	onSocket := len(addrs) == 1 && strings.HasPrefix(addrs[0], "unix:")
	switch {
	case *f == kafkaAccess{}:
		return nil
	case len(addrs) == 0 || onSocket:
		return errors.New("the --kafka-… flags don't apply to an embedded broker: leave them out, " +
			"or name Kafka's brokers with --kafka")
	case !f.KafkaTLS && (f.KafkaCAFile != "" || f.KafkaCertFile != "" || f.KafkaKeyFile != ""):
		return errors.New("certificates are for encrypted connections: add --kafka-tls")
	case (f.KafkaCertFile == "") != (f.KafkaKeyFile == ""):
		return errors.New("--kafka-cert-file and --kafka-key-file are needed together")
	case f.KafkaSASL == "" && (f.KafkaUser != "" || f.KafkaPassword != "" || f.KafkaPasswordFile != ""):
		return fmt.Errorf("a user logs in by --kafka-sasl: give one of %s",
			strings.Join(broker.Mechanisms(), ", "))
	case f.KafkaSASL != "" && f.KafkaUser == "":
		return errors.New("--kafka-sasl needs --kafka-user")
	case f.KafkaSASL != "" && f.KafkaPassword == "" && f.KafkaPasswordFile == "":
		return errors.New("--kafka-sasl needs --kafka-password-file, or the password as " +
			"NOWCAST_KAFKA_PASSWORD")
	case f.KafkaPassword != "" && f.KafkaPasswordFile != "":
		return errors.New("NOWCAST_KAFKA_PASSWORD and --kafka-password-file are both given: give one")
	case f.KafkaSASL == "plain" && !f.KafkaTLS && !onLoopback(addrs):
		return errors.New("--kafka-sasl plain sends the password as it is: add --kafka-tls, " +
			"or use scram-sha-256 or scram-sha-512")
	}
	if f.KafkaSASL != "" && !slices.Contains(broker.Mechanisms(), f.KafkaSASL) {
		return fmt.Errorf("--kafka-sasl has no such mechanism: give one of %s",
			strings.Join(broker.Mechanisms(), ", "))
	}
	_, err := f.security(slog.New(slog.DiscardHandler))
	return err
}

func onLoopback(addrs []string) bool {
	for _, a := range addrs {
		host, _, _ := net.SplitHostPort(a)
		if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}

// security reads the files. What can't be read later, when a connection needs it, is logged.
func (f *kafkaAccess) security(log *slog.Logger) (s broker.Security, err error) {
	onError := func(err error) { log.Error("credentials for Kafka", "error", err) }
	if f.KafkaTLS {
		s.TLS, err = credential.OpenTLS(
			credential.Files{CA: f.KafkaCAFile, Cert: f.KafkaCertFile, Key: f.KafkaKeyFile}, onError)
		if err != nil {
			return s, fmt.Errorf("certificates for Kafka: %w", err)
		}
	}
	if f.KafkaSASL == "" {
		return s, nil
	}
	s.SASL = &broker.SASL{Mechanism: f.KafkaSASL, User: f.KafkaUser,
		Password: credential.Fixed(f.KafkaPassword)}
	if f.KafkaPasswordFile != "" {
		if s.SASL.Password, err = credential.OpenSecret(f.KafkaPasswordFile, onError); err != nil {
			return s, fmt.Errorf("--kafka-password-file: %w", err)
		}
	}
	return s, nil
}

// open makes a client for the brokers at addrs that knows the given topics.
func (f *kafkaAccess) open(log *slog.Logger, addrs, topics []string) (*broker.Client, error) {
	s, err := f.security(log)
	if err != nil {
		return nil, err
	}
	return broker.New(broker.Config{Addrs: addrs, Topics: topics, Security: s}), nil
}

// kafka makes the client of a role and adds the work of making or checking the topics that the role uses.
// With partitions 0 the events or windows topic has to exist, and the others get as many partitions and
// replicas.
func (h *host) kafka(f *kafkaAccess, addrs, topics []string, partitions int) (*broker.Client, error) {
	c, err := f.open(h.log, addrs, topics)
	if err != nil {
		return nil, err
	}
	h.hideHosts(addrs)
	ready := make(chan struct{})
	h.topicsReady = ready
	h.prepare("kafka", "waiting for Kafka to answer", func(ctx context.Context) error {
		err := h.untilDone(ctx, "kafka", "Kafka at "+fmt.Sprint(addrs),
			func(ctx context.Context, onError func(error)) error {
				return ensureTopics(ctx, c, topics, partitions, onError)
			})
		if err == nil {
			close(ready)
		}
		return err
	})
	return c, nil
}

// ensureTopics makes or checks topics; see kafka.
func ensureTopics(
	ctx context.Context, c *broker.Client, topics []string, partitions int, onError func(error),
) error {
	replicas := 1
	if partitions == 0 {
		first := topic.Events
		if !slices.Contains(topics, first) {
			first = topic.Windows
		}
		var err error
		if partitions, replicas, err = c.Shape(ctx, first); err != nil {
			c.Refresh()
			if errors.Is(err, broker.ErrUnknownTopic) {
				return fmt.Errorf("topic %s is missing, make the topics with `nowcast topics`: %w", first,
					err)
			}
			return err
		}
	}
	var specs []topic.Spec
	for _, s := range topic.Specs(partitions, replicas) {
		if slices.Contains(topics, s.Name) {
			specs = append(specs, s)
		}
	}
	return c.Ensure(ctx, specs, onError)
}
