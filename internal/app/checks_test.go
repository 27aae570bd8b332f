package app_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/app"
)

func TestChecksFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "vigie.prom")
	checks := app.NewChecks("audit", nil)
	checks.Found("vigie.results.v1", "rollups_10s", 0)
	checks.Found("vigie.results.v1", "rollups_1m", 2)
	if err := checks.Write(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`vigie_check_differences{check="audit",table="rollups_10s",topic="vigie.results.v1"} 0`,
		`vigie_check_differences{check="audit",table="rollups_1m",topic="vigie.results.v1"} 2`,
	} {
		if !strings.Contains(string(text), want+"\n") {
			t.Errorf("got %s, want %s in it", text, want)
		}
	}
	if !regexp.MustCompile(`(?m)^vigie_check_timestamp_seconds\{check="audit"\} [1-9]`).Match(text) {
		t.Errorf("got %s, want the time of the check in it", text)
	}
	if err := checks.Write(filepath.Join(file, "below")); err == nil || !strings.Contains(err.Error(), "-metrics") {
		t.Errorf("got %v, want an error that names the flag", err)
	}
	if err := checks.Write(""); err != nil {
		t.Error(err)
	}
}
