package app

import (
	"fmt"
	"syscall"

	"github.com/vigie-io/vigie/internal/units"
)

// freeSpace is what an ordinary user may still write on the file system of path.
func freeSpace(path string) (units.Bytes, error) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(path, &stat); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", path, err)
	}
	return units.Bytes(stat.Bavail) * units.Bytes(stat.Bsize), nil
}
