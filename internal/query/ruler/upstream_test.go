package ruler

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/alertapi"
	"github.com/vigie-io/vigie/internal/tenants"
)

// Whatever the rules, the series and the accidents: alerts, what the Alertmanager is told of them, and samples are
// those of upstream's own manager, which evaluates the same groups at the same times, above a database to which it
// writes itself, and to which nothing happens.
func TestUpstreamSaysTheSame(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		file, series := drawRules(rt), drawSeries(rt)
		d := newDatabase(rt, series)
		got := told{}
		r := newRuler(t, d, file, func(c *Config) { c.Backfill = time.Hour }, func(_ tenants.ID, list []alertapi.Alert) {
			for _, a := range list {
				delete(a.Labels, "cluster") // upstream adds it later
				if a.EndsAt.Year() > 2000 {
					a.EndsAt = time.Time{} // it fires
				}
				got.add(labels.FromMap(a.Labels), a.StartsAt, a.EndsAt)
			}
		})
		var want *reference
		r.runThroughAccidents(rt, d, &log{database: d}, func(s *shardRun) {
			if want == nil {
				want = newReference(rt, r, series, s.shown)
				return
			}
			for _, g := range s.shown {
				alerts, evaluated := want.alerts[g.rules.Name()][g.evaluated]
				if now := alertsOfGroup(g.rules); evaluated && now != alerts {
					rt.Fatalf("%s\n%s\ngroup %s at %d: got\n%s\nwant\n%s", file, series, g.rules.Name(), g.evaluated/1000, now, alerts)
				}
			}
		})
		if now := differences(got.lines(), want.told.lines()); now != "" {
			rt.Fatalf("%s\n%s\ntold, more and less than upstream:\n%s", file, series, now)
		}
		if now := differences(recordedSamples(rt, d), want.samples); now != "" {
			rt.Fatalf("%s\n%s\nsamples, more and less than upstream:\n%s", file, series, now)
		}
	})
}

// reference is what upstream's manager makes of the same rules and series.
type reference struct {
	alerts  map[string]map[int64]string // by group and time of evaluation
	told    told
	samples []string
}

// newReference evaluates groups at the times at which the ruler will.
func newReference(t tester, r *Ruler, series string, at []*group) *reference {
	d := newDatabase(t, series)
	ref := &reference{alerts: map[string]map[int64]string{}, told: told{}}
	manager := rules.NewManager(&rules.ManagerOptions{
		ExternalURL: &url.URL{}, QueryFunc: rules.EngineQueryFunc(d.loader.QueryEngine(), d.Queryable()),
		Queryable: d.Queryable(), AppendableV2: d.loader.Storage(), Logger: slog.New(slog.DiscardHandler), Parser: newParser(),
		ResendDelay: 100 * 365 * 24 * time.Hour, // each is told once
		NotifyFunc: func(_ context.Context, _ string, list ...*rules.Alert) {
			for _, a := range list {
				ref.told.add(a.Labels, a.FiredAt, a.ResolvedAt)
			}
		},
	})
	path := at[0].file.path
	groups, errs := manager.LoadGroups(time.Minute, labels.FromStrings("cluster", "eu"), "", nil, false, path)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for _, g := range groups {
		ref.alerts[g.Name()] = map[int64]string{}
		for _, rule := range g.AlertingRules() {
			rule.SetRestored(true) // there is nothing to restore
		}
	}
	for now := int64(20_000); now <= length.Milliseconds(); now += window.Milliseconds() {
		for _, g := range at {
			if mod(now-g.offset, g.interval()) != 0 {
				continue
			}
			group := groups[rules.GroupKey(path, g.rules.Name())]
			rules.DefaultEvalIterationFunc(context.Background(), group, moment(now))
			ref.alerts[group.Name()][now] = alertsOfGroup(group)
		}
	}
	ref.samples = recordedSamples(t, d)
	return ref
}

