//go:build synctests

package simulation_test

import (
	"flag"
	"log/slog"
	"os"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/simulation"
)

var workers = flag.Int("workers", 20, "workers of TestFleet; partitions, tenants and load grow with them, to 2,000 partitions, 5,000 tenants and 10 million events a second at 200")

var phases = flag.String("phases", "", "phases of TestFleet to go through behind the start, a regular expression; all without one")

// fleet is docs/scaling.md's design point, or a part of it: one event, series or row stands for a thousand. Mergers may
// hold twice a thousandth of their default: tenants are as many as they say, and half of all rows are the only ones of
// theirs.
func fleet(workers int) simulation.FleetShape {
	return simulation.FleetShape{
		Workers: workers, Zones: 3, Partitions: int32(10 * workers), Results: int32(workers), Tenants: 25 * workers,
		Events: 50 * workers, Series: 50 * workers,
		EventCost: time.Millisecond, RowCost: 5 * time.Millisecond,
		Coarse: coarse.Config{Interval: 30 * time.Second, Memory: 128 << 10},
		Epoch:  pipeline.EpochConfig{Min: 1250 * time.Millisecond, Max: 5 * time.Second, RowsPerSecond: 20, MaxBytes: 256 << 20},
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
		asked := regexp.MustCompile("^start$|" + *phases)
		watch := func(b bounds, do func()) {
			t.Helper()
			if !asked.MatchString(b.name) {
				return
			}
			p, err := f.Watch(b.name, b.length, 5*time.Minute, do)
			t.Log(p)
			if err != nil {
				t.Fatal(err)
			}
			b.hold(t, p, &shape)
		}
		nothing := func() {}
		zone := int(shape.Partitions)/shape.Zones + 10
		interval := shape.Coarse.Interval
		watch(bounds{name: "start", length: 10 * time.Second, rest: 15 * time.Second, wider: interval + 15*time.Second, rounds: 4,
			behind: 15 * time.Second, late: interval + 15*time.Second}, nothing)
		watch(bounds{name: "steady", inserts: 0.8, length: interval, rest: time.Second, wider: time.Second,
			behind: 12 * time.Second, late: 2*interval + 12*time.Second}, nothing)
		watch(bounds{name: "light", length: interval, rest: time.Second, wider: time.Second,
			behind: 12 * time.Second, late: 2*interval + 12*time.Second}, func() { f.Slow(10) })
		f.Slow(1)
		// kfake rebalances where Apache Kafka lets a static member that comes back take up what it had: two rounds each
		// time.
		watch(bounds{name: "rolling restart", rest: 3 * time.Minute, wider: 3 * time.Minute, rounds: 60,
			moved: int(shape.Partitions), behind: 40 * time.Second, late: 2*interval + 40*time.Second},
			func() { f.Roll(max(4, *workers/20), 3*time.Second) })
		watch(bounds{name: "lost zone", length: 45 * time.Second, rest: 50 * time.Second, wider: 2*interval + 50*time.Second, rounds: 2,
			orphans: zone, behind: 65 * time.Second, late: 2*interval + 65*time.Second}, func() { f.LoseZone(1) })
		watch(bounds{name: "zone back", length: 15 * time.Second, rest: 25 * time.Second, wider: 2*interval + 25*time.Second, rounds: 4,
			moved: zone, behind: 40 * time.Second, late: 2*interval + 65*time.Second}, f.Replace)
		f.EndLoad()
		time.Sleep(interval + 20*time.Second)
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
	wider, late    time.Duration // the same of the tiers of a minute and an hour
	rounds         int32         // of the workers' group, and of the mergers'
	moved, orphans int           // partitions
	inserts        float64       // of workers, a second and worker; 0: what the shortest epochs allow
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
	f("seconds until the wider tiers are", p.Wider.Seconds(), b.wider.Seconds())
	f("seconds that results are behind", p.Behind.Seconds(), b.behind.Seconds())
	f("seconds that the wider tiers are behind", p.Late.Seconds(), b.late.Seconds())
	f("rounds of rebalancing", float64(p.Rounds), float64(b.rounds))
	f("rounds of rebalancing of mergers", float64(p.Merging), float64(b.rounds))
	f("partitions moved", float64(p.Moved), float64(b.moved))
	f("partitions orphaned", float64(p.Orphans), float64(b.orphans))
	// A worker inserts a block an epoch into three tables at most: panes, windows or series, and progress. A results
	// partition has a block or two of minutes an interval, one of how far it is merged, and progress.
	inserts := b.inserts
	if inserts == 0 {
		inserts = 3 / shape.Epoch.Min.Seconds()
	}
	merged := 4 * float64(shape.Results) / shape.Coarse.Interval.Seconds()
	f("inserts a second", p.Inserts, inserts*workers+merged)
	f("transactions open", float64(p.Open), workers+float64(shape.Results))
	f("bytes of state a partition", float64(p.State)/float64(shape.Partitions), 4096)
	f("bytes appended to state a second and partition", p.StateRate/float64(shape.Partitions), 1024)
	f("bytes appended to positions a second and partition", p.Positions/float64(shape.Results), 32)
}
