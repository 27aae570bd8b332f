package kafka_test

import (
	"context"
	"fmt"
	"hash/crc32"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/internal/units"
)

// The rights that docs/operating.md names are enough. Without those to end a transaction that hangs a worker says which
// is missing, waits, and goes on when it has it.
func TestRights(t *testing.T) {
	broker := testkit.SecuredKafka(t, "stream", "query", "dlq", "verify")
	admin := as(config(broker.Addr), testkit.SecuredAdmin)
	var all []string
	for _, state := range ensure(t, admin) {
		all = append(all, state.Name)
	}
	topics, read, write := admin.Topics, kadm.OpRead, kadm.OpWrite
	grant := func(user string, operation kadm.ACLOperation, names ...string) {
		t.Helper()
		allow(t, admin, user, operation, func(b *kadm.ACLBuilder) { b.Topics(names...) })
	}
	of := func(user, group, id string) {
		t.Helper()
		if group != "" {
			allow(t, admin, user, read, func(b *kadm.ACLBuilder) { b.Groups(group) })
		}
		allow(t, admin, user, write, func(b *kadm.ACLBuilder) {
			b.TransactionalIDs(admin.TransactionalIDPrefix + id).ResourcePatternType(kadm.ACLPatternPrefixed)
		})
	}
	grant("stream", read, topics.Metrics.Name, topics.Spans.Name, topics.Logs.Name, topics.StateMetrics.Name, topics.StateSpans.Name,
		topics.StateLogs.Name, topics.Results.Name, topics.Coarse.Name, topics.StateCoarse.Name)
	grant("stream", write, topics.StateMetrics.Name, topics.StateSpans.Name, topics.StateLogs.Name, topics.Results.Name,
		topics.Alerts.Name, topics.DLQ.Name, topics.Coarse.Name, topics.StateCoarse.Name)
	of("stream", admin.Group, "-")
	allow(t, admin, "stream", read, func(b *kadm.ACLBuilder) {
		b.Groups(admin.Group+"-sink", admin.Group+"-coarse", admin.Group+"-sink-coarse")
	})
	grant("verify", read, topics.Metrics.Name, topics.Results.Name, topics.DLQ.Name, topics.Coarse.Name, topics.StateCoarse.Name)
	allow(t, admin, "verify", kadm.OpDescribe, func(b *kadm.ACLBuilder) {
		b.Groups(admin.Group, admin.Group+"-sink", admin.Group+"-sink-coarse")
	})
	grant("query", read, topics.RuleState.Name)
	grant("query", write, topics.RuleState.Name, topics.Metrics.Name)
	of("query", admin.Group+"-rules", "-rules-")
	grant("dlq", read, topics.DLQ.Name, topics.DLQReplayed.Name)
	grant("dlq", write, topics.DLQReplayed.Name, topics.Metrics.Name, topics.Spans.Name, topics.Logs.Name)
	of("dlq", "", "-dlq-replay")

	looked := lookAtTopics(t, as(admin, "query"))
	if looked == nil || !strings.Contains(looked.Error(), "needs DESCRIBE on") || !strings.Contains(looked.Error(), topics.Spans.Name) {
		t.Errorf("a look at topics without DESCRIBE: got %v, want the topics named", looked)
	}
	for _, user := range []string{"stream", "query"} {
		grant(user, kadm.OpDescribe, all...)
		if err := lookAtTopics(t, as(admin, user)); err != nil {
			t.Errorf("a look at topics as %s: %v", user, err)
		}
	}

	produceRecords(t, admin, event(admin), letter(admin, 0, "nan", topics.Metrics.Name, 0, ""))
	var out lines
	log := slog.New(slog.NewTextHandler(&out, nil))
	session := func() *kafka.Session {
		t.Helper()
		s, err := kafka.NewSession(deadline(t), as(admin, "stream"), 1, nil, log)
		if err != nil {
			t.Fatalf("session: %v", err)
		}
		return s
	}
	worker := session()
	take(t, worker, 1)
	if committed, err := worker.Commit(deadline(t), result(admin, "of a worker")); err != nil || !committed {
		t.Errorf("commit of a worker: got %v, %v", committed, err)
	}
	partition := worker.ResultPartition()
	worker.Close()
	mergeAndVerify(t, admin)
	opened, stop := runShards(t, as(admin, "query"))
	if err := shardsOf(t, opened, 4)[0].Commit(deadline(t), map[tenants.ID][][]byte{"acme": {[]byte("[]")}}, map[string][]byte{"a": nil}); err != nil {
		t.Errorf("commit of rules: %v", err)
	}
	stop()
	if done := replay(t, as(admin, "dlq"), kafka.Selection{}); done.Replayed != 1 {
		t.Errorf("replay: got %+v, want one replayed", done)
	}

	leaveOpen(t, admin, fmt.Sprintf("%s-%s-1", admin.TransactionalIDPrefix, admin.Instance), topics.Results.Name, partition)
	worker = session()
	defer worker.Close()
	ctx, giveUp := context.WithCancel(deadline(t))
	ended := make(chan error, 1)
	go func() {
		defer close(ended)
		_, err := worker.Commit(ctx, result(admin, "later"))
		ended <- err
	}()
	defer func() {
		giveUp()
		for range ended {
		}
	}()
	await(t, "decisions missing", func() bool { return out.has("could not be ended", "needs READ on __transaction_state") })
	grant("stream", read, "__transaction_state", "__consumer_offsets")
	await(t, "cluster missing", func() bool { return out.has("could not be ended", "needs ALTER or CLUSTER_ACTION on the cluster") })
	select {
	case err := <-ended:
		t.Fatalf("the next transaction did not wait: %v", err)
	default:
	}
	allow(t, admin, "stream", kadm.OpAlter, func(b *kadm.ACLBuilder) { b.Clusters() })
	if err := <-ended; err != nil {
		t.Errorf("commit with all rights: %v", err)
	}
	if !out.has("ended a transaction that hung in kafka", "committed=true") {
		t.Error("got no word of the transaction that hung, want that it was committed")
	}
}

