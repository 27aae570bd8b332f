package ruler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"go.yaml.in/yaml/v3"
)

// testFile is a file of unit tests as promtool reads it.
type testFile struct {
	RuleFiles          []string       `yaml:"rule_files"`
	EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	GroupEvalOrder     []string       `yaml:"group_eval_order"`
	FuzzyCompare       bool           `yaml:"fuzzy_compare"`
	Tests              []testCase     `yaml:"tests"`
}

type testCase struct {
	Name           string            `yaml:"name"`
	Interval       model.Duration    `yaml:"interval"`
	StartTimestamp startTime         `yaml:"start_timestamp"`
	ExternalLabels map[string]string `yaml:"external_labels"`
	ExternalURL    string            `yaml:"external_url"`
	InputSeries    []struct {
		Series string `yaml:"series"`
		Values string `yaml:"values"`
	} `yaml:"input_series"`
	Alerts []alertTest `yaml:"alert_rule_test"`
	Exprs  []exprTest  `yaml:"promql_expr_test"`
}

// start is the time of the first samples: the Unix epoch unless the test says otherwise.
func (c *testCase) start() time.Time {
	if c.StartTimestamp.IsZero() {
		return time.Unix(0, 0).UTC()
	}
	return c.StartTimestamp.Time
}

type alertTest struct {
	EvalTime  model.Duration `yaml:"eval_time"`
	Alertname string         `yaml:"alertname"`
	Expected  []struct {
		Labels      map[string]string `yaml:"exp_labels"`
		Annotations map[string]string `yaml:"exp_annotations"`
	} `yaml:"exp_alerts"`
}

type exprTest struct {
	Expr     string         `yaml:"expr"`
	EvalTime model.Duration `yaml:"eval_time"`
	Expected []struct {
		Labels    string  `yaml:"labels"`
		Value     float64 `yaml:"value"`
		Histogram string  `yaml:"histogram"`
	} `yaml:"exp_samples"`
}

// place finds the line and column of an item: tests[i].key[j].
func place(text []byte, i int, key string, j int) (line, col int) {
	var root yaml.Node
	if yaml.Unmarshal(text, &root) != nil || len(root.Content) == 0 {
		return 0, 0
	}
	if node := find(&root, "tests", i, key, j); node != nil {
		return node.Line, node.Column
	}
	return 0, 0
}

// startTime is Unix seconds or RFC 3339.
type startTime struct{ time.Time }

func (t *startTime) UnmarshalYAML(node *yaml.Node) error {
	var seconds float64
	if node.Decode(&seconds) == nil {
		whole, part := math.Modf(seconds)
		t.Time = time.Unix(int64(whole), int64(part*1e9)).UTC()
		return nil
	}
	parsed, err := time.Parse(time.RFC3339Nano, node.Value)
	if err != nil {
		return fmt.Errorf("line %d: start_timestamp %q: want Unix seconds or RFC 3339", node.Line, node.Value)
	}
	t.Time = parsed.UTC()
	return nil
}

// Test runs files of unit tests in promtool's format against the rule files they name, writes the outcome to out, and
// returns the exit code that promtool would: 1 when anything failed. Samples are Prometheus' own here, and so are the
// engine and the storage: a counter is cumulative, whatever it would be in Vigie.
func Test(files []string, out io.Writer) (code int) {
	for _, path := range files {
		fmt.Fprintln(out, "Testing", path)
		problems := testOne(path)
		if len(problems) == 0 {
			fmt.Fprintln(out, "  SUCCESS")
			continue
		}
		code = 1
		fmt.Fprintln(out, "  FAILED:")
		for _, p := range problems {
			fmt.Fprintln(out, p.Error())
		}
	}
	return code
}

