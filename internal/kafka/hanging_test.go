package kafka_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/internal/testkit"
)

// doomed is the node that dies.
const doomed = 1

const (
	offsetsTopic      = "__consumer_offsets"
	offsetsPartitions = 8
)

// A partition that has no leader when its transaction ends gets no marker from Apache Kafka 4.3.1 (KAFKA-20734), not
// even later.
func TestHangingTransactionsEndAsDecided(t *testing.T) {
	broker := testkit.MortalCluster(t, 3)
	// Groups live elsewhere at first: that of the rules must not end with the node.
	cfg := config(strings.Split(broker.Addr, ",")...)
	assign(t, cfg, doomed+2, map[string]int{offsetsTopic: offsetsPartitions})
	t.Run("of rules", func(t *testing.T) { testRulesHang(t, broker) })
	t.Run("of a replay", func(t *testing.T) { testReplayHangs(t, broker) })
	move(t, cfg, doomed+1)
	t.Run("of workers", func(t *testing.T) { testWorkersHang(t, broker) })
}

// Results and offsets are on the node, which dies before three transactions end: a session's own, which was committed, and
// those of two workers that are gone, one committed and one aborted.
func testWorkersHang(t *testing.T, broker *testkit.Broker) {
	cfg := config(strings.Split(broker.Addr, ",")...)
	assign(t, cfg, doomed+1, map[string]int{cfg.Topics.Results.Name: 3})
	ensure(t, cfg)
	registry := prometheus.NewRegistry()
	metrics := kafka.NewMetrics(registry)
	results := cfg.Topics.Results.Name

	produce(t, cfg, cfg.Topics.Metrics.Name, 0, "event")
	hold := newHold(int16(kmsg.EndTxn))
	held := cfg
	held.Dial = hold.dial
	session, err := kafka.NewSession(deadline(t), held, 0, metrics, testkit.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	take(t, session, 1)
	ended := make(chan error)
	go func() {
		committed, err := session.Commit(t.Context(), result(cfg, "of the session"))
		if err == nil && !committed {
			err = fmt.Errorf("it was aborted")
		}
		ended <- err
	}()
	await(t, "end of the session's transaction", hold.holds)
	kept, dropped := begun(t, cfg, 1, "of a dead worker"), begun(t, cfg, 2, "of an aborted worker")

	broker.Kill(doomed)
	awaitLeaderless(t, cfg, results)
	hold.release()
	if err := <-ended; err != nil {
		t.Fatalf("commit of the session: %v", err)
	}
	end(t, kept, kgo.TryCommit)
	end(t, dropped, kgo.TryAbort)
	broker.Revive(doomed)

	plain := client(t, cfg)
	if open, err := testkit.OpenTransactions(deadline(t), plain, results); err != nil || len(open) < 3 {
		t.Fatalf("open transactions: got %q, %v, want three: has this Kafka KAFKA-20734 mended?", open, err)
	}
	for slot := 1; slot <= 2; slot++ {
		successor, err := kafka.NewSession(deadline(t), cfg, slot, metrics, testkit.Log(t))
		if err != nil {
			t.Fatal(err)
		}
		successor.Close()
	}
	// The session aborts what it does next, as its partitions are given out anew; that takes nothing back.
	if _, err := session.Commit(deadline(t), result(cfg, "later")); err != nil {
		t.Logf("next commit of the session: %v", err)
	}
	await(t, "end of all transactions", func() bool {
		open, err := testkit.OpenTransactions(t.Context(), plain, results, offsetsTopic)
		return err == nil && len(open) == 0
	})
	var got []string
	for _, r := range committed(t, cfg, results) {
		if string(r.Value) != "later" {
			got = append(got, string(r.Value))
		}
	}
	slices.Sort(got)
	if want := []string{"of a dead worker", "of the session"}; !slices.Equal(got, want) {
		t.Errorf("committed results: got %q, want %q", got, want)
	}
	offsets, err := kadmOf(t, cfg).FetchOffsets(deadline(t), cfg.Group)
	if at, ok := offsets.Lookup(cfg.Topics.Metrics.Name, 0); err != nil || !ok || at.At != 1 {
		t.Errorf("offset of the group: got %d (%v), %v, want 1", at.At, ok, err)
	}
	// The session's are two: its result and its offset.
	for result, want := range map[string]float64{"committed": 3, "aborted": 1, "failed": 0} {
		if got := counted(t, registry, result); got != want {
			t.Errorf("transactions that hung and were %s: got %g, want %g", result, got, want)
		}
	}
}

// The next transaction of a shard comes to nothing, and takes back nothing of the last, which has hung.
func testRulesHang(t *testing.T, broker *testkit.Broker) {
	cfg := config(strings.Split(broker.Addr, ",")...)
	assign(t, cfg, doomed+1, map[string]int{cfg.Topics.Metrics.Name: 4, cfg.Topics.RuleState.Name: 4})
	ensure(t, cfg)
	hold := newHold(int16(kmsg.EndTxn))
	held := cfg
	held.Dial = hold.dial
	opened, stop := runShards(t, held)
	defer stop()
	shard := shardsOf(t, opened, 4)[2]
	ended := make(chan error)
	go func() {
		ended <- shard.Commit(t.Context(), map[tenants.ID][][]byte{"acme": {[]byte("[1]")}}, map[string][]byte{"a": []byte("1")})
	}()
	await(t, "end of the shard's transaction", hold.holds)
	broker.Kill(doomed)
	awaitLeaderless(t, cfg, cfg.Topics.Metrics.Name)
	hold.release()
	if err := <-ended; err != nil {
		t.Fatalf("commit of the shard: %v", err)
	}
	broker.Revive(doomed)

	tooMuch := make([]byte, int(cfg.Topics.RuleState.MaxMessage)+1)
	err := shard.Commit(deadline(t), map[tenants.ID][][]byte{"acme": {[]byte("[2]")}}, map[string][]byte{"a": tooMuch})
	if err == nil {
		t.Fatal("a state that no broker takes was committed")
	}
	var got []string
	for _, topic := range []string{cfg.Topics.Metrics.Name, cfg.Topics.RuleState.Name} {
		for _, r := range committed(t, cfg, topic) {
			got = append(got, string(r.Key)+" "+string(r.Value))
		}
	}
	if want := []string{"acme [1]", "a 1"}; !slices.Equal(got, want) {
		t.Errorf("committed: got %q, want %q", got, want)
	}
}

// A replay ends its transaction that has hung, and goes on.
func testReplayHangs(t *testing.T, broker *testkit.Broker) {
	cfg := config(strings.Split(broker.Addr, ",")...)
	assign(t, cfg, doomed+1, map[string]int{cfg.Topics.DLQReplayed.Name: 1})
	ensure(t, cfg)
	produceRecords(t, cfg, letter(cfg, 0, "nan", cfg.Topics.Metrics.Name, 1, ""))
	hold := newHold(int16(kmsg.EndTxn))
	held := cfg
	held.Dial = hold.dial
	ended := make(chan error)
	go func() {
		done, err := kafka.NewDeadLetters(held, testkit.Log(t)).Replay(deadline(t), kafka.Selection{})
		if want := (kafka.Replayed{Matched: 1, Replayed: 1}); err == nil && done != want {
			err = fmt.Errorf("got %+v, want %+v", done, want)
		}
		ended <- err
	}()
	await(t, "end of the replay's first transaction", hold.holds)
	broker.Kill(doomed)
	awaitLeaderless(t, cfg, cfg.Topics.DLQReplayed.Name)
	hold.release()
	broker.Revive(doomed)
	if err := <-ended; err != nil {
		t.Fatalf("replay: %v", err)
	}
	if got := visible(t, cfg, cfg.Topics.Metrics.Name, 1); len(got) != 1 {
		t.Errorf("replayed: got %d events, want 1", len(got))
	}
}

func result(cfg kafka.Config, value string) []pipeline.Message {
	return []pipeline.Message{{Topic: cfg.Topics.Results.Name, Partition: 0, Value: []byte(value)}}
}

func counted(t *testing.T, registry *prometheus.Registry, result string) (total float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.Metric {
			if family.GetName() == "vigie_kafka_hanging_transactions_total" && metric.Label[0].GetValue() == result {
				total += metric.Counter.GetValue()
			}
		}
	}
	return total
}

