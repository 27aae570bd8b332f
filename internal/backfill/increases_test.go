package backfill_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/backfill"
	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/internal/units"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// someIncreases are rollups of measure increase, of panes and of windows.
func someIncreases() []rollup.Declared {
	all := []rollup.Declared{
		{Name: "grown", By: []string{"service"}, AlsoBy: [][]string{{}}},
		{Name: "grown_often", Where: `n != "3" and unit == "By"`},
		{Name: "grown_visits", By: []string{"service"}, Window: &windowed.Window{Session: &windowed.Session{Gap: 40 * time.Second, By: []string{"n"}}}},
		{
			Name: "grown_hops", By: []string{"service"},
			Window: &windowed.Window{Hopping: &windowed.Hopping{Size: 5 * time.Minute, Every: time.Minute}, Late: "divert"},
			Keep:   &windowed.Keep{First: true, Last: true, Distinct: "n", Top: &windowed.Top{Of: "n", K: 5}},
		},
	}
	for i := range all {
		all[i].From, all[i].Measure = events.Metrics, "increase"
	}
	return all
}

// someCounters are samples of cumulative series that begin, and begin anew, with and without a start time, and of
// deltas, in the order of time. Some times have several samples of a series, of which the first is the one to count.
func someCounters(n int) []events.Metric {
	r, begin := rand.New(rand.NewPCG(11, 12)), time.Now().Add(-40*time.Hour).Truncate(time.Hour)
	totals, starts := map[string]float64{}, map[string]int64{}
	var all []events.Metric
	for i := range n {
		// Bursts of ten minutes, so that sessions end.
		burst, within := i*20/n, float64(i*20%n)/float64(n)
		at := begin.Add(time.Duration(burst)*time.Hour + time.Duration(within*float64(10*time.Minute))).UnixNano()
		tenant, label := []string{"acme", "demo"}[r.IntN(2)], r.IntN(4+burst)
		m := events.Metric{
			Tenant: tenant, Kind: events.Cumulative, Name: "c", Unit: []string{"", "By"}[label%2], Time: at,
			Labels: series.Labels{{Name: "n", Value: fmt.Sprint(label)}, {Name: "service", Value: fmt.Sprint("s", label%3)}},
		}
		key := fmt.Sprint(tenant, label)
		switch r.IntN(60) {
		case 0: // it begins anew, and says so
			totals[key], starts[key] = 0, at-1
		case 1: // it does not
			totals[key] = 0
		case 2:
			m.Kind, m.Value = events.Delta, 3
			all = append(all, m)
			continue
		}
		totals[key] += float64(r.IntN(4))
		m.Value, m.Start = totals[key], starts[key]
		all = append(all, m)
		if r.IntN(20) == 0 {
			m.Value /= 2
			all = append(all, m)
		}
	}
	for _, tenant := range []string{"acme", "demo"} {
		all = append(all, events.Metric{Tenant: tenant, Kind: events.Gauge, Name: "end", Value: 1, Time: time.Now().UnixNano()})
	}
	return all
}

// Increases are those of the stream that has the samples in the order of time, bit for bit, though files have them in
// none.
func TestBackfilledIncreasesAreTheStreams(t *testing.T) {
	all, rollups := someCounters(270_000), someIncreases() // more than a chunk of samples
	stream, loaded := newDatabase(t), newDatabase(t)
	stream.oneTask(t, all, rollups, 0)
	want := stream.contents(t)
	for _, r := range rollups {
		if table := map[bool]string{true: "rollups_10s", false: "windows"}[r.Window == nil]; !strings.Contains(want[table], "\t"+r.Name+"\t") {
			t.Fatalf("the stream has nothing of %s: the test proves nothing", r.Name)
		}
	}
	dir := t.TempDir()
	mixed := slices.Clone(all)
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	write(t, filepath.Join(dir, "a.ndjson"), ndjson(mixed[:50_000]))
	write(t, filepath.Join(dir, "b.ndjson.gz"), ndjson(mixed[50_000:150_000]))
	write(t, filepath.Join(dir, "c.ndjson"), ndjson(mixed[150_000:]))
	cfg := config(filepath.Join(dir, "*"))
	cfg.Rollups, cfg.Runs = rollups[:1], filepath.Join(t.TempDir(), "runs")
	if _, _, err := loaded.run(t, cfg, nil); err != nil {
		t.Fatal(err)
	}
	cfg.Rollups = rollups // those that are declared later are filled from what is loaded
	_, out, err := loaded.run(t, cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	same(t, loaded.contents(t), want)
	if _, err := os.Stat(cfg.Runs); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want no folder any more", err)
	}
	notes := strings.Join(out.notes, "\n")
	for _, want := range []string{"increases of grown_often, of 3 files", "samples of grown_often are left out as duplicate"} {
		if !strings.Contains(notes, want) {
			t.Errorf("got notes %s, want %q", notes, want)
		}
	}
	if strings.Contains(notes, "increases of grown, ") {
		t.Errorf("got notes %s, want nothing of what is filled already", notes)
	}
	if _, _, err := loaded.run(t, cfg, func(s backfill.Store) backfill.Store { return silent{s, t} }); err != nil {
		t.Fatal(err)
	}
	cfg.Rollups[0].By = nil
	if _, _, err := loaded.run(t, cfg, nil); err == nil || !strings.Contains(err.Error(), "same settings") {
		t.Errorf("other labels: got %v, want a refusal", err)
	}
}

