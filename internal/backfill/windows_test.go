package backfill_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/backfill"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// someWindows are windows of all shapes and policies, that keep all there is.
func someWindows() (all []rollup.Declared) {
	shapes := []windowed.Window{
		{Session: &windowed.Session{Gap: 40 * time.Second, By: []string{"n"}}},
		{Hopping: &windowed.Hopping{Size: 5 * time.Minute, Every: time.Minute}},
		{Tumbling: time.Minute},
		{Calendar: &windowed.Calendar{Unit: "day", Zone: "Europe/Paris"}},
	}
	for _, late := range []string{"", "merge", "divert"} {
		for i, w := range shapes {
			if w.Session != nil && late == "merge" {
				continue
			}
			w.Late, w.AllowedLateness = late, time.Minute
			for name, keep := range map[string]*windowed.Keep{
				"": nil, "_kept": {First: true, Last: true, Distinct: "n", Top: &windowed.Top{Of: "n", K: 5}},
			} {
				all = append(all, rollup.Declared{
					Name: fmt.Sprint("w", i, late, name), From: events.Metrics, Where: `name == "m0" or name == "m1"`,
					By: []string{"service"}, Window: &w, Keep: keep,
				})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b rollup.Declared) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// oldMetrics are someMetrics of two days, of which the last of each tenant closes all windows.
func oldMetrics(n int) []events.Metric {
	r, end := rand.New(rand.NewPCG(7, 8)), time.Now()
	all := make([]events.Metric, n)
	for i := range all {
		k := r.IntN(4)
		all[i] = events.Metric{
			Tenant: []string{"acme", "demo"}[r.IntN(2)], Kind: events.Kind(k), Name: fmt.Sprint("m", k),
			Value: float64(r.IntN(4096)) / 64,
			// In bursts, so that there are sessions of many events.
			Time: end.Add(-60*time.Hour+time.Duration(r.IntN(20))*time.Hour).UnixNano() + r.Int64N(int64(10*time.Minute)),
			Labels: series.Labels{{Name: "n", Value: fmt.Sprint(r.IntN(20))},
				{Name: "service", Value: fmt.Sprint("s", r.IntN(3))}},
		}
	}
	slices.SortFunc(all, func(a, b events.Metric) int { return cmp.Compare(a.Time, b.Time) })
	for _, tenant := range []string{"acme", "demo"} {
		all = append(all, events.Metric{Tenant: tenant, Kind: events.Gauge, Name: "end", Value: 1, Time: end.UnixNano()})
	}
	return all
}

// windows are all rows, but for the part that they are of.
func (d *database) windows(t testing.TB) string {
	return d.ask(t, "SELECT tenant, metric, service, series_id, labels, start, end, rule, version, kind, delta, count, sum, min, max, hex(sketch), series_kind, measures, first, last, hex(CAST(distinct_state, 'String')), top"+
		" FROM vigie.windows FINAL ORDER BY tenant, metric, series_id, start, end, rule, delta")
}

// sql is what a tenant is answered.
func (d *database) sql(t testing.TB, tenant tenants.ID, statement string) string {
	t.Helper()
	response, err := d.SQL(t.Context(), tenant, http.MethodPost, nil, nil, strings.NewReader(statement))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", statement, body, err)
	}
	return string(body)
}

// api is what a reader sees of windows.
func (d *database) api(t testing.TB) map[string]string {
	return map[string]string{"api.windows": d.sql(t, "acme", "SELECT * EXCEPT (sketch, distinct_state), hex(CAST(sketch, 'String')), hex(CAST(distinct_state, 'String')) FROM api.windows ORDER BY ALL")}
}

// Windows of all shapes, policies and measures are those of the stream, bit for bit, though their events lie in several
// files and chunks out of order; readers see the same.
func TestBackfilledWindowsAreTheStreams(t *testing.T) {
	all := oldMetrics(6_000)
	stream, loaded := newDatabase(t), newDatabase(t)
	rollups := someWindows()
	stream.oneTask(t, all, rollups, 0)
	want := stream.contents(t)
	for i := range rollups {
		if !strings.Contains(want["windows"], "\t"+rollups[i].Name+"\t") {
			t.Fatalf("the stream has closed no window of %s: the test proves nothing", rollups[i].Name)
		}
	}
	dir, runs := t.TempDir(), filepath.Join(t.TempDir(), "runs")
	mixed := slices.Clone(all)
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	// Lines without an event make the first file two chunks.
	blank := strings.Repeat("\n", 1<<18)
	write(t, filepath.Join(dir, "a.ndjson"), slices.Concat(ndjson(mixed[:1_000]), []byte(blank), ndjson(mixed[1_000:2_000])))
	write(t, filepath.Join(dir, "b.ndjson.gz"), ndjson(mixed[2_000:4_500]))
	write(t, filepath.Join(dir, "c.ndjson"), ndjson(mixed[4_500:]))
	cfg := config(filepath.Join(dir, "*"))
	cfg.Rollups, cfg.Runs = rollups, runs
	_, out, err := loaded.run(t, cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	same(t, loaded.contents(t), want)
	same(t, loaded.api(t), stream.api(t))
	if _, err := os.Stat(runs); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want no folder any more", err)
	}
	if notes := strings.Join(out.notes, "\n"); !strings.Contains(notes, " windows of w0, of 3 files") {
		t.Errorf("got notes %s", notes)
	}

	// Once more does nothing.
	_, _, err = loaded.run(t, cfg, func(s backfill.Store) backfill.Store { return silent{s, t} })
	if err != nil {
		t.Fatal(err)
	}
}

// silent is a store that nothing is written to.
type silent struct {
	backfill.Store
	t *testing.T
}

func (s silent) Insert(context.Context, string, string, int, []byte) error {
	s.t.Error("got an insert, want none")
	return nil
}

// A rollup that is declared after a file was loaded is filled from it, alone.
func TestBackfillOfALaterRollup(t *testing.T) {
	all := oldMetrics(2_000)
	stream, loaded := newDatabase(t), newDatabase(t)
	rollups := someWindows()[:3]
	stream.oneTask(t, all, rollups, 0)
	path := filepath.Join(t.TempDir(), "a.ndjson")
	write(t, path, ndjson(all))
	cfg := config(path)
	cfg.Runs = filepath.Join(t.TempDir(), "runs")
	for _, n := range []int{0, 1, 3} {
		cfg.Rollups = rollups[:n]
		if _, _, err := loaded.run(t, cfg, nil); err != nil {
			t.Fatal(err)
		}
	}
	same(t, loaded.contents(t), stream.contents(t))
	cfg.Rollups = slices.Clone(rollups)
	cfg.Rollups[0].Where = `name == "m1"`
	if _, _, err := loaded.run(t, cfg, nil); err == nil || !strings.Contains(err.Error(), "same settings") {
		t.Errorf("another condition: got %v, want a refusal", err)
	}
}

// Backfill beside stored windows: aligned ones add up, those that stay as they were invoiced have what was loaded
// beside them, and sessions that would have to become one are refused, unless the operator has them stay two.
func TestBackfillBesideStoredWindows(t *testing.T) {
	start := time.Now().Add(-24 * time.Hour).Truncate(time.Hour)
	event := func(at time.Duration, user string) events.Metric {
		return events.Metric{Tenant: "acme", Kind: events.Observation, Name: "m0", Value: 1, Time: start.Add(at).UnixNano(),
			Labels: series.Labels{{Name: "n", Value: user}}}
	}
	declare := func(name, late string, w windowed.Window) rollup.Declared {
		w.Late = late
		return rollup.Declared{Name: name, From: events.Metrics, By: []string{"n"}, Window: &w}
	}
	adds := declare("adds", "merge", windowed.Window{Tumbling: time.Minute})
	stays := declare("stays", "divert", windowed.Window{Hopping: &windowed.Hopping{Size: 2 * time.Minute, Every: time.Minute}})
	visits := declare("visits", "", windowed.Window{Session: &windowed.Session{Gap: time.Minute}})
	aside := declare("aside", "divert", windowed.Window{Session: &windowed.Session{Gap: time.Minute}})
	rollups := []rollup.Declared{adds, stays, visits, aside}
	d := newDatabase(t)
	streamed := []events.Metric{event(0, "a"), event(0, "b")}
	end := event(2*time.Hour, "end")
	d.oneTask(t, append(streamed, end), rollups, 0)

	path := filepath.Join(t.TempDir(), "a.ndjson")
	write(t, path, ndjson([]events.Metric{event(59*time.Second, "a"), event(60*time.Second, "b"), event(0, "c")}))
	cfg := config(path)
	cfg.Rollups, cfg.Runs = rollups, filepath.Join(t.TempDir(), "runs")
	for range 2 {
		_, _, err := d.run(t, cfg, nil)
		if !errors.Is(err, backfill.ErrTouches) || !strings.Contains(err.Error(), "1 sessions") {
			t.Fatalf("got %v, want that one session touches another", err)
		}
		if n := d.ask(t, "SELECT count() FROM vigie.windows WHERE startsWith(part, 'backfill/')"); n != "0\n" {
			t.Fatalf("got %s rows, want none", n)
		}
	}
	cfg.SplitSessions = true
	for range 2 {
		if _, _, err := d.run(t, cfg, nil); err != nil {
			t.Fatal(err)
		}
	}
	f := func(view, metric, want string) {
		t.Helper()
		got := d.sql(t, "acme", fmt.Sprintf("SELECT arrayStringConcat(arraySort(groupArray(concat(labels['n'], ' ', toString(toUnixTimestamp(start) - %d), ' ', toString(count)))), ', ') FROM api.%s WHERE metric = '%s' AND labels['n'] != 'end'",
			start.Unix(), view, metric))
		if got = strings.TrimSpace(got); got != want {
			t.Errorf("%s of %s: got %s, want %s", view, metric, got, want)
		}
	}
	f("windows", "adds", "a 0 2, b 0 1, b 60 1, c 0 1")
	f("windows", "stays", "a -60 1, a 0 1, b -60 1, b 0 1, b 60 1, c -60 1, c 0 1")
	f("late_windows", "stays", "a -60 1, a 0 1, b 0 1")
	f("windows", "visits", "a 0 1, a 59 1, b 0 1, b 60 1, c 0 1")
	f("windows", "aside", "a 0 1, b 0 1, b 60 1, c 0 1")
	f("late_windows", "aside", "a 59 1")
}

// A job that was interrupted while it wrote windows goes on with the same files only: with others the part of rows
// would be another, and what is there would count twice.
func TestBackfillOfOtherFilesAfterAnInterruption(t *testing.T) {
	all := oldMetrics(1_000)
	d, dir := newDatabase(t), t.TempDir()
	write(t, filepath.Join(dir, "a.ndjson"), ndjson(all[:500]))
	write(t, filepath.Join(dir, "b.ndjson"), ndjson(all[500:]))
	cfg := config(filepath.Join(dir, "*"))
	cfg.Rollups, cfg.Runs = someWindows()[:1], filepath.Join(t.TempDir(), "runs")
	_, _, err := d.run(t, cfg, func(s backfill.Store) backfill.Store { return noWindows{s} })
	if !errors.Is(err, errBroken) {
		t.Fatalf("got %v, want %v", err, errBroken)
	}
	few := cfg
	few.Patterns = []string{filepath.Join(dir, "a.ndjson")}
	if _, _, err := d.run(t, few, nil); err == nil || !strings.Contains(err.Error(), "together with it") {
		t.Fatalf("got %v, want that the files of the run before are asked for", err)
	}
	if err := os.RemoveAll(cfg.Runs); err != nil { // what is lost is made again
		t.Fatal(err)
	}
	if _, _, err := d.run(t, cfg, nil); err != nil {
		t.Fatal(err)
	}
	whole := newDatabase(t)
	if _, _, err := whole.run(t, cfg, nil); err != nil {
		t.Fatal(err)
	}
	same(t, d.contents(t), whole.contents(t))
}

// noWindows breaks when windows are written.
type noWindows struct{ backfill.Store }

func (s noWindows) Insert(ctx context.Context, table, token string, rows int, block []byte) error {
	if table == pipeline.TableWindows {
		return fmt.Errorf("%w: %w", errBroken, backfill.ErrRefused)
	}
	return s.Store.Insert(ctx, table, token, rows, block)
}
