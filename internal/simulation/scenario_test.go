//go:build synctests

// The tag makes franz-go's own locks visible to fake time: go test -tags synctests ./internal/simulation

package simulation_test

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vigie-io/vigie/internal/simulation"
)

var verbose = flag.Bool("log", false, "print what the processes log")

// simulate runs a scenario in a bubble.
func simulate(t *testing.T, s *simulation.Scenario, hits *simulation.Hits) (err error) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	if *verbose {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	// Time that does not pass in the bubble passes outside.
	stuck := time.AfterFunc(time.Minute, func() { panic("stuck for a minute:\n" + s.Name + "\n" + s.String()) })
	defer stuck.Stop()
	synctest.Test(t, func(*testing.T) { err = simulation.Run(s, hits, log) })
	return err
}

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.scenario")
	if err != nil || len(files) == 0 {
		t.Fatalf("scenario files: got %v, %v, want some", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".scenario"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			scenario, err := simulation.Parse(file, string(text))
			if err != nil {
				t.Fatal(err)
			}
			if err := simulate(t, scenario, nil); err != nil {
				t.Error(fmt.Errorf("%s: %w", file, err))
			}
		})
	}
}
