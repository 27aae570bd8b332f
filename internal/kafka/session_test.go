package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pipeline"
)

func kadmOf(t *testing.T, cfg kafka.Config) *kadm.Client {
	t.Helper()
	return kadm.NewClient(client(t, cfg))
}

func newSession(t *testing.T, cfg kafka.Config, slot int) *kafka.Session {
	t.Helper()
	s, err := kafka.NewSession(deadline(t), cfg, slot, nil, quiet())
	if err != nil {
		t.Fatalf("session %d: %v", slot, err)
	}
	return s
}

// poll polls once, for a moment.
func poll(t *testing.T, s *kafka.Session) pipeline.Fetch {
	t.Helper()
	fetch, err := pollOnce(t.Context(), s)
	if err != nil {
		t.Fatalf("poll: %v", err)
	}
	return fetch
}

func pollOnce(ctx context.Context, s *kafka.Session) (pipeline.Fetch, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	fetch, err := s.Poll(ctx)
	s.Release(fetch.Assigned...) // again and again does no harm
	return fetch, err
}

// A worker learns of its partitions when it gets them: nothing is fetched from them before.
func TestAssignmentEndsPoll(t *testing.T) {
	_, cfg := fake(t)
	s := newSession(t, cfg, 0)
	defer s.Close()
	ctx := deadline(t)
	fetch, err := s.Poll(ctx)
	if err != nil || ctx.Err() != nil || len(fetch.Assigned) != 8 {
		t.Fatalf("poll: got %d partitions, %v (context: %v), want 8 before it ends", len(fetch.Assigned), err, ctx.Err())
	}
}

// A worker that ends while its join waits for others does not wait with it: they may have ended, too.
func TestCloseWhileJoining(t *testing.T) {
	cluster, cfg := fake(t)
	joining, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	cluster.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		close(joining)
		cluster.SleepControl(func() { <-release })
		return nil, nil, false
	})
	s := newSession(t, cfg, 0)
	<-joining
	closed := make(chan struct{})
	go func() { s.Close(); close(closed) }()
	select {
	case <-closed:
	case <-deadline(t).Done():
		t.Fatal("close waits for the answer to a join")
	}
}

// take polls until n records came, and returns their values.
func take(t *testing.T, s *kafka.Session, n int) (values []string) {
	t.Helper()
	await(t, fmt.Sprintf("%d records", n), func() bool {
		values = append(values, valuesOf(poll(t, s))...)
		return len(values) >= n
	})
	slices.Sort(values)
	return values
}

func valuesOf(fetch pipeline.Fetch) (values []string) {
	for _, chunk := range fetch.Chunks {
		room := make([]pipeline.Record, 3)
		for records := chunk.Unread.Read(room); len(records) > 0; records = chunk.Unread.Read(room) {
			for _, record := range records {
				values = append(values, string(record.Value))
			}
		}
	}
	return values
}

func commit(t *testing.T, s *kafka.Session, messages ...pipeline.Message) {
	t.Helper()
	committed, err := s.Commit(deadline(t), messages)
	if err != nil || !committed {
		t.Fatalf("commit: got %v, %v, want true", committed, err)
	}
}

func (w *worker) message(values []string) pipeline.Message {
	return pipeline.Message{Topic: w.cfg.Topics.Results.Name, Partition: w.session.ResultPartition(),
		Value: []byte(strings.Join(values, " "))}
}

// visible waits until n records of a topic can be read: a committed transaction shows a moment after its commit.
func visible(t *testing.T, cfg kafka.Config, topic string, n int) (records []*kgo.Record) {
	t.Helper()
	await(t, fmt.Sprintf("%d records in %s", n, topic), func() bool {
		records = committed(t, cfg, topic)
		return len(records) >= n
	})
	return records
}

// seen is what a read-committed reader of the results finds.
func seen(t *testing.T, cfg kafka.Config) (values []string) {
	t.Helper()
	for _, record := range committed(t, cfg, cfg.Topics.Results.Name) {
		values = append(values, words(string(record.Value))...)
	}
	slices.Sort(values)
	return values
}

// worker is the least a stream worker does: results are the values of its records.
type worker struct {
	cfg     kafka.Config
	session *kafka.Session
	epoch   []string
}

func (w *worker) step(ctx context.Context) error {
	fetch, err := pollOnce(ctx, w.session)
	if err != nil {
		return err
	}
	w.epoch = append(w.epoch, valuesOf(fetch)...)
	return nil
}

func (w *worker) commit(ctx context.Context) error {
	var messages []pipeline.Message
	if len(w.epoch) > 0 {
		messages = append(messages, w.message(w.epoch))
	}
	_, err := w.session.Commit(ctx, messages)
	w.epoch = nil // committed, or to be polled again
	return err
}

