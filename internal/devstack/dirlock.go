package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vigie-io/vigie/internal/pause"
)

// dirLock is the right to use a directory. It belongs to the open file, so a child that inherits the file keeps the
// directory locked until it has ended, even when the parent is gone already.
type dirLock struct{ file *os.File }

// lockDir takes the lock of dir for what is called part in errors. A lock held by a living process that started it is
// refused at once; one held only by children that outlived their parent is waited for, since they are about to end.
func lockDir(ctx context.Context, part, dir string) (*dirLock, error) {
	path := filepath.Join(dir, lockFile)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s directory %s: %w; make the directory writable for this user or choose another one", part, dir, err)
	}
	deadline := time.Now().Add(2 * hardStop)
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			file.Close()
			return nil, fmt.Errorf("lock %s directory %s: %w", part, dir, err)
		}
		owner := lockOwner(path)
		if processAlive(owner) || time.Now().After(deadline) {
			file.Close()
			return nil, fmt.Errorf("lock %s directory %s: in use by process %d; stop that process or choose another directory", part, dir, owner)
		}
		if pause.For(ctx, 50*time.Millisecond) != nil {
			file.Close()
			return nil, context.Cause(ctx)
		}
	}
	if err := writeOwner(file); err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s directory %s: %w", part, dir, err)
	}
	return &dirLock{file}, nil
}

// Close gives the lock up; children that inherited the file keep it.
func (l *dirLock) Close() error { return l.file.Close() }

func writeOwner(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := file.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	return err
}

// lockOwner reads the process id in a lock file, 0 when there is none yet.
func lockOwner(path string) int {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return 0
	}
	return pid
}

func processAlive(pid int) bool {
	if pid <= 0 {
		return false
	}
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}
