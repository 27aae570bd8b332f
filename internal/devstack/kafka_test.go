package devstack_test

import (
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/devstack"
	"github.com/vigie-io/vigie/internal/testkit"
)

func kafkaClient(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func TestKafkaKeepsAcknowledgedRecordsOverKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a directory with spaces")
	addr, kill := parent(t, "kafka", dir, "127.0.0.1:0")
	client := kafkaClient(t, addr)
	created, err := kadm.NewClient(client).CreateTopic(t.Context(), 1, 1, nil, "events")
	if err != nil {
		t.Fatal(err)
	}
	const n = 500
	for i := range n {
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "events", Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	commit := kadm.Offsets{}
	commit.AddOffset("events", 0, 123, -1)
	if err := kadm.NewClient(client).CommitAllOffsets(t.Context(), "readers", commit); err != nil {
		t.Fatal(err)
	}
	kill()

	kafka, err := devstack.StartKafka(t.Context(), devstack.KafkaConfig{Addr: addr, Dir: dir, Log: testkit.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Close()
	admin := kadm.NewClient(kafkaClient(t, kafka.Addr()))
	ends, err := admin.ListEndOffsets(t.Context(), "events")
	if err != nil {
		t.Fatal(err)
	}
	if end, _ := ends.Lookup("events", 0); end.Offset != n {
		t.Errorf("end offset after kill: got %d, want %d", end.Offset, n)
	}
	topics, err := admin.ListTopics(t.Context(), "events")
	if err != nil {
		t.Fatal(err)
	}
	if got := topics["events"].ID; got != created.ID {
		t.Errorf("topic id after kill: got %s, want %s", got, created.ID)
	}
	offsets, err := admin.FetchOffsets(t.Context(), "readers")
	if err != nil {
		t.Fatal(err)
	}
	if offset, _ := offsets.Lookup("events", 0); offset.At != 123 {
		t.Errorf("committed offset after kill: got %d, want 123", offset.At)
	}
}

func TestKafkaRefuses(t *testing.T) {
	f := func(addr, dir string, parts ...string) {
		t.Helper()
		_, err := devstack.StartKafka(t.Context(), devstack.KafkaConfig{Addr: addr, Dir: dir})
		wantError(t, err, parts...)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	taken := listener.Addr().String()
	f(taken, t.TempDir(), "Kafka on "+taken, "another program uses this port", "configure another address")
	f("0.0.0.0:9092", t.TempDir(), "loopback")
	f("9092", t.TempDir(), "want IP:port")

	dir := t.TempDir()
	kafka, err := devstack.StartKafka(t.Context(), devstack.KafkaConfig{Addr: "127.0.0.1:0", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	f("127.0.0.1:0", dir, "Kafka directory", "in use by process")
	for range 2 {
		if err := kafka.Close(); err != nil {
			t.Error(err)
		}
	}
	again, err := devstack.StartKafka(t.Context(), devstack.KafkaConfig{Addr: kafka.Addr(), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestTetheredProgramEndsWithItsParent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "scratch")
	f := func(script string) {
		t.Helper()
		pidFile, output := filepath.Join(t.TempDir(), "pid"), filepath.Join(t.TempDir(), "output")
		mkdir(t, dir)
		_, kill := parent(t, "tether", dir, output, "sh", "-c", script, "sh", pidFile)
		var pid int
		testkit.Eventually(t, soon, func() (err error) {
			pid, err = readPid(pidFile)
			return err
		})
		kill()
		testkit.Eventually(t, soon, func() error { return gone(pid) })
		testkit.Eventually(t, soon, func() error { return absent(dir) })
	}
	f(`echo $$ > "$1"; exec sleep 300`)
	f(`trap "" TERM; echo $$ > "$1"; while :; do sleep 1; done`)
}

func TestTetheredProgramStops(t *testing.T) {
	dir := t.TempDir()
	program, err := devstack.StartTethered(dir, filepath.Join(t.TempDir(), "output"), "sleep", "300")
	if err != nil {
		t.Fatal(err)
	}
	program.Stop()
	if err := absent(dir); err != nil {
		t.Error(err)
	}
	program, err = devstack.StartTethered(t.TempDir(), filepath.Join(t.TempDir(), "output"), "sh", "-c", "echo I cannot; exit 7")
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-program.Done():
	case <-time.After(soon):
		t.Fatal("the program does not end")
	}
	wantError(t, program.Failure(), "I cannot", "exit status 7")
}