// conformance is what every broker has to give a Session. install makes a fresh installation.
func conformance(t *testing.T, install func(t *testing.T) kafka.Config) {
	t.Run("rebalance", func(t *testing.T) { testRebalance(t, install(t)) })
	t.Run("leader restarts", func(t *testing.T) { testLeaderRestarts(t, install(t)) })
	promises(t, install)
}

// promises are those of conformance that every group protocol gives.
func promises(t *testing.T, install func(t *testing.T) kafka.Config) {
	t.Run("commit", func(t *testing.T) { testCommit(t, install(t)) })
	t.Run("successor aborts and takes over", func(t *testing.T) { testSuccessor(t, install(t)) })
	t.Run("fenced", func(t *testing.T) { testFenced(t, install(t)) })
	t.Run("too large", func(t *testing.T) { testTooLarge(t, install(t)) })
	t.Run("reach", func(t *testing.T) { testReach(t, install(t)) })
	t.Run("recreated", func(t *testing.T) { testRecreated(t, install(t)) })
	t.Run("exactly once", func(t *testing.T) { testExactlyOnce(t, install(t), 3, 20) })
	t.Run("held", func(t *testing.T) { testHeld(t, install(t)) })
	t.Run("restore", func(t *testing.T) { testRestore(t, install(t)) })
	t.Run("stored", func(t *testing.T) { testStored(t, install(t)) })
	t.Run("restore waits", func(t *testing.T) { testRestoreWaits(t, install(t)) })
	t.Run("restore without", func(t *testing.T) { testRestoreWithout(t, install(t)) })
	t.Run("state recreated", func(t *testing.T) { testStateRecreated(t, install(t)) })
	t.Run("state survives", func(t *testing.T) { testStateSurvives(t, install(t), 3, 15) })
}

func TestSessionOnKfake(t *testing.T) {
	conformance(t, func(t *testing.T) kafka.Config { _, cfg := fake(t); return cfg })
}

// What was polled and committed is visible and is not polled again; headers, keys and order are kept.
func testCommit(t *testing.T, cfg kafka.Config) {
	produce(t, cfg, cfg.Topics.Metrics.Name, 0, "a", "b")
	produce(t, cfg, cfg.Topics.Logs.Name, 1, "c")
	s := newSession(t, cfg, 0)
	defer s.Close()
	if got, want := take(t, s, 3), words("a b c"); !slices.Equal(got, want) {
		t.Fatalf("polled: got %v, want %v", got, want)
	}
	topic, partition := cfg.Topics.Results.Name, s.ResultPartition()
	commit(t, s,
		pipeline.Message{Topic: topic, Partition: partition, Value: []byte("1"),
			Headers: []pipeline.Header{{Key: "vigie-table", Value: []byte("x")}}},
		pipeline.Message{Topic: cfg.Topics.DLQ.Name, Partition: -1, Key: []byte("acme"), Value: nil},
		pipeline.Message{Topic: topic, Partition: partition, Value: []byte("2")})
	results := visible(t, cfg, topic, 2)
	if len(results) != 2 || string(results[0].Value) != "1" || string(results[1].Value) != "2" ||
		header(results[0], "vigie-table") != "x" {
		t.Fatalf("results: got %v, want 1 and 2 in order", results)
	}
	if dlq := visible(t, cfg, cfg.Topics.DLQ.Name, 1); len(dlq) != 1 || dlq[0].Value != nil || string(dlq[0].Key) != "acme" {
		t.Fatalf("dead letters: got %v, want one tombstone", dlq)
	}
	s.Close()
	again := newSession(t, cfg, 0)
	defer again.Close()
	produce(t, cfg, cfg.Topics.Metrics.Name, 0, "d")
	if got, want := take(t, again, 1), words("d"); !slices.Equal(got, want) {
		t.Fatalf("polled by the successor: got %v, want %v", got, want)
	}
}

