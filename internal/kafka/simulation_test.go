//go:build synctests

// The tag makes franz-go's own locks visible to fake time: go test -tags synctests ./internal/kafka

package kafka_test

import (
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

func TestReplaySimulated(t *testing.T) {
	for range 5 {
		simulate(t, testReplayKilled)
	}
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
