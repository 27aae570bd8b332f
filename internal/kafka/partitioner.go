package kafka

import "github.com/twmb/franz-go/pkg/kgo"

// byKey, as a record's partition, leaves the choice to the key: murmur2, as every Java client.
const byKey = -1

// partitioner takes a record's partition when it has one, and the key otherwise.
type partitioner struct{ keyed kgo.Partitioner }

func newPartitioner() kgo.Partitioner { return partitioner{kgo.StickyKeyPartitioner(nil)} }

func (p partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	return topicPartitioner{p.keyed.ForTopic(topic)}
}

type topicPartitioner struct{ keyed kgo.TopicPartitioner }

func (p topicPartitioner) RequiresConsistency(r *kgo.Record) bool {
	return r.Partition != byKey || p.keyed.RequiresConsistency(r)
}

func (p topicPartitioner) Partition(r *kgo.Record, n int) int {
	if r.Partition != byKey {
		return int(r.Partition)
	}
	return p.keyed.Partition(r, n)
}

func (p topicPartitioner) OnNewBatch() {
	if sticky, ok := p.keyed.(kgo.TopicPartitionerOnNewBatch); ok {
		sticky.OnNewBatch()
	}
}
