package kafka_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/testkit"
)

// accidents are what operators and their tools do to topics and groups, with what comes of it, in whole workers.
var accidents = []struct {
	name string
	test func(*testing.T, kafka.Config)
}{
	{"offsets", testOffsetsMoved},
	{"topic recreated", testTopicRecreatedUnderWorker},
	{"offset outlives topic", testOffsetOutlivesTopic},
	{"state deleted", testStateDeletedUnderWorker},
	{"twins", testTwins},
}

func TestAccidentsOnApacheKafka(t *testing.T) {
	broker := testkit.ApacheKafka(t)
	leaks(t)
	t.Run("all", func(t *testing.T) {
		for _, a := range accidents {
			t.Run(a.name, func(t *testing.T) {
				t.Parallel()
				a.test(t, install(t, strings.Split(broker.Addr, ",")...))
			})
		}
	})
}

// employed is a running worker and what it said.
type employed struct {
	t       *testing.T
	cfg     kafka.Config
	worker  *pipeline.Worker
	metrics *prometheus.Registry
	log     *lines
	slot    int
	end     func() // in order
	stop    func() // and takes it out of the group
}

// lines keeps what was logged. Safe for concurrent use.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// has says whether one of the lines holds all of the words.
func (l *lines) has(words ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			return true
		}
	}
	return false
}

func employ(t *testing.T, cfg kafka.Config) *employed { return employSlot(t, cfg, 0) }

// employSlot starts a worker; stop ends it in order and takes it out of the group, as its session timeout would.
func employSlot(t *testing.T, cfg kafka.Config, slot int) *employed {
	t.Helper()
	e := &employed{t: t, cfg: cfg, slot: slot, metrics: prometheus.NewRegistry(), log: &lines{}}
	e.worker = e.new()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = e.worker.Run(ctx) }()
	e.end = func() { cancel(); <-done }
	e.stop = sync.OnceFunc(func() {
		e.end()
		response, err := kadmOf(t, cfg).LeaveGroup(context.Background(), kadm.LeaveGroup(cfg.Group).InstanceIDs(fmt.Sprintf("%s-%d", cfg.Instance, slot)))
		if err != nil || response.Error() != nil {
			t.Logf("leave the group: %v, %v", err, response.Error())
		}
	})
	t.Cleanup(e.stop)
	return e
}

func (e *employed) new() *pipeline.Worker {
	log := slog.New(slog.NewTextHandler(e.log, nil))
	return pipeline.NewWorker(pipeline.WorkerConfig{
		Config: shape(e.cfg), Slot: e.slot, Encoder: emptyBlocks{}, Metrics: pipeline.NewMetrics(e.metrics), Log: log,
		Open: func(ctx context.Context) (pipeline.Session, func(), error) {
			s, err := kafka.NewSession(ctx, e.cfg, e.slot, nil, log)
			if err != nil {
				return nil, nil, err
			}
			return s, s.Close, nil
		},
	})
}

// counted waits until n events are in committed results, and fails when there are more.
func (e *employed) counted(n int) {
	e.t.Helper()
	if got := e.countedAtLeast(n); got != n {
		e.t.Fatalf("events in results: got %d, want %d", got, n)
	}
}

func (e *employed) countedAtLeast(n int) (got int) {
	e.t.Helper()
	defer func() {
		if e.t.Failed() {
			e.t.Logf("counted %d, want %d; the worker said:\n%s", got, n, e.log.text.String())
		}
	}()
	await(e.t, fmt.Sprintf("%d events in results", n), func() bool {
		got = countOf(e.t, e.cfg)
		return got >= n
	})
	return got
}

func countOf(t *testing.T, cfg kafka.Config) (n int) {
	t.Helper()
	for _, r := range committed(t, cfg, cfg.Topics.Results.Name) {
		if text := header(r, pipeline.HeaderCount); text != "" {
			count, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			n += count
		}
	}
	return n
}

// stopped waits until the task of a partition of metrics has stopped with a message.
func (e *employed) stopped(partition int32, want string) {
	e.t.Helper()
	said := ""
	await(e.t, fmt.Sprintf("stopped task with %q (it said %q)", want, said), func() bool {
		for _, task := range e.worker.Topology().Tasks {
			if task.Topic == e.cfg.Topics.Metrics.Name && task.Partition == partition && task.State == pipeline.TaskStopped {
				said = task.Error
			}
		}
		return strings.Contains(said, want)
	})
}

// lost is what the worker has counted as lost.
func (e *employed) lost(reason string) int {
	return e.count("vigie_pipeline_lost_offsets_total", "reason", reason)
}

// count is the sum of a counter over what has a label.
func (e *employed) count(name, label, value string) int {
	families, err := e.metrics.Gather()
	if err != nil {
		e.t.Fatal(err)
	}
	total := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == label && l.GetValue() == value {
					total += m.GetCounter().GetValue()
				}
			}
		}
	}
	return int(total)
}

