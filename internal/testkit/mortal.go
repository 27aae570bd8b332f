package testkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// mortal is an Apache Kafka that one test may kill and start again on its data.
type mortal struct {
	dir     string
	command []string
	addr    string
	cmd     *exec.Cmd
	ended   chan struct{}
}

// MortalKafka starts a single-node Apache Kafka that one test has to itself, for Kill and Revive, and ends it with the
// test.
func MortalKafka(t testing.TB) *Broker {
	t.Helper()
	jars, err := ensureApache(context.Background(), func(line string) { t.Log(line) })
	if err != nil {
		Missing(t, "Apache Kafka", err.Error())
	}
	m := &mortal{dir: t.TempDir()}
	m.command, m.addr, err = formatApache(t, m.dir, jars)
	if missing := (missingError{}); errors.As(err, &missing) {
		Missing(t, "Apache Kafka", missing.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.kill()
		if t.Failed() {
			t.Logf("Apache Kafka's last words:\n%s", m.words())
		}
	})
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	return &Broker{Addr: m.addr, t: t, mortal: m}
}

// Kill ends a broker of [MortalKafka] as a crash would; it stays down until Revive.
func (b *Broker) Kill() {
	b.t.Helper()
	b.needMortal()
	b.mortal.kill()
}

// Revive starts a killed broker again, on the same address with its data, and returns when it answers.
func (b *Broker) Revive() {
	b.t.Helper()
	b.needMortal()
	if err := b.mortal.start(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *Broker) needMortal() {
	if b.mortal == nil {
		b.t.Helper()
		b.t.Fatalf("kill Kafka at %s: only a broker of testkit.MortalKafka can be killed", b.Addr)
	}
}

func (m *mortal) start() error {
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
	if err := awaitKafka(m.addr, ended, m.failure); err != nil {
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
