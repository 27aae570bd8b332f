package ruler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/alertapi"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// database is upstream's own, holding gauges that a test set, and a watermark.
type database struct {
	loader   *promqltest.LazyLoader
	complete time.Time
	stored   time.Time // of the ruler's clock; what the log has pending is not
	fail     error
	spare    int // queries that are still answered before fail
}

func (d *database) QueryEngine() promql.QueryEngine { return failing{d.loader.QueryEngine(), d} }
func (d *database) Queryable() storage.SampleAndChunkQueryable {
	return d.loader.Storage().(storage.SampleAndChunkQueryable)
}

func (d *database) Complete(_ context.Context, of []tenants.ID) (map[tenants.ID]time.Time, time.Time, error) {
	if d.fail != nil && d.spare == 0 {
		return nil, time.Time{}, d.fail
	}
	out := map[tenants.ID]time.Time{}
	for _, tenant := range of {
		out[tenant] = d.complete
	}
	return out, d.stored, nil
}

// failing is an engine whose store may be gone.
type failing struct {
	promql.QueryEngine
	d *database
}

func (f failing) NewInstantQuery(ctx context.Context, q storage.Queryable, o promql.QueryOpts, qs string, t time.Time) (promql.Query, error) {
	if f.d.fail != nil {
		if f.d.spare == 0 {
			return nil, f.d.fail
		}
		f.d.spare--
	}
	return f.QueryEngine.NewInstantQuery(ctx, q, o, qs, t)
}

// tester is a test, or a case of a property.
type tester interface {
	Helper()
	Fatal(args ...any)
	Cleanup(f func())
}

// newDatabase loads series in promqltest's notation, a sample every 10 s from time 0.
func newDatabase(t tester, series string) *database {
	t.Helper()
	loader, err := promqltest.NewLazyLoader("load 10s\n"+strings.TrimLeft(series, "\n"), promqltest.LazyLoaderOpts{Parser: newParser()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = loader.Close() })
	loader.WithSamplesTill(time.Unix(1e6, 0), func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	})
	return &database{loader: loader, complete: time.Unix(0, 0), stored: time.Unix(1e10, 0)}
}

// log is the shard's log: what was committed, in order.
type log struct {
	database *database // takes the samples, too: …
	slow     bool      // … when store is called
	pending  []events.Batch
	states   map[string][]byte
	events   []string // "time tenant name{labels} value"
	lose     bool     // the next commit comes to nothing
	unheard  bool     // the next commit is done, and its answer lost
}

var errCut = errors.New("the connection was cut")

func (l *log) Partition() (int32, int32) { return 0, 1 }

func (l *log) Restore(context.Context) (map[string][]byte, error) {
	return maps.Clone(l.states), nil
}

func (l *log) Commit(_ context.Context, records map[tenants.ID][][]byte, states map[string][]byte) error {
	if l.lose {
		return errCut
	}
	for tenant, values := range records {
		for _, record := range values {
			l.append(tenant, record)
		}
	}
	if l.states == nil {
		l.states = map[string][]byte{}
	}
	maps.Copy(l.states, states)
	if l.unheard {
		return errCut
	}
	return nil
}

func (l *log) append(tenant tenants.ID, record []byte) {
	var batch events.Batch
	events.NewDecoder(events.DefaultOptions()).Decode(&batch, events.Source{Signal: events.Metrics, Key: []byte(tenant), Value: record})
	if len(batch.Rejects) > 0 {
		panic(fmt.Sprintf("BUG: a rule's event is refused: %+v", batch.Rejects))
	}
	if l.pending = append(l.pending, batch); !l.slow {
		l.store()
	}
	var lines []string
	for _, m := range batch.Metrics {
		if m.Kind != events.Gauge {
			panic("BUG: a rule's event is no gauge")
		}
		text := fmt.Sprintf("%d %s %s", m.Time/1e9, m.Tenant, m.Name)
		for _, label := range m.Labels {
			text += fmt.Sprintf(" %s=%s", label.Name, label.Value)
		}
		if m.Stale {
			text, m.Value = text+" stale", 0
		}
		lines = append(lines, fmt.Sprintf("%s %g", text, m.Value))
	}
	slices.Sort(lines) // upstream goes through alerts in no order
	l.events = append(l.events, lines...)
}

