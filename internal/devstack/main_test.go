package devstack_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/devstack"
	"github.com/vigie-io/vigie/internal/testkit"
)

// parentEnv makes this binary a process that starts a part and waits to be killed.
const parentEnv = "VIGIE_DEVSTACK_TEST_PARENT"

func TestMain(m *testing.M) {
	if role := os.Getenv(parentEnv); role != "" {
		if err := os.Unsetenv(parentEnv); err != nil { // it is not for the children
			panic(err)
		}
		devstack.MaybeChild()
		runParent(role, os.Args[1:])
	}
	testkit.Main(m)
}

// runParent starts the part of that role, prints one line for the test that started it, and never returns.
func runParent(role string, args []string) {
	line, err := startPart(role, args)
	if err != nil {
		fmt.Println("ERROR", err)
		os.Exit(1)
	}
	fmt.Println(line)
	select {}
}

func startPart(role string, args []string) (string, error) {
	ctx := context.Background()
	switch role {
	case "clickhouse": // directory, library, HTTP address, native address → process id
		server, err := devstack.StartClickHouse(ctx, devstack.ClickHouseConfig{
			Dir: args[0], Lib: args[1], HTTPAddr: args[2], NativeAddr: args[3]})
		if err != nil {
			return "", err
		}
		return fmt.Sprint(server.Pid()), nil
	case "kafka": // directory, address → address
		kafka, err := devstack.StartKafka(ctx, devstack.KafkaConfig{Dir: args[0], Addr: args[1]})
		if err != nil {
			return "", err
		}
		return kafka.Addr(), nil
	case "tether": // directory, output, command… → ""
		_, err := devstack.StartTethered(args[0], args[1], args[2:]...)
		return "started", err
	}
	return "", fmt.Errorf("unknown role %q", role)
}

// parent runs this binary in a role and returns the line it prints and a func that ends it with kill -9.
func parent(t *testing.T, role string, args ...string) (line string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), parentEnv+"="+role)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	kill = func() {
		if !killed {
			killed = true
			_ = cmd.Process.Signal(syscall.SIGKILL)
			_ = cmd.Wait()
		}
	}
	t.Cleanup(kill)
	line, err = bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("parent process: %v", err)
	}
	if rest, failed := strings.CutPrefix(line, "ERROR "); failed {
		t.Fatalf("parent process: %s", rest)
	}
	return strings.TrimSpace(line), kill
}

// gone checks that a process has ended; a zombie counts, since what it held is free.
func gone(pid int) error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil || strings.Contains(string(status), ") Z ") {
		return nil
	}
	return fmt.Errorf("process %d still runs", pid)
}

const soon = time.Minute

// wantError checks that err says all of parts in one sentence.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("got no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("got error %q, want %q in it", err, part)
		}
	}
}
