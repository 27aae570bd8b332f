package kafka

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// lookups are what restores ask the brokers for beside the state itself. Those of one start ask in common: see rounds.
type lookups struct {
	topics  rounds[string, *kmsg.MetadataResponse]
	logs    rounds[pipeline.Partition, logs]
	offsets rounds[sourceID, *kmsg.OffsetFetchResponse]
}

// sourceID is a partition of a source, whose topic has an id.
type sourceID struct {
	pipeline.Partition
	topic [16]byte
}

// newLookups asks through client, until that is closed.
func newLookups(ctx context.Context, client *kgo.Client, group string) *lookups {
	ctx = context.WithoutCancel(ctx)
	l := &lookups{}
	l.topics.ask = func(names []string) (*kmsg.MetadataResponse, error) {
		return describeTopics(ctx, client, distinct(names, strings.Compare)...)
	}
	l.logs.ask = func(partitions []pipeline.Partition) (logs, error) { return bothEnds(ctx, client, partitions), nil }
	l.offsets.ask = func(sources []sourceID) (*kmsg.OffsetFetchResponse, error) {
		return stableOffsets(ctx, client, group, sources)
	}
	return l
}

// logs are the first offsets of partitions and those behind their last records. One that did not answer is missing.
type logs struct{ first, behind ends }

func (l logs) holds(p pipeline.Partition) bool {
	_, first := l.first[p]
	_, behind := l.behind[p]
	return first && behind
}

// bothEnds asks for the ends at once.
func bothEnds(ctx context.Context, client *kgo.Client, partitions []pipeline.Partition) (l logs) {
	partitions = distinct(partitions, pipeline.Partition.Compare)
	var both sync.WaitGroup
	both.Go(func() { l.first = listOffsets(ctx, client, partitions, offsetEarliest, readUncommitted) })
	both.Go(func() { l.behind = listOffsets(ctx, client, partitions, offsetLatest, readUncommitted) })
	both.Wait()
	return l
}

// stableOffsets asks for offsets of a group; those that an open transaction is about to change come with an error.
func stableOffsets(ctx context.Context, client *kgo.Client, group string, sources []sourceID) (*kmsg.OffsetFetchResponse, error) {
	of := kmsg.NewOffsetFetchRequestGroup()
	of.Group = group
	sources = distinct(sources, func(a, b sourceID) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), bytes.Compare(a.topic[:], b.topic[:]),
			a.Partition.Compare(b.Partition))
	})
	for i, source := range sources {
		if i == 0 || source.Topic != sources[i-1].Topic || source.topic != sources[i-1].topic {
			topic := kmsg.NewOffsetFetchRequestGroupTopic()
			topic.Topic, topic.TopicID = source.Topic, source.topic
			of.Topics = append(of.Topics, topic)
		}
		topic := &of.Topics[len(of.Topics)-1]
		topic.Partitions = append(topic.Partitions, source.Partition.Partition)
	}
	request := kmsg.NewPtrOffsetFetchRequest()
	request.RequireStable, request.Groups = true, append(request.Groups, of)
	return request.RequestWith(ctx, client)
}

// distinct sorts keys and leaves out those that are there twice.
func distinct[K comparable](keys []K, compare func(a, b K) int) []K {
	slices.SortFunc(keys, compare)
	return slices.Compact(keys)
}

// topicOf finds a topic in an answer.
func topicOf(response *kmsg.MetadataResponse, name string) *kmsg.MetadataResponseTopic {
	for i := range response.Topics {
		if topic := &response.Topics[i]; topic.Topic != nil && *topic.Topic == name {
			return topic
		}
	}
	return nil
}
