package ruler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/rules"
)

// stateVersion is of the bytes of a group's state.
const stateVersion = 1

// groupState is what a group needs to go on elsewhere: docs/format/rule-state.md.
type groupState struct {
	Version   int                  `json:"version"`
	Evaluated int64                `json:"evaluated"`          // Unix ms, of the last committed evaluation
	Interval  int64                `json:"interval,omitempty"` // ms, between evaluations
	Rules     map[string]ruleState `json:"rules,omitempty"`
	Runs      []ruleRun            `json:"runs,omitempty"`   // of all rules, in the order of the file
	Series    []map[string]string  `json:"series,omitempty"` // that were recorded
}

// mostSeries is of how many recorded series a state has the labels: where there are more, those that end while the
// group goes elsewhere are valid for as long as samples of gauges are.
const mostSeries = 2000

// ruleRun is how the last evaluation of a rule went, for readers of rules.
type ruleRun struct {
	At    int64   `json:"at"` // Unix ms, of the clock; 0 when there was none
	Took  float64 `json:"took"`
	Error string  `json:"error,omitempty"`
}

// longestError is how much of a rule's error is kept, in bytes.
const longestError = 1000

func runOf(rule rules.Rule) ruleRun {
	run := ruleRun{At: millis(rule.GetEvaluationTimestamp()), Took: rule.GetEvaluationDuration().Seconds()}
	if err := rule.LastError(); err != nil {
		run.Error = strings.ToValidUTF8(err.Error()[:min(len(err.Error()), longestError)], "")
	}
	return run
}

func (run ruleRun) restore(rule rules.Rule) {
	if run.At == 0 {
		return
	}
	rule.SetEvaluationTimestamp(moment(run.At))
	rule.SetEvaluationDuration(time.Duration(run.Took * float64(time.Second)))
	rule.SetHealth(rules.HealthGood)
	rule.SetLastError(nil)
	if run.Error != "" {
		rule.SetHealth(rules.HealthBad)
		rule.SetLastError(errors.New(run.Error))
	}
}

// ruleState is an alerting rule that has alerts.
type ruleState struct {
	Alerts  []alertState `json:"alerts"`
	Samples []seenSample `json:"samples"`
}

// alertState is one alert. Times are Unix ms, 0 when there is none.
type alertState struct {
	Labels          map[string]string `json:"labels"`
	Annotations     map[string]string `json:"annotations,omitempty"`
	State           string            `json:"state"`
	Value           number            `json:"value"`
	ActiveAt        int64             `json:"active_at"`
	FiredAt         int64             `json:"fired_at,omitempty"`
	ResolvedAt      int64             `json:"resolved_at,omitempty"`
	KeepFiringSince int64             `json:"keep_firing_since,omitempty"`
}

// seenSample is a result of the rule's expression, and when it was last one (Unix ms). Upstream keeps the alerts, which
// do not tell from what they came; from the samples its own code makes them again.
type seenSample struct {
	Labels map[string]string `json:"labels"`
	Value  number            `json:"value"`
	Seen   int64             `json:"seen"`
}

// number is a float64 that may be infinite or no number, which JSON cannot say.
type number float64

func (n number) MarshalText() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(n), 'g', -1, 64), nil
}

func (n *number) UnmarshalText(text []byte) error {
	f, err := strconv.ParseFloat(string(text), 64)
	*n = number(f)
	return err
}

func (s groupState) bytes() []byte {
	bytes, err := json.Marshal(s)
	if err != nil {
		panic("BUG: state of a rule group does not marshal: " + err.Error())
	}
	return bytes
}

var errStateVersion = errors.New(
	"written by a newer version: let that one evaluate this group, or delete the record to begin anew")

