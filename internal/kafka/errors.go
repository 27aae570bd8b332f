package kafka

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
)

// ErrFenced says that another client uses the same transactional id or group member id: a successor after a
// restart, or a second process with the same kafka.instance.
var ErrFenced = errors.New("another process took over this worker's identity " +
	"(if that is not a restart, give each process its own kafka.instance)")

// ErrTopicRecreated says that a topic was deleted and created again under a running client (or that the brokers
// do not yet agree about a new one). A new session reads the new topic.
var ErrTopicRecreated = errors.New("the topic was deleted and created again: a new session is needed")

// explain wraps a protocol error with what it means here.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.FencedInstanceID), errors.Is(err, kerr.ProducerFenced), errors.Is(err, kerr.InvalidProducerEpoch),
		errors.Is(err, kerr.InvalidTxnState), errors.Is(err, kerr.UnreleasedInstanceID):
		return fmt.Errorf("%w: %w", ErrFenced, err)
	case errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.InconsistentTopicID):
		return fmt.Errorf("%w: %w", ErrTopicRecreated, err)
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return fmt.Errorf("the brokers refuse kafka.sasl.username or its password: %w", err)
	case errors.Is(err, kerr.IllegalSaslState), errors.Is(err, kerr.UnsupportedSaslMechanism):
		return fmt.Errorf("the brokers take no SASL at this port, or not by kafka.sasl.mechanism: %w", err)
	}
	return err
}
