package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/pipeline"
)

func TestDecides(t *testing.T) {
	o := openTransaction{Partition: pipeline.Partition{Topic: "results", Partition: 2}, producer: 7, epoch: 4}
	f := func(producer int64, epoch, version int16, state kmsg.TransactionState, topic string, partition int32, want bool) {
		t.Helper()
		of := kmsg.NewTxnMetadataValueTopic()
		of.Topic, of.Partitions = topic, []int32{0, partition}
		value := &kmsg.TxnMetadataValue{ProducerID: producer, ProducerEpoch: epoch, ClientTransactionVersion: version, State: state,
			Topics: []kmsg.TxnMetadataValueTopic{of}}
		if got := decides(value, o); got != want {
			t.Errorf("%+v decides: got %v, want %v", value, got, want)
		}
	}
	const commit, abort = kmsg.TransactionStatePrepareCommit, kmsg.TransactionStatePrepareAbort
	f(7, 5, 2, commit, "results", 2, true)
	f(7, 5, 2, abort, "results", 2, true)
	f(7, 4, 1, commit, "results", 2, true)
	f(7, 4, 0, abort, "results", 2, true)
	f(7, 5, 0, abort, "results", 2, true) // fenced
	// Of the transaction before, and of the one behind.
	f(7, 4, 2, commit, "results", 2, false)
	f(7, 6, 2, commit, "results", 2, false)
	f(7, 3, 0, commit, "results", 2, false)
	f(8, 5, 2, commit, "results", 2, false)
	f(7, 5, 2, commit, "results", 3, false)
	f(7, 5, 2, commit, "state", 2, false)
	// A completed one lists no partitions; one under way decides nothing.
	f(7, 5, 2, kmsg.TransactionStateCompleteCommit, "results", 2, false)
	f(7, 5, 2, kmsg.TransactionStateOngoing, "results", 2, false)
}

// As Java hashes strings.
func TestPartitionOf(t *testing.T) {
	f := func(name string, count int, want int32) {
		t.Helper()
		if got := partitionOf(name, count); got != want {
			t.Errorf("partition of %q among %d: got %d, want %d", name, count, got, want)
		}
	}
	f("abc", 50, 96354%50)
	f("hello world", 50, 1794106052%50)
	f("polygenelubricants", 50, 0) // the smallest integer
}
