package simulation

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// latency is how long every answer takes. Without any, a client that asks again at once until its metadata is new would
// keep fake time from passing at all.
const latency = time.Millisecond

// errCut is what a process sees of a connection that was cut.
var errCut = errors.New("connection cut by the simulation")

// dialer opens a connection to a broker.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// wire is the network of one process: every connection it has to the brokers. It sees each request before it leaves
// and each answer before it arrives, and can delay it, lose it or cut the process off for good.
type wire struct {
	dial dialer

	mu     sync.Mutex
	conns  map[*conn]bool
	dead   bool
	silent time.Time
	hooks  []*hook
}

func newWire(dial dialer) *wire { return &wire{dial: dial, conns: map[*conn]bool{}} }

// hook is something to happen at requests of one kind.
type hook struct {
	key   int16
	after bool          // at the answer instead of the request
	left  int           // how many times; negative is for ever
	delay time.Duration // before it goes on
	cut   bool          // the connection, instead of going on
	do    func()        // may be nil
}

// add installs a hook; each request meets the first that fits.
func (w *wire) add(h *hook) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hooks = append(w.hooks, h)
}

// heal removes all hooks and lets bytes flow again. A wire that is dead stays dead.
func (w *wire) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hooks, w.silent = nil, time.Time{}
}

// cut ends every connection, now and for ever: nothing of the process reaches a broker any more.
func (w *wire) cut() {
	w.mu.Lock()
	w.dead = true
	conns := w.conns
	w.conns = map[*conn]bool{}
	w.mu.Unlock()
	for c := range conns {
		c.end()
	}
}

// silence holds everything back for d, in both directions: the connections stay open.
func (w *wire) silence(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent = time.Now().Add(d)
}

// DialContext opens a connection of the process.
func (w *wire) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if err := w.waitForSound(ctx.Done()); err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	inner, err := w.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, wire: w, ended: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		inner.Close()
		return nil, errCut
	}
	w.conns[c] = true
	return c, nil
}

// waitForSound returns when nothing is held back, or with an error when the process is cut off or done is closed.
func (w *wire) waitForSound(done <-chan struct{}) error {
	for {
		w.mu.Lock()
		dead, wait := w.dead, time.Until(w.silent)
		w.mu.Unlock()
		switch {
		case dead:
			return errCut
		case wait <= 0:
			return nil
		}
		select {
		case <-done:
			return errCut
		case <-time.After(min(wait, time.Second)): // heal may end it early
		}
	}
}

// meet does what is to be done at a request or an answer.
func (w *wire) meet(c *conn, key int16, after bool) error {
	w.mu.Lock()
	at := slices.IndexFunc(w.hooks, func(h *hook) bool { return h.key == key && h.after == after })
	if at < 0 {
		w.mu.Unlock()
		return nil
	}
	h := w.hooks[at]
	if h.left--; h.left == 0 {
		w.hooks = slices.Delete(w.hooks, at, at+1)
	}
	w.mu.Unlock()
	if h.do != nil {
		h.do()
	}
	if h.delay > 0 {
		select {
		case <-c.ended:
		case <-time.After(h.delay):
		}
	}
	if h.cut {
		c.end()
	}
	select {
	case <-c.ended:
		return errCut
	default:
		return nil
	}
}

// conn is one connection. The client writes a request with one call and has answers come back in the order of requests.
type conn struct {
	net.Conn
	wire  *wire
	once  sync.Once
	ended chan struct{}

	mu      sync.Mutex
	asked   []int16 // requests without an answer yet, oldest first
	arrived []byte  // of the answer at hand, not yet read by the client
}

func (c *conn) end() {
	c.once.Do(func() {
		close(c.ended)
		c.Conn.Close()
	})
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.wire.mu.Lock()
	delete(c.wire.conns, c)
	c.wire.mu.Unlock()
	c.end()
	return nil
}

// Write implements net.Conn: size, key, version, … of one request.
func (c *conn) Write(request []byte) (int, error) {
	if len(request) < 8 || int(binary.BigEndian.Uint32(request)) != len(request)-4 {
		panic("BUG: the client does not write a request with one call any more")
	}
	key := int16(binary.BigEndian.Uint16(request[4:]))
	if err := c.wire.waitForSound(c.ended); err != nil {
		return 0, err
	}
	if err := c.wire.meet(c, key, false); err != nil {
		return 0, err
	}
	c.mu.Lock()
	c.asked = append(c.asked, key)
	c.mu.Unlock()
	return c.Conn.Write(request)
}

// Read implements net.Conn. One goroutine reads.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.arrived) == 0 {
		if err := c.receive(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.arrived)
	c.arrived = c.arrived[n:]
	return n, nil
}

// receive takes one answer from the network.
func (c *conn) receive() error {
	var size [4]byte
	if _, err := io.ReadFull(c.Conn, size[:]); err != nil {
		return err
	}
	answer := make([]byte, 4+binary.BigEndian.Uint32(size[:]))
	copy(answer, size[:])
	if _, err := io.ReadFull(c.Conn, answer[4:]); err != nil {
		return err
	}
	c.mu.Lock()
	key := c.asked[0]
	c.asked = c.asked[1:]
	c.mu.Unlock()
	time.Sleep(latency)
	if err := c.wire.waitForSound(c.ended); err != nil {
		return err
	}
	if err := c.wire.meet(c, key, true); err != nil {
		return err
	}
	c.arrived = answer
	return nil
}
