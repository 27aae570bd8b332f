//go:build synctests

// The tag makes franz-go's own locks visible to fake time: go test -tags synctests ./internal/kafka

package kafka_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/vigie-io/vigie/internal/kafka"
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
