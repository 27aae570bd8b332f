package devstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/units"
)

// ErrClosed is what a ClickHouse that was closed answers to Restart.
var ErrClosed = errors.New("the embedded ClickHouse is closed")

const (
	defaultMemory = 4 * units.Bytes(1<<30)
	startTimeout  = 60 * time.Second        // a cold page cache on a slow disk reads 566 MB first
	closeTimeout  = 3500 * time.Millisecond // of the 4 s that Close may take, the rest is for SIGKILL and clean-up
	firstBackoff  = 250 * time.Millisecond
	maxBackoff    = 10 * time.Second
	stableAfter   = time.Minute // a run this long ends a series of crashes
	maxCrashes    = 6           // in a row, then supervision gives up
)

// ClickHouseConfig says how to run an embedded ClickHouse.
type ClickHouseConfig struct {
	// Dir is the data directory; it is created, and used by one process at a time.
	Dir string
	// HTTPAddr and NativeAddr are loopback IP:port addresses with the same IP.
	HTTPAddr, NativeAddr string
	// UsersXML is the server's users.xml: users, rights, row policies, quotas. nil gives one user `default` without
	// password who may do everything.
	UsersXML []byte
	// Lib is the path of libchdb.so, from EnsureClickHouse.
	Lib string
	// Memory bounds what the server allocates; 0 means 4 GiB. Half of the machine's memory is a second bound.
	Memory units.Bytes
	// Log gets the server's starts, crashes and restarts; nil means slog.Default.
	Log *slog.Logger
}

// ClickHouse is a running server in a child process. It is started again with growing pauses when it crashes. Its
// methods are safe for concurrent use.
type ClickHouse struct {
	cfg    ClickHouseConfig
	args   engineArgs
	host   netip.Addr
	lock   *dirLock
	done   chan struct{}
	ctx    context.Context // ends when Close is called; every start of the engine obeys it
	cancel context.CancelFunc

	mu      sync.Mutex
	process *process
	held    bool          // Kill was called: a dead process is intended
	changed chan struct{} // capacity 1: process or held changed, the supervisor looks again
	err     error         // why done is closed; nil after Close
}

// StartClickHouse starts a server and returns when it answers. ctx bounds the start only. The caller must Close it.
func StartClickHouse(ctx context.Context, cfg ClickHouseConfig) (*ClickHouse, error) {
	c, err := newClickHouse(ctx, cfg)
	if err != nil {
		return nil, err
	}
	c.process, err = c.launch(ctx)
	if err != nil {
		c.cancel()
		return nil, errors.Join(err, c.lock.Close())
	}
	go c.supervise()
	return c, nil
}

// newClickHouse checks cfg and takes the data directory.
func newClickHouse(ctx context.Context, cfg ClickHouseConfig) (*ClickHouse, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.Default())
	cfg.Memory = cmp.Or(cfg.Memory, defaultMemory)
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse in %s: %w", cfg.Dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w; make the directory writable for this user or choose another one", err)
	}
	// The sandbox follows directories, not links to them, and so must every path that the engine is given.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, fmt.Errorf("start ClickHouse in %s: %w", cfg.Dir, err)
	}
	lib, err := filepath.EvalSymlinks(cfg.Lib)
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse: library: %w", err)
	}
	cfg.Dir, cfg.Lib = dir, lib
	lock, err := lockDir(ctx, "ClickHouse", dir)
	if err != nil {
		return nil, err
	}
	c := &ClickHouse{cfg: cfg, lock: lock, done: make(chan struct{}), changed: make(chan struct{}, 1)}
	if err := c.checkAddrs(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if sandboxVersion() == 0 {
		cfg.Log.Warn("ClickHouse runs without a sandbox: SQL users can read this user's files by file()", "err", errNoSandbox)
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// checkAddrs refuses addresses that cannot be bound now and takes the engine's arguments from the others.
func (c *ClickHouse) checkAddrs() error {
	http, err := probe("ClickHouse HTTP", c.cfg.HTTPAddr)
	if err != nil {
		return err
	}
	native, err := probe("ClickHouse native", c.cfg.NativeAddr)
	if err != nil {
		return err
	}
	if http.Addr() != native.Addr() {
		return fmt.Errorf("listen ClickHouse on %s and %s: want the same IP in both", http, native)
	}
	c.host = http.Addr()
	c.args = engineArgs{lib: c.cfg.Lib, dir: c.cfg.Dir, httpPort: int(http.Port()), nativePort: int(native.Port())}
	return nil
}

// HTTPAddr is the IP:port of the HTTP interface.
func (c *ClickHouse) HTTPAddr() string { return c.cfg.HTTPAddr }

// NativeAddr is the IP:port of the native protocol.
func (c *ClickHouse) NativeAddr() string { return c.cfg.NativeAddr }

// Pid is the process id of the current server process; it changes with every restart.
func (c *ClickHouse) Pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process.cmd.Process.Pid
}

// Done is closed when the server is down for good: after Close, or when it crashed again and again.
func (c *ClickHouse) Done() <-chan struct{} { return c.done }

// Err says why Done is closed; nil before that and after Close.
func (c *ClickHouse) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Kill ends the server with SIGKILL, as a crash would, and leaves it dead until Restart.
func (c *ClickHouse) Kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = true
	c.process.kill()
	c.notify()
}