func parseState(bytes []byte) (s groupState, err error) {
	if err := json.Unmarshal(bytes, &s); err != nil {
		return s, fmt.Errorf("state of a rule group: %w", err)
	}
	if s.Version != stateVersion {
		return s, fmt.Errorf("state of a rule group has version %d, want %d: %w", s.Version, stateVersion, errStateVersion)
	}
	return s, nil
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

var alertStates = map[string]rules.AlertState{
	rules.StateInactive.String(): rules.StateInactive,
	rules.StatePending.String():  rules.StatePending,
	rules.StateFiring.String():   rules.StateFiring,
}

// ruleKey tells the alerting rules of a group apart, as upstream does when files change.
func ruleKey(name string, ls labels.Labels) string { return name + ls.String() }

// alertsOf lists all alerts of a rule that upstream still holds.
func alertsOf(rule *rules.AlertingRule) (out []alertState) {
	rule.ForEachActiveAlert(func(a *rules.Alert) {
		out = append(out, alertState{
			Labels: a.Labels.Map(), Annotations: a.Annotations.Map(), State: a.State.String(), Value: number(a.Value),
			ActiveAt: millis(a.ActiveAt), FiredAt: millis(a.FiredAt), ResolvedAt: millis(a.ResolvedAt),
			KeepFiringSince: millis(a.KeepFiringSince),
		})
	})
	return out
}

// restoreRule brings the alerts of a rule back: upstream makes them from the samples, and then they get their state.
// Samples of the last evaluation are made together, as they were; older ones apart, as they might make the same alerts.
// It returns how many alerts were not made.
func restoreRule(ctx context.Context, rule *rules.AlertingRule, s ruleState, evaluated int64) (lost int) {
	var latest promql.Vector
	var older []promql.Sample
	for _, sample := range s.Samples {
		made := promql.Sample{Metric: labels.FromMap(sample.Labels), F: float64(sample.Value), T: evaluated}
		if sample.Seen == evaluated {
			latest = append(latest, made)
		} else {
			older = append(older, made)
		}
	}
	if err := remake(ctx, rule, latest, evaluated); err != nil { // the rule failed on them, and kept the alerts it had
		older = append(older, latest...)
	}
	for _, sample := range older {
		_ = remake(ctx, rule, promql.Vector{sample}, evaluated)
	}
	left := map[string]alertState{}
	for _, a := range s.Alerts {
		left[labels.FromMap(a.Labels).String()] = a
	}
	rule.ForEachActiveAlert(func(a *rules.Alert) {
		was, found := left[a.Labels.String()]
		if !found { // of a sample that makes another alert by now, or on which the rule failed; an evaluation drops it
			a.State, a.FiredAt, a.ResolvedAt = rules.StateInactive, time.Time{}, time.Unix(1, 0) // nobody is told
			return
		}
		delete(left, a.Labels.String())
		a.State, a.Value, a.Annotations = alertStates[was.State], float64(was.Value), labels.FromMap(was.Annotations)
		a.ActiveAt, a.FiredAt = moment(was.ActiveAt), moment(was.FiredAt)
		a.ResolvedAt, a.KeepFiringSince = moment(was.ResolvedAt), moment(was.KeepFiringSince)
		// The next evaluation sends it to the Alertmanager, which knows it already or never had it.
		a.LastSentAt, a.ValidUntil = time.Time{}, time.Time{}
	})
	return len(left)
}

// remake has upstream make the alerts of some samples, beside those that are there: those have ended, so that it keeps
// them.
func remake(ctx context.Context, rule *rules.AlertingRule, vector promql.Vector, evaluated int64) error {
	rule.ForEachActiveAlert(func(a *rules.Alert) { a.State, a.ResolvedAt = rules.StateInactive, moment(evaluated) })
	query := rule.Query().String()
	_, err := rule.Eval(ctx, 0, moment(evaluated), func(_ context.Context, q string, _ time.Time) (promql.Vector, error) {
		if q == query {
			return vector, nil
		}
		return nil, nil // what templates ask; texts are restored
	}, nil, 0)
	return err
}

// samples are results of an alerting rule's expression, by their labels and value: with another value a template may
// make another alert.
type samples map[string]seenSample

func (s seenSample) key() string {
	text, _ := s.Value.MarshalText()
	return labels.FromMap(s.Labels).String() + " " + string(text)
}

// see takes the results at t.
func (s samples) see(vector promql.Vector, t int64) {
	for _, v := range vector {
		sample := seenSample{v.Metric.Map(), number(v.F), t}
		s[sample.key()] = sample
	}
}

// keep forgets what is not of the last evaluation and cannot have made any of the alerts.
func (s samples) keep(alerts []alertState, evaluated int64) {
	values := map[number]bool{}
	for _, a := range alerts {
		values[a.Value] = true
	}
	for key, sample := range s {
		if sample.Seen != evaluated && !values[sample.Value] {
			delete(s, key)
		}
	}
}
