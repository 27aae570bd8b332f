package ruler

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/util/strutil"

	"github.com/vigie-io/vigie/internal/alertapi"
	upstream "github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
)

// window is the width of the finest windows: between two of their borders no answer changes.
const window = 10 * time.Second

// never is an interval that does not end.
const never = 100 * 365 * 24 * time.Hour

// What upstream names the series that alerts are recorded as.
const (
	alertsSeries         = "ALERTS"
	alertsForStateSeries = "ALERTS_FOR_STATE"
)

// group is a rule group as this process evaluates it. One goroutine uses it, but for readers of rules.
type group struct {
	ruler  *Ruler
	file   fileGroup
	cfg    Tenant
	rules  *rules.Group
	ctx    context.Context // has the tenant
	out    outputs
	seen   map[string]samples  // results of alerting rules, by ruleKey
	live   map[string]recorded // series that the last evaluation recorded, by their bytes
	offset int64               // ms, of evaluations from multiples of the interval

	evaluated int64      // Unix ms, of the last committed evaluation; 0 when there was none
	last      groupState // after it
	at        int64      // the evaluation that is due, 0 when none is, …
	missed    int64      // … and how many are skipped before it
	failed    error      // of the running evaluation: what may go away by itself
	changed   bool       // there are alerts to send
	sent      time.Time  // when alerts were last sent
}

func newGroup(ctx context.Context, r *Ruler, file fileGroup, files *Files, over *overlay) (*group, error) {
	g := &group{
		ruler: r, file: file, cfg: files.cfg.Tenants[file.tenant], ctx: tenants.NewContext(ctx, file.tenant),
		out: outputs{tenant: file.tenant, overlay: over, metrics: r.metrics}, seen: map[string]samples{},
	}
	external, err := url.Parse(files.cfg.ExternalURL)
	if err != nil {
		return nil, err
	}
	manager := rules.NewManager(&rules.ManagerOptions{
		ExternalURL: external, QueryFunc: g.query(over), NotifyFunc: g.noticed, Context: g.ctx, AppendableV2: &g.out,
		Queryable: r.source.Queryable(), Logger: r.log.With("tenant", file.tenant), ResendDelay: never, // g.notify does
		GroupLoader: one{file.group}, Metrics: r.upstream,
	})
	groups, errs := manager.LoadGroups(files.cfg.EvaluationInterval, labels.FromMap(g.cfg.ExternalLabels), files.cfg.ExternalURL,
		nil, false, file.path)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	g.rules = groups[rules.GroupKey(file.path, file.group.Name)]
	for _, rule := range g.rules.AlertingRules() {
		rule.SetRestored(true) // by restore
		g.seen[ruleKey(rule.Name(), rule.Labels())] = samples{}
	}
	h := fnv.New64a()
	h.Write([]byte(file.tenant))
	h.Write([]byte(file.group.Name))
	if slots := g.interval() / window.Milliseconds(); slots > 1 {
		g.offset = int64(h.Sum64()%uint64(slots)) * window.Milliseconds()
	}
	return g, nil
}

// interval is in ms. Evaluations closer than windows would only say the same again.
func (g *group) interval() int64 { return max(g.rules.Interval(), window).Milliseconds() }

// noticed learns from upstream that alerts began to fire or ended.
func (g *group) noticed(_ context.Context, _ string, alerts ...*rules.Alert) {
	g.changed = g.changed || len(alerts) > 0
}

// query is how rules ask.
func (g *group) query(o *overlay) rules.QueryFunc {
	ask := rules.EngineQueryFunc(g.ruler.source.QueryEngine(), over{g.ruler.source.Queryable(), o})
	return func(ctx context.Context, q string, t time.Time) (promql.Vector, error) {
		of := rules.FromOriginContext(ctx)
		g.out.rule = g.place(of)
		vector, err := ask(upstream.WithCover(ctx, o.covers), q, t)
		if err != nil {
			if passing(err) {
				g.failed = err
			}
			return nil, err
		}
		if of.Kind == rules.KindAlerting && of.Query == q {
			g.seen[ruleKey(of.Name, of.Labels)].see(vector, g.at)
		}
		return vector, nil
	}
}

// place is where the rule that asks is in the group.
func (g *group) place(of rules.RuleDetail) int {
	return slices.IndexFunc(g.rules.Rules(), func(rule rules.Rule) bool {
		return rule.Name() == of.Name && labels.Equal(rule.Labels(), of.Labels) && rule.Query().String() == of.Query
	})
}

// passing tells errors that a later attempt may not meet from those of the query itself.
func passing(err error) bool {
	var storage promql.ErrStorage
	var limit *upstream.LimitError
	return errors.As(err, &storage) || errors.Is(err, context.Canceled) ||
		errors.As(err, &limit) && limit.Limit == "query_concurrency"
}

// next returns the time of the next evaluation when all before complete is known, 0 when there is none, and how many
// were skipped because they are later than backfill.
func (g *group) next(complete, backfill int64) (at int64, missed int64) {
	every := g.interval()
	first := g.evaluated - mod(g.evaluated-g.offset, every) + every
	if first > complete {
		return 0, 0
	}
	newest := first + (complete-first)/every*every
	at = first
	if late := complete - backfill; first < late {
		at = min(first+(late-first+every-1)/every*every, newest)
	}
	return at, (at - first) / every
}

func mod(a, b int64) int64 { return (a%b + b) % b }