func testOne(path string) (problems []Problem) {
	text, err := os.ReadFile(path)
	if err != nil {
		return []Problem{{File: path, Text: strings.TrimPrefix(err.Error(), "open "+path+": ")}}
	}
	var file testFile
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return locateYAML(path, strings.Split(string(text), "\n"), strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if file.EvaluationInterval == 0 {
		file.EvaluationInterval = model.Duration(time.Minute)
	}
	ruleFiles, err := expand(file.RuleFiles, filepath.Dir(path))
	if err != nil {
		return []Problem{{File: path, Text: err.Error()}}
	}
	for _, name := range ruleFiles {
		if _, wrong := parseFile(name); len(wrong) > 0 {
			problems = append(problems, wrong...)
		}
	}
	if len(problems) > 0 {
		return problems
	}
	for i := range file.Tests {
		t := unitTest{file: &file, path: path, text: text, number: i, testCase: &file.Tests[i], ruleFiles: ruleFiles}
		problems = append(problems, t.run()...)
	}
	return problems
}

// expand resolves patterns of files, relative ones from dir, or from where the process runs when dir is "". A name
// without a pattern has to exist.
func expand(patterns []string, dir string) (files []string, err error) {
	for _, pattern := range patterns {
		if dir != "" && !filepath.IsAbs(pattern) {
			pattern = filepath.Join(dir, pattern)
		}
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("rule files %q: %w", pattern, err)
		}
		if len(found) == 0 && !strings.ContainsAny(pattern, "*?[") {
			return nil, fmt.Errorf("rule file %s: no such file", pattern)
		}
		files = append(files, found...)
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

// unitTest is one item of tests.
type unitTest struct {
	*testCase
	file      *testFile
	path      string
	text      []byte
	number    int
	ruleFiles []string
	loader    *promqltest.LazyLoader
	groups    []*rules.Group
	problems  []Problem
}

func (t *unitTest) fail(line, col int, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if t.Name != "" {
		text = t.Name + ": " + text
	}
	t.problems = append(t.problems, Problem{t.path, line, col, text})
}

// failAt is fail for an item of the list under key.
func (t *unitTest) failAt(key string, i int, format string, args ...any) {
	line, col := place(t.text, t.number, key, i)
	t.fail(line, col, format, args...)
}

func (t *unitTest) run() []Problem {
	interval := time.Duration(t.Interval)
	if interval == 0 {
		interval = time.Duration(t.file.EvaluationInterval)
	}
	loader, err := promqltest.NewLazyLoader(t.script(interval), promqltest.LazyLoaderOpts{
		StartTime: t.StartTimestamp.Time, Parser: newParser(), EnableAtModifier: true, EnableNegativeOffset: true,
	})
	if err != nil {
		t.fail(0, 0, "input_series: %v", err)
		return t.problems
	}
	t.loader = loader
	defer func() {
		if err := loader.Close(); err != nil {
			t.fail(0, 0, "%v", err)
		}
	}()
	loader.SubqueryInterval = time.Duration(t.file.EvaluationInterval)
	if err := t.load(interval); err != nil {
		t.fail(0, 0, "%v", err)
		return t.problems
	}
	if t.evaluate() {
		for i := range t.Exprs {
			t.expression(i)
		}
	}
	return t.problems
}

// script is the input as promqltest reads it.
func (t *unitTest) script(interval time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "load %s\n", model.Duration(interval))
	for _, s := range t.InputSeries {
		fmt.Fprintf(&b, "  %s %s\n", s.Series, s.Values)
	}
	return b.String()
}

func (t *unitTest) load(interval time.Duration) error {
	manager := rules.NewManager(&rules.ManagerOptions{
		QueryFunc:    rules.EngineQueryFunc(t.loader.QueryEngine(), t.loader.Storage()),
		AppendableV2: t.loader.Storage(),
		Context:      context.Background(),
		NotifyFunc:   func(context.Context, string, ...*rules.Alert) {},
		Logger:       slog.New(slog.DiscardHandler),
		Parser:       newParser(),
	})
	groups, errs := manager.LoadGroups(interval, labels.FromMap(t.ExternalLabels), t.ExternalURL, nil, false, t.ruleFiles...)
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	for _, g := range groups {
		t.groups = append(t.groups, g)
		for _, r := range g.AlertingRules() {
			r.SetRestored(true) // or there would be no ALERTS
		}
	}
	rank := func(g *rules.Group) int { return slices.Index(t.file.GroupEvalOrder, g.Name()) }
	slices.SortFunc(t.groups, func(a, b *rules.Group) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(rules.GroupKey(a.File(), a.Name()), rules.GroupKey(b.File(), b.Name()))
	})
	return nil
}

// evaluate runs all groups from the start to the last time asked for, and compares alerts on the way. False: a rule
// failed.
func (t *unitTest) evaluate() bool {
	start := t.start()
	var last model.Duration
	for i, a := range t.Alerts {
		last = max(last, a.EvalTime)
		if a.Alertname == "" {
			t.failAt("alert_rule_test", i, "alertname is missing")
			return false
		}
	}
	for _, e := range t.Exprs {
		last = max(last, e.EvalTime)
	}
	every := time.Duration(t.file.EvaluationInterval)
	good := true
	for after := time.Duration(0); ; after += every {
		t.loader.WithSamplesTill(start.Add(after), func(err error) {
			if err != nil {
				t.fail(0, 0, "load samples: %v", err)
				good = false
				return
			}
			good = t.step(start.Add(after), after)
		})
		for i, a := range t.Alerts {
			if e := time.Duration(a.EvalTime); good && after <= e && e-after < every {
				t.alerts(i)
			}
		}
		if !good || time.Duration(last)-after < every { // after+every may be past the end of time
			return good
		}
	}
}

