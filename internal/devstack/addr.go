package devstack

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// listen binds addr for what is called part in errors. The address must be one of this machine's own loopback ones:
// nothing that devstack starts asks who is calling.
func listen(part, addr string) (net.Listener, error) {
	parsed, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("listen %s on %q: want IP:port, such as 127.0.0.1:7092", part, addr)
	}
	if !parsed.Addr().IsLoopback() {
		return nil, fmt.Errorf("listen %s on %s: the embedded server takes loopback addresses only; use 127.0.0.1, or run a server of your own", part, addr)
	}
	listener, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen %s on %s: another program uses this port (%w); stop it or configure another address",
			part, addr, syscall.EADDRINUSE)
	}
	if err != nil {
		return nil, fmt.Errorf("listen %s on %s: %w", part, addr, err)
	}
	return listener, nil
}

// probe tells whether addr can be bound now, without keeping it. Port 0 is refused: the engine cannot say which one it
// got.
func probe(part, addr string) (netip.AddrPort, error) {
	listener, err := listen(part, addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if err := listener.Close(); err != nil {
		return netip.AddrPort{}, fmt.Errorf("listen %s on %s: %w", part, addr, err)
	}
	parsed := netip.MustParseAddrPort(addr)
	if parsed.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("listen %s on %s: want a port above 0", part, addr)
	}
	return parsed, nil
}
