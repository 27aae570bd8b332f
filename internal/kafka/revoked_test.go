package kafka

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// onFake starts a broker in this process with one partition of each source, and returns the configuration of a session
// there.
func onFake(t *testing.T, options ...kfake.Opt) (context.Context, *kfake.Cluster, Config) {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SleepOutOfOrder()}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	cfg := DefaultConfig()
	cfg.Brokers, cfg.Instance = cluster.ListenAddrs(), "host"
	cfg.Topics.Metrics.Partitions, cfg.Topics.Spans.Partitions, cfg.Topics.Logs.Partitions = 1, 1, 1
	admin, err := NewAdmin(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := admin.EnsureTopics(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx, cluster, cfg
}

// feed is a session with a producer of events for it.
type feed struct {
	*Session
	t        *testing.T
	ctx      context.Context
	producer *kgo.Client
}

func newFeed(t *testing.T, ctx context.Context, cfg Config) feed {
	t.Helper()
	s, err := NewSession(ctx, cfg, 0, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	producer, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.DefaultProduceTopic(cfg.Topics.Metrics.Name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(producer.Close)
	return feed{s, t, ctx, producer}
}

func (f *feed) send() {
	f.t.Helper()
	if err := f.producer.ProduceSync(f.ctx, kgo.StringRecord("event")).FirstErr(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *feed) poll() (records int) {
	f.t.Helper()
	waiting, cancel := context.WithTimeout(f.ctx, 20*time.Millisecond)
	defer cancel()
	fetch, err := f.Poll(waiting)
	if err != nil {
		f.t.Fatal(err)
	}
	f.Release(fetch.Assigned...)
	for _, c := range fetch.Chunks {
		records += c.Len()
	}
	return records
}

// take sends an event and polls it.
func (f *feed) take() {
	f.t.Helper()
	f.send()
	for f.poll() == 0 && f.ctx.Err() == nil {
	}
}

func (f *feed) commit(want bool) {
	f.t.Helper()
	if committed, err := f.Commit(f.ctx, nil); err != nil || committed != want {
		f.t.Fatalf("commit: got %v, %v, want %v", committed, err, want)
	}
}

// The balancer learns that a partition goes before the client calls back. Records that are polled in between belong to
// no task, so that the epoch must not commit their offsets.
func TestRecordsOfAPartitionThatGoesAreNotCommitted(t *testing.T) {
	ctx, _, cfg := onFake(t)
	f := newFeed(t, ctx, cfg)
	f.take()
	f.commit(true)

	source := pipeline.Partition{Topic: cfg.Topics.Metrics.Name, Partition: 0}
	f.assignment.mu.Lock()
	delete(f.assignment.current, source)
	f.assignment.mu.Unlock()
	f.send()
	for !f.pending && ctx.Err() == nil {
		if n := f.poll(); n > 0 {
			t.Fatalf("got %d records of a partition that goes, want none", n)
		}
	}
	f.commit(false) // no task saw the records of these offsets
}

// A partition that is taken away while a transaction ends may have been committed with it. Its task goes with the next
// epoch: the client has forgotten by then that it was called back.
func TestTakenAwayWhileATransactionEnds(t *testing.T) {
	ctx, cluster, cfg := onFake(t)
	f := newFeed(t, ctx, cfg)
	f.take()
	cluster.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
		f.noteRevoked()
		return nil, nil, false
	})
	f.commit(true)
	f.take()
	f.commit(false)
	f.take()
	f.commit(true)
}

// An epoch that polled nothing commits only while its worker is in the group: another may have its partitions by now.
func TestEpochWithoutOffsetsOfAWorkerThatIsOut(t *testing.T) {
	ctx, cluster, cfg := onFake(t)
	f := newFeed(t, ctx, cfg)
	f.take()
	f.commit(true)
	messages := []pipeline.Message{{Topic: cfg.Topics.Results.Name, Partition: f.ResultPartition(),
		Value: []byte("by time alone")}}
	if committed, err := f.Commit(ctx, messages); err != nil || !committed {
		t.Fatalf("in the group: got %v, %v, want it committed", committed, err)
	}
	// The group forgets the worker, and the worker hears nothing of it yet.
	cluster.ControlKey(int16(kmsg.Heartbeat), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		return kmsg.NewPtrHeartbeatResponse(), nil, true
	})
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group = cfg.Group
	member := kmsg.NewLeaveGroupRequestMember()
	member.InstanceID = kmsg.StringPtr(memberID("host", 0))
	leave.Members = append(leave.Members, member)
	if response, err := leave.RequestWith(ctx, f.producer); err != nil || response.ErrorCode != 0 ||
		response.Members[0].ErrorCode != 0 {
		t.Fatalf("leave: got %+v, %v", response, err)
	}
	if committed, err := f.Commit(ctx, messages); err != nil || committed {
		t.Errorf("out of the group: got %v, %v, want it aborted", committed, err)
	}
}
