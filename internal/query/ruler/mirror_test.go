package ruler

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/vigie-io/vigie/internal/tenants"
)

// shown is what readers see of a tenant's groups.
func shown(r *Ruler, tenant tenants.ID) string {
	var lines []string
	for _, g := range r.RuleGroups(tenant) {
		for _, rule := range g.Rules() {
			lines = append(lines, fmt.Sprintf("%s/%s %s %v %d %s", g.Name(), rule.Name(), rule.Health(), rule.LastError(),
				rule.GetEvaluationTimestamp().UnixMilli(), rule.GetEvaluationDuration().Truncate(time.Microsecond)))
		}
		for _, rule := range g.AlertingRules() {
			lines = append(lines, fmt.Sprintf("%s/%s is %s", g.Name(), rule.Name(), rule.State()))
			for _, a := range rule.ActiveAlerts() {
				lines = append(lines, fmt.Sprintf("%s %s %s %g since %d, kept %d", a.Labels, a.Annotations, a.State, a.Value, a.ActiveAt.UnixMilli(), a.KeepFiringSince.UnixMilli()))
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// A process that evaluates nothing shows all groups as the one that evaluates them, at each step, after reloads and
// when groups go.
func TestReplicasShowTheSame(t *testing.T) {
	d := newDatabase(t, shopSeries)
	const broken = `
  - name: broken
    interval: 30s
    rules:
      - record: both
        expr: errors * on (service) errors
`
	owner := newRuler(t, d, chained+broken, nil, nil)
	other := New(owner.files.Load(), Options{Source: d, Log: slog.New(slog.DiscardHandler)})
	if got := shown(other, "acme"); strings.Count(got, "unknown <nil>") != 6 {
		t.Errorf("before anything is known: got\n%s\nwant all rules with health unknown", got)
	}
	l := &log{database: d}
	s, err := owner.open(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	fired, failed := false, false
	for at := 10; at <= 400; at += 10 {
		d.complete = time.Unix(int64(at), 0)
		if _, err := s.step(t.Context()); err != nil {
			t.Fatal(err)
		}
		for key, state := range l.states {
			other.Observe(key, state)
		}
		if at == 200 {
			files := *owner.files.Load()
			owner.Replace(&files)
			other.Replace(&files)
			continue // what is evaluated has not followed yet
		}
		got, want := shown(other, "acme"), shown(owner, "acme")
		if got != want {
			t.Fatalf("at %d: got\n%s\nwant\n%s", at, got, want)
		}
		fired = fired || strings.Contains(want, `page"} {summary="9"} firing 9`) || strings.Contains(want, "Errors is firing")
		failed = failed || strings.Contains(want, "broken/both err ")
	}
	if !fired || !failed {
		t.Errorf("got alerts that fire %t and rules that fail %t, want a run with both", fired, failed)
	}
	if got := shown(other, "demo"); got != "" {
		t.Errorf("another tenant: got %s", got)
	}
	s.close()
	if got, want := shown(owner, "acme"), shown(other, "acme"); strings.Count(got, "unknown <nil>") != 6 {
		t.Errorf("the last owner, who has observed nothing: got\n%s\nwant nothing of\n%s", got, want)
	}
	for key := range l.states {
		other.Observe(key, nil)
	}
	if got := shown(other, "acme"); strings.Count(got, "unknown <nil>") != 6 {
		t.Errorf("forgotten: got\n%s", got)
	}
	other.Observe(other.files.Load().groups[0].key(), []byte("{"))
	if got := shown(other, "acme"); strings.Count(got, "unknown <nil>") != 6 {
		t.Errorf("a state that cannot be read: got\n%s", got)
	}
}

// held is a database that lets no query of tenant slow through until it is released.
type held struct {
	*database
	free chan struct{}
	once sync.Once
	held chan struct{} // closed when one waits
}

func (h *held) QueryEngine() promql.QueryEngine { return heldEngine{h.database.QueryEngine(), h} }

type heldEngine struct {
	promql.QueryEngine
	h *held
}

func (e heldEngine) NewInstantQuery(ctx context.Context, q storage.Queryable, o promql.QueryOpts, qs string, at time.Time) (promql.Query, error) {
	if tenant, _ := tenants.FromContext(ctx); tenant == "slow" {
		e.h.once.Do(func() { close(e.h.held) })
		select {
		case <-e.h.free:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return e.QueryEngine.NewInstantQuery(ctx, q, o, qs, at)
}

// watched is a log that says what is committed.
type watched struct {
	log
	commits chan string // tenants with records
}

func (w *watched) Commit(ctx context.Context, records map[tenants.ID][][]byte, states map[string][]byte) error {
	err := w.log.Commit(ctx, nil, states) // tenants would write the same series
	for tenant := range records {
		w.commits <- string(tenant)
	}
	return err
}

// A tenant whose rules do not come to an end delays no other; its own evaluations are made, or counted as missed,
// later. A shard that is taken away waits for none.
func TestSlowTenantDelaysNoOther(t *testing.T) {
	h := &held{database: newDatabase(t, shopSeries), free: make(chan struct{}), held: make(chan struct{})}
	h.complete = time.Unix(100, 0)
	r := newRuler(t, h.database, "groups: [{name: g, interval: 10s, rules: [{record: a, expr: 'sum(errors)'}]}]", func(c *Config) {
		c.Tenants["slow"] = Tenant{Files: c.Tenants["acme"].Files}
		c.Concurrency, c.Backfill = 2, 20*time.Second
	}, nil)
	r.source = h
	w := &watched{log: log{database: h.database}, commits: make(chan string, 100)}
	states := map[string][]byte{}
	for _, file := range r.files.Load().groups { // both have a past
		states[file.key()] = []byte(`{"version":1,"evaluated":50000}`)
	}
	w.states = states
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = r.RunShard(ctx, w) })
	next := func() string {
		select {
		case tenant := <-w.commits:
			return tenant
		case <-time.After(20 * time.Second):
			t.Error("got no evaluation in 20 s")
			return ""
		}
	}
	<-h.held
	for range 3 { // 80, 90, 100: what is later than 20 s is missed
		if got := next(); got != "acme" {
			t.Fatalf("while slow waits: got an evaluation of %q, want acme", got)
		}
	}
	close(h.free)
	for range 3 {
		if got := next(); got != "slow" {
			t.Fatalf("then: got an evaluation of %q, want slow", got)
		}
	}
	cancel()
	running.Wait()
	if got := r.metrics; testutil.ToFloat64(got.evaluations) != 6 || testutil.ToFloat64(got.missed) != 4 {
		t.Errorf("got %v evaluations and %v missed, want 6 and 4", testutil.ToFloat64(got.evaluations), testutil.ToFloat64(got.missed))
	}

	// Taken away while slow waits.
	h.free, h.held, h.once = make(chan struct{}), make(chan struct{}), sync.Once{}
	w.states[r.files.Load().groups[1].key()] = []byte(`{"version":1,"evaluated":90000}`)
	ctx, cancel = context.WithCancel(t.Context())
	running.Go(func() { _ = r.RunShard(ctx, w) })
	<-h.held
	cancel()
	running.Wait()
}

// Those that wait take turns.
func TestTenantsTakeTurns(t *testing.T) {
	d := newDatabase(t, shopSeries)
	d.complete = time.Unix(100, 0)
	r := newRuler(t, d, "groups: [{name: g, interval: 10s, rules: [{record: a, expr: 'sum(errors)'}]}]", func(c *Config) {
		for _, tenant := range []tenants.ID{"b", "c"} {
			c.Tenants[tenant] = Tenant{Files: c.Tenants["acme"].Files}
		}
		c.Concurrency = 1
	}, nil)
	w := &watched{log: log{database: d}, commits: make(chan string, 100)}
	w.states = map[string][]byte{}
	for _, file := range r.files.Load().groups {
		w.states[file.key()] = []byte(`{"version":1,"evaluated":70000}`)
	}
	s, err := r.open(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	var got []string
	for more := true; more; {
		if more, err = s.step(t.Context()); err != nil {
			t.Fatal(err)
		}
		if more {
			got = append(got, <-w.commits)
		}
	}
	if want := []string{"acme", "b", "c", "acme", "b", "c", "acme", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