// mergeAndVerify merges what is in the results topic with the rights of stream, and waits for it with those of verify.
func mergeAndVerify(t *testing.T, admin kafka.Config) {
	t.Helper()
	results := admin.Topics.Results
	await(t, "end of the worker's transaction", func() bool {
		high, err := kadmOf(t, admin).ListEndOffsets(deadline(t), results.Name)
		if err != nil {
			t.Fatal(err)
		}
		at, stable := int64(0), int64(0)
		high.Each(func(o kadm.ListedOffset) { at += o.Offset })
		for _, end := range endOffsets(t, admin, results.Name) {
			stable += end
		}
		return at == stable
	})
	stored(t, admin, "sink", results)
	ctx, stop := context.WithCancel(t.Context())
	merged := make(chan error, 64)
	ended := make(chan error, 1)
	partitions := int(results.Partitions)
	go func() {
		ended <- kafka.RunCoarseShards(ctx, as(admin, "stream"), quiet(), func(ctx context.Context, s *kafka.CoarseShard) error {
			ends, err := s.Ends(ctx)
			if err == nil {
				err = s.Commit(ctx, []coarse.Block{{Table: coarse.TableMinutes, Rows: 1, Value: []byte("rows")}}, ends[s.Position().Partition])
			}
			merged <- err
			<-ctx.Done()
			return nil
		})
	}()
	for range partitions {
		if err := <-merged; err != nil {
			t.Errorf("merge: %v", err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("mergers: %v", err)
	}
	sink, err := kafka.NewCoarseResults(as(admin, "stream"), 0, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	next := map[int32]int64{}
	for deadline := deadline(t); len(next) < partitions; {
		fetch, err := sink.Poll(deadline)
		if err != nil {
			t.Fatalf("read what is merged: %v", err)
		}
		for _, r := range fetch.Records {
			next[r.Partition] = r.Offset + 1
		}
	}
	if err := sink.Commit(deadline(t), next); err != nil {
		t.Errorf("commit of the sink: %v", err)
	}
	topic := kafka.NewSourceTopic(as(admin, "verify"), admin.Topics.Metrics.Name, time.Minute, quiet())
	topic.AwaitMerged()
	if err := topic.Settle(deadline(t), nil); err != nil {
		t.Errorf("verify: %v", err)
	}
}

// lookAtTopics checks the topics, as programs do when they start.
func lookAtTopics(t *testing.T, cfg kafka.Config) error {
	t.Helper()
	admin, err := kafka.NewAdmin(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	_, err = admin.EnsureTopics(deadline(t))
	return err
}

// as is a configuration of a user's.
func as(cfg kafka.Config, user string) kafka.Config {
	cfg.SASL = kafka.SASL{Mechanism: "plain", Username: user, Password: units.Secret(user)}
	return cfg
}

func allow(t *testing.T, cfg kafka.Config, user string, operation kadm.ACLOperation, on func(*kadm.ACLBuilder)) {
	t.Helper()
	acl := kadm.NewACLs().Allow("User:" + user).AllowHosts().Operations(operation).ResourcePatternType(kadm.ACLPatternLiteral)
	on(acl)
	created, err := kadmOf(t, cfg).CreateACLs(deadline(t), acl)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range created {
		if c.Err != nil {
			t.Fatalf("%v for %s: %v %s", operation, user, c.Err, c.ErrMessage)
		}
	}
}

func event(cfg kafka.Config) *kgo.Record {
	return &kgo.Record{Topic: cfg.Topics.Metrics.Name, Key: []byte("acme"), Value: []byte("event")}
}

// leaveOpen commits a transaction in a partition, and then appends to it under the same epoch once more, which leaves
// what KAFKA-20734 does: the partition has one open that its coordinator has decided and forgotten.
func leaveOpen(t *testing.T, cfg kafka.Config, id, topic string, partition int32) {
	t.Helper()
	c := client(t, cfg, kgo.TransactionalID(id), kgo.MaxVersions(kversion.V3_8_0())) // later ones change the epoch
	if err := c.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	record := &kgo.Record{Topic: topic, Partition: partition, Value: []byte("first")}
	if err := c.ProduceSync(deadline(t), record).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := c.EndTransaction(deadline(t), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	await(t, "marker of the transaction", func() bool { // what comes before it, it ends
		listed, err := kadm.NewClient(c).ListCommittedOffsets(t.Context(), topic)
		stable, ok := listed.Lookup(topic, partition)
		return err == nil && ok && stable.Offset > record.Offset+1
	})
	producer, epoch, err := c.ProducerID(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	request := kmsg.NewPtrProduceRequest()
	request.TransactionID, request.Acks, request.TimeoutMillis = &id, -1, 30_000
	to := kmsg.NewProduceRequestTopic()
	to.Topic = topic
	of := kmsg.NewProduceRequestTopicPartition()
	of.Partition, of.Records = partition, transactionalBatch(producer, epoch, 1)
	to.Partitions = append(to.Partitions, of)
	request.Topics = append(request.Topics, to)
	response, err := request.RequestWith(deadline(t), c)
	if err != nil {
		t.Fatal(err)
	}
	if code := response.Topics[0].Partitions[0].ErrorCode; code != 0 {
		t.Fatalf("append to a transaction that was committed: error %d", code)
	}
}

// transactionalBatch is a record batch with one record, of no key and no value.
func transactionalBatch(producer int64, epoch int16, sequence int32) []byte {
	body := new(kmsg.Record).AppendTo(nil)
	record := (&kmsg.Record{Length: int32(len(body) - 1)}).AppendTo(nil)
	batch := kmsg.RecordBatch{
		Magic: 2, Attributes: 1 << 4, ProducerID: producer, ProducerEpoch: epoch, FirstSequence: sequence, NumRecords: 1,
		FirstTimestamp: time.Now().UnixMilli(), MaxTimestamp: time.Now().UnixMilli(), Records: record,
	}
	const before = 8 + 4 // offset and length
	batch.Length = int32(len(batch.AppendTo(nil)) - before)
	const checked = before + 4 + 1 + 4 // leader epoch, magic, checksum
	batch.CRC = int32(crc32.Checksum(batch.AppendTo(nil)[checked:], crc32.MakeTable(crc32.Castagnoli)))
	return batch.AppendTo(nil)
}
