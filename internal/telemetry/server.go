package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"
)

const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	shutdownTimeout   = 2 * time.Second
)

// Listen opens addr for the named service. A port in use gets a sentence that says which setting moves it.
func Listen(addr, service, setting string) (net.Listener, error) {
	listener, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s cannot listen on %s: the port is in use; stop what uses it, or set %s to another address",
			service, addr, setting)
	case err != nil:
		return nil, fmt.Errorf("%s cannot listen on %s: %w; set %s to another address", service, addr, err, setting)
	}
	return listener, nil
}

// Serve answers on listener until ctx ends, then lets running requests finish for two seconds. A client that reads
// nothing of its answer for 30 s loses its connection.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(steadyListener{listener, writeTimeout}) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	graceful, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(graceful); err != nil {
		_ = server.Close()
	}
	<-failed
	return nil
}
