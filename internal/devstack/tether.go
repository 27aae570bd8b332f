package devstack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Tethered is another program that ends with this process, however this process ends: between the two stands a child
// of devstack that sees its parent go.
type Tethered struct{ process *process }

// StartTethered starts argv in dir, which the tether removes after the program ended, and writes its output to the
// file at output. The caller must Stop it.
func StartTethered(dir, output string, argv ...string) (*Tethered, error) {
	env := make([]string, 0, len(os.Environ()))
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, childEnv+"=") {
			env = append(env, entry)
		}
	}
	cmd, err := childCommand(childTether, env, append([]string{dir}, argv...)...)
	if err != nil {
		return nil, err
	}
	cmd.Dir = dir
	p, err := startProcess(cmd, output)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	return &Tethered{p}, nil
}

// Done is closed when the program has ended.
func (t *Tethered) Done() <-chan struct{} { return t.process.exited }

// Failure says how the program ended, with the last lines of its output. Call it after Done.
func (t *Tethered) Failure() error { return t.process.failure() }

// Stop asks the program to end with SIGTERM, ends it with SIGKILL after 5 s, and returns when it has ended.
func (t *Tethered) Stop() { t.process.stop(2 * hardStop) }

// runTether is the child: it runs a program until standard input ends, and removes the program's directory.
func runTether(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("run tether: got %d arguments, want a directory and a command", len(args))
	}
	dir, argv := args[0], args[1:]
	defer os.RemoveAll(dir)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := os.Unsetenv(childEnv); err != nil {
		return fmt.Errorf("run tether: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run tether: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	asked := make(chan struct{})
	go func() {
		waitForEnd()
		close(asked)
	}()
	select {
	case err := <-ended:
		return err
	case <-asked:
	}
	return endCommand(cmd, ended)
}

// endCommand ends cmd, in order if it takes less than hardStop.
func endCommand(cmd *exec.Cmd, ended <-chan error) error {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("run tether: %w", err)
	}
	select {
	case <-ended:
	case <-time.After(hardStop):
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("run tether: %w", err)
		}
		<-ended
	}
	return nil
}
