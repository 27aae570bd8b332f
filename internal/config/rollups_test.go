package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The examples of docs/rollups.md are configurations that stream takes, each by itself.
func TestRollupExamples(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "rollups.md"))
	if err != nil {
		t.Fatal(err)
	}
	examples, rollups := 0, 0
	for i, block := range strings.Split(string(page), "```")[1:] {
		text, is := strings.CutPrefix(block, "yaml\n")
		if i%2 == 1 || !is {
			continue
		}
		file := filepath.Join(t.TempDir(), "vigie.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		loaded, err := Load("vigie", []string{"-config", file}, nil, os.Stderr)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		examples++
		rollups += len(loaded.Config.Stream.Rollups)
	}
	if examples < 4 || rollups < 10 {
		t.Errorf("got %d examples with %d rollups, want those of the page", examples, rollups)
	}
}
