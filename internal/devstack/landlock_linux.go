package devstack

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errNoSandbox says that this machine has no Landlock; the engine then runs without a sandbox.
var errNoSandbox = errors.New("the kernel has no Landlock")

const (
	readRights = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	// fileRights are those that may be given for a path that is no directory.
	fileRights = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// systemPaths is what a dynamically linked server reads of its machine. Of /proc only these files and the server's own
// folder are open to it: the others' environ holds secrets, and root may read them in spite of Landlock.
var systemPaths = []string{
	"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/nix/store", "/gnu/store", "/etc/ld.so.cache",
	"/etc/localtime", "/usr/share/zoneinfo", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/resolv.conf",
	"/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/stat", "/proc/sys", "/proc/uptime", "/proc/vmstat",
	"/sys/fs/cgroup", "/sys/devices/system", "/dev/random", "/dev/urandom", "/dev/zero",
}

// sandboxVersion is the kernel's Landlock ABI, 0 without one.
func sandboxVersion() int {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(version)
}

// seal lets the calling OS thread, and what it executes from now on, read only the system's libraries and the files
// named, and write only below dir. It is made of raw system calls on one thread because purego's runtime has no
// AllThreadsSyscall. The caller must be locked to its thread.
func seal(files []string, dir string) error {
	version := sandboxVersion()
	if version < 1 {
		return errNoSandbox
	}
	all := allRights(version)
	attr := unix.LandlockRulesetAttr{Handled_access_fs: all}
	fd, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)),
		unsafe.Sizeof(attr.Handled_access_fs), 0)
	if errno != 0 {
		return fmt.Errorf("create Landlock rule set: %w", errno)
	}
	ruleset := int(fd)
	defer unix.Close(ruleset)
	for _, path := range append(files, systemPaths...) {
		if err := allow(ruleset, path, readRights&all); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := allow(ruleset, "/dev/null", (readRights|unix.LANDLOCK_ACCESS_FS_WRITE_FILE)&all); err != nil {
		return err
	}
	if err := allow(ruleset, dir, all); err != nil {
		return err
	}
	if err := allowOwnProc(ruleset, readRights&all); err != nil {
		return err
	}
	if _, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("forbid new privileges: %w", errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0); errno != 0 {
		return fmt.Errorf("enter Landlock sandbox: %w", errno)
	}
	return nil
}

// allRights are the file rights that the kernel knows at this ABI version: a ruleset naming more is refused.
func allRights(version int) uint64 {
	rights := uint64(1)<<13 - 1
	if version >= 2 {
		rights |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if version >= 3 {
		rights |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if version >= 5 {
		rights |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	return rights
}

// allowOwnProc adds this process's folder in /proc. The folder's inode, which the rule names, lives only as long as
// somebody has it open, so the descriptor stays open and goes on to the program executed next.
func allowOwnProc(ruleset int, rights uint64) error {
	path := fmt.Sprintf("/proc/%d", os.Getpid())
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("allow %s: %w", path, err)
	}
	return allowBeneath(ruleset, fd, path, rights)
}

// allow adds path, and all below it if it is a directory, to the rule set.
func allow(ruleset int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("allow %s: %w", path, err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("allow %s: %w", path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= fileRights
	}
	return allowBeneath(ruleset, fd, path, rights)
}

func allowBeneath(ruleset, fd int, path string, rights uint64) error {
	attr := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.RawSyscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&attr)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("allow %s: %w", path, errno)
	}
	return nil
}