// assign makes topics of which a node has the only copy of all partitions.
func assign(t *testing.T, cfg kafka.Config, node int32, topics map[string]int) {
	t.Helper()
	request := kmsg.NewPtrCreateTopicsRequest()
	request.TimeoutMillis = 30_000
	for name, partitions := range topics {
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, -1, -1
		for i := range partitions {
			one := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
			one.Partition, one.Replicas = int32(i), []int32{node}
			topic.ReplicaAssignment = append(topic.ReplicaAssignment, one)
		}
		settings := map[string]string{"min.insync.replicas": "1", "max.message.bytes": strconv.Itoa(16 << 20)}
		if slices.Contains([]string{offsetsTopic, cfg.Topics.RuleState.Name, cfg.Topics.DLQReplayed.Name}, name) {
			settings["cleanup.policy"] = "compact"
		}
		for key, value := range settings {
			config := kmsg.NewCreateTopicsRequestTopicConfig()
			config.Name, config.Value = key, &value
			topic.Configs = append(topic.Configs, config)
		}
		request.Topics = append(request.Topics, topic)
	}
	response, err := request.RequestWith(deadline(t), client(t, cfg))
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range response.Topics {
		if topic.ErrorCode != 0 {
			t.Fatalf("create %s: error %d, %v", topic.Topic, topic.ErrorCode, topic.ErrorMessage)
		}
	}
}

