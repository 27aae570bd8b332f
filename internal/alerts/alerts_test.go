// Package alerts tests the alert rules that deploy/prometheus ships, with the rule engine of Prometheus itself: that
// each fires and rests as deploy/prometheus/vigie.rules.test.yml says (the format of `promtool test rules`), reads only
// metrics that programs have, and has a runbook. It holds no rules.
package alerts_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"go.yaml.in/yaml/v3"
)

const (
	root      = "../.."
	folder    = root + "/deploy/prometheus"
	ruleFile  = folder + "/vigie.rules.yml"
	testFile  = folder + "/vigie.rules.test.yml"
	reference = root + "/docs/metrics.md"
	runbooks  = root + "/docs/runbooks"
)

// unitTests is as much of promtool's format as the file needs; unknown keys are errors.
type unitTests struct {
	RuleFiles          []string       `yaml:"rule_files"`
	EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	Tests              []unitTest     `yaml:"tests"`
}

type unitTest struct {
	Name        string         `yaml:"name"`
	Interval    model.Duration `yaml:"interval"`
	InputSeries []struct {
		Series string `yaml:"series"`
		Values string `yaml:"values"`
	} `yaml:"input_series"`
	AlertRuleTest []expectation `yaml:"alert_rule_test"`
}

type expectation struct {
	EvalTime  model.Duration `yaml:"eval_time"`
	Alertname string         `yaml:"alertname"`
	ExpAlerts []struct {
		Labels      map[string]string `yaml:"exp_labels"`
		Annotations map[string]string `yaml:"exp_annotations"`
	} `yaml:"exp_alerts"`
}

func readTests(t *testing.T) unitTests {
	t.Helper()
	file, err := os.Open(testFile)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var out unitTests
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err := decoder.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

func readRules(t *testing.T) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile(ruleFile, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	var out []rulefmt.Rule
	for _, group := range groups.Groups {
		out = append(out, group.Rules...)
	}
	return out
}

// TestRules runs the file of unit tests, and asks of it that it shows each alert firing and not firing.
func TestRules(t *testing.T) {
	all := readTests(t)
	fires, rests := map[string]bool{}, map[string]bool{}
	for _, test := range all.Tests {
		t.Run(test.Name, func(t *testing.T) { test.run(t, time.Duration(all.EvaluationInterval)) })
		for _, e := range test.AlertRuleTest {
			if len(e.ExpAlerts) > 0 {
				fires[e.Alertname] = true
			} else {
				rests[e.Alertname] = true
			}
		}
	}
	for _, rule := range readRules(t) {
		if !fires[rule.Alert] || !rests[rule.Alert] {
			t.Errorf("%s: got shown firing %v, not firing %v; want both in %s", rule.Alert, fires[rule.Alert], rests[rule.Alert], testFile)
		}
	}
}

func (u *unitTest) run(t *testing.T, every time.Duration) {
	if len(u.AlertRuleTest) == 0 {
		t.Fatal("nothing is expected")
	}
	load := "load " + u.Interval.String() + "\n"
	for _, s := range u.InputSeries {
		load += fmt.Sprintf("  %s %s\n", s.Series, s.Values)
	}
	p := parser.NewParser(parser.Options{})
	loader, err := promqltest.NewLazyLoader(load, promqltest.LazyLoaderOpts{EnableAtModifier: true, EnableNegativeOffset: true, Parser: p})
	if err != nil {
		t.Fatal(err)
	}
	defer loader.Close()
	loader.SubqueryInterval = every
	manager := rules.NewManager(&rules.ManagerOptions{
		QueryFunc: rules.EngineQueryFunc(loader.QueryEngine(), loader.Storage()), AppendableV2: loader.Storage(),
		Context: loader.Context(), NotifyFunc: func(context.Context, string, ...*rules.Alert) {}, Logger: slog.New(slog.DiscardHandler), Parser: p,
	})
	groups, errs := manager.LoadGroups(time.Duration(u.Interval), labels.EmptyLabels(), "", nil, false, ruleFile)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	last := time.Duration(0)
	for _, e := range u.AlertRuleTest {
		last = max(last, time.Duration(e.EvalTime))
	}
	start := time.Unix(0, 0).UTC()
	for at := time.Duration(0); at <= last; at += every {
		loader.WithSamplesTill(start.Add(at), func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		})
		for _, group := range groups {
			group.Eval(loader.Context(), start.Add(at))
			for _, rule := range group.Rules() {
				if err := rule.LastError(); err != nil {
					t.Fatalf("%s at %s: %v", rule.Name(), at, err)
				}
			}
		}
		for i := range u.AlertRuleTest {
			if time.Duration(u.AlertRuleTest[i].EvalTime) == at {
				u.AlertRuleTest[i].check(t, groups)
			}
		}
	}
}

