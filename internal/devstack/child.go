package devstack

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
)

// childEnv says which child this process is to become; unset in ordinary processes.
const childEnv = "VIGIE_DEVSTACK_CHILD"

const (
	childClickHouse = "clickhouse"
	childTether     = "tether"
)

// childReady is set once MaybeChild ran: without it a re-executed parent would run main again, and start children of
// its own without end.
var childReady atomic.Bool

var errNoMaybeChild = errors.New("start a child process: devstack.MaybeChild must be the first call of main (in tests: testkit.Main in TestMain)")

func init() {
	// The engine runs on the main thread only, and only a lock taken during init keeps main.main there.
	if os.Getenv(childEnv) == childClickHouse {
		runtime.LockOSThread()
	}
}

// MaybeChild turns this process into the child that devstack started it to be, and then does not return. In every
// other process it returns at once. Call it first in main, before flags are read.
func MaybeChild() {
	childReady.Store(true)
	var err error
	switch role := os.Getenv(childEnv); role {
	case "":
		return
	case childClickHouse:
		err = runEngine(os.Args[1:])
	case childTether:
		err = runTether(os.Args[1:])
	default:
		err = fmt.Errorf("run child process: unknown role %q in %s", role, childEnv)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// waitForEnd returns when the parent is gone or closed this child's standard input, or when SIGTERM or SIGINT comes.
func waitForEnd() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	orphaned := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(orphaned)
	}()
	select {
	case <-signals:
	case <-orphaned:
	}
}

// childCommand is this executable as a child with its own process group, so that a Ctrl-C at the terminal reaches
// only the parent, which ends its children in order.
func childCommand(role string, env []string, args ...string) (*exec.Cmd, error) {
	if !childReady.Load() {
		return nil, errNoMaybeChild
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start a child process: %w", err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append([]string{childEnv + "=" + role}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, nil
}
