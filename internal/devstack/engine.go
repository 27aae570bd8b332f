package devstack

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"
)

// sealedEnv marks the second half of the engine child: the one that already runs inside its sandbox.
const sealedEnv = "VIGIE_DEVSTACK_SEALED"

// hardStop bounds a clean shutdown after the parent died: a query that does not end must not keep a server alive that
// nobody can stop any more.
const hardStop = 5 * time.Second

// engineArgs is the command line of the engine child.
type engineArgs struct {
	lib, dir             string
	httpPort, nativePort int
}

func (a engineArgs) encode() []string {
	return []string{a.lib, a.dir, strconv.Itoa(a.httpPort), strconv.Itoa(a.nativePort)}
}

func decodeEngineArgs(args []string) (engineArgs, error) {
	if len(args) != 4 {
		return engineArgs{},
			fmt.Errorf("run engine: got %d arguments, want library, directory, HTTP port, native port", len(args))
	}
	httpPort, err1 := strconv.Atoi(args[2])
	nativePort, err2 := strconv.Atoi(args[3])
	if err := errors.Join(err1, err2); err != nil {
		return engineArgs{}, fmt.Errorf("run engine: %w", err)
	}
	return engineArgs{args[0], args[1], httpPort, nativePort}, nil
}

// runEngine is the engine child: it seals itself, then serves until its standard input ends or SIGTERM comes.
func runEngine(args []string) error {
	a, err := decodeEngineArgs(args)
	if err != nil {
		return err
	}
	if os.Getenv(sealedEnv) == "" {
		// Sealing covers one thread and what it executes later, so the process replaces itself: every thread of the
		// new image, the engine's own included, descends from the sealed one.
		return sealAndExec(a)
	}
	return serveEngine(a)
}

// sealAndExec restricts the calling thread to what the server needs and executes this program anew on it.
func sealAndExec(a engineArgs) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("seal engine: %w", err)
	}
	if err := seal([]string{self, a.lib}, a.dir); err != nil && !errors.Is(err, errNoSandbox) {
		return fmt.Errorf("seal engine: %w", err)
	}
	env := []string{childEnv + "=" + childClickHouse, sealedEnv + "=1", "TZ=UTC", "HOME=" + a.dir, "TMPDIR=" + a.dir}
	return fmt.Errorf("seal engine: execute %s: %w", self, syscall.Exec(self, append([]string{os.Args[0]}, a.encode()...), env))
}

// serveEngine blocks inside the library, which serves HTTP and the native protocol meanwhile: its last queries file is
// a pipe that nobody writes to, so closing that pipe is what ends it.
func serveEngine(a engineArgs) error {
	library, err := purego.Dlopen(a.lib, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return fmt.Errorf("load ClickHouse library %s: %w", a.lib, err)
	}
	var (
		cmdline     func(int32, unsafe.Pointer) unsafe.Pointer
		resultError func(unsafe.Pointer) string
		setSignals  func(int32)
	)
	purego.RegisterLibFunc(&cmdline, library, "chdb_query_cmdline")
	purego.RegisterLibFunc(&resultError, library, "chdb_result_error")
	purego.RegisterLibFunc(&setSignals, library, "chdb_set_signal_handlers_enabled")
	setSignals(0) // Go's runtime needs SIGSEGV and SIGURG for itself

	wait, release, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("run engine: %w", err)
	}
	var asked atomic.Bool
	go stopEngine(release, &asked)

	argv := cStrings("clickhouse",
		"--path", a.dir,
		"--config-file", filepath.Join(a.dir, configFile),
		"--http_port", strconv.Itoa(a.httpPort),
		"--tcp_port", strconv.Itoa(a.nativePort),
		"--log-level", "warning",
		"--queries-file", filepath.Join(a.dir, initFile), fmt.Sprintf("/dev/fd/%d", wait.Fd()))
	result := cmdline(int32(len(argv)-1), unsafe.Pointer(&argv[0]))
	runtime.KeepAlive(argv)
	runtime.KeepAlive(wait)
	if result != nil { // it is nil also after some failures
		if text := resultError(result); text != "" {
			return fmt.Errorf("run engine: %s", text)
		}
	}
	if !asked.Load() {
		return errors.New("run engine: the server ended without being asked")
	}
	return nil
}

// stopEngine closes release when the parent is gone or says so (both are the end of standard input) or SIGTERM comes,
// and ends the process the hard way when that has no effect. It sets asked first.
func stopEngine(release io.Closer, asked *atomic.Bool) {
	waitForEnd()
	asked.Store(true)
	_ = release.Close()
	time.Sleep(hardStop)
	fmt.Fprintf(os.Stderr, "stop engine: not ended after %s, exiting\n", hardStop)
	os.Exit(3)
}

// cStrings returns zero-terminated copies of args and the nil that ends an argv. They are Go memory: the caller keeps
// the slice alive while C reads it.
func cStrings(args ...string) []*byte {
	out := make([]*byte, 0, len(args)+1)
	for _, arg := range args {
		bytes := append([]byte(arg), 0)
		out = append(out, &bytes[0])
	}
	return append(out, nil)
}
