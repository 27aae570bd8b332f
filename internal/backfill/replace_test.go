package backfill_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/backfill"
	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/migrations"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// visible is what readers see of a tenant, sketch bytes included.
func (d *database) visible(t testing.TB, tenant string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, tier := range []string{"10s", "1m", "1h"} {
		of := " AS r WHERE tenant = '" + tenant + "' AND " + migrations.Visible("r", "'"+tenant+"'")
		measures := "sum(r.count), sum(r.sum), min(r.min), max(r.max), hex(" + migrations.MergeStates("r.sketch") + ")"
		all["rollups_"+tier] = d.ask(t, "SELECT metric, service, series_id, ts, "+measures+", max(r.last) FROM vigie.rollups_"+tier+of+" GROUP BY metric, service, series_id, ts ORDER BY ALL")
		all["services_"+tier] = d.ask(t,
			"SELECT metric, service, ts, "+measures+" FROM vigie.services_"+tier+of+" GROUP BY metric, service, ts ORDER BY ALL")
	}
	return all
}

// replaceCase is events of two tenants over hours, of which some are replaced, with the windows of a rollup.
type replaceCase struct {
	from, to time.Time
	old      []events.Metric
	oracle   *database // for want
	asked    int
}

func withWindows(cfg backfill.Config) backfill.Config {
	w := windowed.Window{Hopping: &windowed.Hopping{Size: 5 * time.Minute, Every: time.Minute}}
	cfg.Rollups = []rollup.Declared{{Name: "hops", From: events.Metrics, By: []string{"service"}, Window: &w,
		Keep: &windowed.Keep{Last: true, Distinct: "n"}}}
	return cfg
}

func newReplaceCase() *replaceCase {
	hour := time.Now().Truncate(time.Hour)
	c := &replaceCase{from: hour.Add(-9 * time.Hour), to: hour.Add(-7 * time.Hour), old: someMetrics(6_000)}
	c.spread(c.old, c.from.Add(-2*time.Hour), c.to.Add(2*time.Hour))
	return c
}

// spread puts the events of a series of someMetrics between two times.
func (c *replaceCase) spread(all []events.Metric, from, to time.Time) {
	for i := range all {
		all[i].Time = from.UnixNano() + int64(i)*int64(to.Sub(from))/int64(len(all))
	}
}

// fresh are n events of acme within the range, other ones for every seed.
func (c *replaceCase) fresh(n, seed int) []events.Metric {
	all := someMetrics(n)
	c.spread(all, c.from, c.to)
	for i := range all {
		all[i].Tenant = "acme"
		all[i].Value += float64(seed)
	}
	return all
}

// want is what is to be seen of acme once fresh ones have taken the place of its old ones.
func (c *replaceCase) want(t *testing.T, fresh []events.Metric) map[string]string {
	t.Helper()
	kept := fresh
	for _, m := range c.old {
		if at := time.Unix(0, m.Time); m.Tenant != "acme" || at.Before(c.from) || !at.Before(c.to) {
			kept = append(kept[:len(kept):len(kept)], m)
		}
	}
	if c.oracle == nil {
		c.oracle = newDatabase(t)
	}
	c.oracle.empty(t)
	c.asked++ // the tables remember tokens over a TRUNCATE
	path := filepath.Join(t.TempDir(), "want.ndjson")
	write(t, path, ndjson(kept))
	cfg := withWindows(config(path))
	cfg.Job = fmt.Sprint("want", c.asked)
	cfg.Runs = path + ".runs"
	if _, _, err := c.oracle.run(t, cfg, nil); err != nil {
		t.Fatal(err)
	}
	return c.oracle.visible(t, "acme")
}

func (c *replaceCase) config(pattern, job string) backfill.Config {
	cfg := withWindows(config(pattern))
	cfg.Job, cfg.Tenant, cfg.Runs = job, "acme", pattern+".runs"
	cfg.Replace = &backfill.Replace{From: c.from, To: c.to, MaxPast: time.Hour}
	return cfg
}

