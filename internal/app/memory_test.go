package app

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestCgroupLimit(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) string {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	f := func(why, membership string, want int64) {
		t.Helper()
		if got := cgroupLimit(root, write("membership", membership)); got != want {
			t.Errorf("%s: got %d, want %d", why, got, want)
		}
	}
	if got := cgroupLimit(root, filepath.Join(root, "none")); got != math.MaxInt64 {
		t.Errorf("no cgroups: got %d, want no limit", got)
	}
	write("pod/memory.max", "2147483648\n")
	write("pod/one/memory.max", "1073741824\n")
	write("pod/two/memory.max", "max\n")
	write("pod/three/memory.max", "4294967296\n")
	f("a limit of its own", "3:cpu:/x\n0::/pod/one\n", 1<<30)
	f("one of the group above", "0::/pod/two\n", 2<<30)
	f("the lesser of the two", "0::/pod/three\n", 2<<30)
	f("a group below", "0::/pod/one/deeper\n", 1<<30)
	f("no limit", "0::/other\n", math.MaxInt64)
	f("only cgroups of version 1", "4:memory:/pod/one\n", math.MaxInt64)
	f("a path that leaves the root", "0::/../pod/one\n", 1<<30)
	write("memory.max", "536870912\n")
	f("a container", "0::/\n", 512<<20)
	f("its root", "0::/pod/one\n", 512<<20)
}
