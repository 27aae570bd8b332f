package devstack

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// ClickHouseVersion is the release line of the server that EnsureClickHouse fetches.
const ClickHouseVersion = "26.7"

// libraryVersion is the npm package's own; the server in it calls itself 26.7.2.1.
const libraryVersion = "26.7.3-stable.1"

// EnvClickHouseLib is the environment variable with the path of a libchdb.so to use instead of fetching one.
const EnvClickHouseLib = "VIGIE_CLICKHOUSE_LIB"

// pins is the package and its checksum as npm wants them, without download addresses: where it comes from is up to the
// user's npm settings.
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
	// librarySpace is what a fetch needs: 566 MB unpacked and 178 MB in npm's own cache.
	librarySpace = 800 << 20
	fetchTime    = 15 * time.Minute
)

// wayOut ends every error about the library: how to go on without fetching it.
const wayOut = "or set " + EnvClickHouseLib + " to a libchdb.so of version " + ClickHouseVersion +
	", or use a ClickHouse server of your own (clickhouse.addrs)"

// EnsureClickHouse returns the path of the ClickHouse library, which it fetches into cacheDir the first time ("" means
// [CacheDir]): 178 MB by npm, checked against a pinned SHA-512. progress, which may be nil, is told in one line what
// takes long. It is safe to call from several processes at once.
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
	dir, err := ensureLibrary(ctx, cacheDir, progress)
	if err != nil && ctx.Err() == nil {
		return "", fmt.Errorf("fetch ClickHouse %s: %w; %s", ClickHouseVersion, err, wayOut)
	}
	if err != nil {
		return "", fmt.Errorf("fetch ClickHouse %s: %w", ClickHouseVersion, err)
	}
	return filepath.Join(dir, libraryFile), nil
}

func ensureLibrary(ctx context.Context, cacheDir string, progress func(string)) (string, error) {
	platform := runtime.GOOS + "/" + runtime.GOARCH
	name, ok := libraryPackages[platform]
	if !ok {
		return "", fmt.Errorf("there is no library with a pinned checksum for %s; use a linux/amd64 machine", platform)
	}
	return EnsureCached(ctx, cacheDir, Part{
		Name:  "clickhouse-" + libraryVersion + "-" + runtime.GOOS + "-" + runtime.GOARCH,
		Space: librarySpace,
		Valid: libraryComplete,
		Fetch: func(ctx context.Context, work string) (string, error) {
			return fetchLibrary(ctx, work, name, progress)
		},
	}, progress)
}

// fetchLibrary lets npm unpack the pinned package below work and marks it complete.
func fetchLibrary(ctx context.Context, work, name string, progress func(string)) (string, error) {
	if _, err := exec.LookPath("npm"); err != nil {
		return "", errNoNPM
	}
	progress("fetching ClickHouse " + ClickHouseVersion + " once (178 MB, 566 MB unpacked) into " + filepath.Dir(work))
	if err := writePins(work); err != nil {
		return "", err
	}
	if err := InstallNPM(ctx, work); err != nil {
		return "", err
	}
	unpacked := filepath.Join(work, "node_modules", filepath.FromSlash(name))
	return unpacked, markLibrary(unpacked)
}

func writePins(work string) error {
	for _, file := range []string{"package.json", "package-lock.json"} {
		content, err := pins.ReadFile("npm/" + file)
		if err != nil {
			panic("BUG: embedded " + file + ": " + err.Error())
		}
		if err := os.WriteFile(filepath.Join(work, file), content, 0o644); err != nil {
			return explainNPM(err.Error())
		}
	}
	return nil
}

var errNoNPM = errors.New("npm is not installed or not on PATH; install Node.js with npm (Debian: apt-get install npm)")

// InstallNPM runs `npm ci` in dir, which installs exactly what package-lock.json there pins, or fails with one sentence
// that says what to do. No package's own scripts run.
func InstallNPM(ctx context.Context, dir string) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return errNoNPM
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--legacy-peer-deps", "--no-audit",
		"--no-fund", "--prefer-offline",
		"--loglevel=error", "--update-notifier=false", "--fetch-retries=2", "--fetch-retry-mintimeout=1000")
	cmd.Dir = dir
	// npm may stand behind scripts that start it: end the whole group, not only the first of them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	err = cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("npm ci: %w", ctx.Err())
	}
	if err != nil {
		return explainNPM(cmp.Or(strings.TrimSpace(output.String()), err.Error()))
	}
	return nil
}

// npmReasons maps what npm prints to a sentence that says what to do. The first that fits is taken.
var npmReasons = []struct {
	sign *regexp.Regexp
	text string
}{
	{regexp.MustCompile(`EINTEGRITY`),
		"the package does not match its pinned checksum; check which registry npm uses (npm config get registry), empty npm's cache (npm cache clean --force) and try again"},
	{regexp.MustCompile(`ENOSPC|(?i:no space left)`),
		"the disk is full; free 800 MB or set " + EnvCacheDir + " and npm's own cache (npm_config_cache) to directories on another disk"},
	{regexp.MustCompile(`EACCES|EROFS|EPERM|(?i:read-only file system|permission denied)`),
		"npm may not write; set " + EnvCacheDir + " and npm's own cache (npm_config_cache) to directories that this user may write"},
	{regexp.MustCompile(`E404|ETARGET`),
		"the npm registry does not have the package; check which registry npm uses (npm config get registry)"},
	{regexp.MustCompile(`E401|E403|EAUTH`),
		"the npm registry refuses access; check npm's login and which registry it uses (npm config get registry)"},
	{regexp.MustCompile(`ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ENOTCACHED|ERR_SOCKET_TIMEOUT|CERT|(?i:network)`), "the npm registry cannot be reached; connect to the network or set npm's proxy or registry"},
}

// explainNPM turns npm's output into one sentence with the way out and npm's own first words.
func explainNPM(output string) error {
	text := "npm ci ended with an error; run npm by hand to see more"
	for _, reason := range npmReasons {
		if reason.sign.MatchString(output) {
			text = reason.text
			break
		}
	}
	return fmt.Errorf("%s (npm: %s)", text, firstLines(output, 3))
}

// firstLines joins the first n lines of npm's output that say something.
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

// marker describes a complete library; one of another size was cut off or changed since.
type marker struct {
	Size int64 `json:"size"` // bytes
}

// markLibrary notes in dir that its library is whole.
func markLibrary(dir string) error {
	info, err := os.Stat(filepath.Join(dir, libraryFile))
	if err != nil {
		return fmt.Errorf("npm installed no library: %w; empty npm's cache (npm cache clean --force) and try again", err)
	}
	content, err := json.Marshal(marker{Size: info.Size()})
	if err != nil {
		return fmt.Errorf("mark library: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, libraryMarker), content, 0o644); err != nil {
		return fmt.Errorf("mark library: %w", err)
	}
	return nil
}

// libraryComplete tells whether dir holds a whole library.
func libraryComplete(dir string) bool {
	content, err := os.ReadFile(filepath.Join(dir, libraryMarker))
	if err != nil {
		return false
	}
	var want marker
	if json.Unmarshal(content, &want) != nil {
		return false
	}
	info, err := os.Stat(filepath.Join(dir, libraryFile))
	return err == nil && info.Size() == want.Size
}