// A reader that asks all the time sees the old numbers or the new; others' numbers, and those around, stay bit for bit.
func TestReplace(t *testing.T) {
	c, d, dir := newReplaceCase(), newDatabase(t), t.TempDir()
	old, next := filepath.Join(dir, "old.ndjson"), filepath.Join(dir, "new.ndjson")
	write(t, old, ndjson(c.old))
	if _, _, err := d.run(t, config(old), nil); err != nil {
		t.Fatal(err)
	}
	demo, before := d.visible(t, "demo"), d.visible(t, "acme")
	fresh := c.fresh(4_000, 1)
	after := c.want(t, fresh)
	write(t, next, ndjson(fresh))

	for _, tier := range []string{"10s", "1m", "1h"} {
		seen := func(all map[string]string) string { return fmt.Sprint(strings.Count(all["rollups_"+tier], "\n")) }
		if seen(before) == seen(after) {
			t.Fatalf("tier %s: the same number of rows before and after: the test proves little", tier)
		}
	}
	stop, looked := make(chan struct{}), atomic.Int64{}
	var wg sync.WaitGroup
	for _, table := range []string{"rollups_10s", "rollups_1h", "services_1m"} {
		query := "SELECT count(), sum(r.count), sum(r.sum), max(r.max) FROM vigie." + table + " AS r FINAL WHERE tenant = 'acme' AND " + migrations.Visible("r", "'acme'")
		first := d.ask(t, query)
		wg.Go(func() {
			var switched string
			for last := false; !last; {
				select {
				case <-stop:
					last = true
				default:
				}
				got := d.ask(t, query)
				looked.Add(1)
				switch {
				case got == first && switched == "":
				case switched == "":
					switched = got
				case got != switched:
					t.Errorf("%s: got %s after %s and %s", table, got, first, switched)
					return
				}
			}
			if switched == "" {
				t.Errorf("%s: nobody saw the new numbers", table)
			}
		})
	}
	sum, out, err := d.run(t, c.config(next, "replace"), nil)
	if err != nil || sum.Events != 4_000 {
		t.Fatalf("got %+v, %v, %v", sum, err, out.notes)
	}
	for n := looked.Load(); looked.Load() < n+20; {
		time.Sleep(10 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	t.Logf("looked %d times", looked.Load())
	same(t, d.visible(t, "acme"), after)
	same(t, d.visible(t, "demo"), demo)

	// What was there is deleted in the end, of acme's range only.
	gone := fmt.Sprintf("SELECT count() FROM vigie.rollups_10s WHERE tenant = 'acme' AND gen = 0 AND ts >= toDateTime(%d) AND ts < toDateTime(%d)", c.from.Unix(), c.to.Unix())
	for deadline := time.Now().Add(30 * time.Second); d.ask(t, gone) != "0\n"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got %s old rows, want none", d.ask(t, gone))
		}
	}
	same(t, d.visible(t, "acme"), after)
	same(t, d.visible(t, "demo"), demo)
	if left := d.ask(t, "SELECT name FROM system.tables WHERE database = 'vigie' AND startsWith(name, 'replace_')"); left != "" {
		t.Errorf("tables left: %s", left)
	}

	// Again it does nothing; plain backfill into the range would not be seen, and is refused.
	if sum, _, err := d.run(t, c.config(next, "replace"), nil); err != nil || sum.Loaded != 1 || sum.Rows != 0 {
		t.Errorf("again: got %+v, %v", sum, err)
	}
	plain := config(next)
	plain.Job = "plain"
	if _, _, err := d.run(t, plain, nil); err == nil || !strings.Contains(err.Error(), "was replaced by job replace") {
		t.Errorf("plain: got %v, want a refusal", err)
	}
	same(t, d.visible(t, "acme"), after)

	// Replaced again, by less.
	few := c.fresh(100, 2)
	write(t, filepath.Join(dir, "few.ndjson"), ndjson(few))
	if _, _, err := d.run(t, c.config(filepath.Join(dir, "few.ndjson"), "twice"), nil); err != nil {
		t.Fatal(err)
	}
	same(t, d.visible(t, "acme"), c.want(t, few))

	// By nothing: only when told so.
	empty := c.config("", "empty")
	empty.Patterns = nil
	if _, _, err := d.run(t, empty, nil); !errors.Is(err, backfill.ErrNotSwitched) {
		t.Errorf("empty: got %v, want ErrNotSwitched", err)
	}
	empty.Replace.Empty = true
	if _, _, err := d.run(t, empty, nil); err != nil {
		t.Fatal(err)
	}
	same(t, d.visible(t, "acme"), c.want(t, nil))
	same(t, d.visible(t, "demo"), demo)
}