// Increases that files brought are counted again from all of them in the order of time, of panes and of windows, beside
// a topic and alone: every stored number that is changed is found. Of more samples than fit into memory nothing is
// said.
func TestIncreasesOfFilesAreRecounted(t *testing.T) {
	all, rollups := someCounters(6_000), someIncreases()
	d, dir := newDatabase(t), t.TempDir()
	streamed := &topic{all[:1_500]}
	d.oneTask(t, streamed.all, rollups, 0)
	mixed := slices.Clone(all[1_500:])
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	write(t, filepath.Join(dir, "a.ndjson"), ndjson(mixed[:2_000]))
	write(t, filepath.Join(dir, "b.ndjson"), ndjson(mixed[2_000:]))
	cfg := config(filepath.Join(dir, "*.ndjson"))
	cfg.Rollups, cfg.Runs, cfg.SplitSessions = rollups, filepath.Join(t.TempDir(), "runs"), true
	if _, _, err := d.run(t, cfg, nil); err != nil {
		t.Fatal(err)
	}
	loaded := clickhouse.NewBackfill(d.Client)
	limits, stream := tenants.DefaultConfig(), pipeline.DefaultConfig()
	count := func(windows bool, source verify.Source, memory units.Bytes) (verify.Summary, map[string]int) {
		t.Helper()
		files, err := backfill.NewRecount(t.Context(), cfg, loaded)
		if err != nil {
			t.Fatal(err)
		}
		what := verify.Config{
			Signal: files.Signal(), Table: verify.Tables()[0], Memory: memory, MaxPast: stream.MaxPast,
			MaxFuture: stream.MaxFuture, WatermarkDelay: stream.WatermarkDelay,
			MaxTenants: 100, Rollups: rollups, Topic: "t", Limits: limits.For, SeriesIdle: stream.SeriesIdle, Now: time.Now(),
			Files: files, FileParts: files.Parts(),
		}
		if source == nil {
			what.Topic = ""
		}
		if what.Added, err = loaded.Added(t.Context(), cfg.Job); err != nil {
			t.Fatal(err)
		}
		run := verify.Run
		if windows {
			run = func(ctx context.Context, cfg verify.Config, source verify.Source, store verify.Store, report func(verify.Difference)) (verify.Summary, error) {
				return verify.RunWindows(ctx, cfg, source, store.(verify.WindowStore), report)
			}
		}
		found := map[string]int{}
		sum, err := run(t.Context(), what, source, clickhouse.NewStore(d.Client), func(d verify.Difference) { found[d.Metric]++ })
		if err != nil {
			t.Fatal(err)
		}
		return sum, found
	}
	const enough = 1 << 30
	for _, windows := range []bool{false, true} {
		if sum, found := count(windows, streamed, enough); len(found) > 0 || sum.Rows == 0 || sum.Incomparable > 0 {
			t.Errorf("windows %v: got %+v and differences of %v, want every row compared", windows, sum, found)
		}
		if sum, found := count(windows, nil, enough); len(found) > 0 || sum.Rows == 0 || windows && sum.Incomparable > 0 {
			t.Errorf("windows %v, files alone: got %+v and differences of %v, want none", windows, sum, found)
		}
	}
	if sum, found := count(false, streamed, 512<<10); len(found) > 0 || sum.Incomparable == 0 {
		t.Errorf("little memory: got %+v and differences of %v, want rows that are not comparable", sum, found)
	}
	// Of each rollup a number becomes another.
	begin := all[3_000].Time / 1e9 // all that is younger is of files
	for _, r := range rollups {
		if r.Window == nil {
			d.ask(t, fmt.Sprintf("INSERT INTO vigie.rollups_10s SELECT * REPLACE (sum + 1 AS sum, 0 AS count) FROM vigie.rollups_10s FINAL WHERE metric = '%s' AND toUnixTimestamp(ts) > %d LIMIT 1", r.Name, begin))
		} else {
			d.ask(t, fmt.Sprintf("INSERT INTO vigie.windows SELECT * REPLACE (version + 1 AS version, sum + 1 AS sum) FROM vigie.windows FINAL WHERE metric = '%s' AND startsWith(part, 'backfill/') LIMIT 1", r.Name))
		}
	}
	for _, windows := range []bool{false, true} {
		_, found := count(windows, streamed, enough)
		for _, r := range rollups {
			if want := map[bool]int{true: 1}[windows == (r.Window != nil)]; found[r.Name] != want {
				t.Errorf("%s, windows %v: got %d differences, want %d", r.Name, windows, found[r.Name], want)
			}
		}
	}
}
