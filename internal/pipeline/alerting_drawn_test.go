package pipeline_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/alerting"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// What any alerts say is what a plain loop over all events says, each word once: whatever their conditions, times,
// groupings and severities, also when thresholds, times and severities change on the way, whatever the order of events,
// the epochs, the aborts and the crashes.
func TestDrawnAlertsRecount(t *testing.T) {
	reasons := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		var rules []drawnAlert
		for i := range rapid.IntRange(1, 4).Draw(t, "alerts") {
			rules = append(rules, drawAlert(t, fmt.Sprintf("A%d", i)))
		}
		cfg := pipeline.DefaultConfig()
		oracle := newAlertOracle(rules)
		configure := func() {
			cfg.Alerts = nil
			for i := range rules {
				cfg.Alerts = append(cfg.Alerts, rules[i].Alert)
			}
			if err := cfg.Validate(); err != nil {
				t.Fatal(err)
			}
		}
		configure()
		world := newAccidents(func() *pipeline.Task { return windowedTask(cfg) })
		var got []string
		second := int64(0)
		for range rapid.IntRange(1, 12).Draw(t, "epochs") {
			if rapid.IntRange(0, 4).Draw(t, "configured anew") == 0 {
				for i := range rules {
					rules[i].vary(t)
				}
				configure()
				world.crash(t)
			}
			var epoch []pulse
			for range rapid.IntRange(0, 10).Draw(t, "events") {
				second += rapid.SampledFrom([]int64{0, 0, 0, 1, 1, 2, 5, 15}).Draw(t, "later")
				epoch = append(epoch, pulse{
					tenant: rapid.SampledFrom([]string{"acme", "demo"}).Draw(t, "tenant"),
					host:   rapid.SampledFrom([]string{"a", "b"}).Draw(t, "host"),
					zone:   rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "zone"),
					second: max(second-rapid.SampledFrom([]int64{0, 0, 0, 3, 12}).Draw(t, "late"), 0),
					value:  float64(rapid.IntRange(0, 99).Draw(t, "value")),
				})
			}
			for _, a := range spoken(t, world.epoch(t, start, steps(start, epoch, pulse.record))) {
				got = append(got, a.line())
				reasons[a.State+a.Reason]++
			}
			for _, e := range epoch {
				oracle.take(e)
			}
		}
		slices.Sort(got)
		if want := slices.Sorted(slices.Values(oracle.said)); !slices.Equal(got, want) {
			t.Fatalf("got\n%s\nwant\n%s\nof %+v", strings.Join(got, "\n"), strings.Join(want, "\n"), cfg.Alerts)
		}
	})
	for _, reason := range []string{"firing", "resolvedresolved", "resolvedforgotten"} {
		if reasons[reason] == 0 {
			t.Errorf("got %v, want some of each", reasons)
		}
	}
}

// pulse is a sample of a gauge at a second of the test.
type pulse struct {
	tenant, host, zone string
	second             int64
	value              float64
}

func (e pulse) record() pipeline.Record {
	labels, _ := json.Marshal(labelsOf(e, "host", "zone"))
	return record(e.tenant, fmt.Sprintf(`{"time":%q,"name":"req","kind":"gauge","value":%v,"labels":%s}`,
		start.Add(time.Duration(e.second)*time.Second).Format(time.RFC3339Nano), e.value, labels))
}

// labelsOf are those of a pulse's labels with the names, without empty ones.
func labelsOf(e pulse, names ...string) map[string]string {
	all, some := map[string]string{"host": e.host, "zone": e.zone}, map[string]string{}
	for _, name := range names {
		if all[name] != "" {
			some[name] = all[name]
		}
	}
	return some
}

// spokenAlert is a message of an alert. Times are seconds of the test.
type spokenAlert struct {
	Tenant, Alert, State, Reason, Severity string
	Labels, Group, Annotations             map[string]string
	ActiveAt                               time.Time  `json:"active_at"`
	StartsAt                               time.Time  `json:"starts_at"`
	EndsAt                                 *time.Time `json:"ends_at"`
	Value                                  map[string]float64
}