func TestReplaceRefuses(t *testing.T) {
	c, d, dir := newReplaceCase(), newDatabase(t), t.TempDir()
	path := filepath.Join(dir, "a.ndjson")
	fresh := c.fresh(10, 1)
	fresh[0].Time = c.from.UnixNano() - 1
	fresh[1].Time = c.to.UnixNano()
	fresh[2].Tenant = "demo"
	fresh[3].Time = c.from.UnixNano()
	fresh[4].Time = c.to.UnixNano() - 1
	write(t, path, ndjson(fresh))
	cfg := c.config(path, "a")
	if sum, _, err := d.run(t, cfg, nil); !errors.Is(err, backfill.ErrNotSwitched) || sum.Rejected != 3 || sum.Events != 7 {
		t.Fatalf("got %+v, %v, want ErrNotSwitched for 3 rejects", sum, err)
	}
	if got := d.ask(t, "SELECT count() FROM vigie.rollups_1h AS r WHERE "+migrations.Visible("r", "'acme'")); got != "0\n" {
		t.Errorf("got %s rows seen, want none", got)
	}
	cfg.Replace.Rejects = true
	if _, _, err := d.run(t, cfg, nil); err != nil {
		t.Fatal(err)
	}
	if got := d.ask(t, "SELECT sum(r.count) FROM vigie.rollups_1h AS r WHERE tenant = 'acme' AND "+migrations.Visible("r", "'acme'")); got != "7\n" {
		t.Errorf("got %s events, want 7", got)
	}
	f := func(want string, change func(*backfill.Config)) {
		t.Helper()
		cfg := c.config(path, "b")
		change(&cfg)
		err := cfg.Validate()
		if err == nil {
			_, _, err = d.run(t, cfg, nil)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	f("want whole hours", func(cfg *backfill.Config) { cfg.Replace.To = cfg.Replace.To.Add(time.Minute) })
	f("want an end behind", func(cfg *backfill.Config) { cfg.Replace.To = cfg.Replace.From })
	f("stream may still take", func(cfg *backfill.Config) { cfg.Replace.MaxPast = 9 * time.Hour })
	f("want the hours", func(cfg *backfill.Config) { cfg.Replace.To = time.Time{} })
	f("want -tenant", func(cfg *backfill.Config) { cfg.Tenant = "" })
}

// unpublished breaks when a generation is to be read.
type unpublished struct{ *clickhouse.Backfill }

func (unpublished) Publish(context.Context, *backfill.Replacement) error {
	return fmt.Errorf("%w: %w", errBroken, backfill.ErrRefused)
}

// recount checks that neither audit nor recount misses what was replaced.
func (c *windowCase) recount(t *testing.T, d *database, streamed []events.Metric) {
	t.Helper()
	for i := range d.blocks {
		if n, err := clickhouse.NewKept(d.Client).Lacks(t.Context(), verify.KeptWindows, &d.blocks[i]); err != nil || n != 0 {
			t.Errorf("audit: got %d rows missing of block %d, %v, want none", n, i, err)
		}
	}
	replaced, err := clickhouse.NewBackfill(d.Client).Replaced(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	limits, stream := tenants.DefaultConfig(), pipeline.DefaultConfig()
	what := verify.Config{
		Signal: events.Metrics, Memory: 1 << 30, MaxPast: stream.MaxPast, MaxFuture: stream.MaxFuture,
		WatermarkDelay: stream.WatermarkDelay, MaxTenants: 100,
		Rollups: c.rollups, Topic: "t", Limits: limits.For, Now: time.Now(),
	}
	for _, knows := range []bool{false, true} {
		if knows {
			what.ReplacedWindow = func(tenant, metric string, start, end int64) bool {
				return replaced.FindWindow(tenant, metric, start, end) != nil
			}
		}
		sum, err := verify.RunWindows(t.Context(), what, &topic{streamed}, clickhouse.NewStore(d.Client), func(verify.Difference) {})
		if err != nil || sum.Rows == 0 || knows != (sum.Differences == 0) {
			t.Errorf("verify, which knows of replacements %v: got %+v, %v", knows, sum, err)
		}
	}
}

// A session whose events all lie in the hours is replaced, though it ends after them. One that has others stays, and is
// not joined by what is put beside it.
func TestReplaceSessions(t *testing.T) {
	d, dir, hour := newDatabase(t), t.TempDir(), time.Now().Truncate(time.Hour)
	from, to := hour.Add(-9*time.Hour), hour.Add(-8*time.Hour)
	event := func(at time.Duration, user string) events.Metric {
		return events.Metric{Tenant: "acme", Kind: events.Observation, Name: "m0", Value: 1, Time: from.Add(at).UnixNano(),
			Labels: series.Labels{{Name: "n", Value: user}}}
	}
	w := windowed.Window{Session: &windowed.Session{Gap: 10 * time.Minute}}
	visits := rollup.Declared{Name: "visits", From: events.Metrics, By: []string{"n"}, Window: &w}
	run := func(job string, replaces, split bool, all ...events.Metric) error {
		path := filepath.Join(dir, job+".ndjson")
		write(t, path, ndjson(all))
		cfg := config(path)
		cfg.Job, cfg.Tenant, cfg.Rollups, cfg.Runs, cfg.SplitSessions = job, "acme", []rollup.Declared{visits}, path+".runs", split
		if replaces {
			cfg.Replace = &backfill.Replace{From: from, To: to, MaxPast: time.Hour}
		}
		_, _, err := d.run(t, cfg, nil)
		return err
	}
	check := func(want string) {
		t.Helper()
		got := d.sql(t, "acme", fmt.Sprintf("SELECT arrayStringConcat(arraySort(groupArray(concat(labels['n'], ' ', toString((toInt64(toUnixTimestamp(start)) - %d) / 60), ' ', toString(count)))), ', ') FROM api.windows", from.Unix()))
		if got = strings.TrimSpace(got); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if err := run("old", false, false,
		event(time.Minute, "within"), event(59*time.Minute, "end"), event(-time.Minute, "before"), event(59*time.Minute, "after"), event(61*time.Minute, "after")); err != nil {
		t.Fatal(err)
	}
	check("after 59 2, before -1 1, end 59 1, within 1 1")
	for i := range 2 { // also what has replaced is replaced
		if err := run(fmt.Sprint("new", i), true, false, event(2*time.Minute, "within"), event(58*time.Minute, "end"),
			event(59*time.Minute, "end"), event(30*time.Minute, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		check(fmt.Sprintf("%d 30 1, after 59 2, before -1 1, end 58 2, within 2 1", i))
	}
	touching := []events.Metric{event(5*time.Minute, "before"), event(55*time.Minute, "after")}
	if err := run("touching", true, false, touching...); !errors.Is(err, backfill.ErrTouches) ||
		!strings.Contains(err.Error(), "2 sessions") {
		t.Fatalf("got %v, want that two sessions touch others", err)
	}
	check("1 30 1, after 59 2, before -1 1, end 58 2, within 2 1")
	if err := run("touching", true, true, touching...); err != nil {
		t.Fatal(err)
	}
	check("after 55 1, after 59 2, before -1 1, before 5 1")
}

// cutoff ends a run at its n-th request, before or after it was carried out.
type cutoff struct {
	mu    sync.Mutex
	left  int
	after bool
	stop  context.CancelFunc
}

func (c *cutoff) arm(left int, after bool, stop context.CancelFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left, c.after, c.stop = left, after, stop
}

func (c *cutoff) serve(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.left--
		now, after, stop := c.left == 0, c.after, c.stop
		c.mu.Unlock()
		if now && !after {
			stop()
			panic(http.ErrAbortHandler)
		}
		if now {
			next.ServeHTTP(httptest.NewRecorder(), r.WithContext(context.WithoutCancel(r.Context())))
			stop()
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
	})
}

// A run that ends anywhere has replaced nothing or all, and the next one does the rest.
func TestReplaceGoesOnAfterAnyRequest(t *testing.T) {
	c, d, dir := newReplaceCase(), newDatabase(t), t.TempDir()
	old := filepath.Join(dir, "old.ndjson")
	write(t, old, ndjson(c.old))
	first := withWindows(config(old))
	first.Runs = old + ".runs"
	if _, _, err := d.run(t, first, nil); err != nil {
		t.Fatal(err)
	}
	demo, seen := d.visible(t, "demo"), d.visible(t, "acme")
	windows := func(d *database) string {
		return d.sql(t, "acme", fmt.Sprintf("SELECT * EXCEPT (version, sketch, distinct_state), hex(CAST(sketch, 'String')), hex(CAST(distinct_state, 'String')) FROM api.windows WHERE start >= toDateTime(%d, 'UTC') AND end <= toDateTime(%d, 'UTC') ORDER BY ALL", c.from.Unix(), c.to.Unix()))
	}
	cut := &cutoff{}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: d.server.HTTPAddr})
	front := httptest.NewServer(cut.serve(proxy))
	defer front.Close()
	client, err := connect(front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	run := func(cfg backfill.Config, left int, after bool) error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		cut.arm(left, after, cancel)
		_, err := backfill.New(cfg, clickhouse.NewBackfill(client), clickhouse.Encoder{}, &output{}, nil).Run(ctx)
		return err
	}
	want := map[int]map[string]string{}
	for i := range 2 {
		want[i] = c.want(t, c.fresh(300+100*i, i))
		want[i]["windows"] = windows(c.oracle)
		if want[i]["windows"] == "" {
			t.Fatal("there are no windows: the test proves nothing")
		}
	}
	seen["windows"] = windows(d)
	cuts := 0
	step := 11
	if testing.Short() {
		step = 31
	}
	for n, left := 0, 2; ; n, left = n+1, left+step {
		path := filepath.Join(dir, fmt.Sprint(n), "new.ndjson")
		mkdir(t, filepath.Dir(path))
		write(t, path, ndjson(c.fresh(300+100*(n%2), n%2)))
		cfg := c.config(path, fmt.Sprint("job", n))
		err := run(cfg, left, n%2 == 1)
		got := d.visible(t, "acme")
		got["windows"] = windows(d)
		if fmt.Sprint(got) != fmt.Sprint(seen) && fmt.Sprint(got) != fmt.Sprint(want[n%2]) {
			t.Fatalf("cut at request %d: readers see neither the old nor the new", left)
		}
		if err == nil {
			break // there were fewer requests
		}
		cuts++
		if err := run(cfg, 0, false); err != nil {
			t.Fatal(err)
		}
		got = d.visible(t, "acme")
		got["windows"] = windows(d)
		same(t, got, want[n%2])
		same(t, d.visible(t, "demo"), demo)
		seen = want[n%2]
	}
	t.Logf("%d cuts", cuts)
	if cuts < 3 {
		t.Fatalf("got %d cuts, want 3 and more: the test proves little", cuts)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

// A cluster refuses before anything is read or asked.
func TestReplaceOnACluster(t *testing.T) {
	cfg := clickhouse.DefaultConfig()
	cfg.Addrs, cfg.Password, cfg.Cluster = []string{"127.0.0.1:1"}, password, "prod"
	client, err := clickhouse.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	path := filepath.Join(t.TempDir(), "a.ndjson")
	write(t, path, nil)
	job := backfill.New(newReplaceCase().config(path, "fix"), clickhouse.NewBackfill(client),
		clickhouse.Encoder{}, &output{}, nil)
	if _, err := job.Run(t.Context()); !errors.Is(err, clickhouse.ErrCluster) ||
		!strings.Contains(err.Error(), "docs/backfill.md") {
		t.Errorf("got %v, want a refusal that says what to do", err)
	}
}

// windowCase is events of two tenants, of which the windows of acme that lie in two hours are replaced.
type windowCase struct {
	from, to time.Time
	rollups  []rollup.Declared
}

func newWindowCase() *windowCase {
	hour := time.Now().Truncate(time.Hour)
	c := &windowCase{from: hour.Add(-9 * time.Hour), to: hour.Add(-7 * time.Hour)}
	c.rollups = append(slices.Concat(someWindows(), someIncreases()),
		rollup.Declared{Name: "panes", From: events.Metrics, Where: `name == "m1"`,
			By: []string{"service"}, AlsoBy: [][]string{{}}})
	return c
}

// events are n events from one time to another, in bursts with silence around the edges of the hours, other ones for
// every seed.
func (c *windowCase) events(n int, seed uint64, from, to time.Time, of ...string) []events.Metric {
	r := rand.New(rand.NewPCG(seed, 1))
	all := make([]events.Metric, n)
	for i := range all {
		k := r.IntN(4)
		at := from.Add(time.Duration(r.Int64N(int64(to.Sub(from)))))
		if into := at.Sub(at.Truncate(time.Hour)); into < 3*time.Minute || into > 57*time.Minute {
			at = at.Truncate(time.Hour).Add(30 * time.Minute)
		}
		all[i] = events.Metric{
			Tenant: of[r.IntN(len(of))], Time: at.UnixNano(), Kind: events.Kind(k), Name: fmt.Sprint("m", k),
			Value: float64(r.IntN(4096)) / 64,
			Labels: series.Labels{{Name: "n", Value: fmt.Sprint(r.IntN(20))},
				{Name: "service", Value: fmt.Sprint("s", r.IntN(3))}},
		}
	}
	slices.SortFunc(all, func(a, b events.Metric) int { return cmp.Compare(a.Time, b.Time) })
	return all
}

func (c *windowCase) config(path, job string) backfill.Config {
	cfg := config(path)
	cfg.Job, cfg.Rollups, cfg.Runs = job, c.rollups, filepath.Join(filepath.Dir(path), job+".runs")
	return cfg
}

func (c *windowCase) replacing(path, job string) backfill.Config {
	cfg := c.config(path, job)
	cfg.Tenant, cfg.Replace = "acme", &backfill.Replace{From: c.from, To: c.to, MaxPast: time.Hour}
	return cfg
}

// seen are the windows that readers see of a tenant, those that begin and end within the hours or all others.
func (c *windowCase) seen(t testing.TB, d *database, tenant tenants.ID, within bool) map[string]string {
	t.Helper()
	all := map[string]string{}
	for key, view := range map[string]string{"windows": "windows", "windows, late": "late_windows"} {
		// A session ends its gap after its last event.
		of := fmt.Sprintf("start >= toDateTime(%d, 'UTC') AND end <= toDateTime(%d, 'UTC') + if(startsWith(metric, 'w0'), 39, 0)",
			c.from.Unix(), c.to.Unix())
		if !within {
			of = "NOT (" + of + ")"
		}
		all[key] = d.sql(t, tenant, "SELECT * EXCEPT (sketch, distinct_state), hex(CAST(sketch, 'String')), hex(CAST(distinct_state, 'String')) FROM api."+view+" WHERE "+of+" ORDER BY ALL")
	}
	return all
}

// Windows of all shapes, policies and measures, and panes of declared rollups, change with the panes of their events,
// at once; those that reach over an edge of the hours stay, as do those of others.
func TestReplaceWindows(t *testing.T) {
	c, d, fresh, dir := newWindowCase(), newDatabase(t), newDatabase(t), t.TempDir()
	old, next := filepath.Join(dir, "old.ndjson"), filepath.Join(dir, "new.ndjson")
	was := c.events(6_000, 1, c.from.Add(-2*time.Hour), c.to.Add(2*time.Hour), "acme", "demo")
	is := c.events(2_000, 2, c.from, c.to, "acme")
	write(t, old, ndjson(was))
	write(t, next, ndjson(is))
	// The stream has them, some of them late, so that there are rows of all kinds.
	var streamed, late []events.Metric
	for i := range was {
		if i%97 == 0 {
			late = append(late, was[i])
		} else {
			streamed = append(streamed, was[i])
		}
	}
	streamed = append(streamed, late...)
	end := events.Metric{Tenant: "acme", Kind: events.Gauge, Name: "end", Value: 1, Time: time.Now().UnixNano()}
	streamed = append(streamed, end)
	d.oneTask(t, streamed, c.rollups, 0)
	if _, _, err := fresh.run(t, c.config(next, "fresh"), nil); err != nil {
		t.Fatal(err)
	}
	want, around, demo := c.seen(t, fresh, "acme", true), c.seen(t, d, "acme", false), d.sql(t, "demo", "SELECT count(), sum(count) FROM api.windows")
	before := c.seen(t, d, "acme", true)
	for i := range c.rollups {
		if name := "\t" + c.rollups[i].Name + "\t"; c.rollups[i].Window == nil || strings.Contains(c.rollups[i].Name, "w3") {
			continue // days are longer than the hours
		} else if !strings.Contains(want["windows"], name) || !strings.Contains(before["windows"], name) {
			t.Fatalf("there are no windows of %s before and after: the test proves nothing", name)
		}
	}
	if before["windows, late"] == "" {
		t.Fatal("there are no late windows: the test proves nothing")
	}

	// Whoever asks meanwhile sees the old or the new.
	stop, some := make(chan struct{}), "SELECT count(), sumIf(count, metric = 'w0'), sumIf(count, metric = 'w2divert_kept'), sum(sum) FROM api.windows"
	seen := map[string]bool{d.sql(t, "acme", some): true}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				seen[d.sql(t, "acme", some)] = true
			}
		}
	})
	_, out, err := d.run(t, c.replacing(next, "fix"), nil)
	close(stop)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if seen[d.sql(t, "acme", some)] = true; len(seen) != 2 {
		t.Errorf("got %v, want the old numbers and the new", slices.Sorted(maps.Keys(seen)))
	}
	same(t, c.seen(t, d, "acme", true), want)
	same(t, c.seen(t, d, "acme", false), around)
	if got := d.sql(t, "demo", "SELECT count(), sum(count) FROM api.windows"); got != demo {
		t.Errorf("demo: got %s, want %s", got, demo)
	}
	panes := fmt.Sprintf("SELECT metric, service, ts, count, sum FROM api.metrics_1m WHERE match(metric, '^(panes|grown)') AND ts >= toDateTime(%d, 'UTC') AND ts < toDateTime(%d, 'UTC') ORDER BY ALL", c.from.Unix(), c.to.Unix())
	if got, want := d.sql(t, "acme", panes), fresh.sql(t, "acme", panes); got != want || got == "" {
		t.Errorf("panes of a declared rollup: got %d bytes, want %d others", len(got), len(want))
	}
	if notes := strings.Join(out.notes, "\n"); !strings.Contains(notes, "windows of w3 that reach over an edge of the range stay as they are") || strings.Contains(notes, "windows of w2 that") {
		t.Errorf("got notes %s", notes)
	}
	gone := fmt.Sprintf("SELECT count() FROM vigie.windows WHERE tenant = 'acme' AND gen = 0 AND start >= toDateTime(%d, 'UTC') AND end <= toDateTime(%d, 'UTC')", c.from.Unix(), c.to.Unix())
	for deadline := time.Now().Add(30 * time.Second); d.ask(t, gone) != "0\n"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got %s old windows, want none", d.ask(t, gone))
		}
	}
	same(t, c.seen(t, d, "acme", true), want)
	c.recount(t, d, streamed)

	// The same files for fewer rollups are another generation: its windows are in nobody's way before they are read.
	fewer := c.replacing(next, "fix")
	fewer.Rollups = fewer.Rollups[1:]
	if _, _, err := d.run(t, fewer, func(s backfill.Store) backfill.Store { return unpublished{s.(*clickhouse.Backfill)} }); !errors.Is(err, errBroken) {
		t.Fatalf("got %v, want %v", err, errBroken)
	}
	same(t, c.seen(t, d, "acme", true), want)

	// Replaced again, in a part of the hours: windows that reach over the edges of that part are still those of the
	// first.
	inner := &windowCase{c.from.Add(time.Hour), c.to, c.rollups}
	few := inner.events(300, 3, inner.from, inner.to, "acme")
	write(t, filepath.Join(dir, "few.ndjson"), ndjson(few))
	around = inner.seen(t, d, "acme", false)
	if _, _, err := d.run(t, inner.replacing(filepath.Join(dir, "few.ndjson"), "again"), nil); err != nil {
		t.Fatal(err)
	}
	third := newDatabase(t)
	if _, _, err := third.run(t, c.config(filepath.Join(dir, "few.ndjson"), "third"), nil); err != nil {
		t.Fatal(err)
	}
	same(t, inner.seen(t, d, "acme", true), inner.seen(t, third, "acme", true))
	same(t, inner.seen(t, d, "acme", false), around)
}

