package ruler

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite golden files")

// What is said of every file in testdata, to the column, is in FILE.golden.
func TestCheckAndTestFiles(t *testing.T) {
	f := func(name string, code int) {
		t.Helper()
		var out strings.Builder
		got := 0
		if path := filepath.Join("testdata", name); strings.HasSuffix(name, "_test.yml") {
			got = Test([]string{path}, &out)
		} else {
			got = Check([]string{path}, true, &out)
		}
		if got != code {
			t.Errorf("%s: got exit code %d, want %d\n%s", name, got, code, out.String())
		}
		golden := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if out.String() != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, out.String(), want)
		}
	}
	f("good.yml", 0)
	f("bad_promql.yml", 1)
	f("bad_key.yml", 1)
	f("twice.yml", 3)
	f("missing.yml", 1)
	f("good_test.yml", 0)
	f("wrong_test.yml", 1)
	f("bad_test.yml", 1)
}

// Files that are not rules at all are refused, whatever they are.
// breaks are where YAML ends a line.
var breaks = regexp.MustCompile("\r\n|[\r\n\u0085\u2028\u2029]")

func FuzzCheck(f *testing.F) {
	for _, name := range []string{"good.yml", "bad_promql.yml", "bad_key.yml"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	path := filepath.Join(f.TempDir(), "rules.yml")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		_, problems := parseFile(path)
		lines := len(breaks.FindAll(text, -1)) + 1
		for _, p := range problems {
			if p.Line < 0 || p.Line > lines || p.Text == "" {
				t.Errorf("got %+v, want a place inside of %d lines", p, lines)
			}
		}
	})
}