// send appends n events to one partition of metrics.
func send(t *testing.T, cfg kafka.Config, partition int32, n int) {
	t.Helper()
	var records []*kgo.Record
	for range n {
		records = append(records, &kgo.Record{
			Topic: cfg.Topics.Metrics.Name, Partition: partition, Key: []byte("acme"), Value: []byte(`{"name":"m","value":1}`),
		})
	}
	produceRecords(t, cfg, records...)
}

// setOffset does what kafka-consumer-groups.sh --reset-offsets does to a group without members.
func setOffset(t *testing.T, cfg kafka.Config, partition int32, offset int64) {
	t.Helper()
	commitOffset(t, cfg, kadm.Offset{Topic: cfg.Topics.Metrics.Name, Partition: partition, At: offset, LeaderEpoch: -1})
}

func commitOffset(t *testing.T, cfg kafka.Config, offset kadm.Offset) {
	t.Helper()
	offsets := kadm.Offsets{}
	offsets.Add(offset)
	await(t, "offset set", func() bool {
		responses, err := kadmOf(t, cfg).CommitOffsets(deadline(t), cfg.Group, offsets)
		if err == nil {
			err = responses.Error()
		}
		return err == nil
	})
}

// An operator sets, loses and deletes the group's offsets, and records go before they are read.
func testOffsetsMoved(t *testing.T, cfg kafka.Config) {
	topic := cfg.Topics.Metrics.Name
	send(t, cfg, 0, 10)
	send(t, cfg, 1, 5)
	e := employ(t, cfg)
	e.counted(15)
	e.stop()

	// Back: what is there already would be counted again. Other partitions go on.
	setOffset(t, cfg, 0, 4)
	send(t, cfg, 0, 2)
	send(t, cfg, 1, 1)
	e = employ(t, cfg)
	e.counted(16)
	e.stopped(0, "offset 4 of group "+cfg.Group+" in "+topic+"/0 is before 10, up to where the results are")
	e.stop()
	setOffset(t, cfg, 0, 10)
	e = employ(t, cfg)
	e.counted(18)
	e.stop()

	// Lost: they expired, or the group was deleted.
	if responses, err := kadmOf(t, cfg).DeleteGroups(deadline(t), cfg.Group); err != nil || responses.Error() != nil {
		t.Fatalf("delete the group: %v, %v", err, responses.Error())
	}
	send(t, cfg, 1, 1)
	e = employ(t, cfg)
	e.counted(19)
	if !e.log.has("it was lost; the task goes on where the results end") {
		t.Error("got no word of the lost offsets, want it logged")
	}
	e.stop()

	// Forward: counted as lost. Beyond the end: refused.
	send(t, cfg, 0, 5)
	setOffset(t, cfg, 0, 15)
	setOffset(t, cfg, 1, 99)
	e = employ(t, cfg)
	e.counted(21)
	if got := e.lost("skipped"); got != 3 {
		t.Errorf("skipped offsets: got %d, want 3", got)
	}
	e.stopped(1, "offset 99 of group "+cfg.Group+" in "+topic+"/1 is behind the end of the log (7)")
	e.stop()
	setOffset(t, cfg, 1, 7)

	// Forward by a member, without the results of its epoch, as a broker could that broke a transaction in two: read
	// again.
	send(t, cfg, 0, 4)
	commitOffset(t, cfg, kadm.Offset{Topic: topic, Partition: 0, At: 21, LeaderEpoch: -1, Metadata: "host-0-f81d4fae"})
	e = employ(t, cfg)
	e.counted(25)
	if got := e.lost("skipped"); got != 0 {
		t.Errorf("skipped offsets: got %d, want none", got)
	}
	if !e.log.has("whose epoch is not there") {
		t.Error("got no word of the broken transaction, want it logged")
	}
	e.stop()

	// Deleted before they were read, by retention or by hand.
	send(t, cfg, 1, 5)
	before := kadm.Offsets{}
	before.AddOffset(topic, 1, 11, -1)
	if responses, err := kadmOf(t, cfg).DeleteRecords(deadline(t), before); err != nil || responses.Error() != nil {
		t.Fatalf("delete records: %v, %v", err, responses.Error())
	}
	e = employ(t, cfg)
	e.counted(26)
	if got := e.lost("deleted"); got != 4 {
		t.Errorf("deleted offsets: got %d, want 4", got)
	}
	if !e.log.has("records were not read") {
		t.Error("got no word of the deleted records, want it logged")
	}
}

