package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// process is one run of the engine child.
type process struct {
	cmd     *exec.Cmd
	stdin   io.Closer // closing it asks the child to end
	console string    // path of the child's output
	exited  chan struct{}
	err     error // how it ended; to be read after exited is closed
}

// launch starts the engine once and waits until it answers on both ports.
func (c *ClickHouse) launch(ctx context.Context) (*process, error) {
	if err := c.prepare(); err != nil {
		return nil, err
	}
	p, err := startProcess(c.args, c.lock)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("no answer within %s", startTimeout))
	defer cancel()
	// Close must not wait for a start that hangs.
	defer context.AfterFunc(c.ctx, cancel)()
	if err := p.ready(ctx, "http://"+c.cfg.HTTPAddr+"/ping"); err != nil {
		p.stop(0)
		return nil, fmt.Errorf("start ClickHouse in %s: %w", c.cfg.Dir, err)
	}
	c.cfg.Log.Info("ClickHouse started", "http", c.cfg.HTTPAddr, "native", c.cfg.NativeAddr, "dir", c.cfg.Dir, "pid", p.cmd.Process.Pid)
	return p, nil
}

// prepare makes the data directory fit for a start and checks that both ports are free.
func (c *ClickHouse) prepare() error {
	for part, addr := range map[string]string{"ClickHouse HTTP": c.cfg.HTTPAddr, "ClickHouse native": c.cfg.NativeAddr} {
		if _, err := probe(part, addr); err != nil {
			return err
		}
	}
	// The database `system` lives in memory, so tables that a former run left on disk are in the way of its logs.
	if err := os.RemoveAll(filepath.Join(c.cfg.Dir, "data", "system")); err != nil {
		return fmt.Errorf("start ClickHouse: %w", err)
	}
	return writeEngineFiles(c.cfg.Dir, c.host.String(), c.cfg.Memory, c.cfg.UsersXML)
}

// startProcess starts the engine child. The child inherits the lock, so that no other process takes the directory
// before it has ended.
func startProcess(args engineArgs, lock *dirLock) (*process, error) {
	cmd, err := childCommand(childClickHouse, nil, args.encode()...)
	if err != nil {
		return nil, err
	}
	console := filepath.Join(args.dir, consoleFile)
	output, err := os.OpenFile(console, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}
	defer output.Close() // the child has its own
	cmd.Dir, cmd.Stdout, cmd.Stderr = args.dir, output, output
	cmd.ExtraFiles = []*os.File{lock.file}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}
	p := &process{cmd: cmd, stdin: stdin, console: console, exited: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// ready returns when url answers 200. A process that ends first is an error with the end of its output.
func (p *process) ready(ctx context.Context, url string) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Second}
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		select {
		case <-p.exited:
			return p.failure()
		case <-ctx.Done():
			return fmt.Errorf("%w%s", context.Cause(ctx), p.tail())
		case <-time.After(pause):
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			continue
		}
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return nil
		}
	}
}

// stop asks the process to end and kills it after timeout. It returns when the process has ended.
func (p *process) stop(timeout time.Duration) {
	_ = p.stdin.Close()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
		p.kill()
	}
}

// kill ends the process with SIGKILL and returns when it has ended.
func (p *process) kill() {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		panic(fmt.Sprintf("BUG: kill own child %d: %v", p.cmd.Process.Pid, err))
	}
	<-p.exited
	_ = p.stdin.Close()
}

// failure says how the process ended, with the last lines it wrote. Call it after the process exited.
func (p *process) failure() error {
	how := "ended by itself"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("server process %s%s", how, p.tail())
}

// tail is the end of the process's output, formatted to follow an error's text.
func (p *process) tail() string {
	const lines, size = 12, 4 << 10
	content, err := os.ReadFile(p.console)
	if err != nil {
		return "; its output " + p.console + " cannot be read: " + err.Error()
	}
	if len(content) > size {
		content = content[len(content)-size:]
	}
	all := strings.Split(strings.TrimSpace(string(content)), "\n")
	if all[0] == "" {
		return "; it wrote nothing to " + p.console
	}
	return "; last lines of " + p.console + ":\n  " + strings.Join(all[max(0, len(all)-lines):], "\n  ")
}

