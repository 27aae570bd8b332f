package architecture

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// documents are the Markdown files of the project.
func documents(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < 10 {
		t.Fatalf("got %d documents, want the project's", len(files))
	}
	return files
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

// Every relative link of a document leads to a file.
func TestLinks(t *testing.T) {
	for _, file := range documents(t) {
		for _, match := range link.FindAllStringSubmatch(read(t, file), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), match[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", file, match[1])
			}
		}
	}
}

var (
	testName  = regexp.MustCompile("`(?:([a-z0-9]+)\\.)?((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)(?:/[^`]*)?`")
	testFunc  = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	packageOf = regexp.MustCompile(`(?m)^package (\w+?)(?:_test)?$`)
)

const anyPackage = ""

// Every test that a document names exists, in the package that it names.
func TestNamedTestsExist(t *testing.T) {
	declared := map[[2]string]bool{} // by package and name
	for _, folder := range []string{"internal", "pkg", "cmd", "bench", "proto"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, _ os.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, "_test.go") {
				text := read(t, path)
				name := packageOf.FindStringSubmatch(text)[1]
				for _, f := range testFunc.FindAllStringSubmatch(text, -1) {
					declared[[2]string{anyPackage, f[1]}], declared[[2]string{name, f[1]}] = true, true
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range documents(t) {
		for _, match := range testName.FindAllStringSubmatch(read(t, file), -1) {
			if !declared[[2]string{match[1], match[2]}] {
				t.Errorf("%s names %s, which is not there", file, match[0])
			}
		}
	}
}

// ARCHITECTURE.md has a line for every package.
func TestPackagesAreDescribed(t *testing.T) {
	page := read(t, filepath.Join(root, "ARCHITECTURE.md"))
	seen := map[string]bool{}
	forEachImport(t, func(from, _, _ string) {
		if seen[from] || strings.HasPrefix(from, "cmd") || from == "migrations" {
			return
		}
		seen[from] = true
		if !strings.Contains(page, "`"+from+"`") && !strings.Contains(page, "`"+filepath.Base(from)+"`") {
			t.Errorf("ARCHITECTURE.md says nothing of package %s", from)
		}
	})
}
