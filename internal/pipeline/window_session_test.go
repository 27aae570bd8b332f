package pipeline_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/sketches"
)

func sessionConfig(gap, lateness time.Duration, by ...string) pipeline.Config {
	return windowedConfig(windowed.Window{Session: &windowed.Session{Gap: gap, By: by}, AllowedLateness: lateness})
}

func visit(second int64, user string, value float64) string {
	return fmt.Sprintf(`{"time":%q,"name":"m","value":%v,"labels":{"service":"s","user":%q}}`,
		start.Add(time.Duration(second)*time.Second).Format(time.RFC3339), value, user)
}

// naiveSessions is the plain loop: a user's events in order, cut where they are gap apart or more.
func naiveSessions(events []sessionEvent, gap int64, ended func(tenant string, end int64) bool) windowTable {
	slices.SortStableFunc(events, func(a, b sessionEvent) int {
		return cmp.Or(strings.Compare(a.tenant, b.tenant), strings.Compare(a.user, b.user), cmp.Compare(a.second, b.second))
	})
	out := windowTable{}
	for i := 0; i < len(events); {
		first, end := events[i], events[i].second
		c := windowCell{min: first.value, max: first.value}
		var sketch sketches.Sketch
		for ; i < len(events) && events[i].tenant == first.tenant && events[i].user == first.user &&
			(c.count == 0 || events[i].second < end); i++ {
			end = events[i].second + gap
			c.count, c.sum, c.min, c.max = c.count+1, c.sum+events[i].value, min(c.min, events[i].value), max(c.max, events[i].value)
			sketch.Add(events[i].value)
		}
		c.sketch = string(sketch.AppendDD(nil))
		if ended(first.tenant, end) {
			out[fmt.Sprint(first.tenant, " w ", first.user, " ", first.second, " ", end)] = c
		}
	}
	return out
}

type sessionEvent struct {
	tenant, user string
	second       int64
	value        float64
}

// metric is the event as one of the series of windowedConfig.
func (e sessionEvent) metric() pipeline.Record {
	return record(e.tenant, fmt.Sprintf(`{"time":%q,"name":"m","value":%v,"labels":{"service":%q}}`,
		start.Add(time.Duration(e.second)*time.Second).Format(time.RFC3339), e.value, e.user))
}

// drawMetrics draws the events of an epoch, of two tenants.
func drawMetrics(t *rapid.T, users ...string) (all []sessionEvent) {
	for range rapid.IntRange(0, 6).Draw(t, "events") {
		all = append(all, sessionEvent{rapid.SampledFrom([]string{"acme", "demo"}).Draw(t, "tenant"), rapid.SampledFrom(users).Draw(t, "user"),
			rapid.Int64Range(0, 60).Draw(t, "second"), float64(rapid.IntRange(1, 64).Draw(t, "value")) / 8})
	}
	return all
}

// Whatever the order within the lateness, the epochs, the aborts and the crashes: the sessions that stand are those of
// a plain loop over the events, as far as their tenant's watermark is past their end. Those that late events have
// joined are gone.
func TestSessionsRecount(t *testing.T) {
	const lateness = 1000 * time.Second
	rapid.Check(t, func(t *rapid.T) {
		gap := rapid.Int64Range(1, 12).Draw(t, "gap")
		cfg := sessionConfig(time.Duration(gap)*time.Second, lateness, "user")
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		world, table := newAccidents(func() *pipeline.Task { return windowedTask(cfg) }), windowTable{}
		var all []sessionEvent
		newest := map[string]int64{}
		for range rapid.IntRange(1, 12).Draw(t, "epochs") {
			epoch := drawMetrics(t, "ann", "bob")
			table.insert(t, world.epoch(t, start.Add(time.Minute), steps(start.Add(time.Minute), epoch, func(e sessionEvent) pipeline.Record {
				return record(e.tenant, visit(e.second, e.user, e.value))
			})))
			for _, e := range epoch {
				newest[e.tenant] = max(newest[e.tenant], e.second)
			}
			all = append(all, epoch...)
		}
		want := naiveSessions(all, gap, func(tenant string, end int64) bool { return end <= newest[tenant]-5 })
		for key, c := range table {
			if c.version = 0; c.retracted {
				delete(table, key)
				continue
			}
			table[key] = c
		}
		if !maps.Equal(table, want) {
			t.Fatalf("got %v\nwant %v", table, want)
		}
	})
}

