package devstack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/pause"
)

// EnvCacheDir is the environment variable that says where fetched parts are kept.
const EnvCacheDir = "VIGIE_CACHE_DIR"

// CacheDir is where fetched parts are kept, shared by all clones: VIGIE_CACHE_DIR, else `vigie` in the user's cache
// directory.
func CacheDir() (string, error) {
	if dir := os.Getenv(EnvCacheDir); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache directory: %w; set %s to a directory that this user may write", err, EnvCacheDir)
	}
	return filepath.Join(dir, "vigie"), nil
}

// Part is something that is fetched once and kept in the cache directory.
type Part struct {
	// Name is the part's folder in the cache; it holds the version.
	Name string
	// Space is how many bytes must be free before a fetch.
	Space int64
	// Valid tells whether dir holds the whole part. It is called often, so it looks at sizes, not at contents.
	Valid func(dir string) bool
	// Fetch fills the empty folder work, checks what it got, and returns the folder at or below work that becomes the
	// part.
	Fetch func(ctx context.Context, work string) (dir string, err error)
}

// EnsureCached returns the folder of part in cacheDir ("" means [CacheDir]) and fetches it first when it is not there
// or not whole. The folder appears in one step. Of several processes one fetches and the others wait; progress is told
// so.
func EnsureCached(ctx context.Context, cacheDir string, part Part, progress func(string)) (string, error) {
	if cacheDir == "" {
		var err error
		if cacheDir, err = CacheDir(); err != nil {
			return "", err
		}
	}
	target := filepath.Join(cacheDir, part.Name)
	if part.Valid(target) {
		return target, nil
	}
	unlock, err := lockCache(ctx, cacheDir, progress)
	if err != nil {
		return "", err
	}
	defer unlock()
	if part.Valid(target) { // another process was faster
		return target, nil
	}
	return target, fetchPart(ctx, cacheDir, target, part)
}

// fetchPrefix marks folders of fetches; one that is there while the lock is held is left over from a killed process.
const fetchPrefix = ".fetch-"

func fetchPart(ctx context.Context, cacheDir, target string, part Part) error {
	leftovers, _ := filepath.Glob(filepath.Join(cacheDir, fetchPrefix+"*"))
	for _, dir := range leftovers {
		_ = os.RemoveAll(dir) // in the way of nothing but disk space
	}
	if free, err := freeSpace(cacheDir); err == nil && free < part.Space {
		return fmt.Errorf("%s has %d MB free and %d MB are needed; free some space or set %s to a directory on another disk",
			cacheDir, free>>20, part.Space>>20, EnvCacheDir)
	}
	work, err := os.MkdirTemp(cacheDir, fetchPrefix)
	if err != nil {
		return notWritable(cacheDir, err)
	}
	defer os.RemoveAll(work)
	fetched, err := part.Fetch(ctx, work)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(target); err != nil { // one that is not whole
		return fmt.Errorf("replace damaged %s: %w", target, err)
	}
	if err := os.Rename(fetched, target); err != nil {
		return fmt.Errorf("move fetched part into the cache: %w", err)
	}
	return nil
}

// lockCache makes this process the only one that fetches into cacheDir.
func lockCache(ctx context.Context, cacheDir string, progress func(string)) (unlock func(), err error) {
	file, err := openCacheLock(cacheDir)
	if err != nil {
		return nil, notWritable(cacheDir, err)
	}
	for told := false; ; told = true {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock cache directory %s: %w", cacheDir, err), file.Close())
		}
		if !told && progress != nil {
			progress("waiting for another process that fetches into " + cacheDir)
		}
		if pause.For(ctx, 200*time.Millisecond) != nil {
			return nil, errors.Join(context.Cause(ctx), file.Close())
		}
	}
}

func openCacheLock(cacheDir string) (*os.File, error) {
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(cacheDir, "fetch.lock"), os.O_RDWR|os.O_CREATE, 0o644)
}

func notWritable(cacheDir string, err error) error {
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		err = path.Err // the sentence names the directory already
	}
	return fmt.Errorf("cache directory %s is not writable (%w); set %s to a directory that this user may write",
		cacheDir, err, EnvCacheDir)
}

func freeSpace(dir string) (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, err
	}
	return int64(stat.Bavail) * int64(stat.Bsize), nil
}
