//go:build synctests

// The tag makes franz-go's own locks visible to fake time: go test -tags synctests ./internal/kafka

package kafka_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// simulate runs a test on a broker and a network of its own, on fake time: minutes of timeouts, rebalances and
// back-offs pass in milliseconds.
func simulate(t *testing.T, test func(t *testing.T, cfg kafka.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var network kfake.VirtualNetwork
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(9092), kfake.ListenFn(network.Listen), kfake.SleepOutOfOrder())
		if err != nil {
			t.Fatalf("start kfake: %v", err)
		}
		t.Cleanup(cluster.Close)
		cfg := config("127.0.0.1:9092")
		cfg.Dial = network.DialContext
		ensure(t, cfg)
		test(t, cfg)
	})
}

func TestExactlyOnceSimulated(t *testing.T) {
	for range 10 {
		simulate(t, func(t *testing.T, cfg kafka.Config) { testExactlyOnce(t, cfg, 4, 20) })
	}
}

// Workers die, restore and hand partitions over; watermarks are those of a plain loop.
func TestStateSurvivesSimulated(t *testing.T) {
	for range 5 {
		simulate(t, func(t *testing.T, cfg kafka.Config) { testStateSurvives(t, cfg, 4, 20) })
	}
}

func TestAccidentsSimulated(t *testing.T) {
	for _, a := range accidents {
		t.Run(a.name, func(t *testing.T) { simulate(t, a.test) })
	}
}

// A partition whose state took longer to read than that of others is not held up by a fetch that waits for records of
// these.
func TestReleasedLaterSimulated(t *testing.T) {
	simulate(t, func(t *testing.T, cfg kafka.Config) {
		produce(t, cfg, cfg.Topics.Metrics.Name, 1, "a1")
		s := newSession(t, cfg, 0)
		defer s.Close()
		reaches := joined(t, cfg, s)
		s.Release(reaches[0])
		time.Sleep(50 * time.Millisecond)
		s.Release(reaches[1])
		began := time.Now()
		if got := take(t, s, 1); !slices.Equal(got, words("a1")) {
			t.Fatalf("got %v, want the record of the partition that was released later", got)
		}
		if waited := time.Since(began); waited > 300*time.Millisecond {
			t.Errorf("got it after %s, want 300ms at most", waited)
		}
	})
}

// A source topic grows under a running worker: the tasks of the new partitions stop and say what to do, others go on,
// and nothing is lost once the state topic has grown too.
func TestGrowingSourceSimulated(t *testing.T) {
	simulate(t, func(t *testing.T, cfg kafka.Config) {
		send(t, cfg, 0, 10)
		e := employ(t, cfg)
		e.counted(10)
		grow := func(topic string) {
			t.Helper()
			if responses, err := kadmOf(t, cfg).UpdatePartitions(deadline(t), 5, topic); err != nil || responses.Error() != nil {
				t.Fatalf("grow %s: %v, %v", topic, err, responses.Error())
			}
		}
		grow(cfg.Topics.Metrics.Name)
		send(t, cfg, 4, 3)
		e.stopped(4, "which has grown: add partitions to it (kafka-topics.sh --alter --topic "+cfg.Topics.StateMetrics.Name+" --partitions 5 or more)")
		send(t, cfg, 0, 2)
		e.counted(12)
		grow(cfg.Topics.StateMetrics.Name)
		time.Sleep(time.Minute)
		e.counted(15)
	})
}

// A worker that is gone for good holds its partitions until the session times out, and not longer.
func TestPartitionsOfADeadWorkerMove(t *testing.T) {
	simulate(t, func(t *testing.T, cfg kafka.Config) {
		produce(t, cfg, cfg.Topics.Metrics.Name, 0, "a")
		gone := worker{cfg: cfg, session: newSession(t, cfg, 0)}
		take(t, gone.session, 1)
		gone.session.Close()

		start := time.Now()
		heir := worker{cfg: cfg, session: newSession(t, cfg, 1)}
		defer heir.session.Close()
		take(t, heir.session, 1)
		if got := time.Since(start); got < cfg.SessionTimeout/2 || got > cfg.SessionTimeout+5*time.Second {
			t.Errorf("partitions moved after %s, want about the session timeout (%s)", got, cfg.SessionTimeout)
		}
	})
}

// Where nothing has been merged, a merger begins when the sink has stored what was there: rows of an earlier version go to
// the wider tiers by themselves. It says once what it waits for.
func TestMergersBeginBehindTheSinkSimulated(t *testing.T) {
	simulate(t, func(t *testing.T, cfg kafka.Config) {
		results := cfg.Topics.Results
		produceRecords(t, cfg, blockOf(results, 1, pipeline.TableRollups, "a"), blockOf(results, 1, pipeline.TableRollups, "b"),
			blockOf(results, 1, pipeline.TableRollups, "c"))
		sinkAt := func(offset int64) {
			t.Helper()
			offsets := kadm.Offsets{}
			offsets.AddOffset(results.Name, 1, offset, -1)
			if err := kadmOf(t, cfg).CommitAllOffsets(deadline(t), cfg.Group+"-sink", offsets); err != nil {
				t.Fatal(err)
			}
		}
		sinkAt(1)
		var text bytes.Buffer
		opened, ended := make(chan coarse.Position, 100), make(chan error, 1)
		ctx, stop := context.WithCancel(t.Context())
		go func() {
			ended <- kafka.RunCoarseShards(ctx, cfg, slog.New(slog.NewTextHandler(&text, nil)), func(ctx context.Context, s *kafka.CoarseShard) error {
				opened <- s.Position()
				<-ctx.Done()
				return nil
			})
		}()
		next := map[int32]int64{}
		take := func() {
			time.Sleep(time.Minute)
			for len(opened) > 0 {
				at := <-opened
				next[at.Partition] = at.Next
			}
		}
		others := int(results.Partitions) - 1
		take()
		if _, early := next[1]; early || len(next) != others {
			t.Errorf("the sink is at 1 of 3: got mergers %v, want %d others, and none of partition 1", next, others)
		}
		sinkAt(2)
		take()
		if _, early := next[1]; early {
			t.Error("the sink is at 2 of 3: got a merger of partition 1, want none")
		}
		sinkAt(3)
		take()
		if at, begun := next[1]; !begun || at != 0 {
			t.Errorf("all is stored: got mergers %v, want one of partition 1 that begins at 0", next)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		told := "topic=" + results.Name + " stored=1 end=3"
		if log := text.String(); strings.Count(log, told) != 1 || strings.Count(log, "merging begins when") != 1 {
			t.Errorf("got log %s, want %q once", log, told)
		}
	})
}
