package alerting

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/rules"
	"github.com/vigie-io/vigie/pkg/series"
)

// Alert declares a condition over the last events of each key, judged in the stream at every step of its tenant's event
// time (docs/alerts.md).
type Alert struct {
	// Name of the alert, in PromQL's letters. Label alertname.
	Name string `yaml:"name"`
	// From is the signal: metrics, spans or logs.
	From events.Signal `yaml:"from"`
	// Where is the condition that events meet (docs/rules.md). Default: all.
	Where string `yaml:"where"`
	// Share is a second condition on events that meet where: the measure share is the part that meets it.
	Share string `yaml:"share"`
	// Measure is what sum, mean, min, max, last and quantiles are of: duration_seconds (of spans), value (of metrics,
	// gauges included), increase (of metrics: what cumulative counters grew by, and deltas), or events. Default:
	// duration_seconds, value, and events for logs.
	Measure string `yaml:"measure"`
	// By are the fields that become labels: one alert for each combination.
	By []string `yaml:"by"`
	// Tenants are those it is for. Default: all.
	Tenants []tenants.ID `yaml:"tenants"`

	// Over is how much event time the measures are of, whole seconds, at most 24h.
	Over time.Duration `yaml:"over"`
	// Every is the step of event time between judgements; over is a multiple of it, of at most 300. Default: the least
	// of at most 60, or of 10 where when or until asks for quantiles.
	Every time.Duration `yaml:"every"`
	// When is the condition on measures.
	When string `yaml:"when"`
	// Until is the condition on measures at which a firing alert is clear. Default: when no longer holds.
	Until string `yaml:"until"`
	// For is how long when has to hold. Default 0s: fire at once.
	For time.Duration `yaml:"for"`
	// ClearAfter is how long a firing alert has to be clear. Default 0s: resolve at once.
	ClearAfter time.Duration `yaml:"clear_after"`
	// ForgetAfter resolves a firing alert of which no event has come for so long. Default 24h.
	ForgetAfter time.Duration `yaml:"forget_after"`

	// Severity is P0 (worst) to P3. Default P2.
	Severity string `yaml:"severity"`
	// Route is a label for those who send alerts on. Default none.
	Route string `yaml:"route"`
	// Group are those of by that notifications are grouped by. Default: all alerts of the name are one group.
	Group []string `yaml:"group"`
	// Annotations are texts beside the alert; ${name} in them is a label or a measure. Default: a summary of the measures
	// and the condition.
	Annotations map[string]string `yaml:"annotations"`
}

// Rule is an Alert made ready.
type Rule struct {
	Alert
	Rollup      *rollup.Rule // which events it takes, and what it measures of them
	id          uint64       // of what is kept: rules with one id keep the same
	share       *rules.Expr
	when, until *rules.Expr // until may be nil
	needs       rules.Needs
	life        rules.Lifecycle
	severity    uint8
	every       int64 // ns
	steps       int64 // every in over
	kept        int64 // steps that a judgement looks at
	ring        int64 // slots of slices in the log: one more
}

const (
	maxOver            = 24 * time.Hour
	maxSteps           = 300
	defaultSteps       = 60
	quantileSteps      = 10 // a sketch costs more to merge than a count
	defaultForgetAfter = 24 * time.Hour
)

var (
	severities  = []string{"P0", "P1", "P2", "P3"}
	placeholder = regexp.MustCompile(`\$\{([^}]*)\}`)
)

// compile checks an alert and makes it ready.
func (a *Alert) compile() (*Rule, error) {
	r := &Rule{Alert: *a}
	of := rollup.Declared{Name: a.Name, From: a.From, Where: a.Where, Measure: a.Measure, By: a.By, Tenants: a.Tenants}
	var err error
	if r.Rollup, err = of.Compile(); err != nil {
		return nil, err
	}
	r.Rollup.CounterID = series.Hash([]byte("alert\x00" + a.Name + "\x00" + a.Where)).Lo
	if err := r.conditions(); err != nil {
		return nil, err
	}
	if err := r.times(); err != nil {
		return nil, err
	}
	if r.Severity == "" {
		r.Severity = "P2"
	}
	at := slices.Index(severities, r.Severity)
	if at < 0 {
		return nil, fmt.Errorf("severity %q: want one of %s", r.Severity, strings.Join(severities, ", "))
	}
	r.severity = uint8(at)
	for _, field := range a.Group {
		if !slices.Contains(a.By, field) {
			return nil, fmt.Errorf("group %q: want one of by", field)
		}
	}
	if err := r.texts(); err != nil {
		return nil, err
	}
	r.id = series.Hash(fmt.Appendf(nil, "%q %q %q %q %q %q %d %d %v", a.Name, a.From, a.Where, a.Share, r.Rollup.Measure,
		r.Rollup.Groupings[0].Fields, r.Over, r.every, r.needs)).Lo
	return r, nil
}