func (t *unitTest) step(ts time.Time, after time.Duration) (good bool) {
	good = true
	for _, g := range t.groups {
		g.Eval(t.loader.Context(), ts)
		for _, r := range g.Rules() {
			if err := r.LastError(); err != nil {
				t.fail(0, 0, "%s, group %s, rule %s at %s: %v", g.File(), g.Name(), r.Name(), model.Duration(after), err)
				good = false
			}
		}
	}
	return good
}

// alerts compares those that fire now with the expected ones.
func (t *unitTest) alerts(i int) {
	a := &t.Alerts[i]
	var got, want []string
	for _, g := range t.groups {
		for _, r := range g.AlertingRules() {
			for _, active := range r.ActiveAlerts() {
				if r.Name() == a.Alertname && active.State == rules.StateFiring {
					got = append(got, active.Labels.String()+" "+active.Annotations.String())
				}
			}
		}
	}
	for _, e := range a.Expected {
		named := rules.FromMaps(e.Labels, map[string]string{labels.AlertName: a.Alertname})
		want = append(want, named.String()+" "+labels.FromMap(e.Annotations).String())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.failAt("alert_rule_test", i, "alert %s at %s:%s", a.Alertname, a.EvalTime, difference(got, want))
	}
}

type sample struct {
	labels labels.Labels
	value  float64
	hist   string
}

func (s sample) String() string {
	if s.hist != "" {
		return s.labels.String() + " " + s.hist
	}
	return fmt.Sprintf("%s %g", s.labels, s.value)
}

func (t *unitTest) expression(i int) {
	e := &t.Exprs[i]
	query := rules.EngineQueryFunc(t.loader.QueryEngine(), t.loader.Queryable())
	vector, err := query(t.loader.Context(), e.Expr, t.start().Add(time.Duration(e.EvalTime)))
	if err != nil {
		t.failAt("promql_expr_test", i, "%s at %s: %v", e.Expr, e.EvalTime, err)
		return
	}
	want, err := e.expected()
	if err != nil {
		t.failAt("promql_expr_test", i, "%v", err)
		return
	}
	got := samplesOf(vector)
	if !t.equal(got, want) {
		t.failAt("promql_expr_test", i, "%s at %s:%s", e.Expr, e.EvalTime, difference(texts(got), texts(want)))
	}
}

func samplesOf(vector promql.Vector) []sample {
	list := make([]sample, len(vector))
	for i, s := range vector {
		list[i] = sample{s.Metric, s.F, promqltest.HistogramTestExpression(s.H)}
	}
	return ordered(list)
}

func ordered(list []sample) []sample {
	slices.SortFunc(list, func(a, b sample) int { return labels.Compare(a.labels, b.labels) })
	return list
}

func (e *exprTest) expected() ([]sample, error) {
	list := make([]sample, len(e.Expected))
	for i, s := range e.Expected {
		named, err := newParser().ParseMetric(s.Labels)
		if err != nil {
			return nil, fmt.Errorf("exp_samples labels %q: %w", s.Labels, err)
		}
		var hist *histogram.FloatHistogram
		if s.Histogram != "" {
			_, values, err := newParser().ParseSeriesDesc("{} " + s.Histogram)
			if err != nil || len(values) != 1 || values[0].Histogram == nil {
				return nil, fmt.Errorf("exp_samples histogram %q: want one histogram, such as {{schema:0 sum:1 count:1 buckets:[1]}} (%w)",
					s.Histogram, errors.Join(err))
			}
			hist = values[0].Histogram
		}
		list[i] = sample{named, s.Value, promqltest.HistogramTestExpression(hist)}
	}
	return ordered(list), nil
}

func (t *unitTest) equal(got, want []sample) bool {
	return slices.EqualFunc(got, want, func(g, w sample) bool {
		if !labels.Equal(g.labels, w.labels) || g.hist != w.hist {
			return false
		}
		if g.hist != "" || g.value == w.value || math.IsNaN(g.value) && math.IsNaN(w.value) {
			return true
		}
		return t.file.FuzzyCompare &&
			(math.Nextafter(g.value, math.Inf(1)) == w.value || math.Nextafter(g.value, math.Inf(-1)) == w.value)
	})
}

func texts(list []sample) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = s.String()
	}
	return out
}

// difference shows both lists, an item a line.
func difference(got, want []string) string {
	show := func(list []string) string {
		if len(list) == 0 {
			return " nothing"
		}
		return "\n    " + strings.Join(list, "\n    ")
	}
	return "\n  got:" + show(got) + "\n  want:" + show(want)
}
