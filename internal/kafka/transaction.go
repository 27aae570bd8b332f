package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pause"
)

// ErrDivided says that the client took a new producer epoch in the middle of a transaction. That aborts at the brokers
// what it had produced before, and the rest must not commit without it.
var ErrDivided = errors.New("the client began another transaction in the middle of one: a new session is needed")

// transaction is what is produced between the begin and the end of one of a client.
//
// A broker that refuses a producer (its transaction timed out, or the broker has forgotten it) names the start of the
// log. Where retention has deleted what the client wrote there last, the client takes the refusal for harmless: it
// initialises its producer id again, sends the record once more, and tells nobody. Records that were acknowledged
// before are not in the transaction that it ends then, but the offsets of what they were made of are.
type transaction struct {
	client  *kgo.Client
	id      int64
	epoch   int16
	promise func(*kgo.Record, error) // keep
	topics  []string                 // produced to

	mu     sync.Mutex
	failed error // the first
}

// newTransaction follows the begin of one.
func newTransaction(ctx context.Context, client *kgo.Client) (*transaction, error) {
	id, epoch, err := client.ProducerID(ctx)
	if err != nil {
		return nil, err
	}
	t := &transaction{client: client, id: id, epoch: epoch}
	t.promise = t.keep
	return t, nil
}

func (t *transaction) produce(ctx context.Context, record *kgo.Record) {
	if !slices.Contains(t.topics, record.Topic) {
		t.topics = append(t.topics, record.Topic)
	}
	t.client.Produce(ctx, record, t.promise)
}

// keep is the promise of all records.
func (t *transaction) keep(record *kgo.Record, err error) {
	if err == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed == nil {
		t.failed = fmt.Errorf("produce %d bytes to %s: %w", len(record.Value), record.Topic, err)
	}
}

// flush waits until everything is acknowledged. After an error, which may be ErrDivided, the transaction has to be
// aborted: the client would commit what is left of it.
func (t *transaction) flush(ctx context.Context) error {
	if err := t.client.Flush(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed != nil {
		return t.failed
	}
	switch id, epoch, err := t.client.ProducerID(ctx); {
	case err != nil:
		return err
	case id != t.id || epoch != t.epoch:
		return fmt.Errorf("producer %d of epoch %d became %d of epoch %d: %w", t.id, t.epoch, id, epoch, ErrDivided)
	}
	return t.listed(ctx)
}

// listed waits until the client's list of partitions holds what it has produced to. It sends the first records for a
// topic before it stores the list (franz-go 1.22.2, storePartitionsUpdate), and tells by the list whether a transaction
// has records. One that ends in between would be taken for empty and aborted, with no error for who wanted it
// committed.
func (t *transaction) listed(ctx context.Context) error {
	for _, topic := range t.topics {
		for {
			leader, _, err := t.client.PartitionLeader(topic, 0) // all partitions of a topic are listed at once
			if leader >= 0 || err != nil {                       // it is there, with a leader or without
				break
			}
			if err := pause.For(ctx, time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}
