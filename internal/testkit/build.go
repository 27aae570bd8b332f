package testkit

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// binaries holds what BuildBinary built in this run of the test binary.
var binaries struct {
	sync.Mutex
	dir   string
	built map[string]string // package → path
}

// BuildBinary builds a main package of this module, named by its path from the module's root ("./cmd/stream"), as
// `make build` does, without cgo, and returns the path of the binary. Each package is built once per run.
func BuildBinary(t testing.TB, pkg string) string {
	t.Helper()
	binaries.Lock()
	defer binaries.Unlock()
	if path, ok := binaries.built[pkg]; ok {
		return path
	}
	if binaries.dir == "" {
		dir, err := os.MkdirTemp("", "vigie-bin-")
		if err != nil {
			t.Fatal(err)
		}
		binaries.dir, binaries.built = dir, map[string]string{}
	}
	path := filepath.Join(binaries.dir, filepath.Base(pkg))
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, pkg)
	cmd.Dir = moduleRoot(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, bytes.TrimSpace(output))
	}
	binaries.built[pkg] = path
	return path
}

// moduleRoot is the nearest folder upwards with a go.mod: tests run in the folder of their package.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("find module root: no go.mod upwards of the working directory")
		}
	}
}

func removeBinaries() {
	binaries.Lock()
	defer binaries.Unlock()
	_ = os.RemoveAll(binaries.dir) // "" removes nothing
}
