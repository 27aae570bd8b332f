package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"
)

// process is a running child that ends when its standard input does.
type process struct {
	cmd     *exec.Cmd
	stdin   io.Closer // closing it asks the child to end
	console string    // path of the child's output
	exited  chan struct{}
	err     error // how it ended; to be read after exited is closed
}

// startProcess starts cmd with its output in the file at console, which starts empty.
func startProcess(cmd *exec.Cmd, console string) (*process, error) {
	output, err := os.OpenFile(console, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer output.Close() // the child has its own
	cmd.Stdout, cmd.Stderr = output, output
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
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
		_, _ = io.Copy(io.Discard, response.Body) // an answer cut short is an error in the server's log
		_ = response.Body.Close()
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
		how = "ended with " + p.err.Error()
	}
	return fmt.Errorf("the process %s%s", how, p.tail())
}

// stackFrame is a line of a stack trace without symbols.
var stackFrame = regexp.MustCompile(`^\s*\d+\. \S* ?@ 0x`)

// tail is the end of the process's output without stack traces, formatted to follow an error's text.
func (p *process) tail() string {
	const lines, size = 12, 16 << 10
	content, err := os.ReadFile(p.console)
	if err != nil {
		return "; its output cannot be read: " + err.Error()
	}
	if len(content) > size {
		content = content[len(content)-size:]
	}
	said := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(content)), "\n"), func(line string) bool {
		return strings.TrimSpace(line) == "" || stackFrame.MatchString(line)
	})
	if len(said) == 0 {
		return "; it wrote nothing to " + p.console
	}
	return "; last lines of " + p.console + ":\n  " + strings.Join(said[max(0, len(said)-lines):], "\n  ")
}
