package kafka_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/pkg/events"
)

func (w *worker) state(partition int32, key, value string) pipeline.Message {
	m := pipeline.Message{Topic: w.cfg.Topics.StateMetrics.Name, Partition: partition, Key: []byte(key)}
	if value != "" {
		m.Value = []byte(value)
	}
	return m
}

func restored(ctx context.Context, s *kafka.Session, topic string, partition int32) (records []string, err error) {
	_, err = s.Restore(ctx, pipeline.Partition{Topic: topic, Partition: partition}, func(r *pipeline.Record) error {
		records = append(records, string(r.Key)+"="+string(r.Value))
		return nil
	})
	return records, err
}

func wantRestored(t *testing.T, s *kafka.Session, topic string, partition int32, want string) {
	t.Helper()
	got, err := restored(deadline(t), s, topic, partition)
	if err != nil || !slices.Equal(got, words(want)) {
		t.Fatalf("restore %s/%d: got %v, %v, want %s", topic, partition, got, err, want)
	}
}

// joined polls until partitions are assigned, releases none, and returns the first topic's.
func joined(t *testing.T, cfg kafka.Config, s *kafka.Session) (reaches []pipeline.Reach) {
	t.Helper()
	await(t, "assignment", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		fetch, err := s.Poll(ctx)
		if err != nil || len(fetch.Chunks) > 0 {
			t.Fatalf("poll: got %v, %v, want nothing before it is released", fetch.Chunks, err)
		}
		reaches = reaches[:0]
		for _, r := range fetch.Assigned {
			if r.Partition.Topic == cfg.Topics.Metrics.Name {
				reaches = append(reaches, r)
			}
		}
		return len(reaches) > 0
	})
	return reaches
}

// Nothing comes from a partition before it is released, and nothing is lost by it.
func testHeld(t *testing.T, cfg kafka.Config) {
	for partition := range int32(4) {
		produce(t, cfg, cfg.Topics.Metrics.Name, partition, "a"+strconv.Itoa(int(partition)))
	}
	s := newSession(t, cfg, 0)
	defer s.Close()
	reaches := joined(t, cfg, s)
	stale := slices.Clone(reaches)
	for i := range stale {
		stale[i].Assignment++
	}
	s.Release(stale...)
	time.Sleep(50 * time.Millisecond)
	joined(t, cfg, s)
	s.Release(reaches[1], reaches[2])
	var got []string
	await(t, "records of two partitions", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		fetch, err := s.Poll(ctx)
		if err != nil {
			t.Fatalf("poll: %v", err)
		}
		got = append(got, valuesOf(fetch)...)
		return len(got) >= 2
	})
	slices.Sort(got)
	if !slices.Equal(got, words("a1 a2")) {
		t.Fatalf("got %v, want what was released", got)
	}
	commit(t, s)
	if got, want := take(t, s, 2), words("a0 a3"); !slices.Equal(got, want) {
		t.Fatalf("after all are released: got %v, want %v", got, want)
	}
}

