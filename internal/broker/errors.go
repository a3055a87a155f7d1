package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"nowcast/internal/credential"
)

// Errors of brokers that callers act on. Their texts are Kafka's.
var (
	ErrUnknownTopic     error = kafka.UnknownTopicOrPartition
	ErrTooLarge         error = kafka.MessageSizeTooLarge // no broker ever takes this record
	ErrInvalidRecord    error = kafka.InvalidRecord       // no broker ever takes this record
	ErrInvalidTimestamp error = kafka.InvalidTimestamp    // the record's time is ahead of the broker's clock
	// ErrNotEnoughReplicas means that too few replicas are in sync, before or after the record was appended.
	ErrNotEnoughReplicas error = kafka.NotEnoughReplicas

	ErrRebalanceInProgress error = kafka.RebalanceInProgress
	ErrMemberIDRequired    error = kafka.MemberIDRequired // join again with the id that came with it
	ErrUnknownMember       error = kafka.UnknownMemberId
	ErrIllegalGeneration   error = kafka.IllegalGeneration
	ErrFencedInstance      error = kafka.FencedInstanceID // another process joined with this instance's name
	ErrUnsupportedVersion  error = kafka.UnsupportedVersion
)

// ErrTopicRecreated means that a topic was deleted and made again: an offset in it names another record
// than before.
var ErrTopicRecreated = errors.New("the log isn't the one that was read")

// ErrMismatch means that a topic exists with settings that it can't have. The text is the sentence of
// topic.Spec.Check.
var ErrMismatch = errors.New("topic doesn't fit")

// Denied reports whether an operator has to change something, in the credentials of this process or in
// Kafka's users and ACLs, before the same request can succeed.
func Denied(err error) bool {
	if _, ok := errors.AsType[*credential.Error](err); ok {
		return true
	}
	return unauthorized(err)
}

func unauthorized(err error) bool {
	code, _ := errors.AsType[kafka.Error](err)
	switch code {
	case kafka.TopicAuthorizationFailed, kafka.GroupAuthorizationFailed, kafka.ClusterAuthorizationFailed,
		kafka.TransactionalIDAuthorizationFailed:
		return true
	}
	return false
}

// Retryable reports whether the same request may succeed later: a leader moves, a coordinator loads, a
// broker is down, an operator renews a certificate. Errors that aren't Kafka's own, such as those
// of connections, are retryable, except a canceled context.
func Retryable(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	if _, ok := errors.AsType[*credential.Error](err); ok {
		return true
	}
	code, ok := errors.AsType[kafka.Error](err)
	if !ok {
		return true
	}
	switch code {
	case kafka.UnknownTopicOrPartition, kafka.LeaderNotAvailable, kafka.NotLeaderForPartition,
		kafka.RequestTimedOut, kafka.BrokerNotAvailable, kafka.ReplicaNotAvailable, kafka.NetworkException,
		kafka.GroupLoadInProgress, kafka.GroupCoordinatorNotAvailable, kafka.NotCoordinatorForGroup,
		kafka.NotEnoughReplicas, kafka.NotEnoughReplicasAfterAppend, kafka.KafkaStorageError,
		kafka.NotController, kafka.FencedLeaderEpoch, kafka.UnknownLeaderEpoch, kafka.OffsetNotAvailable,
		kafka.ThrottlingQuotaExceeded, kafka.Unknown:
		return true
	}
	return false
}

// Unavailable reports whether err says that no broker decided on the request: a connection failed, or the
// answer was that another attempt may succeed.
func Unavailable(err error) bool {
	_, decided := errors.AsType[kafka.Error](err) // also the cause of a login that failed
	return err != nil && (!decided || Retryable(err))
}

// explain adds to an error what to do, where Kafka's or kafka-go's own text leaves it open.
func (c *Client) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, protocol.ErrNoTopic) || errors.Is(err, protocol.ErrNoPartition):
		// kafka-go says so also while it has no metadata, because it reaches no broker.
		if e := c.dialError.Load(); e != nil && *e != nil {
			return *e
		}
	case unauthorized(err):
		return fmt.Errorf(
			"%w: Kafka's ACLs don't allow it, docs/operations.md has those that each role needs",
			err,
		)
	}
	return err
}

// explainFirst is explain for the first requests of a process.
func (c *Client) explainFirst(err error) error {
	if c.withoutSASL && credential.Closed(err) {
		return fmt.Errorf("connection closed by Kafka, as it does where --kafka-sasl is needed: %w", err)
	}
	return c.explain(err)
}
