package kafka

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Readers are closed while they still learn where their partitions are. It is the race detector that can fail this.
func TestReadersCloseAtAnyMoment(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "topic"))
	if err != nil {
		t.Fatalf("start kfake: %v", err)
	}
	defer cluster.Close()
	begin := map[int32]kgo.Offset{}
	for partition := range int32(4) {
		begin[partition] = kgo.NewOffset().AtStart()
	}
	producer, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer producer.Close()
	for range 100 {
		if err := producer.ProduceSync(t.Context(), &kgo.Record{Topic: "topic", Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatalf("produce: %v", err)
		}
	}
	for range 200 {
		client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...),
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"topic": begin}))
		if err != nil {
			t.Fatalf("open: %v", err)
		}
		time.Sleep(rand.N(5 * time.Millisecond))
		closeReader(client, "topic", 0, 1, 2, 3)
	}
}
