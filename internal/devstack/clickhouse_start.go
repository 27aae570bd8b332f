package devstack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// launch starts the engine once and waits until it answers. ctx bounds the wait.
func (c *ClickHouse) launch(ctx context.Context) (*process, error) {
	if err := c.prepare(); err != nil {
		return nil, err
	}
	p, err := c.startEngine()
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse in %s: %w", c.cfg.Dir, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("no answer within %s", startTimeout))
	defer cancel()
	// Close must not wait for a start that hangs.
	defer context.AfterFunc(c.ctx, cancel)()
	// HTTP is the last that init.sql opens: when it answers, the native port does, too.
	if err := p.ready(ctx, "http://"+c.cfg.HTTPAddr+"/ping"); err != nil {
		p.stop(0)
		return nil, fmt.Errorf("start ClickHouse in %s: %w", c.cfg.Dir, err)
	}
	c.cfg.Log.Info("ClickHouse started", "http", c.cfg.HTTPAddr, "native", c.cfg.NativeAddr,
		"dir", c.cfg.Dir, "pid", p.cmd.Process.Pid)
	return p, nil
}

// prepare makes the data directory fit for a start and checks that both ports are free.
func (c *ClickHouse) prepare() error {
	if err := c.checkAddrs(); err != nil {
		return err
	}
	// The database `system` lives in memory, so tables that a former run left on disk are in the way of its logs.
	if err := os.RemoveAll(filepath.Join(c.cfg.Dir, "data", "system")); err != nil {
		return fmt.Errorf("start ClickHouse: %w", err)
	}
	return writeEngineFiles(c.cfg.Dir, c.host.String(), c.cfg.Memory, c.cfg.UsersXML)
}

// startEngine starts the engine child. The child inherits the directory's lock, so that no other process takes the
// directory before it has ended.
func (c *ClickHouse) startEngine() (*process, error) {
	cmd, err := childCommand(childClickHouse, nil, c.args.encode()...)
	if err != nil {
		return nil, err
	}
	cmd.Dir = c.cfg.Dir
	cmd.ExtraFiles = []*os.File{c.lock.file}
	return startProcess(cmd, filepath.Join(c.cfg.Dir, consoleFile))
}
