package telemetry

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// serveSteady answers with what handler writes, on connections with a short time for each piece.
func serveSteady(t *testing.T, handler http.HandlerFunc) net.Conn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(steadyListener{listener, 200 * time.Millisecond}) }()
	t.Cleanup(func() { _ = server.Close() })
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if _, err := io.WriteString(client, "GET / HTTP/1.0\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return client
}

var large = bytes.Repeat([]byte("x"), 64<<20) // more than the kernel's buffers take

// A client that does not read ends its handler.
func TestStoppedReader(t *testing.T) {
	ended := make(chan error, 1)
	client := serveSteady(t, func(w http.ResponseWriter, _ *http.Request) {
		_, err := w.Write(large)
		ended <- err
	})
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want the deadline", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the handler still writes")
	}
	if _, err := io.ReadAll(client); err == nil {
		t.Log("the connection was closed with what the buffers held")
	}
}

// A slow client gets everything, however long that takes in all, and a handler that computes long is not hurried.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, far := net.Pipe()
		defer client.Close()
		listener := &pipeListener{conn: far, closed: make(chan struct{})}
		ended := make(chan error, 1)
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Minute)
			_, err := w.Write(large[:8<<20])
			ended <- err
		})}
		go func() { _ = server.Serve(steadyListener{listener, time.Second}) }()
		defer server.Close()
		if _, err := io.WriteString(client, "GET / HTTP/1.0\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		n := 0
		for buffer := make([]byte, writePiece); ; time.Sleep(900 * time.Millisecond) {
			read, err := client.Read(buffer)
			if n += read; err != nil {
				break
			}
		}
		if err := <-ended; err != nil || n < 8<<20 {
			t.Errorf("got %d bytes, %v, want all of them", n, err)
		}
	})
}

// pipeListener accepts one connection.
type pipeListener struct {
	conn   net.Conn // nil once it was accepted
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *pipeListener) Close() error   { close(l.closed); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// A handler's own deadline holds when it comes sooner, also while something is being written.
func TestHandlersDeadline(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := steadyListener{listener, time.Hour}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	time.AfterFunc(50*time.Millisecond, func() { _ = c.SetWriteDeadline(time.Now()) })
	if _, err := c.Write(large); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
}