// store puts what is pending into the database.
func (l *log) store() {
	app := l.database.loader.Storage().AppenderV2(context.Background())
	for _, batch := range l.pending {
		for _, m := range batch.Metrics {
			series := labels.NewBuilder(labels.EmptyLabels())
			series.Set(model.MetricNameLabel, m.Name)
			for _, label := range m.Labels {
				series.Set(label.Name, label.Value)
			}
			if m.Stale {
				m.Value = math.Float64frombits(value.StaleNaN)
			}
			if _, err := app.Append(0, series.Labels(), 0, m.Time/1e6, m.Value, nil, nil, storage.AOptions{}); err != nil {
				panic("BUG: a rule's sample is written twice: " + err.Error())
			}
		}
	}
	if err := app.Commit(); err != nil {
		panic("BUG: " + err.Error())
	}
	l.pending = nil
}

func newRuler(t testing.TB, d *database, files string, change func(*Config), send func(tenants.ID, []alertapi.Alert)) *Ruler {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(path, []byte(files), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Tenants = map[tenants.ID]Tenant{"acme": {Files: []string{path}, ExternalLabels: map[string]string{"cluster": "eu"}}}
	if change != nil {
		change(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	loaded, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return New(loaded, Options{Source: d, Send: send, Log: slog.New(slog.DiscardHandler)})
}

const chained = `groups:
  - name: shop
    interval: 20s
    rules:
      - record: errors:sum
        expr: sum by (service) (errors)
      - alert: Errors
        expr: errors:sum > 5
        for: 40s
        keep_firing_for: 30s
        labels: {severity: page, service: "{{ $labels.service }}-service", level: "{{ if gt $value 8.0 }}high{{ else }}low{{ end }}"}
        annotations: {summary: "{{ $value }}"}
      - alert: AnyErrors
        expr: errors:sum{service="a"} > 0
      - record: alerts:count
        expr: count by (alertname) (max_over_time(ALERTS{alertstate="firing"}[20s]))
  - name: other
    interval: 50s
    rules:
      - record: errors:max
        expr: max_over_time(errors:sum[1m])
`

const shopSeries = `
  errors{service="a", host="1"} 0 0 1 3 6 9 9 9 9 9 9 2 0 0 0 0 9 9 9 9 0 0 6 6 6 6 6 6 6 6 0x30
  errors{service="a", host="2"} 0x10 1x10 0x40
  errors{service="b", host="1"} 7x20 0x10 7x30
`

// step is one round of RunShard that waits for all that is due. more says that there may be more to do at once.
func (s *shardRun) step(ctx context.Context) (more bool, err error) {
	s.wake()
	if err := s.begin(ctx); err != nil {
		return false, err
	}
	var list []*outcome
	for range s.running {
		list = append(list, <-s.done)
	}
	before := testutil.ToFloat64(s.ruler.metrics.evaluations)
	err = s.finish(ctx, list)
	return testutil.ToFloat64(s.ruler.metrics.evaluations) > before, err
}

// run evaluates all up to the end without an accident.
func (r *Ruler) run(t testing.TB, d *database, l *log, end time.Duration) {
	s, err := r.open(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for d.complete = time.Unix(10, 0); !d.complete.After(time.Unix(0, 0).Add(end)); d.complete = d.complete.Add(10 * time.Second) {
		for more := true; more; {
			if more, err = s.step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

const length = 400 * time.Second

// Whatever is cut off, and wherever, what rules record and the alerts they hold are those of a run without accidents,
// each once.
func TestExactlyOnceThroughAccidents(t *testing.T) {
	patient := func(c *Config) { c.Backfill = time.Hour }
	quiet := newDatabase(t, shopSeries)
	want := &log{database: quiet}
	newRuler(t, quiet, chained, patient, nil).run(t, quiet, want, length)
	if len(want.events) < 80 {
		t.Fatalf("got %d events, want a run that says something", len(want.events))
	}
	rapid.Check(t, func(rt *rapid.T) {
		d := newDatabase(rt, shopSeries)
		got := &log{database: d}
		newRuler(t, d, chained, patient, nil).runThroughAccidents(rt, d, got, func(*shardRun) {})
		if a, b := sorted(got.events), sorted(want.events); !slices.Equal(a, b) {
			rt.Fatalf("after accidents:\n%s", differences(a, b))
		}
	})
}

// runThroughAccidents evaluates all up to the end; what is recorded comes to the database late. settled is called first
// when all groups are known and have not been evaluated, and then after each step in which nothing went wrong.
func (r *Ruler) runThroughAccidents(t *rapid.T, d *database, l *log, settled func(*shardRun)) {
	d.complete = time.Unix(10, 0)
	l.slow = true
	now := time.Unix(1.7e9, 0)
	r.now = func() time.Time { return now }
	store := func() {
		d.stored = now
		l.store()
		now = now.Add(clocksApart)
	}
	store()
	var s *shardRun
	open := func() {
		l.lose, l.unheard, d.fail = false, false, nil
		var err error
		if s, err = r.open(t.Context(), l); err != nil {
			t.Fatal(err)
		}
	}
	step := func() (more bool) {
		more, err := s.step(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		settled(s)
		return more
	}
	open()
	step()
	for !d.complete.After(time.Unix(0, 0).Add(length - 10*time.Second)) {
		now = now.Add(time.Second)
		if rapid.Bool().Draw(t, "stored") {
			store()
		}
		accident := rapid.IntRange(0, 9).Draw(t, "accident")
		if accident != 4 {
			d.complete = d.complete.Add(time.Duration(rapid.IntRange(0, 6).Draw(t, "panes")) * 10 * time.Second)
			d.complete = time.Unix(min(d.complete.Unix(), int64(length/time.Second)), 0)
		}
		switch accident {
		case 0, 1:
			l.lose, l.unheard = accident == 0, accident == 1
			if _, err := s.step(t.Context()); err != nil {
				s.close()
				open()
			}
			l.lose, l.unheard = false, false // there may have been nothing to commit
		case 2:
			d.fail, d.spare = promql.ErrStorage{Err: errors.New("gone")}, rapid.IntRange(0, 6).Draw(t, "answers before")
			if _, err := s.step(t.Context()); err != nil {
				t.Fatal(err)
			}
			d.fail = nil
		case 3: // a reload; the rules are the same
			r.Replace(&Files{cfg: r.files.Load().cfg, groups: r.files.Load().groups})
			step()
		case 4: // the shard goes elsewhere
			s.close()
			open()
			step()
		default:
			step()
		}
	}
	store()
	for store(); step(); {
		store()
	}
	s.close()
}

// What an evaluation made of alerts before the database failed it is taken back: made again, it comes to what it would
// have come to. Here a rule goes over its limit, and upstream forgets its alerts then.
func TestFailedEvaluationIsTakenBack(t *testing.T) {
	const file = `groups: [{name: g, interval: 10s, limit: 1, rules: [{alert: A, expr: 'errors > 0', keep_firing_for: 1m,
  labels: {value: '{{ $value }}'}, annotations: {all: '{{ with query "errors" }}{{ . | first | value }}{{ end }}'}}]}]`
	run := func(answers int) (seen []string) {
		d := newDatabase(t, "  errors 3 3 3 3 6 6 6 6 6")
		r := newRuler(t, d, file, func(c *Config) { c.Backfill = time.Hour }, nil)
		s, err := r.open(t.Context(), &log{database: d})
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		step := func() {
			if _, err := s.step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for at := int64(10); at < 80; at += 10 {
			d.complete = time.Unix(at, 0)
			if at > 10 && answers >= 0 {
				d.fail, d.spare = promql.ErrStorage{Err: errors.New("gone")}, answers
				step()
				d.fail = nil
			}
			step()
			for _, g := range s.shown {
				seen = append(seen, fmt.Sprintf("at %d: %s", g.evaluated/1000, alertsOfGroup(g.rules)))
			}
		}
		return seen
	}
	want := run(-1)
	if all := strings.Join(want, "\n"); !strings.Contains(all, "rule 0 is err") || !strings.Contains(all, `value="3"`) ||
		!strings.Contains(all, `value="6"`) {
		t.Fatalf("got %s, want alerts, and a rule over its limit", all)
	}
	for answers := range 3 {
		if got := run(answers); !slices.Equal(got, want) {
			t.Errorf("failed after %d answers: got\n%s\nwant\n%s", answers, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func sorted(lines []string) []string { return slices.Sorted(slices.Values(lines)) }

func differences(got, want []string) string {
	var out strings.Builder
	count := map[string]int{}
	for _, line := range got {
		count[line]++
	}
	for _, line := range want {
		count[line]--
	}
	for _, line := range slices.Sorted(maps.Keys(count)) {
		if n := count[line]; n != 0 {
			fmt.Fprintf(&out, "%+d %s\n", n, line)
		}
	}
	return out.String()
}

// A new owner waits until what the last one recorded is stored, and not for so long that it would skip evaluations.
func TestTakeoverWaitsForTheLastOwnersSamples(t *testing.T) {
	d := newDatabase(t, shopSeries)
	l := &log{database: d}
	now := time.Unix(1.7e9, 0)
	r := newRuler(t, d, "groups: [{name: g, interval: 20s, rules: [{record: a, expr: 'sum(errors)'}]}]", func(c *Config) { c.Backfill = 30 * time.Second }, nil)
	r.now = func() time.Time { return now }
	r.run(t, d, l, 100*time.Second)
	f := func(stored time.Duration, unsettled float64, want ...int) {
		t.Helper()
		d.stored = now.Add(stored)
		s, err := r.open(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		step := func() (samples int) {
			before := len(l.events)
			if _, err := s.step(t.Context()); err != nil {
				t.Fatal(err)
			}
			return len(l.events) - before
		}
		var got []int
		for range want {
			got = append(got, step())
			d.complete = d.complete.Add(20 * time.Second)
		}
		for step() > 0 {
		}
		if !slices.Equal(got, want) {
			t.Errorf("stored up to %s after it took over: got %v samples, want %v", stored, got, want)
		}
		if got := testutil.ToFloat64(r.metrics.unsettled); got != unsettled {
			t.Errorf("stored up to %s after it took over: got %g takeovers before all was stored, want %g", stored, got, unsettled)
		}
	}
	d.complete = time.Unix(100, 0)
	f(clocksApart, 0, 0, 1, 1, 1)
	f(clocksApart-time.Millisecond, 1, 0, 0, 1, 1)
	f(-time.Hour, 2, 0, 0, 1, 1)
	if missed := testutil.ToFloat64(r.metrics.missed); missed > 0 {
		t.Errorf("got %g evaluations skipped, want none", missed)
	}
}

// What is later than backfill is skipped and counted, but for the last.
func TestMissedEvaluations(t *testing.T) {
	f := func(backfill time.Duration, want ...int64) {
		t.Helper()
		d := newDatabase(t, shopSeries)
		l := &log{database: d}
		r := newRuler(t, d, "groups: [{name: g, interval: 10s, rules: [{record: a, expr: 'sum(errors)'}]}]", func(c *Config) { c.Backfill = backfill }, nil)
		s, err := r.open(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int64{100, 200} {
			d.complete = time.Unix(at, 0)
			for more := true; more; {
				if more, err = s.step(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		var got []int64
		for _, e := range l.events {
			var at int64
			_, _ = fmt.Sscan(e, &at)
			got = append(got, at)
		}
		if !slices.Equal(got, want) {
			t.Errorf("backfill %s: got evaluations at %v, want %v", backfill, got, want)
		}
		if missed := testutil.ToFloat64(r.metrics.missed); int(missed) != 10-len(want) {
			t.Errorf("backfill %s: got %v missed, want %d", backfill, missed, 10-len(want))
		}
	}
	f(time.Hour, 110, 120, 130, 140, 150, 160, 170, 180, 190, 200)
	f(25*time.Second, 180, 190, 200)
	f(0, 200)
}

// The Alertmanager hears of an alert that fires at once and again while the watermark stands, and of its end.
func TestAlertsAreTold(t *testing.T) {
	d := newDatabase(t, `
  up 1 1 0 0 0 0 1 1 1 1
`)
	var sent []string
	now := time.Unix(5000, 0)
	r := newRuler(t, d, "groups: [{name: g, interval: 10s, rules: [{alert: Down, expr: up == 0, labels: {severity: page}}]}]", nil, func(tenant tenants.ID, list []alertapi.Alert) {
		for _, a := range list {
			sent = append(sent, fmt.Sprintf("%s %s %d-%d", tenant, labels.FromMap(a.Labels), a.StartsAt.Unix(), a.EndsAt.Unix()))
		}
	})
	r.now = func() time.Time { return now }
	s, err := r.open(t.Context(), &log{database: d})
	if err != nil {
		t.Fatal(err)
	}
	f := func(at int64, wall int64, want ...string) {
		t.Helper()
		sent, d.complete, now = nil, time.Unix(at, 0), time.Unix(wall, 0)
		if _, err := s.step(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(sent, want) {
			t.Errorf("at %d: got %s, want %s", at, strings.Join(sent, "; "), strings.Join(want, "; "))
		}
	}
	const down = `acme {alertname="Down", cluster="eu", severity="page"} `
	f(10, 5000)
	f(20, 5001, down+"20-5241")
	f(30, 5002)
	f(30, 5070, down+"20-5310")
	f(40, 5071)
	f(50, 5072)
	f(60, 5073, down+"20-60")
	f(70, 5074)
}

func TestConfigValidate(t *testing.T) {
	f := func(change func(*Config), want string) {
		t.Helper()
		cfg := DefaultConfig()
		change(&cfg)
		if err := cfg.Validate(); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	f(func(*Config) {}, "")
	f(func(c *Config) { c.EvaluationInterval = time.Second }, "evaluation_interval")
	f(func(c *Config) { c.Backfill = -1 }, "backfill")
	f(func(c *Config) { c.ResendDelay = 0 }, "resend_delay")
	f(func(c *Config) { c.Tenants = map[tenants.ID]Tenant{"a/b": {Files: []string{"x"}}} }, "a/b")
	f(func(c *Config) { c.Tenants = map[tenants.ID]Tenant{"acme": {}} }, "acme.files")
	f(func(c *Config) { c.Alertmanagers = []string{"host:9093"} }, "alertmanagers")
	f(func(c *Config) {
		c.Alertmanagers = []string{"http://host:9093"}
		c.Tenants = map[tenants.ID]Tenant{"acme": {Files: []string{"x"}, Alertmanager: "a.yml"}}
	}, "acme.alertmanager")
}

// The bytes of states that were written stay readable.
func TestStateGolden(t *testing.T) {
	text, err := os.ReadFile("testdata/state_v1.json")
	if err != nil {
		t.Fatal(err)
	}
	s, err := parseState(text)
	if err != nil {
		t.Fatal(err)
	}
	rule := s.Rules[`Errors{severity="page"}`]
	if len(s.Series) != 1 || s.Series[0]["service"] != "a" {
		t.Errorf("got series %v", s.Series)
	}
	if s.Evaluated != 1795521600000 || len(rule.Alerts) != 1 || rule.Alerts[0].State != "firing" || !math.IsInf(float64(rule.Samples[0].Value), 1) {
		t.Errorf("got %+v", s)
	}
	if _, err := parseState([]byte(`{"version":2}`)); !errors.Is(err, errStateVersion) {
		t.Errorf("got %v, want it refused", err)
	}
}
