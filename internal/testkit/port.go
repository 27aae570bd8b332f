package testkit

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// Ports that FreeAddr gives. They lie below the range from which systems take the local port of an outgoing connection
// (from 32768 on Linux, 49152 elsewhere): one in that range may be gone before a server that is told of it listens.
const firstPort, lastPort = 12000, 31999

// FreeAddr is a loopback address with a port that nobody listens on and that is the test's until it ends: no other test
// of this or another process is given it.
func FreeAddr(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(os.TempDir(), "vigie-test-ports-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	const attempts = 1000
	for range attempts {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		lock := reserve(t, filepath.Join(dir, strconv.Itoa(port)))
		if lock == nil {
			continue
		}
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		if listener, err := net.Listen("tcp", addr); err == nil {
			listener.Close()
			t.Cleanup(func() { lock.Close() })
			return addr
		}
		lock.Close()
	}
	t.Fatalf("find a free port: none of %d tried between %d and %d", attempts, firstPort, lastPort)
	return ""
}

// reserve locks the file of a port, or returns nil when another test has it. The lock ends with the file, and so with
// the process.
func reserve(t testing.TB, path string) *os.File {
	t.Helper()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return nil
	}
	return file
}
