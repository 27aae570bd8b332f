package telemetry

import (
	"net"
	"sync"
	"time"
)

// A client must take a piece of an answer in this time, or its connection ends: one that has stopped reading would hold
// the answer in memory for ever.
const (
	writeTimeout = 30 * time.Second
	writePiece   = 64 << 10
)

// steadyListener gives connections that end when nobody reads what is written to them. A deadline of http.Server counts
// from the request, and would end long queries; this one counts while something is being written.
type steadyListener struct {
	net.Listener
	timeout time.Duration
}

func (l steadyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &steadyConn{Conn: c, timeout: l.timeout}, nil
}

type steadyConn struct {
	net.Conn
	timeout time.Duration

	mu    sync.Mutex
	until time.Time // deadline that a handler set; zero for none
}

// Write sends p in pieces, each of which has a time of its own.
func (c *steadyConn) Write(p []byte) (n int, err error) {
	for {
		piece := p[n:min(len(p), n+writePiece)]
		if err := c.begin(); err != nil {
			return n, err
		}
		sent, err := c.Conn.Write(piece)
		if n += sent; err != nil || n == len(p) {
			return n, err
		}
	}
}

// begin is one step with SetWriteDeadline, so that a deadline that a handler sets while pieces are written is not put
// off.
func (c *steadyConn) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := time.Now().Add(c.timeout)
	if !c.until.IsZero() && c.until.Before(next) {
		next = c.until
	}
	return c.Conn.SetWriteDeadline(next)
}

// SetWriteDeadline implements net.Conn; the zero time leaves the piece's own.
func (c *steadyConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = t
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *steadyConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}
