package kafka

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// ErrLogReplaced says that a broker knows nothing of the log that was being read (an election of a replica that was not
// in sync, or without its history). A new session goes on at the committed offsets.
var ErrLogReplaced = errors.New("the partition's new leader does not have the log that was read: a new session is needed")

// readPartitions are those that a session has polled records of.
type readPartitions map[pipeline.Partition]bool

// lost returns ErrLogReplaced when the client moved in a partition of which records are in an epoch already. Where the
// leader cannot say up to where the logs agree, it moves to the start of the log, and the session would count
// everything that is retained once more. A new session validates the committed offset instead, and stays there in that
// case.
func (r readPartitions) lost(fetches kgo.Fetches) (err error) {
	fetches.EachError(func(topic string, partition int32, failure error) {
		var loss *kgo.ErrDataLoss
		if errors.As(failure, &loss) && r[pipeline.Partition{Topic: topic, Partition: partition}] {
			err = fmt.Errorf("fetch %s/%d: %w: %w", topic, partition, ErrLogReplaced, failure)
		}
	})
	return err
}

// rewound adds the partitions whose log lost its end before the session read any of it: the client goes on at the new
// end, and offsets come again with other records.
func (r readPartitions) rewound(fetches kgo.Fetches, into map[pipeline.Partition]int64) {
	fetches.EachError(func(topic string, partition int32, failure error) {
		var loss *kgo.ErrDataLoss
		if errors.As(failure, &loss) {
			into[pipeline.Partition{Topic: topic, Partition: partition}] = loss.ResetTo
		}
	})
}