func (a *spokenAlert) line() string {
	ends := int64(-1)
	if a.EndsAt != nil {
		ends = a.EndsAt.Unix() - start.Unix()
	}
	return fmt.Sprintf("%s %s %v %s %s %s, group %v, active %d, from %d to %d, %v %v",
		a.Tenant, a.Alert, a.Labels, a.State, a.Reason, a.Severity, a.Group, a.ActiveAt.Unix()-start.Unix(), a.StartsAt.Unix()-start.Unix(), ends, a.Value, a.Annotations)
}

func spoken(t *rapid.T, out *pipeline.Outputs) (list []spokenAlert) {
	for _, m := range out.Alerts {
		var a spokenAlert
		if err := json.Unmarshal(m.Value, &a); err != nil {
			t.Fatalf("got %s: %v", m.Value, err)
		}
		list = append(list, a)
	}
	return list
}

// term compares a measure, and anyOf is a condition: of one of its alternatives all terms are met.
type (
	term struct {
		measure, operator string
		value             float64
	}
	anyOf [][]term
)

func (c anyOf) String() string {
	var alternatives []string
	for _, terms := range c {
		var all []string
		for _, t := range terms {
			all = append(all, fmt.Sprintf("%s %s %v", t.measure, t.operator, t.value))
		}
		alternatives = append(alternatives, strings.Join(all, " && "))
	}
	return strings.Join(alternatives, " || ")
}

func (c anyOf) each(f func(t *term)) {
	for _, terms := range c {
		for i := range terms {
			f(&terms[i])
		}
	}
}

func (c anyOf) holds(measure func(string) (float64, bool)) bool {
	return slices.ContainsFunc(c, func(terms []term) bool {
		return !slices.ContainsFunc(terms, func(t term) bool {
			v, ok := measure(t.measure)
			return !ok || !t.meets(v)
		})
	})
}

func (t term) meets(v float64) bool {
	switch t.operator {
	case "<":
		return v < t.value
	case "<=":
		return v <= t.value
	case ">":
		return v > t.value
	case ">=":
		return v >= t.value
	}
	panic("BUG: operator " + t.operator)
}

// drawnAlert is an alert, and the same for the oracle.
type drawnAlert struct {
	alerting.Alert
	when, until  anyOf
	where, share func(pulse) bool
	every        int64 // seconds
	steps, kept  int64
}

var drawnWheres = map[string]func(pulse) bool{
	"":              func(pulse) bool { return true },
	`host == "a"`:   func(e pulse) bool { return e.host == "a" },
	`value >= 30`:   func(e pulse) bool { return e.value >= 30 },
	`has(zone)`:     func(e pulse) bool { return e.zone != "" },
	`zone != "x"`:   func(e pulse) bool { return e.zone != "x" },
	`name == "req"`: func(pulse) bool { return true },
}

func drawAlert(t *rapid.T, name string) (d drawnAlert) {
	d.Name, d.From = name, events.Metrics
	d.Where = rapid.SampledFrom(slices.Sorted(maps.Keys(drawnWheres))).Draw(t, "where")
	d.where = drawnWheres[d.Where]
	d.Share, d.share = "value > 50", func(e pulse) bool { return e.value > 50 }
	d.By = rapid.SampledFrom([][]string{nil, {"host"}, {"zone"}, {"host", "zone"}}).Draw(t, "by")
	if len(d.By) > 0 && rapid.Bool().Draw(t, "grouped") {
		d.Group = d.By[:1]
	}
	if rapid.IntRange(0, 3).Draw(t, "of one tenant") == 0 {
		d.Tenants = []tenants.ID{"acme"}
	}
	d.Annotations = map[string]string{"summary": "${count} events"}
	for _, label := range d.By {
		d.Annotations["on "+label] = "${" + label + "}"
	}
	d.every = rapid.Int64Range(1, 3).Draw(t, "every")
	d.steps = rapid.Int64Range(1, 5).Draw(t, "steps")
	d.kept = d.steps
	d.Every = time.Duration(d.every) * time.Second
	d.Over = time.Duration(d.steps) * d.Every
	d.when = d.condition(t)
	if rapid.Bool().Draw(t, "hysteresis") {
		d.until = d.condition(t)
	}
	d.vary(t)
	return d
}

