//go:build synctests

package simulation_test

import (
	"flag"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/simulation"
)

var workers = flag.Int("workers", 20, "workers of TestFleet; partitions, tenants and load grow with them, to 2,000 partitions, 5,000 tenants and 10 million events a second at 200")

// fleet is docs/scaling.md's design point, or a part of it: one event, series or row stands for a thousand.
func fleet(workers int) simulation.FleetShape {
	return simulation.FleetShape{
		Workers: workers, Zones: 3, Partitions: int32(10 * workers), Results: int32(workers), Tenants: 25 * workers,
		Events: 50 * workers, Series: 50 * workers,
		EventCost: time.Millisecond, RowCost: 5 * time.Millisecond,
		Epoch: pipeline.EpochConfig{Min: 1250 * time.Millisecond, Max: 5 * time.Second, RowsPerSecond: 20, MaxBytes: 256 << 20},
	}
}

// Many workers start, are restarted in turns, lose a zone and get it back, under load: what that costs Kafka and
// ClickHouse, and how long it takes, stays within what docs/scaling.md says; and every event is counted once.
func TestFleet(t *testing.T) {
	shape := fleet(*workers)
	log := slog.New(slog.DiscardHandler)
	if *verbose {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		f, err := simulation.NewFleet(shape, log)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		f.StartLoad()
		watch := func(b bounds, do func()) {
			t.Helper()
			p, err := f.Watch(b.name, b.length, 5*time.Minute, do)
			t.Log(p)
			if err != nil {
				t.Fatal(err)
			}
			b.hold(t, p, &shape)
		}
		nothing := func() {}
		zone := int(shape.Partitions)/shape.Zones + 10
		watch(bounds{name: "start", length: 10 * time.Second, rest: 15 * time.Second, rounds: 4, behind: 15 * time.Second}, nothing)
		watch(bounds{name: "steady", inserts: 0.8, length: 15 * time.Second, rest: time.Second, behind: 12 * time.Second}, nothing)
		watch(bounds{name: "light", length: 15 * time.Second, rest: time.Second, behind: 12 * time.Second}, func() { f.Slow(10) })
		f.Slow(1)
		// kfake rebalances where Apache Kafka lets a static member that comes back take up what it had: two rounds each
		// time.
		watch(bounds{name: "rolling restart", rest: 3 * time.Minute, rounds: 45,
			moved: int(shape.Partitions), behind: 40 * time.Second},
			func() { f.Roll(max(4, *workers/20), 3*time.Second) })
		watch(bounds{name: "lost zone", length: 45 * time.Second, rest: 50 * time.Second, rounds: 2, orphans: zone, behind: 65 * time.Second}, func() { f.LoseZone(1) })
		watch(bounds{name: "zone back", length: 15 * time.Second, rest: 25 * time.Second, rounds: 4, moved: zone, behind: 40 * time.Second}, f.Replace)
		f.EndLoad()
		time.Sleep(20 * time.Second)
		if diff := f.Exact(); diff != "" {
			t.Error(diff)
		}
	})
	t.Logf("%d workers, %d partitions, %d tenants in %s",
		shape.Workers, shape.Partitions, shape.Tenants, time.Since(began).Round(time.Second))
}

// bounds are what a phase may come to.
type bounds struct {
	name           string
	length         time.Duration // at least
	rest, behind   time.Duration
	rounds         int32
	moved, orphans int     // partitions
	inserts        float64 // a second and worker; 0: what the shortest epochs allow
}

func (b bounds) hold(t *testing.T, p *simulation.Phase, shape *simulation.FleetShape) {
	t.Helper()
	f := func(what string, got, most float64) {
		t.Helper()
		if got > most {
			t.Errorf("%s: %s: got %.4g, want %.4g at most", b.name, what, got, most)
		}
	}
	workers := float64(shape.Workers)
	f("seconds until it is at rest", p.Rest.Seconds(), b.rest.Seconds())
	f("seconds that results are behind", p.Behind.Seconds(), b.behind.Seconds())
	f("rounds of rebalancing", float64(p.Rounds), float64(b.rounds))
	f("partitions moved", float64(p.Moved), float64(b.moved))
	f("partitions orphaned", float64(p.Orphans), float64(b.orphans))
	// A worker inserts a block an epoch into three tables at most: rollups, windows or series, and progress.
	inserts := b.inserts
	if inserts == 0 {
		inserts = 3 / shape.Epoch.Min.Seconds()
	}
	f("inserts a second", p.Inserts, inserts*workers)
	f("transactions open", float64(p.Open), workers)
	f("bytes of state a partition", float64(p.State)/float64(shape.Partitions), 4096)
	f("bytes appended to state a second and partition", p.StateRate/float64(shape.Partitions), 1024)
}
