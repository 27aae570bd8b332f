package backfill_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/backfill"
	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/migrations"
	"github.com/vigie-io/vigie/pkg/events"
)

// visible is what readers see of a tenant, sketch bytes included.
func (d *database) visible(t testing.TB, tenant string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, tier := range []string{"10s", "1m", "1h"} {
		of := " AS r WHERE tenant = '" + tenant + "' AND " + migrations.Visible("r", "'"+tenant+"'")
		measures := "sum(r.count), sum(r.sum), min(r.min), max(r.max), hex(" + migrations.MergeStates("r.sketch") + ")"
		all["rollups_"+tier] = d.ask(t, "SELECT metric, service, series_id, ts, "+measures+", max(r.last) FROM vigie.rollups_"+tier+of+" GROUP BY metric, service, series_id, ts ORDER BY ALL")
		all["services_"+tier] = d.ask(t, "SELECT metric, service, ts, "+measures+" FROM vigie.services_"+tier+of+" GROUP BY metric, service, ts ORDER BY ALL")
	}
	return all
}

// replaceCase is events of two tenants over hours, of which some are replaced.
type replaceCase struct {
	from, to time.Time
	old      []events.Metric
	oracle   *database // for want
	asked    int
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
	cfg := config(path)
	cfg.Job = fmt.Sprint("want", c.asked)
	if _, _, err := c.oracle.run(t, cfg, nil); err != nil {
		t.Fatal(err)
	}
	return c.oracle.visible(t, "acme")
}

func (c *replaceCase) config(pattern, job string) backfill.Config {
	cfg := config(pattern)
	cfg.Job, cfg.Tenant = job, "acme"
	cfg.Replace = &backfill.Replace{From: c.from, To: c.to, MaxPast: time.Hour, Declared: []string{"declared"}}
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
		wg.Go(func() {
			query := "SELECT count(), sum(r.count), sum(r.sum), max(r.max) FROM vigie." + table + " AS r FINAL WHERE tenant = 'acme' AND " + migrations.Visible("r", "'acme'")
			first := d.ask(t, query)
			var switched string
			for {
				select {
				case <-stop:
					if switched == "" {
						t.Errorf("%s: nobody saw the new numbers", table)
					}
					return
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
	if _, _, err := d.run(t, config(old), nil); err != nil {
		t.Fatal(err)
	}
	demo, seen := d.visible(t, "demo"), d.visible(t, "acme")
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
	}
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
		same(t, d.visible(t, "acme"), want[n%2])
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
	job := backfill.New(newReplaceCase().config(path, "fix"), clickhouse.NewBackfill(client), clickhouse.Encoder{}, &output{}, nil)
	if _, err := job.Run(t.Context()); !errors.Is(err, clickhouse.ErrCluster) || !strings.Contains(err.Error(), "docs/backfill.md") {
		t.Errorf("got %v, want a refusal that says what to do", err)
	}
}