// Replaced by the very samples that are there, increases stay what they are when the files begin with a lead-in;
// without one each series misses its first interval. Samples of the lead-in count for nothing themselves.
func TestReplaceLeadIn(t *testing.T) {
	c, d, dir := newWindowCase(), newDatabase(t), t.TempDir()
	of := func(m *events.Metric) string { return m.Tenant + " " + m.Labels[0].Value + m.Labels[1].Value }
	seen := map[string]bool{}
	all := slices.DeleteFunc(c.events(8_000, 4, c.from.Add(-3*time.Hour), c.to.Add(2*time.Hour), "acme", "demo"), func(m events.Metric) bool {
		at := fmt.Sprint(m.Time, of(&m)) // of several at one time the stream takes the first that comes
		twice := seen[at]
		seen[at] = true
		return m.Kind != events.Cumulative || twice
	})
	totals := map[string]float64{}
	for i := range all {
		m := &all[i]
		key := of(m)
		totals[key] += m.Value
		m.Value = totals[key]
	}
	end := events.Metric{Tenant: "acme", Kind: events.Gauge, Name: "end", Value: 1, Time: time.Now().UnixNano()}
	d.oneTask(t, append(slices.Clone(all), end), c.rollups, 0)
	lead, some := c.from.Add(-2*time.Hour), []events.Metric{}
	for _, m := range all {
		if m.Tenant == "acme" && m.Time >= lead.UnixNano() && m.Time < c.to.UnixNano() {
			some = append(some, m)
		}
	}
	bad := some[0]
	bad.Time = lead.UnixNano() - 1
	rand.New(rand.NewPCG(2, 2)).Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
	path, before := filepath.Join(dir, "a.ndjson"), filepath.Join(dir, "b.ndjson")
	write(t, path, ndjson(some))
	write(t, before, ndjson(append(some, bad)))
	numbers := func() map[string]string {
		within := fmt.Sprintf("(%d <= toUnixTimestamp(ts) AND toUnixTimestamp(ts) < %d)", c.from.Unix(), c.to.Unix())
		panes := "SELECT metric, labels, ts, count, round(sum, 6) FROM api.metrics_1m WHERE startsWith(metric, 'grown') AND "
		windows := "SELECT metric, labels, start, end, count, round(sum, 6), first, last, distinct_count FROM api.windows WHERE startsWith(metric, 'grown') ORDER BY ALL"
		return map[string]string{
			"within": d.sql(t, "acme", panes+within+" ORDER BY ALL"),
			"around": d.sql(t, "acme", panes+"NOT "+within+" ORDER BY ALL"), "windows": d.sql(t, "acme", windows),
		}
	}
	want := numbers()
	if want["within"] == "" || want["windows"] == "" {
		t.Fatal("there is nothing to replace: the test proves nothing")
	}

	cfg := c.replacing(before, "rejects")
	cfg.SplitSessions, cfg.Replace.LeadIn = true, 2*time.Hour
	if _, out, err := d.run(t, cfg, nil); !errors.Is(err, backfill.ErrNotSwitched) || len(out.rejects) != 1 ||
		out.rejects[0].Reason != "too_old" {
		t.Errorf("an event before the lead-in: got %v, %d rejects, want one", err, len(out.rejects))
	}
	same(t, numbers(), want)

	cfg.Patterns, cfg.Job = []string{path}, "lead"
	_, out, err := d.run(t, cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if notes := strings.Join(out.notes, "\n"); !strings.Contains(notes, "events before the range say what cumulative series were") {
		t.Errorf("got notes %s", notes)
	}
	same(t, numbers(), want)

	cfg.Replace.LeadIn, cfg.Replace.Rejects, cfg.Job = 0, true, "plain"
	if _, _, err := d.run(t, cfg, nil); err != nil {
		t.Fatal(err)
	}
	if got := numbers(); got["within"] == want["within"] || got["around"] != want["around"] {
		t.Error("without a lead-in: got the same numbers in the range, or others around it: the test proves nothing")
	}
}