// A worker that dies with its transaction open leaves nothing visible, and its successor does not wait for it.
func testSuccessor(t *testing.T, cfg kafka.Config) {
	produce(t, cfg, cfg.Topics.Metrics.Name, 0, "a")
	dead := client(t, cfg, kgo.TransactionalID(cfg.TransactionalIDPrefix+"-host-0"))
	if err := dead.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := dead.ProduceSync(deadline(t), &kgo.Record{Topic: cfg.Topics.Results.Name, Value: []byte("ghost")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	w := worker{cfg: cfg, session: newSession(t, cfg, 0)}
	defer w.session.Close()
	commit(t, w.session, w.message(take(t, w.session, 1)))
	visible(t, cfg, cfg.Topics.Results.Name, 1)
	if got, want := seen(t, cfg), words("a"); !slices.Equal(got, want) {
		t.Fatalf("visible: got %v, want %v", got, want)
	}
	t.Logf("a successor's results were visible after %s", time.Since(start).Round(time.Millisecond))
}

// The one that was replaced finds out, whatever it does, and none of its work shows.
func testFenced(t *testing.T, cfg kafka.Config) {
	produce(t, cfg, cfg.Topics.Metrics.Name, 0, "a")
	reg := prometheus.NewRegistry()
	replaced, err := kafka.NewSession(deadline(t), cfg, 0, kafka.NewMetrics(reg), quiet())
	if err != nil {
		t.Fatal(err)
	}
	old := worker{cfg: cfg, session: replaced}
	defer old.session.Close()
	values := take(t, old.session, 1)
	successor := worker{cfg: cfg, session: newSession(t, cfg, 0)}
	defer successor.session.Close()

	if committed, err := old.session.Commit(deadline(t), []pipeline.Message{old.message(values)}); committed ||
		!errors.Is(err, kafka.ErrFenced) {
		t.Fatalf("commit of the replaced: got %v, %v, want ErrFenced", committed, err)
	}
	fenced := "# HELP vigie_kafka_fenced_total Sessions of workers that ended because another took over their identity: two processes with one kafka.instance, " +
		"or a transaction that timed out.\n# TYPE vigie_kafka_fenced_total counter\nvigie_kafka_fenced_total 1\n"
	if err := testutil.GatherAndCompare(reg, strings.NewReader(fenced), "vigie_kafka_fenced_total"); err != nil {
		t.Error(err)
	}
	commit(t, successor.session, successor.message(take(t, successor.session, 1)))
	visible(t, cfg, cfg.Topics.Results.Name, 1)
	if got, want := seen(t, cfg), words("a"); !slices.Equal(got, want) {
		t.Fatalf("visible: got %v, want %v", got, want)
	}
}

// A second worker takes partitions over; the first one's epoch is aborted, and then each has its share.
func testRebalance(t *testing.T, cfg kafka.Config) {
	for partition := range int32(4) {
		produce(t, cfg, cfg.Topics.Metrics.Name, partition, "a"+strconv.Itoa(int(partition)))
	}
	ctx := deadline(t)
	one := worker{cfg: cfg, session: newSession(t, cfg, 0)}
	defer one.session.Close()
	one.epoch = take(t, one.session, 4)
	two := worker{cfg: cfg, session: newSession(t, cfg, 1)}
	defer two.session.Close()

	shares := map[*worker][]pipeline.Partition{}
	aborted := false
	await(t, "balance", func() bool {
		for _, w := range []*worker{&one, &two} {
			fetch, err := pollOnce(ctx, w.session)
			if err != nil {
				t.Fatalf("poll: %v", err)
			}
			before := w.epoch
			w.epoch = append(w.epoch, valuesOf(fetch)...)
			shares[w] = shares[w][:0]
			for _, reach := range fetch.Assigned {
				shares[w] = append(shares[w], reach.Partition)
			}
			if w == &one && !aborted && len(shares[w]) < 8 {
				t.Fatalf("assigned to the first: got %d before its epoch ended, want all 8", len(shares[w]))
			}
			if w == &one && !aborted && len(shares[&two]) == 0 {
				continue // it commits once the second is there
			}
			var messages []pipeline.Message
			if len(w.epoch) > 0 {
				messages = append(messages, w.message(w.epoch))
			}
			ok, err := w.session.Commit(ctx, messages)
			if err != nil {
				t.Fatalf("commit: %v", err)
			}
			if w == &one && !ok && len(before) > 0 {
				aborted = true
			}
			w.epoch = nil
		}
		return len(shares[&one]) == 4 && len(shares[&two]) == 4
	})
	for _, partition := range shares[&one] {
		if slices.Contains(shares[&two], partition) {
			t.Errorf("%v: got it assigned to both, want one", partition)
		}
	}
	if !aborted {
		t.Errorf("the first worker's epoch: got it committed, want it aborted")
	}
	drainUntil(t, cfg, []*worker{&one, &two}, 4)
	if got, want := seen(t, cfg), words("a0 a1 a2 a3"); !slices.Equal(got, want) {
		t.Fatalf("visible: got %v, want %v", got, want)
	}
}

// drainUntil lets workers go on until n values are visible.
func drainUntil(t *testing.T, cfg kafka.Config, workers []*worker, n int) {
	t.Helper()
	await(t, fmt.Sprintf("%d visible values", n), func() bool {
		for _, w := range workers {
			if err := errors.Join(w.step(deadline(t)), w.commit(deadline(t))); err != nil {
				t.Fatalf("worker: %v", err)
			}
		}
		return len(seen(t, cfg)) >= n
	})
}

// A record that cannot be produced ends the session; its epoch is not visible and is polled again.
func testTooLarge(t *testing.T, cfg kafka.Config) {
	produce(t, cfg, cfg.Topics.Metrics.Name, 0, "a")
	w := worker{cfg: cfg, session: newSession(t, cfg, 0)}
	values := take(t, w.session, 1)
	huge := pipeline.Message{Topic: cfg.Topics.Results.Name, Partition: 0, Value: make([]byte, cfg.Topics.Results.MaxMessage+1)}
	if committed, err := w.session.Commit(deadline(t), []pipeline.Message{w.message(values), huge}); committed || err == nil {
		t.Fatalf("commit: got %v, %v, want an error", committed, err)
	}
	w.session.Close()
	w.session = newSession(t, cfg, 0)
	defer w.session.Close()
	big := pipeline.Message{Topic: cfg.Topics.Results.Name, Partition: 0, Value: make([]byte, cfg.Topics.Results.MaxMessage-1024)}
	commit(t, w.session, w.message(take(t, w.session, 1)), big)
	if got := visible(t, cfg, cfg.Topics.Results.Name, 2); len(got) != 2 {
		t.Fatalf("visible: got %d records, want the value and the big one", len(got))
	}
}

// Through follows the clock where nothing comes, stops where records wait, and waits for open transactions.
func testReach(t *testing.T, cfg kafka.Config) {
	s := newSession(t, cfg, 0)
	defer func() { s.Close() }()
	topic := cfg.Topics.Metrics.Name
	reach := func(partition int32) pipeline.Reach {
		fetch := poll(t, s)
		for _, r := range fetch.Assigned {
			if r.Partition == (pipeline.Partition{Topic: topic, Partition: partition}) {
				return r
			}
		}
		return pipeline.Reach{Lag: -1}
	}
	reachAfter := func(what string, millis int64) {
		t.Helper()
		await(t, what, func() bool { r := reach(0); return r.Through >= millis && r.Lag == 0 })
	}
	reachAfter("reach of an empty partition", time.Now().UnixMilli())
	produce(t, cfg, topic, 0, "a", "b")
	reachAfter("reach behind records", time.Now().UnixMilli())
	commit(t, s)
	reachAfter("reach after a commit", time.Now().UnixMilli())

	outside := client(t, cfg, kgo.TransactionalID(cfg.TransactionalIDPrefix+"-outside"))
	if err := outside.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := outside.ProduceSync(deadline(t), &kgo.Record{Topic: topic, Value: []byte("hidden")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	open := time.Now().UnixMilli()
	await(t, "reach of another partition", func() bool { return reach(1).Through > open+100 })
	if got := reach(0).Through; got > open {
		t.Errorf("through with a transaction open: got %d, want at most %d", got, open)
	}
	if err := outside.EndTransaction(deadline(t), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	reachAfter("reach after the transaction", time.Now().UnixMilli())

	// Records only another session has polled: the successor starts behind them.
	commit(t, s)
	s.Close()
	s = newSession(t, cfg, 0)
	reachAfter("reach of a successor", time.Now().UnixMilli())
}

// A topic that is deleted and created again ends the session with a clear error; the next reads the new one.
func testRecreated(t *testing.T, cfg kafka.Config) {
	produce(t, cfg, cfg.Topics.Metrics.Name, 0, "a", "b", "c")
	s := newSession(t, cfg, 0)
	take(t, s, 3)
	commit(t, s)
	recreate(t, cfg, cfg.Topics.Metrics.Name)
	var err error
	await(t, "error", func() bool { _, err = pollOnce(t.Context(), s); return err != nil })
	if !errors.Is(err, kafka.ErrTopicRecreated) {
		t.Errorf("poll: got %v, want ErrTopicRecreated", err)
	}
	s.Close()
	s = newSession(t, cfg, 0)
	defer func() { s.Close() }()
	produce(t, cfg, cfg.Topics.Metrics.Name, 0, "d")
	// The old offsets may outlive the topic on the broker for a while; until then a session may end once more.
	var values []string
	await(t, "a record of the new topic", func() bool {
		fetch, err := pollOnce(t.Context(), s)
		if errors.Is(err, kafka.ErrTopicRecreated) {
			s.Close()
			s = newSession(t, cfg, 0)
			return false
		}
		if err != nil {
			t.Fatalf("poll: %v", err)
		}
		values = append(values, valuesOf(fetch)...)
		return len(values) > 0
	})
	if want := words("d"); !slices.Equal(values, want) {
		t.Errorf("polled: got %v, want %v", values, want)
	}
}

// testLeaderRestarts opens each of three sessions again, one of which leads the group: it has what it had, and the
// others are not made to join anew.
func testLeaderRestarts(t *testing.T, cfg kafka.Config) {
	said := &lines{}
	log := slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	open := func(slot int) *kafka.Session {
		t.Helper()
		s, err := kafka.NewSession(deadline(t), cfg, slot, nil, log)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	sessions := []*kafka.Session{open(0), open(1), open(2)}
	defer func() {
		for _, s := range sessions {
			s.Close()
		}
	}()
	share := func() (shares [3][]pipeline.Partition) {
		t.Helper()
		await(t, "all partitions shared", func() bool {
			total := 0
			for i, s := range sessions {
				shares[i] = nil
				for _, r := range poll(t, s).Assigned {
					shares[i] = append(shares[i], r.Partition)
				}
				if _, err := s.Commit(deadline(t), nil); err != nil {
					t.Fatal(err)
				}
				if len(shares[i]) < 2 {
					return false
				}
				total += len(shares[i])
			}
			return total == 8
		})
		return shares
	}
	before := share()
	for slot := range sessions {
		sessions[slot].Close()
		sessions[slot] = open(slot)
		if got := share(); !reflect.DeepEqual(got, before) {
			t.Errorf("session %d restarted: got shares %v, want %v", slot, got, before)
		}
	}
	if said.has("was reassigned old plan") {
		t.Error("the group's leader restarted, and all had to join anew")
	}
}

// testExactlyOnce lets workers die at random places, before, in and after their commits, while others come and
// go, and compares what a reader sees with what was produced.
func testExactlyOnce(t *testing.T, cfg kafka.Config, workers, deaths int) {
	ctx := deadline(t)
	var left, events atomic.Int64
	left.Store(int64(deaths))
	dies := func() bool { return rand.IntN(6) == 0 && left.Add(-1) >= 0 }
	var wg sync.WaitGroup
	wg.Go(func() {
		c := client(t, cfg)
		defer c.Close()
		for left.Load() > 0 && ctx.Err() == nil {
			for range 20 {
				n := events.Add(1) - 1
				c.Produce(ctx, &kgo.Record{Topic: cfg.Topics.Metrics.Name, Partition: int32(n % 4), Value: strconv.AppendInt(nil, n, 10)}, nil)
			}
			if err := c.Flush(ctx); err != nil {
				t.Errorf("produce: %v", err)
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	alive, stop := context.WithCancel(ctx)
	// A broker may refuse what a producer sends after its predecessor was cut off: a worker starts anew then.
	ends := []error{errDead, kafka.ErrRevoked, kerr.OutOfOrderSequenceNumber}
	for slot := range workers {
		wg.Go(func() {
			for alive.Err() == nil {
				err := lifetime(alive, cfg, slot, dies)
				if err != nil && alive.Err() == nil &&
					!slices.ContainsFunc(ends, func(end error) bool { return errors.Is(err, end) }) {
					t.Errorf("worker %d: %v", slot, err)
					return
				}
			}
		})
	}
	await(t, "all values", func() bool {
		return left.Load() <= 0 && len(seen(t, cfg)) >= int(events.Load())
	})
	stop()
	wg.Wait()

	times := map[string]int{}
	for _, value := range seen(t, cfg) {
		times[value]++
	}
	for i := range events.Load() {
		if got := times[strconv.FormatInt(i, 10)]; got != 1 {
			t.Fatalf("value %d: got it %d times, want once (%d values seen)", i, got, len(times))
		}
	}
	t.Logf("%d deaths, %d events, each seen once", deaths, events.Load())
}

var errDead = errors.New("dead")

// lifetime runs one worker until it dies or ctx ends.
func lifetime(ctx context.Context, cfg kafka.Config, slot int, dies func() bool) error {
	session, err := kafka.NewSession(ctx, cfg, slot, nil, quiet())
	if err != nil {
		return err
	}
	defer session.Close()
	w := worker{cfg: cfg, session: session}
	for ctx.Err() == nil {
		if err := w.step(ctx); err != nil {
			return err
		}
		if len(w.epoch) > 0 && dies() {
			if rand.IntN(2) == 0 {
				return errDead // with an epoch polled
			}
			dying, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(6))*time.Millisecond)
			w.commit(dying) // somewhere in the middle of the commit
			cancel()
			return errDead
		}
		if err := w.commit(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}