func (r *Rule) conditions() (err error) {
	if r.When == "" {
		return errors.New("when: want a condition on measures, such as count > 100")
	}
	var names []string
	for _, c := range []struct {
		key, text string
		into      **rules.Expr
		measures  bool
	}{{"share", r.Share, &r.share, false}, {"when", r.When, &r.when, true}, {"until", r.Until, &r.until, true}} {
		if c.text == "" {
			continue
		}
		if *c.into, err = rules.Parse(c.text); err != nil {
			return fmt.Errorf("%s: %w", c.key, err)
		}
		if !c.measures {
			continue
		}
		if _, err := rules.NeedsOf((*c.into).Fields()); err != nil {
			return fmt.Errorf("%s: %w", c.key, err)
		}
		names = append(names, (*c.into).Fields()...)
	}
	r.needs, _ = rules.NeedsOf(names)
	if r.needs.Share && r.share == nil {
		return errors.New("share: want the condition that the measure share is about")
	}
	return nil
}

func (r *Rule) times() error {
	if r.Over < time.Second || r.Over > maxOver || r.Over%time.Second != 0 {
		return fmt.Errorf("over %s: want whole seconds, 1s to %s", r.Over, maxOver)
	}
	if r.Every == 0 {
		r.Every = defaultEvery(r.Over, r.needs.Quantiles)
	}
	if r.Every < time.Second || r.Every%time.Second != 0 || r.Over%r.Every != 0 || r.Over/r.Every > maxSteps {
		return fmt.Errorf("every %s: want whole seconds of which over (%s) is a multiple, of at most %d",
			r.Every, r.Over, maxSteps)
	}
	if r.For < 0 || r.ClearAfter < 0 || r.ForgetAfter < 0 {
		return fmt.Errorf("for %s, clear_after %s, forget_after %s: want 0s or more", r.For, r.ClearAfter, r.ForgetAfter)
	}
	if r.ForgetAfter == 0 {
		r.ForgetAfter = defaultForgetAfter
	}
	r.life = rules.Lifecycle{For: r.For, ClearAfter: r.ClearAfter}
	r.every, r.steps = int64(r.Every), int64(r.Over/r.Every)
	if r.kept = r.steps; r.needs.Before {
		r.kept *= 2
	}
	r.ring = r.kept + 1
	return nil
}

// defaultEvery is the least step that over is a multiple of, not too many times.
func defaultEvery(over time.Duration, quantiles bool) time.Duration {
	most := time.Duration(defaultSteps)
	if quantiles {
		most = quantileSteps
	}
	for every := time.Second; ; every += time.Second {
		if over%every == 0 && over/every <= most {
			return every
		}
	}
}

// texts checks the templates of annotations.
func (r *Rule) texts() error {
	for _, key := range slices.Sorted(maps.Keys(r.Annotations)) {
		for _, m := range placeholder.FindAllStringSubmatch(r.Annotations[key], -1) {
			if slices.Contains(r.Rollup.Groupings[0].Labels, m[1]) {
				continue
			}
			needs, err := rules.NeedsOf([]string{m[1]})
			if err != nil {
				return fmt.Errorf("annotations.%s: ${%s}: it is no label of by, and %w", key, m[1], err)
			}
			if needs.Quantiles && !r.needs.Quantiles || needs.Before && !r.needs.Before || needs.Share && r.share == nil {
				return fmt.Errorf("annotations.%s: ${%s}: neither when nor until asks for it, so it is not computed", key, m[1])
			}
		}
	}
	return nil
}

// Validate names every alert that cannot be.
func Validate(list []Alert) error {
	var errs []error
	names := map[string]bool{}
	for i := range list {
		_, err := list[i].compile()
		if err == nil && names[list[i].Name] {
			err = errors.New("another alert has the name")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("alerts[%d] %q: %w", i, list[i].Name, err))
		}
		names[list[i].Name] = true
	}
	return errors.Join(errs...)
}

// Of makes the alerts of a signal ready. They have been validated.
func Of(list []Alert, signal events.Signal) (ready []*Rule) {
	for i := range list {
		if list[i].From != signal {
			continue
		}
		r, err := list[i].compile()
		if err != nil {
			panic("BUG: alerts were not validated: " + err.Error())
		}
		ready = append(ready, r)
	}
	return ready
}