func (d *drawnAlert) condition(t *rapid.T) (c anyOf) {
	for range rapid.IntRange(1, 2).Draw(t, "alternatives") {
		var terms []term
		for range rapid.IntRange(1, 2).Draw(t, "terms") {
			of := rapid.SampledFrom([]string{
				"count", "count", "rate", "sum", "mean", "min", "max", "last", "share", "p50", "p90",
			}).Draw(t, "measure")
			if rapid.IntRange(0, 3).Draw(t, "change") == 0 {
				of, d.kept = "change."+of, 2*d.steps
			}
			terms = append(terms, term{measure: of, operator: rapid.SampledFrom([]string{"<", "<=", ">", ">="}).Draw(t, "operator")})
		}
		c = append(c, terms)
	}
	return c
}

// vary draws what may change without making it another alert.
func (d *drawnAlert) vary(t *rapid.T) {
	threshold := func(of *term) {
		switch {
		case strings.HasPrefix(of.measure, "change."), of.measure == "share", of.measure == "rate":
			of.value = rapid.SampledFrom([]float64{0, 0.2, 0.5, 1}).Draw(t, "threshold")
		case of.measure == "count":
			of.value = float64(rapid.IntRange(0, 4).Draw(t, "threshold"))
		default:
			of.value = float64(rapid.IntRange(0, 99).Draw(t, "threshold"))
		}
	}
	d.when.each(threshold)
	d.until.each(threshold)
	d.When, d.Until = d.when.String(), d.until.String()
	seconds := func(what string) time.Duration {
		return time.Duration(rapid.SampledFrom([]int{0, 0, 1, 2, 4, 5}).Draw(t, what)) * time.Second
	}
	d.For, d.ClearAfter = seconds("for"), seconds("clear after")
	d.ForgetAfter = rapid.SampledFrom([]time.Duration{0, 10 * time.Second, 20 * time.Second}).Draw(t, "forget after")
	d.Severity = rapid.SampledFrom([]string{"", "P0", "P1", "P3"}).Draw(t, "severity")
}

// alertOracle is the plain loop: after each event every step that its tenant's clock has passed, and at each every
// alert, from all of its events.
type alertOracle struct {
	rules []drawnAlert // those of the test, which vary
	clock map[string]int64
	books []alertBook // of each rule
	said  []string
}

type alertBook struct {
	step   map[string]int64        // of a tenant
	alerts map[string]*oracleAlert // by tenant and labels
}

// oracleAlert is one alert: every event that it took, and where it is in its life.
type oracleAlert struct {
	tenant        string
	labels        map[string]string
	events        []pulse
	state, told   string
	active, fired int64
	clear, empty  int64 // since when, 0: it is not
}

func newAlertOracle(rules []drawnAlert) *alertOracle {
	o := &alertOracle{rules: rules, clock: map[string]int64{}}
	for range rules {
		o.books = append(o.books, alertBook{map[string]int64{}, map[string]*oracleAlert{}})
	}
	return o
}

func (o *alertOracle) take(e pulse) {
	at := start.Unix() + e.second
	first := o.clock[e.tenant] == 0
	o.clock[e.tenant] = max(o.clock[e.tenant], at)
	for i := range o.rules {
		r, b := &o.rules[i], o.books[i]
		if len(r.Tenants) > 0 && !slices.Contains(r.Tenants, tenants.ID(e.tenant)) {
			continue
		}
		now := o.clock[e.tenant] / r.every
		if first {
			b.step[e.tenant] = now
		}
		for b.step[e.tenant] < now {
			b.step[e.tenant]++
			for _, a := range b.alerts {
				if a.tenant == e.tenant {
					o.judge(r, a, b.step[e.tenant])
				}
			}
		}
		if at/r.every <= now-r.kept || !r.where(e) {
			continue
		}
		labels := labelsOf(e, r.By...)
		key := fmt.Sprint(e.tenant, labels)
		a := cmp.Or(b.alerts[key], &oracleAlert{tenant: e.tenant, labels: labels})
		b.alerts[key] = a
		a.events, a.empty = append(a.events, e), 0
	}
}

