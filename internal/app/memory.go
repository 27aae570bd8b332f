package app

import (
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/units"
)

// runtimeShare of what the process may take is for the Go runtime. It does not count all: stacks of threads, pages of
// files.
const runtimeShare = 0.9

// boundMemory tells the Go runtime how much memory there is, when the system bounds what the process may take: near
// that it collects garbage more often, instead of being killed. GOMEMLIMIT in the environment is left as it is.
func boundMemory(log *slog.Logger) {
	limit := cgroupLimit("/sys/fs/cgroup", "/proc/self/cgroup")
	if limit == math.MaxInt64 || debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return
	}
	limit = int64(float64(limit) * runtimeShare)
	debug.SetMemoryLimit(limit)
	log.Info("memory is bound by the control group", "limit", units.Bytes(limit))
}

// cgroupLimit is the least memory.max of the process's control group and those above it (version 2 of cgroups), in
// bytes; MaxInt64 when there is none. root is where they are mounted, membership the file that names the process's.
func cgroupLimit(root, membership string) int64 {
	limit := int64(math.MaxInt64)
	for dir := ownGroup(membership); ; dir = filepath.Dir(dir) {
		text, _ := os.ReadFile(filepath.Join(root, dir, "memory.max"))
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 {
			limit = min(limit, n)
		}
		if dir == "/" {
			return limit
		}
	}
}

// ownGroup is the path of the process's control group; in a container mostly "/".
func ownGroup(membership string) string {
	text, _ := os.ReadFile(membership)
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return filepath.Clean("/" + path)
		}
	}
	return "/"
}