// Restart stops the server, if it runs, and starts it again on the same directory and addresses. It returns when the
// server answers.
func (c *ClickHouse) Restart(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return ErrClosed
	}
	c.process.stop(closeTimeout)
	process, err := c.launch(ctx)
	if err != nil {
		c.held = true
		c.notify()
		return err
	}
	c.process, c.held = process, false
	c.notify()
	return nil
}

// Close stops the server and returns when its process has ended, within 4 s: one that does not end in time is killed,
// which loses nothing that was acknowledged. Close may be called more than once.
func (c *ClickHouse) Close() error {
	c.cancel()
	<-c.done
	return nil
}

// supervise starts the server again after a crash, and stops it when Close asks.
func (c *ClickHouse) supervise() {
	defer close(c.done)
	defer c.release()
	crashes := 0
	for {
		process, exited := c.watched()
		started := time.Now()
		select {
		case <-c.ctx.Done():
			return
		case <-c.changed:
			crashes = 0
			continue
		case <-exited:
		}
		if time.Since(started) > stableAfter {
			crashes = 0
		}
		crashes++
		if !c.recover(process, crashes) {
			return
		}
	}
}

// watched is the process to watch; its channel is nil while a dead process is intended.
func (c *ClickHouse) watched() (*process, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held {
		return c.process, nil
	}
	return c.process, c.process.exited
}

// recover replaces the crashed process after a pause. It returns false when supervision ends.
func (c *ClickHouse) recover(crashed *process, crashes int) bool {
	c.mu.Lock()
	intended := c.process != crashed || c.held // Restart or Kill came between
	c.mu.Unlock()
	if intended {
		return true
	}
	backoff := min(firstBackoff<<(crashes-1), maxBackoff)
	c.cfg.Log.Error("ClickHouse ended unexpectedly, starting it again", "err", crashed.failure(),
		"pause", backoff, "crashes", crashes)
	if pause.For(c.ctx, backoff) != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != crashed || c.held {
		return true
	}
	process, err := c.launch(c.ctx)
	if err == nil {
		c.process = process
		return true
	}
	if c.ctx.Err() != nil {
		return false
	}
	if crashes >= maxCrashes {
		c.err = fmt.Errorf("restart ClickHouse, attempt %d: %w", crashes, err)
		c.cfg.Log.Error("ClickHouse does not start again, giving up", "err", c.err)
		return false
	}
	c.cfg.Log.Error("ClickHouse does not start again", "err", err)
	return true // the crashed process is still there, so the next look counts one more crash
}

// release stops the process and gives the directory back.
func (c *ClickHouse) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel()
	c.process.stop(closeTimeout)
	if err := c.lock.Close(); err != nil {
		c.cfg.Log.Warn("ClickHouse directory not unlocked", "err", err)
	}
}

func (c *ClickHouse) notify() {
	select {
	case c.changed <- struct{}{}:
	default: // a look is pending already
	}
}
