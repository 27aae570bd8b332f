package devstack

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ClickHouseVersion is the version of the server in the library that EnsureClickHouse fetches.
const ClickHouseVersion = "26.7.3"

// Environment variables of the fetched parts.
const (
	// EnvCacheDir is where fetched parts are kept.
	EnvCacheDir = "VIGIE_CACHE_DIR"
	// EnvClickHouseLib is the path of a libchdb.so to use instead of fetching one.
	EnvClickHouseLib = "VIGIE_CLICKHOUSE_LIB"
)

// pins is the package and its checksum, as npm wants them, without download addresses: the user's registry settings
// say from where it comes.
//
//go:embed npm/package.json npm/package-lock.json
var pins embed.FS

// libraryPackages holds the platforms whose checksum is pinned in package-lock.json.
var libraryPackages = map[string]string{
	"linux/amd64": "@chdb/lib-linux-x64-gnu",
}

const (
	libraryFile   = "libchdb.so"
	libraryMarker = "complete.json"
	// fetchSpace is what a fetch needs: 566 MB unpacked and 178 MB in npm's own cache.
	fetchSpace = 800 << 20
	fetchTime  = 15 * time.Minute
)

// wayOut ends every error about the library: each is a way to go on without the fetch.
const wayOut = "or set " + EnvClickHouseLib + " to a libchdb.so of version " + ClickHouseVersion + ", or use a ClickHouse server of your own (clickhouse.addrs)"

// CacheDir is where fetched parts are kept, shared by all clones: VIGIE_CACHE_DIR, else `vigie` in the user's cache directory.
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

// EnsureClickHouse returns the path of the ClickHouse library, which it fetches into cacheDir the first time ("" means
// [CacheDir]): 178 MB by npm, checked against a pinned SHA-512. progress, which may be nil, is told in one line what
// takes long. Several processes may call it at once; one fetches and the others wait.
func EnsureClickHouse(ctx context.Context, cacheDir string, progress func(string)) (string, error) {
	if lib := os.Getenv(EnvClickHouseLib); lib != "" {
		if _, err := os.Stat(lib); err != nil {
			return "", fmt.Errorf("use ClickHouse library of %s: %w", EnvClickHouseLib, err)
		}
		return lib, nil
	}
	if progress == nil {
		progress = func(string) {}
	}
	if cacheDir == "" {
		var err error
		if cacheDir, err = CacheDir(); err != nil {
			return "", err
		}
	}
	lib, err := ensureLibrary(ctx, cacheDir, progress)
	if err != nil {
		return "", fmt.Errorf("fetch ClickHouse %s: %w", ClickHouseVersion, err)
	}
	return lib, nil
}

func ensureLibrary(ctx context.Context, cacheDir string, progress func(string)) (string, error) {
	platform := runtime.GOOS + "/" + runtime.GOARCH
	name, ok := libraryPackages[platform]
	if !ok {
		return "", fmt.Errorf("no library with a pinned checksum for %s; %s", platform, strings.TrimPrefix(wayOut, "or "))
	}
	target := filepath.Join(cacheDir, "clickhouse-"+ClickHouseVersion+"-"+runtime.GOOS+"-"+runtime.GOARCH)
	lib := filepath.Join(target, libraryFile)
	if complete(target) {
		return lib, nil
	}
	unlock, err := lockCache(ctx, cacheDir, progress)
	if err != nil {
		return "", err
	}
	defer unlock()
	if complete(target) { // another process was faster
		return lib, nil
	}
	return lib, fetchLibrary(ctx, cacheDir, target, name, progress)
}

// lockCache makes this process the only one that fetches into cacheDir.
func lockCache(ctx context.Context, cacheDir string, progress func(string)) (unlock func(), err error) {
	file, err := openCache(cacheDir)
	if err != nil {
		return nil, fmt.Errorf("cache directory %s is not writable (%w); set %s to a directory that this user may write, %s", cacheDir, rootCause(err), EnvCacheDir, wayOut)
	}
	for told := false; ; told = true {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock cache directory %s: %w", cacheDir, err), file.Close())
		}
		if !told {
			progress("waiting for another process that fetches into " + cacheDir)
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return nil, errors.Join(err, file.Close())
		}
	}
}

func openCache(cacheDir string) (*os.File, error) {
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(cacheDir, "fetch.lock"), os.O_RDWR|os.O_CREATE, 0o644)
}

// fetchLibrary lets npm unpack the pinned package beside target and moves the result there in one step.
func fetchLibrary(ctx context.Context, cacheDir, target, name string, progress func(string)) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return fmt.Errorf("npm is not installed or not on PATH; install Node.js with npm (Debian: apt-get install npm), %s", wayOut)
	}
	if free, err := freeSpace(cacheDir); err == nil && free < fetchSpace {
		return fmt.Errorf("%s has %d MB free and %d MB are needed; free some space or set %s to a directory on another disk, %s",
			cacheDir, free>>20, fetchSpace>>20, EnvCacheDir, wayOut)
	}
	removeLeftovers(cacheDir)
	work, err := os.MkdirTemp(cacheDir, fetchPrefix)
	if err != nil {
		return fmt.Errorf("cache directory %s is not writable (%w); set %s to a directory that this user may write, %s", cacheDir, rootCause(err), EnvCacheDir, wayOut)
	}
	defer os.RemoveAll(work)
	progress("fetching ClickHouse " + ClickHouseVersion + " once (178 MB, 566 MB unpacked) into " + cacheDir)
	if err := runNPM(ctx, npm, work); err != nil {
		return err
	}
	return install(filepath.Join(work, "node_modules", filepath.FromSlash(name)), target)
}