// check compares the firing alerts of a name with what is expected.
func (e *expectation) check(t *testing.T, groups map[string]*rules.Group) {
	t.Helper()
	var got, want []string
	for _, group := range groups {
		for _, rule := range group.Rules() {
			alerting, ok := rule.(*rules.AlertingRule)
			if !ok || alerting.Name() != e.Alertname {
				continue
			}
			for _, alert := range alerting.ActiveAlerts() {
				if alert.State == rules.StateFiring {
					got = append(got, alert.Labels.String()+"\n  "+alert.Annotations.String())
				}
			}
		}
	}
	for _, alert := range e.ExpAlerts {
		set := map[string]string{labels.AlertName: e.Alertname}
		for name, value := range alert.Labels {
			set[name] = value
		}
		want = append(want, labels.FromMap(set).String()+"\n  "+labels.FromMap(alert.Annotations).String())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s at %s: got\n%s\nwant\n%s", e.Alertname, e.EvalTime, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// metrics are the labels of every metric that docs/metrics.md has, which is held to what programs register.
func metrics(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(vigie_[a-z0-9_]+)` \\| (\\w+) \\| ([^|]*) \\|").FindAllStringSubmatch(string(text), -1) {
		name, kind := row[1], row[2]
		names := strings.FieldsFunc(row[3], func(r rune) bool { return r == ',' || r == ' ' })
		out[name] = names
		if kind == "histogram" {
			out[name+"_bucket"] = append([]string{"le"}, names...)
			out[name+"_count"], out[name+"_sum"] = names, names
		}
	}
	if len(out) < 50 {
		t.Fatalf("got %d metrics of %s, want all", len(out), reference)
	}
	return out
}

// Every rule reads metrics that exist, by labels that they have, and says what a person needs.
func TestRulesReadWhatThereIs(t *testing.T) {
	known := metrics(t)
	for _, rule := range readRules(t) {
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(rule.Expr)
		if err != nil {
			t.Fatal(err)
		}
		var has []string
		parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
			if selector, ok := node.(*parser.VectorSelector); ok {
				names, exists := known[selector.Name]
				if !exists {
					t.Errorf("%s reads %s, which no program has", rule.Alert, selector.Name)
				}
				has = append(has, names...)
				for _, m := range selector.LabelMatchers {
					if m.Name != model.MetricNameLabel && !slices.Contains(names, m.Name) {
						t.Errorf("%s selects %s by label %s, which it does not have", rule.Alert, selector.Name, m.Name)
					}
				}
			}
			return nil
		})
		parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
			if aggregation, ok := node.(*parser.AggregateExpr); ok {
				for _, name := range aggregation.Grouping {
					if name != "instance" && !slices.Contains(has, name) {
						t.Errorf("%s groups by label %s, which nothing in it has", rule.Alert, name)
					}
				}
			}
			return nil
		})
		if s := rule.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: got severity %q, want critical or warning", rule.Alert, s)
		}
		if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
			t.Errorf("%s: want a summary and a description", rule.Alert)
		}
	}
}

// Alerts and runbooks are one to one, and every runbook answers the same questions.
func TestRunbooks(t *testing.T) {
	var alerts []string
	for _, rule := range readRules(t) {
		alerts = append(alerts, rule.Alert)
		if want := "docs/runbooks/" + rule.Alert + ".md"; rule.Annotations["runbook_url"] != want {
			t.Errorf("%s: got runbook_url %s, want %s", rule.Alert, rule.Annotations["runbook_url"], want)
		}
		text, err := os.ReadFile(filepath.Join(runbooks, rule.Alert+".md"))
		if err != nil {
			t.Errorf("%s has no runbook: %v", rule.Alert, err)
			continue
		}
		at := 0
		for _, heading := range []string{"# " + rule.Alert + "\n", "\n## What it means\n", "\n## What users notice\n", "\n## Find the cause\n", "\n## What to do\n", "\n## When it resolves\n"} {
			i := strings.Index(string(text)[at:], heading)
			if i < 0 {
				t.Errorf("%s.md: want %q here, after what comes before it", rule.Alert, strings.TrimSpace(heading))
				continue
			}
			at += i
		}
		if severity := rule.Labels["severity"]; !strings.Contains(string(text), "Severity: "+severity) {
			t.Errorf("%s.md: want the rule's severity, %s", rule.Alert, severity)
		}
	}
	files, err := filepath.Glob(filepath.Join(runbooks, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".md"); name != "README" && !slices.Contains(alerts, name) {
			t.Errorf("%s is the runbook of no alert", file)
		}
	}
	index, err := os.ReadFile(filepath.Join(runbooks, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, alert := range alerts {
		if !strings.Contains(string(index), "("+alert+".md)") {
			t.Errorf("docs/runbooks/README.md does not list %s", alert)
		}
	}
}

// The commands that runbooks tell people to run exist, with the flags they name; the queries are PromQL.
func TestRunbookCommands(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(runbooks, "*.md"))
	if err != nil || len(files) < 10 {
		t.Fatalf("got %d runbooks, %v", len(files), err)
	}
	usage := ""
	sources, err := filepath.Glob(root + "/internal/cli/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range sources {
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		usage += string(text)
	}
	command := regexp.MustCompile(`(?m)(?:^|\x60)vigie ([a-z]+)((?: [^\x60\n#]*)?)`)
	flags := regexp.MustCompile(` -([a-z-]+)`)
	seen, queries := 0, 0
	query := regexp.MustCompile(`(?m)(?:\x60|^    )((?:vigie_[a-z_]+[{[]|[a-z_]+(?: by \([a-z, ]+\))? ?\([^\x60\n]*vigie_)[^\x60\n]*)`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range query.FindAllStringSubmatch(string(text), -1) {
			queries++
			if _, err := parser.NewParser(parser.Options{}).ParseExpr(strings.ReplaceAll(q[1], `\|`, "|")); err != nil {
				t.Errorf("%s: %s: %v", file, q[1], err)
			}
		}
		for _, c := range command.FindAllStringSubmatch(string(text), -1) {
			seen++
			if !strings.Contains(usage, `"`+c[1]+`"`) {
				t.Errorf("%s: no command vigie %s", file, c[1])
			}
			for _, f := range flags.FindAllStringSubmatch(c[2], -1) {
				if !strings.Contains(usage, `"`+f[1]+`"`) && !strings.Contains(usage, "-"+f[1]) {
					t.Errorf("%s: vigie %s has no flag -%s", file, c[1], f[1])
				}
			}
		}
	}
	if seen < 15 || queries < 10 {
		t.Errorf("got %d commands and %d queries in runbooks, want more", seen, queries)
	}
}
