package testkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// mortal is an Apache Kafka that one test may kill and start again on its data.
type mortal struct {
	dir     string
	command []string
	addr    string
	options []kgo.Opt // of who looks whether it answers
	cmd     *exec.Cmd
	ended   chan struct{}
}

// MortalKafka starts a single-node Apache Kafka that one test has to itself, for Kill and Revive, and ends it with the
// test.
func MortalKafka(t testing.TB) *Broker {
	t.Helper()
	return MortalCluster(t, 1)
}

// MortalCluster is MortalKafka with n nodes, each with a copy of everything, of which all but one have to acknowledge a
// write. Each takes about 320 MB. Addr lists them all, separated by commas.
func MortalCluster(t testing.TB, n int) *Broker {
	t.Helper()
	return mortals(t, nodesOf(t, n))
}

func mortals(t testing.TB, nodes []*node, options ...kgo.Opt) *Broker {
	t.Helper()
	jars, err := ensureApache(context.Background(), func(line string) { t.Log(line) })
	if err != nil {
		Missing(t, "Apache Kafka", err.Error())
	}
	b := &Broker{t: t}
	var addrs []string
	for _, node := range nodes {
		m := &mortal{dir: t.TempDir(), addr: node.addr, options: options}
		m.command, err = node.format(m.dir, jars)
		if missing := (missingError{}); errors.As(err, &missing) {
			Missing(t, "Apache Kafka", missing.Error())
		}
		if err != nil {
			t.Fatal(err)
		}
		b.nodes, addrs = append(b.nodes, m), append(addrs, m.addr)
	}
	b.Addr = strings.Join(addrs, ",")
	t.Cleanup(func() {
		for _, m := range b.nodes {
			m.kill()
			if t.Failed() {
				t.Logf("last words of Apache Kafka on %s:\n%s", m.addr, m.words())
			}
		}
	})
	for _, m := range b.nodes {
		if err := m.launch(); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range b.nodes {
		if err := m.await(); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// KeepLogs copies what the nodes of a [MortalKafka] or [MortalCluster] have printed to dir when the test ends, and moves
// their data there when it has failed.
func (b *Broker) KeepLogs(dir string) {
	b.t.Helper()
	b.needMortal()
	b.t.Cleanup(func() {
		for i, m := range b.nodes {
			text, err := os.ReadFile(filepath.Join(m.dir, "console.log"))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, fmt.Sprintf("broker-%d.log", i)), text, 0o600)
			}
			if err != nil && b.t.Failed() {
				b.t.Log(err)
			}
			if b.t.Failed() {
				m.kill()
				if err := os.Rename(m.data(), filepath.Join(dir, fmt.Sprintf("broker-%d-data", i))); err != nil {
					b.t.Log(err)
				}
			}
		}
	})
}

// Nodes is how many nodes of a [MortalCluster] there are.
func (b *Broker) Nodes() int { return len(b.nodes) }

// Kill ends a node of a [MortalKafka] or [MortalCluster], counted from 0, as a crash would; it stays down until Revive.
func (b *Broker) Kill(node int) {
	b.t.Helper()
	b.needMortal()
	b.nodes[node].kill()
}

// Revive starts a killed node again, on the same address with its data, and returns when it answers.
func (b *Broker) Revive(node int) {
	b.t.Helper()
	b.needMortal()
	if err := b.nodes[node].start(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *Broker) needMortal() {
	if len(b.nodes) == 0 {
		b.t.Helper()
		b.t.Fatalf("kill Kafka at %s: only a broker of testkit.MortalKafka can be killed", b.Addr)
	}
}

// data is the directory of its log.
func (m *mortal) data() string { return filepath.Join(m.dir, dataDir) }

func (m *mortal) start() error {
	if err := m.launch(); err != nil {
		return err
	}
	return m.await()
}

func (m *mortal) launch() error {
	output, err := os.OpenFile(filepath.Join(m.dir, "console.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer output.Close() // the child has its own
	cmd := exec.Command(m.command[0], m.command[1:]...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start Apache Kafka: %w", err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	m.cmd, m.ended = cmd, ended
	return nil
}

func (m *mortal) await() error {
	if err := awaitKafka(m.addr, m.ended, m.failure, m.options...); err != nil {
		return fmt.Errorf("start Apache Kafka on %s: %w", m.addr, err)
	}
	return nil
}

func (m *mortal) failure() error {
	return fmt.Errorf("it ended by itself; its last words:\n%s", m.words())
}

func (m *mortal) words() string {
	text, _ := os.ReadFile(filepath.Join(m.dir, "console.log"))
	return string(text[max(0, len(text)-4000):])
}

func (m *mortal) kill() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill()
		<-m.ended
	}
}
