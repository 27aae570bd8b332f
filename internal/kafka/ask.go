package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// describeTopics asks for ids and leaders of topics.
func describeTopics(ctx context.Context, client *kgo.Client, names ...string) (*kmsg.MetadataResponse, error) {
	request := kmsg.NewPtrMetadataRequest()
	for _, name := range names {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = kmsg.StringPtr(name)
		request.Topics = append(request.Topics, topic)
	}
	return request.RequestWith(ctx, client)
}

// askLeader asks the leader of a partition for what is in its log. request is without topics.
func askLeader(ctx context.Context, client *kgo.Client, leader int32, request *kmsg.FetchRequest, name string, id [16]byte,
	partition kmsg.FetchRequestTopicPartition) (*kmsg.FetchResponseTopicPartition, error) {
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = name, id
	topic.Partitions = append(topic.Partitions, partition)
	request.Topics = append(request.Topics, topic)
	response, err := client.Broker(int(leader)).RetriableRequest(ctx, request)
	if err != nil {
		return nil, err
	}
	answer := response.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
		return nil, err
	}
	if len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 1 {
		return nil, errors.New("the broker's answer does not hold the partition")
	}
	return &answer.Topics[0].Partitions[0], nil
}

// partitionCount asks for the partitions of a topic that has to exist.
func partitionCount(ctx context.Context, client *kgo.Client, name string) (int, error) {
	response, err := describeTopics(ctx, client, name)
	if err != nil {
		return 0, fmt.Errorf("look up topic %s: %w", name, err)
	}
	for _, topic := range response.Topics {
		if err := kerr.ErrorForCode(topic.ErrorCode); err != nil {
			return 0, fmt.Errorf("look up topic %s: %w", name, err)
		}
		if len(topic.Partitions) > 0 {
			return len(topic.Partitions), nil
		}
	}
	return 0, fmt.Errorf("look up topic %s: the broker names no partitions", name)
}
