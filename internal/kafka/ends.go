package kafka

import (
	"context"
	"maps"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// ends are offsets at which logs begin or end; a partition that did not answer is missing.
type ends map[pipeline.Partition]int64

const (
	offsetLatest    = int64(-1)
	offsetEarliest  = int64(-2)
	readUncommitted = int8(0)
	readCommitted   = int8(1)
)

// listOffsets looks up the partitions' leaders and asks them; partitions that do not answer are left out.
func listOffsets(ctx context.Context, client *kgo.Client, partitions []pipeline.Partition, which int64, isolation int8) ends {
	out := ends{}
	for _, shard := range client.RequestSharded(ctx, offsetsRequest(partitions, which, isolation)) {
		if shard.Err == nil {
			out.add(shard.Resp)
		}
	}
	return out
}

// offsetsRequest asks for offsets of partitions, which are sorted.
func offsetsRequest(partitions []pipeline.Partition, which int64, isolation int8) *kmsg.ListOffsetsRequest {
	request := kmsg.NewPtrListOffsetsRequest()
	request.IsolationLevel = isolation
	for i, partition := range partitions {
		if i == 0 || partition.Topic != partitions[i-1].Topic {
			topic := kmsg.NewListOffsetsRequestTopic()
			topic.Topic = partition.Topic
			request.Topics = append(request.Topics, topic)
		}
		one := kmsg.NewListOffsetsRequestTopicPartition()
		one.Partition, one.Timestamp = partition.Partition, which
		topic := &request.Topics[len(request.Topics)-1]
		topic.Partitions = append(topic.Partitions, one)
	}
	return request
}

// add takes in an answer.
func (e ends) add(response kmsg.Response) {
	answer, ok := response.(*kmsg.ListOffsetsResponse)
	if !ok {
		return
	}
	for _, topic := range answer.Topics {
		for _, partition := range topic.Partitions {
			if partition.ErrorCode == 0 && partition.Offset >= 0 {
				e[pipeline.Partition{Topic: topic.Topic, Partition: partition.Partition}] = partition.Offset
			}
		}
	}
}

// askLeaders is listOffsets of partitions that client consumes, without a look-up of their leaders: that would be
// answered with all partitions of the topic, for each worker several times a second. The client knows them from
// fetching; when one does not answer it is to look again, which it does at most once in its MetadataMinAge.
func askLeaders(ctx context.Context, client *kgo.Client, partitions []pipeline.Partition, which int64, isolation int8) ends {
	of := map[int32][]pipeline.Partition{}
	for _, partition := range partitions {
		if leader, _, err := client.PartitionLeader(partition.Topic, partition.Partition); err == nil && leader >= 0 {
			of[leader] = append(of[leader], partition)
		}
	}
	out, answers := ends{}, make(chan ends)
	for leader, partitions := range of {
		go func() {
			found := ends{}
			if response, err := client.Broker(int(leader)).Request(ctx,
				offsetsRequest(partitions, which, isolation)); err == nil {
				found.add(response)
			}
			answers <- found
		}()
	}
	for range of {
		maps.Copy(out, <-answers)
	}
	if len(out) < len(partitions) {
		client.ForceMetadataRefresh()
	}
	return out
}