// alertsOfGroup is all that is known of a group's alerts, those that have ended included, and which rules fail.
func alertsOfGroup(g *rules.Group) string {
	var lines []string
	for i, rule := range g.Rules() {
		lines = append(lines, fmt.Sprintf("rule %d is %s", i, rule.Health()))
	}
	for _, rule := range g.AlertingRules() {
		rule.ForEachActiveAlert(func(a *rules.Alert) {
			if a.State == rules.StateInactive && a.FiredAt.IsZero() {
				return // left from making alerts anew; nobody sees it
			}
			lines = append(lines, fmt.Sprintf("%s %s %s %g active %d fired %d resolved %d kept %d", a.Labels, a.Annotations,
				a.State, a.Value, millis(a.ActiveAt), millis(a.FiredAt), millis(a.ResolvedAt), millis(a.KeepFiringSince)))
		})
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// told are the beginnings and ends of alerts that the Alertmanager has heard of.
type told map[string]bool

func (s told) add(ls labels.Labels, fired, resolved time.Time) {
	s[fmt.Sprintf("%s %d-%d", ls, millis(fired), millis(resolved))] = true
}

func (s told) lines() (list []string) {
	for line := range s {
		list = append(list, line)
	}
	return list
}

// recordedSamples are all samples that rules have recorded.
func recordedSamples(t tester, d *database) (lines []string) {
	q, err := d.Queryable().Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	recorded := labels.MustNewMatcher(labels.MatchRegexp, model.MetricNameLabel, "r.|ALERTS.*")
	set := q.Select(context.Background(), false, nil, recorded)
	for set.Next() {
		s := set.At()
		for it := s.Iterator(nil); it.Next() != chunkenc.ValNone; {
			at, v := it.At()
			if value.IsStaleNaN(v) {
				lines = append(lines, fmt.Sprintf("%d %s ends", at, s.Labels()))
			} else {
				lines = append(lines, fmt.Sprintf("%d %s %g", at, s.Labels(), v))
			}
		}
	}
	if set.Err() != nil {
		t.Fatal(set.Err())
	}
	return lines
}

// drawSeries draws series that rise, fall, pause and end. Those of weight meet now and then, and then nothing can be
// joined with them.
func drawSeries(t *rapid.T) string {
	var out strings.Builder
	for _, name := range []string{
		`errors{service="a", host="1"}`, `errors{service="a", host="2"}`, `errors{service="b", host="1"}`,
		`weight{host="1"}`, `weight{host="1", disk="x"}`,
	} {
		out.WriteString("  " + name)
		for left := int(length/window) + 1; left > 0; {
			n := min(left, rapid.IntRange(1, 12).Draw(t, "as long"))
			v := rapid.SampledFrom([]string{"0", "1", "3", "6", "9", "stale", "_"}).Draw(t, "value")
			out.WriteString(strings.Repeat(" "+v, n))
			left -= n
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// drawRules draws a file of groups whose rules build on each other, on themselves and on alerts, whether they come
// before or after. Each rule has a label of its own: of two rules that record the same series upstream drops samples.
func drawRules(t *rapid.T) string {
	draw := func(what string, texts ...string) string { return rapid.SampledFrom(texts).Draw(t, what) }
	out, number := "groups:\n", 0
	for group := range rapid.IntRange(1, 3).Draw(t, "groups") {
		out += fmt.Sprintf("  - name: g%d\n    interval: %s\n", group, draw("interval", "10s", "20s", "30s", "50s"))
		out += draw("offset", "", "", "    query_offset: 0s\n", "    query_offset: 7s\n", "    query_offset: 15s\n")
		out += draw("limit", "", "", "    limit: 1\n", "    limit: 2\n")
		out += draw("labels", "", "    labels: {team: shop, level: none}\n")
		out += "    rules:\n"
		for range rapid.IntRange(1, 4).Draw(t, "rules") {
			number++
			name, of := draw("name", "r0", "r1", "r2"), "record"
			if rapid.Bool().Draw(t, "alerting") {
				name, of = draw("name", "Errors", "Slow"), "alert"
			}
			out += fmt.Sprintf("      - %s: %s\n        expr: '%s'\n", of, name, drawExpr(t))
			if of == "record" {
				out += fmt.Sprintf("        labels: {rule: '%d'%s}\n", number, draw("label", "", "", ", service: all"))
				continue
			}
			out += draw("for", "", "        for: 10s\n", "        for: 30s\n", "        for: 1m\n")
			out += draw("keep", "", "        keep_firing_for: 20s\n", "        keep_firing_for: 1m\n")
			out += fmt.Sprintf("        labels: {rule: '%d'%s}\n", number, draw("label", "", "", ", service: all",
				`, level: '{{ if gt $value 5.0 }}high{{ else }}low{{ end }}'`,
				`, host: '{{ $labels.host }}-{{ $externalLabels.cluster }}'`, `, value: '{{ $value }}'`))
			out += "        annotations: {summary: '{{ $value }} of {{ $labels.service }}'"
			out += draw("text", "", `, all: '{{ with query "sum(errors)" }}{{ . | first | value }}{{ end }}'`) + "}\n"
		}
	}
	return out
}

// drawExpr keeps results finite, which is all that Vigie records, and whole, so that sums do not depend on order.
func drawExpr(t *rapid.T) string {
	of := rapid.SampledFrom([]string{"errors", "errors", "r0", "r1", "r2"}).Draw(t, "of")
	expr := rapid.SampledFrom([]string{
		"X > N", "X > N", "sum by (service) (X) < 1e6", "max_over_time(X[30s]) > N", "changes(X[50s]) > 0", "count(X)", "absent(X)",
		"N > bool 4", "(X * on (host) group_left weight) < 1e6", `X unless on (service) ALERTS{alertstate="pending"}`,
		`count by (alertname) (ALERTS{alertstate="firing"})`, "ALERTS_FOR_STATE > N", "count by (service) (ALERTS) > 1",
	}).Draw(t, "expr")
	return strings.NewReplacer("X", of, "N", fmt.Sprint(rapid.IntRange(0, 8).Draw(t, "threshold"))).Replace(expr)
}