// A source topic is deleted and made anew under a running worker: nothing of the new one is skipped for the old
// offsets, and nothing of either is counted twice.
func testTopicRecreatedUnderWorker(t *testing.T, cfg kafka.Config) {
	topic := cfg.Topics.Metrics.Name
	send(t, cfg, 0, 10)
	e := employ(t, cfg)
	e.counted(10)
	recreate(t, cfg, topic)
	send(t, cfg, 0, 3)
	e.counted(13)
	send(t, cfg, 0, 20)
	e.counted(33)
}

// A member commits for a source topic once more when that has been deleted and created again: brokers take it, by the
// name. The new topic is read from its start all the same. What another than a member set is left to the operator, and
// so is what comes from another cluster.
func testOffsetOutlivesTopic(t *testing.T, cfg kafka.Config) {
	topic := cfg.Topics.Metrics.Name
	send(t, cfg, 0, 10)
	e := employ(t, cfg)
	e.counted(10)
	e.stop()
	mine := standingOffset(t, cfg, 0)
	recreate(t, cfg, topic)
	send(t, cfg, 0, 3)

	foreign := mine
	foreign.Metadata = strings.Replace(mine.Metadata, "cluster=", "cluster=another-", 1)
	if mine.At != 10 || foreign == mine {
		t.Fatalf("got %+v committed, want offset 10 with a cluster", mine)
	}
	commitOffset(t, cfg, foreign)
	e = employ(t, cfg)
	e.stopped(0, "belongs to another topic")
	e.stop()
	setOffset(t, cfg, 0, 10)
	e = employ(t, cfg)
	e.stopped(0, "belongs to another topic")
	e.stop()

	commitOffset(t, cfg, mine)
	e = employ(t, cfg)
	e.counted(13)
	if !e.log.has("it belonged to a topic that has been deleted and created again") ||
		!e.log.has("what was unread of the one before is lost") {
		t.Error("got no word of the topic's death, want it logged")
	}
	if got := e.count("vigie_pipeline_replaced_sources_total", "signal", "metrics"); got != 1 {
		t.Errorf("replaced sources: got %d, want 1", got)
	}
	send(t, cfg, 0, 20)
	e.counted(33)
	e.stop()
	e = employ(t, cfg)
	send(t, cfg, 0, 1)
	e.counted(34)
}

// standingOffset is what the group has committed in a partition of metrics.
func standingOffset(t *testing.T, cfg kafka.Config, partition int32) kadm.Offset {
	t.Helper()
	offsets, err := kadmOf(t, cfg).FetchOffsets(deadline(t), cfg.Group)
	if err != nil {
		t.Fatal(err)
	}
	offset, _ := offsets.Lookup(cfg.Topics.Metrics.Name, partition)
	return offset.Offset
}

// recreate returns when the broker tells of the new topic: for a moment it still tells of the one before.
func recreate(t *testing.T, cfg kafka.Config, topic string) {
	t.Helper()
	admin := kadmOf(t, cfg)
	details := func() kadm.TopicDetail {
		listed, err := admin.ListTopics(deadline(t), topic)
		if err != nil {
			t.Fatal(err)
		}
		return listed[topic]
	}
	before := details().ID
	if _, err := admin.DeleteTopic(deadline(t), topic); err != nil {
		t.Fatal(err)
	}
	await(t, "the new topic", func() bool {
		_, err := admin.CreateTopic(deadline(t), 4, 1, nil, topic)
		return err == nil || err == kerr.TopicAlreadyExists
	})
	await(t, "word of the new topic", func() bool {
		now := details()
		return now.Err == nil && now.ID != before && len(now.Partitions) == 4
	})
}

// A state topic is deleted under a running worker: its tasks stop and say so. A process that starts makes it anew, and
// they go on without state; nothing is lost or doubled.
func testStateDeletedUnderWorker(t *testing.T, cfg kafka.Config) {
	send(t, cfg, 0, 10)
	e := employ(t, cfg)
	e.counted(10)
	if _, err := kadmOf(t, cfg).DeleteTopic(deadline(t), cfg.Topics.StateMetrics.Name); err != nil {
		t.Fatal(err)
	}
	send(t, cfg, 0, 3)
	e.stopped(0, "the topic does not exist: start a process to have it created")
	ensure(t, cfg)
	e.counted(13)
	if !e.log.has("state begins empty") {
		t.Error("got no word of the lost state, want it logged")
	}
}

// Two processes with one identity take everything from each other again and again, and say so; every event is counted
// once.
func testTwins(t *testing.T, cfg kafka.Config) {
	one, two := employ(t, cfg), employ(t, cfg)
	n := 0
	for range 15 {
		send(t, cfg, int32(n%4), 7)
		n += 7
		time.Sleep(200 * time.Millisecond)
	}
	await(t, "word of a second process", func() bool {
		return one.log.has(kafka.ErrFenced.Error()) || two.log.has(kafka.ErrFenced.Error())
	})
	one.counted(n)
	two.stop()
	send(t, cfg, 0, 5)
	one.counted(n + 5)
}