// Sessions are told apart by session.by, whose fields an event must have, and split by by.
func TestSessionKeys(t *testing.T) {
	cfg := sessionConfig(10*time.Second, 0, "user")
	cfg.Rollups[0].AlsoBy = [][]string{{}}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	task := windowedTask(cfg)
	anonymous := event(start.Add(3*time.Second), "m", `"service":"s"`)
	step(task, start.Add(time.Minute),
		record("acme", visit(1, "ann", 1), visit(2, "bob", 1), visit(9, "ann", 1), anonymous, visit(40, "ann", 1)))
	out := drain(task, start.Add(time.Minute))
	var got []string
	for _, b := range out.Windows.Blocks {
		for i := range b.Tenant {
			got = append(got, fmt.Sprintf("%s %v %d-%d n%d", b.Metric[i], b.Labels[i], b.Start[i]-start.Unix(), b.End[i]-start.Unix(), b.Count[i]))
		}
	}
	slices.Sort(got)
	want := []string{"w [{service s} {user ann}] 1-19 n2", "w [{service s} {user bob}] 2-12 n1",
		"w: [{user ann}] 1-19 n2", "w: [{user bob}] 2-12 n1"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if n := out.Tally.Dropped[pipeline.TenantReason{Tenant: "acme", Reason: rollup.ReasonNoSession}]; n != 2 {
		t.Errorf("got %d groupings without a session, want both of one event", n)
	}
}

// A gap that is changed while sessions are open: those finish with the old gap, new ones have the new.
func TestSessionRuleChange(t *testing.T) {
	state := stateLog{}
	old := windowedTask(sessionConfig(10*time.Second, 0, "user"))
	step(old, start.Add(time.Minute), record("acme", visit(1, "ann", 1)))
	state.append(drain(old, start.Add(time.Minute)).State)

	task := windowedTask(sessionConfig(20*time.Second, 0, "user"))
	state.restore(t, task)
	step(task, start.Add(time.Minute), record("acme", visit(2, "ann", 1), visit(15, "ann", 1), visit(50, "bob", 1)))
	out := drain(task, start.Add(time.Minute))
	task.Committed(true)
	state.append(out.State)
	rows := windowRows(out)
	slices.Sort(rows)
	if got, want := strings.Join(rows, ";"), "acme 1-11 v1 n1;acme 2-35 v1 n2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	state.wantOneRule(t, task)
}

// A window takes events of a series that met the limit of active series, and is corrected by them, though no pane has
// them.
func TestWindowsBeyondActiveSeries(t *testing.T) {
	cfg := windowedConfig(windowed.Window{Tumbling: 10 * time.Second, AllowedLateness: time.Minute})
	task := pipeline.NewTask(pipeline.TaskConfig{Partition: at, Signal: "metrics", Config: cfg,
		Limits: limitsOf(map[tenants.ID]tenants.Limits{"acme": {ActiveSeries: 1}})})
	step(task, start.Add(time.Minute), record("acme", at10(1, "s"), at10(16, "s")))
	drain(task, start.Add(time.Minute))
	task.Committed(true)
	step(task, start.Add(time.Minute),
		record("acme", `{"time":"2026-11-24T12:00:02Z","name":"m","value":1,"labels":{"service":"s","pod":"2"}}`))
	if got, want := strings.Join(windowRows(drain(task, start.Add(time.Minute))), ";"), "acme 0-10 v2 n2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The bytes are those of docs/format/state.md.
func TestSessionStateGolden(t *testing.T) {
	task := windowedTask(sessionConfig(10*time.Second, time.Minute, "user"))
	step(task, start.Add(time.Minute), record("acme", visit(1, "ann", 1.5), visit(20, "ann", 1.5)))
	out := drain(task, start.Add(time.Minute))
	wantState(t, out, sessionStateGolden, func(key []byte) bool { return key[0] == 2 && key[10] != 'p' })
}

var sessionStateGolden = []string{
	"020111a1ed4327e62c4f64 017b224e616d65223a2277222c224d656173757265223a2276616c7565222c2257696e646f77223a7b2254756d626c696e67223a302c22486f7070696e67223a6e756c6c2c" +
		"2243616c656e646172223a6e756c6c2c2253657373696f6e223a7b22476170223a31303030303030303030307d2c22416c6c6f7765644c6174656e657373223a36303030303030303030307d7d",
	"020111a1ed4327e62c4f730461636d6500017707736572766963650173047573657203616e6e 010280a8aae2c1d8fcea318090dfc04a01" +
		"01000000000000f83f000000000000f83f000000000000f83f026180773e9a2cf03f0000000000000000010c014a02000000000000f03f030400040000000000000000" +
		"80a092aacfd9fcea318090dfc04a00" +
		"01000000000000f83f000000000000f83f000000000000f83f026180773e9a2cf03f0000000000000000010c014a02000000000000f03f030400040000000000000000",
}