// evaluate runs all rules at t (Unix ms). After an error it has to be made again, and alerts are what they were before.
func (g *group) evaluate(t int64) error {
	g.out.begin(t-g.rules.QueryOffset().Milliseconds(), g.live)
	g.failed = nil
	rules.DefaultEvalIterationFunc(g.ctx, g.rules, moment(t))
	if g.failed != nil {
		g.out.undo()
		for _, rule := range g.rules.AlertingRules() {
			g.reset(rule, &g.last)
		}
		return fmt.Errorf("evaluate rule group %s of %s at %s: %w", g.file.group.Name, g.file.tenant,
			moment(t).Format(time.RFC3339), g.failed)
	}
	for _, rule := range g.rules.Rules() {
		if rule.LastError() != nil {
			g.ruler.metrics.failures.WithLabelValues(failedRule).Inc()
		}
	}
	g.end()
	return nil
}

// end has the series go stale that were recorded before and are no more. Whether those of a rule that could not be
// evaluated have ended nobody knows.
func (g *group) end() {
	all := g.rules.Rules()
	for _, key := range slices.Sorted(maps.Keys(g.live)) {
		s := g.live[key]
		switch _, still := g.out.recorded[key]; {
		case still:
		case s.rule != noRule && all[s.rule].LastError() != nil:
			g.out.recorded[key] = s
		default:
			g.out.end(s.labels)
		}
	}
	g.live = g.out.recorded
}

// recorder is the place of the first rule that may record a series: it has the rule's name, and its labels but for
// those that are templates.
func (g *group) recorder(ls labels.Labels) int {
	return slices.IndexFunc(g.rules.Rules(), func(rule rules.Rule) bool {
		name := ls.Get(model.MetricNameLabel)
		if _, alerting := rule.(*rules.AlertingRule); alerting {
			if name != alertsSeries && name != alertsForStateSeries {
				return false
			}
			name = ls.Get(model.AlertNameLabel)
		}
		fits := rule.Name() == name
		rule.Labels().Range(func(l labels.Label) {
			fits = fits && (strings.Contains(l.Value, "{{") || ls.Get(l.Name) == l.Value)
		})
		return fits
	})
}

// state is the group's after an evaluation at t.
func (g *group) state(t int64) []byte {
	s := groupState{Version: stateVersion, Evaluated: t, Interval: g.interval(), Rules: map[string]ruleState{}}
	for _, rule := range g.rules.AlertingRules() {
		key := ruleKey(rule.Name(), rule.Labels())
		alerts := alertsOf(rule)
		if len(alerts) == 0 {
			clear(g.seen[key])
			continue
		}
		g.seen[key].keep(alerts, t)
		of := ruleState{Alerts: alerts}
		for _, sample := range g.seen[key] {
			of.Samples = append(of.Samples, sample)
		}
		s.Rules[key] = of
	}
	for _, rule := range g.rules.Rules() {
		s.Runs = append(s.Runs, runOf(rule))
	}
	if len(g.live) <= mostSeries {
		for _, key := range slices.Sorted(maps.Keys(g.live)) {
			s.Series = append(s.Series, g.live[key].labels.Map())
		}
	}
	g.last = s
	return s.bytes()
}

// restore takes a state over.
func (g *group) restore(bytes []byte) error {
	s, err := parseState(bytes)
	if err != nil {
		return err
	}
	g.evaluated, g.last, g.live = s.Evaluated, s, map[string]recorded{}
	for _, one := range s.Series {
		ls := labels.FromMap(one)
		g.live[string(ls.Bytes(nil))] = recorded{ls, g.recorder(ls)}
	}
	for _, rule := range g.rules.AlertingRules() {
		g.reset(rule, &s)
	}
	if all := g.rules.Rules(); len(all) == len(s.Runs) { // of the same file, or nearly
		for i, rule := range all {
			s.Runs[i].restore(rule)
		}
	}
	return nil
}

// reset gives a rule the alerts of a state, and the samples that made them.
func (g *group) reset(rule *rules.AlertingRule, s *groupState) {
	key := ruleKey(rule.Name(), rule.Labels())
	was := s.Rules[key]
	if lost := restoreRule(g.ctx, rule, was, s.Evaluated); lost > 0 {
		g.ruler.log.Warn("alerts could not be restored and begin anew", "tenant", g.file.tenant, "rule", rule.Name(), "alerts", lost)
	}
	clear(g.seen[key])
	for _, sample := range was.Samples {
		g.seen[key][sample.key()] = sample
	}
}

// notify sends the alerts that fire, and those that ended lately, to the Alertmanager: when something changed, and
// every resend delay of real time, also while the stream stands still.
func (g *group) notify(now time.Time, resend time.Duration) {
	if !g.changed && now.Sub(g.sent) < resend {
		return
	}
	g.changed, g.sent = false, now
	until := now.Add(4 * max(resend, time.Duration(g.interval())*time.Millisecond))
	if list := g.alerts(until); len(list) > 0 {
		g.ruler.send(g.file.tenant, list)
	}
}

// alerts lists those that fire, as ending at until unless they are sent again before, and those that ended lately.
func (g *group) alerts(until time.Time) (list []alertapi.Alert) {
	base := g.ruler.files.Load().cfg.ExternalURL
	for _, rule := range g.rules.AlertingRules() {
		link := ""
		if base != "" {
			link = base + strutil.TableLinkForExpression(rule.Query().String())
		}
		rule.ForEachActiveAlert(func(a *rules.Alert) {
			if a.State == rules.StatePending || a.FiredAt.IsZero() {
				return
			}
			alert := alertapi.Alert{
				Labels: a.Labels.Map(), Annotations: a.Annotations.Map(), StartsAt: a.FiredAt, EndsAt: until, GeneratorURL: link,
			}
			if !a.ResolvedAt.IsZero() {
				alert.EndsAt = a.ResolvedAt
			}
			for name, value := range g.cfg.ExternalLabels {
				if _, has := alert.Labels[name]; !has {
					alert.Labels[name] = value
				}
			}
			list = append(list, alert)
		})
	}
	return list
}