// move puts the offsets of all groups on a node.
func move(t *testing.T, cfg kafka.Config, node int32) {
	t.Helper()
	admin := kadmOf(t, cfg)
	var to kadm.AlterPartitionAssignmentsReq
	for partition := range int32(offsetsPartitions) {
		to.Assign(offsetsTopic, partition, []int32{node})
	}
	moving, err := admin.AlterPartitionAssignments(deadline(t), to)
	if err == nil {
		err = moving.Error()
	}
	if err != nil {
		t.Fatalf("move %s: %v", offsetsTopic, err)
	}
	await(t, "move of "+offsetsTopic, func() bool {
		metadata, err := admin.Metadata(t.Context(), offsetsTopic)
		if err != nil {
			return false
		}
		for _, p := range metadata.Topics[offsetsTopic].Partitions {
			if p.Leader != node || len(p.Replicas) != 1 {
				return false
			}
		}
		return true
	})
}

func awaitLeaderless(t *testing.T, cfg kafka.Config, topic string) {
	t.Helper()
	admin := kadmOf(t, cfg)
	await(t, "partition without a leader", func() bool {
		metadata, err := admin.Metadata(t.Context(), topic)
		if err != nil {
			return false
		}
		for _, p := range metadata.Topics[topic].Partitions {
			if p.Leader >= 0 {
				return false
			}
		}
		return true
	})
}

// begun opens a transaction of a slot, with one result.
func begun(t *testing.T, cfg kafka.Config, slot int, value string) *kgo.Client {
	t.Helper()
	c := client(t, cfg, kgo.TransactionalID(fmt.Sprintf("%s-%s-%d", cfg.TransactionalIDPrefix, cfg.Instance, slot)))
	if err := c.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	record := &kgo.Record{Topic: cfg.Topics.Results.Name, Partition: int32(slot), Value: []byte(value)}
	if err := c.ProduceSync(deadline(t), record).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return c
}

func end(t *testing.T, c *kgo.Client, how kgo.TransactionEndTry) {
	t.Helper()
	if err := c.EndTransaction(deadline(t), how); err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// hold is a network that keeps back requests of one kind.
type hold struct {
	key      int16
	mu       sync.Mutex
	holding  bool
	released chan struct{}
}

func newHold(key int16) *hold { return &hold{key: key, released: make(chan struct{})} }

func (h *hold) holds() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.holding
}

func (h *hold) release() { close(h.released) }

func (h *hold) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &heldConn{conn, h}, nil
}

type heldConn struct {
	net.Conn
	hold *hold
}

func (c *heldConn) Write(p []byte) (int, error) {
	if len(p) > 6 && int16(p[4])<<8|int16(p[5]) == c.hold.key { // behind the length
		c.hold.mu.Lock()
		c.hold.holding = true
		c.hold.mu.Unlock()
		<-c.hold.released
	}
	return c.Conn.Write(p)
}