func (o *alertOracle) judge(r *drawnAlert, a *oracleAlert, step int64) {
	since := func(index int64) bool {
		return slices.ContainsFunc(a.events, func(e pulse) bool { return (start.Unix()+e.second)/r.every >= index })
	}
	if a.state == "" && !since(step-1-r.kept) {
		return // it is not known any more
	}
	now := step * r.every
	measure := func(name string) (float64, bool) { return r.measure(a, name, now) }
	holds := r.when.holds(measure)
	clear := !holds && (r.until == nil || r.until.holds(measure))
	passed := func(since int64, of time.Duration) bool { return time.Duration(now-since)*time.Second >= of }
	switch {
	case a.state == "firing" && !clear:
		a.clear = 0
	case a.state == "firing":
		a.clear = cmp.Or(a.clear, now)
		if passed(a.clear, r.ClearAfter) {
			o.end(r, a, now, "resolved")
		}
	case !holds:
		a.state = ""
	default:
		if a.state == "" {
			a.state, a.active = "pending", now
		}
		if passed(a.active, r.For) {
			a.state, a.fired, a.told = "firing", now, cmp.Or(r.Severity, "P2")
			o.say(r, a, now, "firing", "")
		}
	}
	if a.state != "" && a.empty == 0 && !since(step-r.kept) {
		a.empty = now
	}
	if a.state == "firing" && a.empty != 0 && passed(a.empty, cmp.Or(r.ForgetAfter, 24*time.Hour)) {
		o.end(r, a, now, "forgotten")
	}
	if a.state == "" {
		a.empty = 0
	}
}

func (o *alertOracle) end(r *drawnAlert, a *oracleAlert, now int64, reason string) {
	o.say(r, a, now, "resolved", reason)
	a.state, a.clear = "", 0
}

func (o *alertOracle) say(r *drawnAlert, a *oracleAlert, now int64, state, reason string) {
	m := spokenAlert{
		Tenant: a.tenant, Alert: r.Name, State: state, Reason: reason, Severity: a.told,
		Labels: a.labels, Group: map[string]string{}, Annotations: map[string]string{},
		ActiveAt: time.Unix(a.active, 0), StartsAt: time.Unix(a.fired, 0), Value: map[string]float64{},
	}
	if state == "resolved" {
		ends := time.Unix(now, 0)
		m.EndsAt = &ends
	}
	for _, label := range r.Group {
		if a.labels[label] != "" {
			m.Group[label] = a.labels[label]
		}
	}
	take := func(name string) {
		if v, ok := r.measure(a, name, now); ok && !math.IsInf(v, 0) && !math.IsNaN(v) {
			m.Value[name] = v
		}
	}
	take("count")
	r.when.each(func(t *term) { take(t.measure) })
	r.until.each(func(t *term) { take(t.measure) })
	m.Annotations["summary"] = fmt.Sprintf("%.0f events", m.Value["count"])
	for _, label := range r.By {
		m.Annotations["on "+label] = a.labels[label]
	}
	o.said = append(o.said, m.line())
}

// measure is a measure of what an alert took in the window that ends at now, or its growth since the window before.
func (r *drawnAlert) measure(a *oracleAlert, name string, now int64) (v float64, ok bool) {
	over := r.steps * r.every
	within := func(from, to int64) (list []pulse) {
		for _, e := range a.events {
			if at := start.Unix() + e.second; from <= at && at < to {
				list = append(list, e)
			}
		}
		return list
	}
	of, change := strings.CutPrefix(name, "change.")
	v, ok = r.of(within(now-over, now), of)
	if !ok || !change {
		return v, ok
	}
	before, ok := r.of(within(now-2*over, now-over), of)
	return (v - before) / before, ok && before != 0
}

func (r *drawnAlert) of(list []pulse, name string) (v float64, ok bool) {
	n := float64(len(list))
	sum, low, high, hits := 0.0, math.Inf(1), math.Inf(-1), 0.0
	var last pulse
	var sketch sketches.Sketch
	for i, e := range list {
		sum, low, high = sum+e.value, min(low, e.value), max(high, e.value)
		if i == 0 || e.second > last.second || e.second == last.second && e.value > last.value {
			last = e
		}
		if r.share(e) {
			hits++
		}
		sketch.Add(e.value)
	}
	quantile := func(q float64) float64 { v, _ := sketch.Quantile(q); return v }
	switch name {
	case "count":
		return n, true
	case "rate":
		return n / r.Over.Seconds(), true
	case "sum":
		return sum, true
	case "mean":
		return sum / n, n > 0
	case "min":
		return low, n > 0
	case "max":
		return high, n > 0
	case "last":
		return last.value, n > 0
	case "share":
		return hits / n, n > 0
	case "p50":
		return quantile(0.5), n > 0
	case "p90":
		return quantile(0.9), n > 0
	}
	panic("BUG: measure " + name)
}
