package kafka_test

import (
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/testkit"
)

// What kfake is lenient about (failed produces, transaction states, topic deletion) shows here.
func TestSessionOnApacheKafka(t *testing.T) {
	broker := testkit.ApacheKafka(t)
	conformance(t, func(t *testing.T) kafka.Config {
		leaks(t)
		return install(t, strings.Split(broker.Addr, ",")...)
	})
}

// envProtocol, when set, lets TestConsumerProtocolOnApacheKafka go through every promise, which takes two minutes.
const envProtocol = "VIGIE_TEST_PROTOCOL"

// The same promises with the group protocol of KIP-848, in which the brokers share the partitions.
func TestConsumerProtocolOnApacheKafka(t *testing.T) {
	broker := testkit.ApacheKafka(t)
	install := func(t *testing.T) kafka.Config {
		leaks(t)
		cfg := install(t, strings.Split(broker.Addr, ",")...)
		cfg.GroupProtocol = "consumer"
		return cfg
	}
	if os.Getenv(envProtocol) != "" {
		promises(t, install)
		t.Run("share", func(t *testing.T) { testShare(t, install(t)) })
	} else {
		t.Run("exactly once", func(t *testing.T) { testExactlyOnce(t, install(t), 3, 20) })
	}
	t.Run("killed", func(t *testing.T) { testKilledMember(t, install(t)) })
	t.Run("upgrade", func(t *testing.T) { testUpgrade(t, install(t)) })
}

// testKilledMember cuts a session off as a kill would: its successor does not wait for the brokers' session timeout (45
// s).
func testKilledMember(t *testing.T, cfg kafka.Config) {
	produce(t, cfg, cfg.Topics.Metrics.Name, 0, "a")
	wire := &wire{}
	mortal := cfg
	mortal.Dial = wire.dial
	killed := newSession(t, mortal, 0)
	take(t, killed, 1)
	wire.cut()
	defer killed.Close()
	start := time.Now()
	successor := newSession(t, cfg, 0)
	defer successor.Close()
	take(t, successor, 1)
	took := time.Since(start)
	t.Logf("the successor of a killed member polled its records after %s", took.Round(time.Millisecond))
	if took > 30*time.Second {
		t.Errorf("the successor polled after %s, want it not to wait for the session timeout", took)
	}
}

// wire is a network that can be cut.
type wire struct {
	mu    sync.Mutex
	dead  bool
	conns []net.Conn
}

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return nil, errDead
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err == nil {
		w.conns = append(w.conns, conn)
	}
	return conn, err
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = true
	for _, conn := range w.conns {
		_ = conn.Close()
	}
}

// testShare lets a second worker join: each gets its share, and no event is counted twice.
func testShare(t *testing.T, cfg kafka.Config) {
	one := employSlot(t, cfg, 0)
	for partition := range int32(4) {
		send(t, cfg, partition, 5)
	}
	one.counted(20)
	two := employSlot(t, cfg, 1)
	start := time.Now()
	await(t, "two shares", func() bool {
		return len(one.worker.Topology().Tasks) == 4 && len(two.worker.Topology().Tasks) == 4
	})
	t.Logf("two workers had their shares after %s", time.Since(start).Round(time.Millisecond))
	for partition := range int32(4) {
		send(t, cfg, partition, 5)
	}
	one.counted(40)
}

// testUpgrade changes a running group from one protocol to the other, member by member, and back.
func testUpgrade(t *testing.T, cfg kafka.Config) {
	classic := cfg
	classic.GroupProtocol = "classic"
	events := 0
	more := func(e *employed) {
		t.Helper()
		for partition := range int32(4) {
			send(t, cfg, partition, 5)
		}
		events += 20
		e.counted(events)
	}
	one, two := employSlot(t, classic, 0), employSlot(t, classic, 1)
	more(one)
	one.end()
	one = employSlot(t, cfg, 0)
	more(one)
	two.end()
	two = employSlot(t, cfg, 1)
	more(two)
	one.end()
	one = employSlot(t, classic, 0)
	more(one)
}