// fetchPrefix marks folders of fetches; one that is there while the lock is held is left over from a killed process.
const fetchPrefix = ".fetch-"

func removeLeftovers(cacheDir string) {
	leftovers, _ := filepath.Glob(filepath.Join(cacheDir, fetchPrefix+"*"))
	for _, dir := range leftovers {
		_ = os.RemoveAll(dir)
	}
}

// runNPM runs `npm ci` in work, which installs exactly what the lock file pins or fails.
func runNPM(ctx context.Context, npm, work string) error {
	for _, file := range []string{"package.json", "package-lock.json"} {
		content, err := fs.ReadFile(pins, "npm/"+file)
		if err != nil {
			panic("BUG: embedded " + file + ": " + err.Error())
		}
		if err := os.WriteFile(filepath.Join(work, file), content, 0o644); err != nil {
			return explainNPM(err.Error())
		}
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline",
		"--loglevel=error", "--update-notifier=false", "--fetch-retries=1")
	cmd.Dir = work
	// npm runs as `node` behind a script: end the whole group, not only the script.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	err := cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("npm ci: %w", ctx.Err())
	}
	if err != nil {
		return explainNPM(cmp.Or(strings.TrimSpace(output.String()), err.Error()))
	}
	return nil
}

// npmReasons maps what npm prints to a sentence that says what to do.
var npmReasons = []struct {
	sign *regexp.Regexp
	text string
}{
	{regexp.MustCompile(`EINTEGRITY`), "the package does not match its pinned checksum; check which registry npm uses (npm config get registry), empty npm's cache (npm cache clean --force) and try again"},
	{regexp.MustCompile(`ENOSPC|no space left`), "the disk is full; free 800 MB or set " + EnvCacheDir + " (and npm's own cache, npm_config_cache) to a directory on another disk"},
	{regexp.MustCompile(`EACCES|EROFS|EPERM|read-only file system|permission denied`), "npm may not write; set " + EnvCacheDir + " and npm_config_cache to directories that this user may write"},
	{regexp.MustCompile(`E404|ETARGET`), "the npm registry does not have the package; check which registry npm uses (npm config get registry)"},
	{regexp.MustCompile(`E401|E403|EAUTH`), "the npm registry refuses access; check npm's login and which registry it uses (npm config get registry)"},
	{regexp.MustCompile(`ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ENOTCACHED|ERR_SOCKET_TIMEOUT|CERT|network`), "the npm registry cannot be reached; connect to the network or set npm's proxy or registry"},
}

// explainNPM turns npm's output into one sentence with the way out and npm's own first words.
func explainNPM(output string) error {
	text := "npm ci ended with an error; run it by hand to see more"
	for _, reason := range npmReasons {
		if reason.sign.MatchString(output) {
			text = reason.text
			break
		}
	}
	return fmt.Errorf("%s, %s (npm: %s)", text, wayOut, firstLines(output, 3))
}

// firstLines joins the first n lines that say something.
func firstLines(text string, n int) string {
	var out []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "npm error"))
		if line != "" && len(out) < n {
			out = append(out, line)
		}
	}
	return strings.Join(out, "; ")
}

// marker describes a complete library folder; a library of another size was cut off or changed.
type marker struct {
	Size int64 `json:"size"`
}

// install moves the unpacked package to target in one step.
func install(unpacked, target string) error {
	info, err := os.Stat(filepath.Join(unpacked, libraryFile))
	if err != nil {
		return fmt.Errorf("npm installed no library: %w; delete npm's cache (npm cache clean --force) and try again, %s", err, wayOut)
	}
	content, err := json.Marshal(marker{Size: info.Size()})
	if err != nil {
		return fmt.Errorf("mark library: %w", err)
	}
	if err := os.WriteFile(filepath.Join(unpacked, libraryMarker), content, 0o644); err != nil {
		return fmt.Errorf("mark library: %w", err)
	}
	if err := os.RemoveAll(target); err != nil { // an incomplete one
		return fmt.Errorf("replace incomplete library: %w", err)
	}
	if err := os.Rename(unpacked, target); err != nil {
		return fmt.Errorf("move library into the cache: %w", err)
	}
	return nil
}

// complete tells whether target holds a whole library.
func complete(target string) bool {
	content, err := os.ReadFile(filepath.Join(target, libraryMarker))
	if err != nil {
		return false
	}
	var want marker
	if json.Unmarshal(content, &want) != nil {
		return false
	}
	info, err := os.Stat(filepath.Join(target, libraryFile))
	return err == nil && info.Size() == want.Size
}

func freeSpace(dir string) (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, err
	}
	return int64(stat.Bavail) * int64(stat.Bsize), nil
}

// rootCause drops the path that the sentence around it names already.
func rootCause(err error) error {
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		return path.Err
	}
	return err
}
