//go:build synctests

package simulation_test

import (
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/simulation"
)

var (
	seed      = flag.Uint64("seed", 0, "run the schedule of this seed only, -tries times")
	tries     = flag.Int("tries", 20, "runs of -seed, and of each scenario while it is being shrunk")
	schedules = flag.Int("schedules", 600, "random schedules to run")
	base      = flag.Uint64("base", 1, "seed of the first of them; 0 takes one from the clock")
)

// Whatever comes between them: of all accepted events, each is counted once in every tier.
func TestSchedules(t *testing.T) {
	if *seed != 0 {
		replay(t, *seed)
		return
	}
	first := *base
	if first == 0 {
		first = uint64(time.Now().UnixMilli()) * 1000
	}
	// Schedules leave much garbage and keep little: with the usual setting a third of the time goes to the collector.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	start := time.Now()
	var hits simulation.Hits
	var next, done, statements atomic.Int64
	t.Run("all", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("runner", func(t *testing.T) {
				t.Parallel()
				for n := next.Add(1); n <= int64(*schedules) && !t.Failed(); n = next.Add(1) {
					s := simulation.Generate(first + uint64(n))
					if err := simulate(t, s, &hits); err != nil {
						report(t, first+uint64(n), s, err)
					}
					done.Add(1)
					statements.Add(int64(len(s.Steps)))
				}
			})
		}
	})
	took := time.Since(start)
	fmt.Printf("%d schedules of %d statements in %s: %.0f a minute; seeds from %d\n",
		done.Load(), statements.Load(), took.Round(time.Millisecond), float64(done.Load())/took.Minutes(), first+1)
	fmt.Printf("faults that met something:\n%v", &hits)
	if missing := hits.Missing(); done.Load() >= enough && len(missing) > 0 {
		t.Errorf("%d schedules: none of these kinds of faults met anything: %s", done.Load(), strings.Join(missing, ", "))
	}
}

// enough schedules meet every kind of fault.
const enough = 600

func replay(t *testing.T, seed uint64) {
	s := simulation.Generate(seed)
	t.Logf("seed %d:\n%s", seed, s)
	for n := range *tries {
		if err := simulate(t, s, nil); err != nil {
			t.Logf("failed at run %d", n+1)
			report(t, seed, s, err)
			return
		}
	}
}

// report shows a failure as a scenario file, as small as it gets.
func report(t *testing.T, seed uint64, s *simulation.Scenario, err error) {
	t.Helper()
	t.Errorf("seed %d: %v\nagain: go test -tags synctests ./internal/simulation -run TestSchedules -seed=%d\nas it was:\n%s",
		seed, err, seed, s)
	last := err
	small := simulation.Shrink(s, 300, func(candidate *simulation.Scenario) bool {
		for range min(*tries, 5) {
			if err := simulate(t, candidate, nil); err != nil {
				last = err
				return true
			}
		}
		return false
	})
	t.Errorf("shrunk (%v):\n%s", last, small)
}
