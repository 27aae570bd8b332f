package kafka

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// A broker refuses the producer where the log begins behind its last record, when others have acknowledged results of
// the epoch: the client goes on under a new producer epoch, and these results are aborted. Their offsets must not
// commit.
func TestDividedTransactionCommitsNothing(t *testing.T) {
	ctx, cluster, cfg := onFake(t, kfake.NumBrokers(2))
	const accepts, refuses = 0, 1
	results, letters := cfg.Topics.Results.Name, cfg.Topics.DLQ.Name
	f := newFeed(t, ctx, cfg)
	for topic, node := range map[string]int32{results: accepts, letters: refuses} {
		if err := cluster.MoveTopicPartition(topic, 0, node); err != nil {
			t.Fatal(err)
		}
	}
	epoch := []pipeline.Message{{Topic: results, Partition: 0, Value: []byte("result")},
		{Topic: letters, Partition: 0, Value: []byte("letter")}}
	f.take()
	if committed, err := f.Commit(ctx, epoch); err != nil || !committed {
		t.Fatalf("commit: got %v, %v, want it committed", committed, err)
	}

	f.take()
	accepted, refused := false, false
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		switch {
		case cluster.CurrentNode() == accepts:
			accepted = true
		case !accepted:
			return answer(request.(*kmsg.ProduceRequest), kerr.NotEnoughReplicas), nil, true
		case !refused:
			refused = true
			return answer(request.(*kmsg.ProduceRequest), kerr.InvalidProducerEpoch), nil, true
		}
		return nil, nil, false
	})
	if committed, err := f.Commit(ctx, epoch); committed || !errors.Is(err, ErrDivided) {
		t.Fatalf("commit: got %v, %v, want ErrDivided", committed, err)
	}
	f.Close()
	next := newFeed(t, ctx, cfg)
	for next.poll() == 0 {
		if ctx.Err() != nil {
			t.Fatal("the next session: got nothing, want the record of the epoch again")
		}
	}
}

// answer refuses the request, at brokers whose log begins behind all that was written.
func answer(request *kmsg.ProduceRequest, failure *kerr.Error) kmsg.Response {
	response := request.ResponseKind().(*kmsg.ProduceResponse)
	for _, topic := range request.Topics {
		refused := kmsg.NewProduceResponseTopic()
		refused.Topic, refused.TopicID = topic.Topic, topic.TopicID
		for _, partition := range topic.Partitions {
			part := kmsg.NewProduceResponseTopicPartition()
			part.Partition, part.ErrorCode, part.LogStartOffset = partition.Partition, failure.Code, 1000
			refused.Partitions = append(refused.Partitions, part)
		}
		response.Topics = append(response.Topics, refused)
	}
	return response
}