// Restore gives what was committed, of one partition, in order: of a fetch the last of each key.
func testRestore(t *testing.T, cfg kafka.Config) {
	w := worker{cfg: cfg, session: newSession(t, cfg, 0)}
	defer w.session.Close()
	topic := cfg.Topics.Metrics.Name
	wantRestored(t, w.session, topic, 1, "")
	commit(t, w.session, w.state(1, "a", "1"), w.state(2, "a", "9"), w.state(1, "b", "1"))
	commit(t, w.session, w.state(1, "a", ""), w.state(1, "c", "1"))
	wantRestored(t, w.session, topic, 1, "b=1 a= c=1")
	wantRestored(t, w.session, topic, 2, "a=9")
	wantRestored(t, w.session, topic, 3, "")

	// The log ends with an aborted transaction.
	outside := begin(t, cfg, "outside")
	append1(t, cfg, outside, 1, "ghost")
	if err := outside.EndTransaction(deadline(t), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	wantRestored(t, w.session, topic, 1, "b=1 a= c=1")

	// More than a fetch, and an error of the one who restores.
	value := strings.Repeat("x", 100<<10)
	for i := range 3 {
		var messages []pipeline.Message
		for j := range 10 {
			messages = append(messages, w.state(3, fmt.Sprint(i, "-", j), value))
		}
		commit(t, w.session, messages...)
	}
	got, err := restored(deadline(t), w.session, topic, 3)
	if err != nil || len(got) != 30 || got[29] != "2-9="+value {
		t.Fatalf("restore 3 MB: got %d records, %v, want 30", len(got), err)
	}
	broken := errors.New("broken")
	if _, err := w.session.Restore(deadline(t), pipeline.Partition{Topic: topic, Partition: 3}, func(*pipeline.Record) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("restore: got %v, want the error of apply", err)
	}
}

func begin(t *testing.T, cfg kafka.Config, id string) *kgo.Client {
	t.Helper()
	c := client(t, cfg, kgo.TransactionalID(id+"-"+cfg.Group))
	if err := c.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	return c
}

func append1(t *testing.T, cfg kafka.Config, c *kgo.Client, partition int32, key string) {
	t.Helper()
	record := &kgo.Record{Topic: cfg.Topics.StateMetrics.Name, Partition: partition, Key: []byte(key), Value: []byte("1")}
	if err := c.ProduceSync(deadline(t), record).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// A transaction that is open when the partition is assigned is waited for, whatever comes of it: the state it holds
// may be that of offsets that are committed already. One of a worker that is gone is aborted.
func testRestoreWaits(t *testing.T, cfg kafka.Config) {
	w := worker{cfg: cfg, session: newSession(t, cfg, 0)}
	defer w.session.Close()
	joined(t, cfg, w.session)
	topic := cfg.Topics.Metrics.Name
	commit(t, w.session, w.state(0, "a", "1"), w.state(1, "a", "1"))

	outside := begin(t, cfg, "outside")
	append1(t, cfg, outside, 0, "b")
	var got []string
	var err error
	done := make(chan struct{})
	ctx := deadline(t)
	go func() {
		defer close(done)
		got, err = restored(ctx, w.session, topic, 0)
	}()
	time.Sleep(1500 * time.Millisecond) // past the point where it asks whom it waits for
	select {
	case <-done:
		t.Fatalf("restore: got %v, %v with a transaction open, want it to wait", got, err)
	default:
	}
	if err := outside.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	<-done
	if err != nil || !slices.Equal(got, words("a=1 b=1")) {
		t.Fatalf("restore: got %v, %v, want what the transaction brought", got, err)
	}

	dead := client(t, cfg, kgo.TransactionalID(cfg.TransactionalIDPrefix+"-host-9"))
	if err := dead.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	append1(t, cfg, dead, 1, "ghost")
	start := time.Now()
	wantRestored(t, w.session, topic, 1, "a=1")
	t.Logf("a dead worker's transaction was waited for %s", time.Since(start).Round(time.Millisecond))
}

// What is missing is named.
func testRestoreWithout(t *testing.T, cfg kafka.Config) {
	s := newSession(t, cfg, 0)
	defer s.Close()
	admin := kadmOf(t, cfg)
	f := func(topic string, partition int32, want string) {
		t.Helper()
		await(t, "error with "+want, func() bool {
			_, err := restored(deadline(t), s, topic, partition)
			return err != nil && strings.Contains(err.Error(), want)
		})
	}
	f(cfg.Topics.Metrics.Name, 4, "has 4 partitions, none for partition 4 of its source "+cfg.Topics.Metrics.Name+", which has grown")
	if _, err := admin.UpdatePartitions(deadline(t), 5, cfg.Topics.Metrics.Name, cfg.Topics.StateMetrics.Name); err != nil {
		t.Fatal(err)
	}
	await(t, "state of the new partition", func() bool {
		_, err := restored(deadline(t), s, cfg.Topics.Metrics.Name, 4)
		return err == nil
	})
	if _, err := admin.DeleteTopic(deadline(t), cfg.Topics.StateLogs.Name); err != nil {
		t.Fatal(err)
	}
	f(cfg.Topics.Logs.Name, 0, "the topic does not exist")
}

// A state topic that is deleted and created again under a worker ends its session; the next begins without state.
func testStateRecreated(t *testing.T, cfg kafka.Config) {
	w := worker{cfg: cfg, session: newSession(t, cfg, 0)}
	defer func() { w.session.Close() }()
	joined(t, cfg, w.session)
	commit(t, w.session, w.state(0, "a", "1"))
	recreate(t, cfg, cfg.Topics.StateMetrics.Name)
	if committed, err := w.session.Commit(deadline(t), []pipeline.Message{w.state(0, "b", "1")}); committed ||
		!errors.Is(err, kafka.ErrTopicRecreated) {
		t.Fatalf("commit: got %v, %v, want ErrTopicRecreated", committed, err)
	}
	w.session.Close()
	w.session = newSession(t, cfg, 0)
	joined(t, cfg, w.session)
	wantRestored(t, w.session, cfg.Topics.Metrics.Name, 0, "")
	commit(t, w.session, w.state(0, "c", "1"))
	wantRestored(t, w.session, cfg.Topics.Metrics.Name, 0, "c=1")
}

// testStateSurvives lets real workers die at random places while partitions move between them, and compares the state
// in the end with a plain loop: the newest event time of each tenant and partition. No state ever goes back on the way.
func testStateSurvives(t *testing.T, cfg kafka.Config, workers, deaths int) {
	ctx := deadline(t)
	var left atomic.Int64
	left.Store(int64(deaths))
	dies := func() bool { return rand.IntN(8) == 0 && left.Add(-1) >= 0 }

	want := map[string]int64{} // partition/tenant
	var produced atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		c := client(t, cfg)
		defer c.Close()
		defer produced.Store(true)
		for left.Load() > 0 && ctx.Err() == nil {
			for range 10 {
				partition, tenant := rand.Int32N(4), "t"+strconv.Itoa(rand.IntN(3))
				at := time.Now().Add(-time.Duration(rand.IntN(3_600_000)) * time.Millisecond).Truncate(time.Millisecond)
				key := fmt.Sprint(partition, "/", tenant)
				want[key] = max(want[key], at.UnixNano())
				c.Produce(ctx, &kgo.Record{
					Topic: cfg.Topics.Metrics.Name, Partition: partition, Key: []byte(tenant),
					Value: fmt.Appendf(nil, `{"time":%q,"name":"m","value":1}`, at.Format(time.RFC3339Nano)),
				}, nil)
			}
			if err := c.Flush(ctx); err != nil {
				t.Errorf("produce: %v", err)
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	alive, stop := context.WithCancel(ctx)
	for slot := range workers {
		wg.Go(func() { mortal(alive, cfg, slot, dies) })
	}
	await(t, "state of all events", func() bool {
		if !produced.Load() {
			return false
		}
		got := stateOf(t, cfg)
		return maps.Equal(got, want)
	})
	stop()
	wg.Wait()
	t.Logf("%d deaths, %d keys as in a plain loop", deaths, len(want))
}

// mortal runs a worker whose session fails at random: when it opens, restores or commits, before, in the midst of or
// after it.
func mortal(ctx context.Context, cfg kafka.Config, slot int, dies func() bool) {
	pipeline.NewWorker(pipeline.WorkerConfig{
		Config: shape(cfg), Slot: slot, Encoder: emptyBlocks{},
		Open: func(ctx context.Context) (pipeline.Session, func(), error) {
			s, err := kafka.NewSession(ctx, cfg, slot, nil, quiet())
			if err != nil {
				return nil, nil, err
			}
			return &mortalSession{s, dies}, s.Close, nil
		},
	}).Run(ctx)
}

// shape is how workers of the tests run on cfg's topics.
func shape(cfg kafka.Config) pipeline.Config {
	shape := pipeline.DefaultConfig()
	shape.ResultsTopic, shape.DLQTopic = cfg.Topics.Results.Name, cfg.Topics.DLQ.Name
	shape.StateTopics = map[events.Signal]string{
		events.Metrics: cfg.Topics.StateMetrics.Name, events.Spans: cfg.Topics.StateSpans.Name,
		events.Logs: cfg.Topics.StateLogs.Name,
	}
	shape.Epoch.Min, shape.ProgressEvery = 10*time.Millisecond, 20*time.Millisecond
	return shape
}

type mortalSession struct {
	*kafka.Session
	dies func() bool
}

func (s *mortalSession) Restore(ctx context.Context, p pipeline.Partition,
	apply func(*pipeline.Record) error) (pipeline.Origin, error) {
	return s.Session.Restore(ctx, p, func(r *pipeline.Record) error {
		if rand.IntN(10) == 0 {
			time.Sleep(time.Millisecond) // so that partitions go away in the midst of it
		}
		return apply(r)
	})
}

func (s *mortalSession) Commit(ctx context.Context, messages []pipeline.Message) (bool, error) {
	if len(messages) > 0 && s.dies() {
		if rand.IntN(2) == 0 {
			return false, errDead
		}
		dying, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(6))*time.Millisecond)
		defer cancel()
		s.Session.Commit(dying, messages)
		return false, errDead
	}
	return s.Session.Commit(ctx, messages)
}

// emptyBlocks stands for the encoder of results, of which nothing is read here.
type emptyBlocks struct{}

func (emptyBlocks) EncodeRollups(dst []byte, _ *pipeline.Rollups) ([]byte, error) {
	return append(dst, 0), nil
}
func (emptyBlocks) EncodeSeries(dst []byte, _ *pipeline.SeriesRows) ([]byte, error) {
	return append(dst, 0), nil
}
func (emptyBlocks) EncodeWindows(dst []byte, _ *windowed.Rows) ([]byte, error) {
	return append(dst, 0), nil
}
func (emptyBlocks) EncodeLimits(dst []byte, _ *pipeline.LimitRows) ([]byte, error) {
	return append(dst, 0), nil
}
func (emptyBlocks) EncodeLetters(dst []byte, _ []pipeline.LetterRow) ([]byte, error) {
	return append(dst, 0), nil
}
func (emptyBlocks) EncodeProgress(dst []byte, _ *pipeline.ProgressRows) ([]byte, error) {
	return append(dst, 0), nil
}

// stateOf reads the state topic of metrics, and fails the test when a watermark went back in it.
func stateOf(t *testing.T, cfg kafka.Config) map[string]int64 {
	t.Helper()
	got := map[string]int64{}
	for _, r := range committed(t, cfg, cfg.Topics.StateMetrics.Name) {
		if r.Key[0] != 1 {
			continue // not a watermark
		}
		key := fmt.Sprint(r.Partition, "/", string(r.Key[2:]))
		at := int64(binary.LittleEndian.Uint64(r.Value[1:]))
		if at <= got[key] {
			t.Fatalf("state of %s at offset %d: got %d after %d, want it to rise", key, r.Offset, at, got[key])
		}
		got[key] = at
	}
	return got
}
