package pipeline_test

import (
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

var alertRules = []alerting.Alert{
	{Name: "Busy", From: events.Metrics, Where: `name == "req"`, By: []string{"host"},
		Over: 10 * time.Second, Every: 2 * time.Second,
		When: "count > 2", Until: "count < 2", For: 4 * time.Second, ClearAfter: 2 * time.Second, Severity: "P1"},
	{Name: "Growth", From: events.Metrics, Over: 6 * time.Second, Every: 2 * time.Second, When: "change.count >= 1 && sum > 40"},
	{Name: "Quiet", From: events.Metrics, By: []string{"host"}, Over: 4 * time.Second, When: "count < 1", ForgetAfter: 20 * time.Second},
	{Name: "Slow", From: events.Metrics, Tenants: []tenants.ID{"acme"}, Over: 20 * time.Second, When: "p90 > 50 && min < 20", Until: "max < 40"},
	{Name: "Errors", From: events.Metrics, Share: "value > 50", Over: 5 * time.Second, When: "share >= 0.5 && count >= 2 && mean > 30"},
}

func alertConfig() pipeline.Config {
	cfg := pipeline.DefaultConfig()
	cfg.Alerts = alertRules
	cfg.MaxFuture = time.Hour // the worker's clock stands still, and events go on for more than 5 minutes
	return cfg
}

// ping is a gauge's sample at a second of the test.
type ping struct {
	tenant, host string
	second       int64
	value        float64
}

func (p ping) record() pipeline.Record {
	return record(p.tenant, fmt.Sprintf(`{"time":%q,"name":"req","kind":"gauge","value":%v,"labels":{"host":%q}}`,
		start.Add(time.Duration(p.second)*time.Second).Format(time.RFC3339Nano), p.value, p.host))
}

// heardAlert is what is compared of a message.
type heardAlert struct {
	rule, tenant, host, state string
	second                    int64
	count                     float64
}

// judged is one alert of the oracle: every event that it took, and where it is in its life.
type judged struct {
	events                      []ping
	state                       string
	active, fired, clear, empty int64
}

// judgeAll is the plain loop: after each event, every step that its tenant's clock has passed, every alert from all of
// its events.
func judgeAll(all []ping) (heard []heardAlert) {
	began := start.Unix()
	for i := range alertRules {
		r := &alertRules[i]
		every := map[string]int64{"Busy": 2, "Growth": 2, "Quiet": 1, "Slow": 2, "Errors": 1}[r.Name]
		over := int64(r.Over / time.Second)
		kept := over / every
		if r.Name == "Growth" {
			kept *= 2
		}
		clock, step, alerts := map[string]int64{}, map[string]int64{}, map[string]*judged{}
		for _, p := range all {
			at := began + p.second
			if len(r.Tenants) > 0 && !slices.Contains(r.Tenants, tenants.ID(p.tenant)) {
				continue
			}
			first := clock[p.tenant] == 0
			clock[p.tenant] = max(clock[p.tenant], at)
			if first {
				step[p.tenant] = clock[p.tenant] / every
			}
			for step[p.tenant] < clock[p.tenant]/every {
				step[p.tenant]++
				for _, key := range slices.Sorted(maps.Keys(alerts)) {
					tenant, host, _ := strings.Cut(key, " ")
					if tenant == p.tenant {
						heard = append(heard, alerts[key].judge(r, tenant, host, step[tenant], every, kept)...)
					}
				}
			}
			if at/every <= step[p.tenant]-kept {
				continue
			}
			key := p.tenant + " "
			if r.By != nil {
				key += p.host
			}
			if alerts[key] == nil {
				alerts[key] = &judged{}
			}
			alerts[key].events = append(alerts[key].events, p)
			alerts[key].empty = 0
		}
	}
	return heard
}

func (j *judged) judge(r *alerting.Alert, tenant, host string, step, every, kept int64) (heard []heardAlert) {
	began, over := start.Unix(), int64(r.Over/time.Second)
	of := func(from, to int64) (n, hits, sum, low, high float64, sketch sketches.Sketch) {
		low, high = math.Inf(1), math.Inf(-1)
		for _, p := range j.events {
			if at := began + p.second; at >= from && at < to {
				n, sum, low, high = n+1, sum+p.value, min(low, p.value), max(high, p.value)
				if p.value > 50 {
					hits++
				}
				sketch.Add(p.value)
			}
		}
		return n, hits, sum, low, high, sketch
	}
	now := step * every
	n, hits, sum, low, high, sketch := of(now-over, now)
	before, _, _, _, _, _ := of(now-2*over, now-over)
	holds, clear := false, false
	switch r.Name {
	case "Busy":
		holds, clear = n > 2, n < 2
	case "Growth":
		holds = before > 0 && (n-before)/before >= 1 && sum > 40
		clear = !holds
	case "Quiet":
		holds, clear = n < 1, n >= 1
	case "Slow":
		p90, _ := sketch.Quantile(0.9)
		holds, clear = n > 0 && p90 > 50 && low < 20, n > 0 && high < 40
	case "Errors":
		holds = n >= 2 && hits/n >= 0.5 && sum/n > 30
		clear = !holds
	}
	recent := slices.ContainsFunc(j.events, func(p ping) bool { return (began+p.second)/every >= step-kept })
	known := j.state != "" || slices.ContainsFunc(j.events, func(p ping) bool { return (began+p.second)/every >= step-1-kept })
	if !known {
		return nil
	}
	say := func(state string) {
		heard = append(heard, heardAlert{r.Name, tenant, host, state, now - began, n})
	}
	end := func() {
		say("resolved")
		j.state, j.active, j.fired, j.clear = "", 0, 0, 0
	}
	switch {
	case j.state == "firing" && (holds || !clear):
		j.clear = 0
	case j.state == "firing":
		if j.clear == 0 {
			j.clear = now
		}
		if now-j.clear >= int64(r.ClearAfter/time.Second) {
			end()
		}
	case !holds:
		j.state = ""
	default:
		if j.state == "" {
			j.state, j.active = "pending", now
		}
		if now-j.active >= int64(r.For/time.Second) {
			j.state, j.fired = "firing", now
			say("firing")
		}
	}
	if j.state != "" && !recent && j.empty == 0 {
		j.empty = now
	}
	forget := int64(r.ForgetAfter / time.Second)
	if forget == 0 {
		forget = 24 * 3600
	}
	if j.state == "firing" && j.empty != 0 && now-j.empty >= forget {
		end()
	}
	if j.state == "" {
		j.empty = 0
	}
	return heard
}

func heardOf(t interface{ Fatalf(string, ...any) }, out *pipeline.Outputs) (heard []heardAlert) {
	for _, m := range out.Alerts {
		var a struct {
			Tenant, Alert, State, Severity string
			Labels                         map[string]string
			StartsAt                       time.Time  `json:"starts_at"`
			EndsAt                         *time.Time `json:"ends_at"`
			Value                          map[string]float64
		}
		if err := json.Unmarshal(m.Value, &a); err != nil || m.Topic != "vigie.alerts.v1" || string(m.Key) != a.Tenant {
			t.Fatalf("got %s to %s with key %s: %v", m.Value, m.Topic, m.Key, err)
		}
		at := a.StartsAt
		if a.EndsAt != nil {
			at = *a.EndsAt
		}
		heard = append(heard, heardAlert{a.Alert, a.Tenant, a.Labels["host"], a.State, at.Unix() - start.Unix(), a.Value["count"]})
	}
	return heard
}

func sortHeard(heard []heardAlert) []string {
	var lines []string
	for _, h := range heard {
		lines = append(lines, fmt.Sprintf("%+v", h))
	}
	slices.Sort(lines)
	return lines
}

// Alerts fire and end when a plain loop over all events says so, each once, whatever the order of events, the epochs,
// the aborts and the crashes; and when all is over nothing of them is left in the log.
func TestAlertsRecount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := alertConfig()
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		world := newAccidents(func() *pipeline.Task { return windowedTask(cfg) })
		var all []ping
		var got []heardAlert
		second := int64(0)
		for range rapid.IntRange(1, 12).Draw(t, "epochs") {
			var epoch []ping
			for range rapid.IntRange(0, 10).Draw(t, "events") {
				second += rapid.SampledFrom([]int64{0, 0, 0, 1, 1, 2, 5, 15}).Draw(t, "later")
				epoch = append(epoch, ping{
					tenant: rapid.SampledFrom([]string{"acme", "demo"}).Draw(t, "tenant"),
					host:   rapid.SampledFrom([]string{"a", "b"}).Draw(t, "host"),
					second: max(second-rapid.SampledFrom([]int64{0, 0, 0, 3, 12}).Draw(t, "late"), 0),
					value:  float64(rapid.IntRange(0, 99).Draw(t, "value")),
				})
			}
			got, all = append(got, heardOf(t, world.epoch(t, start, steps(start, epoch, ping.record)))...), append(all, epoch...)
		}
		if got, want := sortHeard(got), sortHeard(judgeAll(all)); !slices.Equal(got, want) {
			t.Fatalf("got\n%s\nwant\n%s\nof %+v", strings.Join(got, "\n"), strings.Join(want, "\n"), all)
		}
	})
}

func alertTask(t *testing.T, list []alerting.Alert, change func(*pipeline.TaskConfig)) *pipeline.Task {
	t.Helper()
	cfg := pipeline.TaskConfig{Partition: at, Signal: events.Metrics, Config: pipeline.DefaultConfig()}
	cfg.Config.Alerts = list
	if err := cfg.Config.Validate(); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&cfg)
	}
	return pipeline.NewTask(cfg)
}

// alertState is what the log holds of alerts.
func alertState(state stateLog) (keys []string) {
	for key := range state {
		if key[0] == 7 {
			keys = append(keys, fmt.Sprintf("%x=%x", key, state[key]))
		}
	}
	slices.Sort(keys)
	return keys
}

// The bytes of docs/format/alert.md and docs/format/state.md.
func TestAlertGolden(t *testing.T) {
	task := alertTask(t, []alerting.Alert{{
		Name: "Slow", From: events.Metrics, Where: `name == "req"`, By: []string{"host", "zone"}, Over: 10 * time.Second,
		When:     "p99 > 0.25 && change.count < 0",
		Severity: "P0", Route: "oncall", Group: []string{"host"},
		Annotations: map[string]string{"summary": "p99 of ${host}${zone} is ${p99} s, ${change.count}"},
	}}, nil)
	step(task, start, ping{"acme", "a", 0, 0.5}.record(), ping{"acme", "a", 0, 0.5}.record(), ping{"acme", "a", 10, 0.5}.record(),
		ping{"acme", "a", 20, 0.5}.record())
	out := drain(task, start)
	if len(out.Alerts) != 1 {
		t.Fatalf("got %d messages, want 1", len(out.Alerts))
	}
	want := `{"version":1,"tenant":"acme","alert":"Slow","state":"firing","severity":"P0","route":"oncall","labels":{"host":"a"},"group":{"host":"a"},` +
		`"fingerprint":"3ea47dd93459dbc35bc64b591040fca0","active_at":"2026-11-24T12:00:11Z","starts_at":"2026-11-24T12:00:11Z",` +
		`"when":"p99 > 0.25 && change.count < 0","over":"10s","value":{"change.count":-0.5,"count":1,"p99":0.49729242029204873},` +
		`"annotations":{"summary":"p99 of a is 0.4973 s, -50 %"}}`
	if got := string(out.Alerts[0].Value); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var got []string
	for _, m := range out.State {
		if m.Key[0] == 7 {
			got = append(got, fmt.Sprintf("%x=%x", m.Key, m.Value))
		}
	}
	state := []string{
		"07015550456f311b0d14610461636d650004536c6f7704686f73740161=0102002e316264f9ea18002e316264f9ea180000000000000000000000000000000000",
		"07015550456f311b0d14730461636d6500010004536c6f7704686f73740161=0194f1abb00d0100000000000000e03f000000000000e03f000000000000e03f8090b3e984d9fcea31000000000000e03f01026180773e9a2cf03f0000000000000000010c01810102000000000000f03f030400040000000000000000",
		"07015550456f311b0d14730461636d65000b0004536c6f7704686f73740161=01a8f1abb00d0100000000000000e03f000000000000e03f000000000000e03f80a092aacfd9fcea31000000000000e03f01026180773e9a2cf03f0000000000000000010c01810102000000000000f03f030400040000000000000000",
		"07015550456f311b0d14730461636d65000c0004536c6f7704686f73740161=0180f1abb00d0200000000000000f03f000000000000e03f000000000000e03f8080d4a8bad8fcea31000000000000e03f01026180773e9a2cf03f0000000000000000010c018101020000000000000040030400040000000000000000",
		"07015550456f311b0d14740461636d65=01547c056b00000000",
	}
	if !slices.Equal(got, state) {
		t.Errorf("got %q, want %q", got, state)
	}
}

// An alert for which nobody wrote a text says by itself why it fires.
func TestAlertsExplainThemselves(t *testing.T) {
	f := func(when, until string, annotations map[string]string, want string) {
		t.Helper()
		task := alertTask(t, []alerting.Alert{{
			Name: "Slow", From: events.Metrics, Over: 10 * time.Second, When: when, Until: until, Annotations: annotations,
		}}, nil)
		step(task, start, ping{"acme", "a", 0, 0.5}.record(), ping{"acme", "a", 1, 0.5}.record(), ping{"acme", "a", 20, 0.5}.record())
		out := drain(task, start)
		if len(out.Alerts) == 0 || !strings.Contains(string(out.Alerts[0].Value), `"annotations":`+want) {
			t.Errorf("%s: got %d messages, %+v, want %s", when, len(out.Alerts), out.Alerts, want)
		}
	}
	f("count >= 2", "", nil, `{"summary":"count is 2 over 10s; fires when count >= 2"}`)
	f("count >= 2 && mean > 0.1", "mean < 0.1 || change.count < 0", nil,
		`{"summary":"count is 2, mean is 0.5, change.count is unknown over 10s; fires when count >= 2 && mean > 0.1"}`)
	f("count >= 2", "", map[string]string{"runbook": "r"}, `{"runbook":"r","summary":"count is 2 over 10s; fires when count >= 2"}`)
	f("count >= 2", "", map[string]string{"summary": "mine"}, `{"summary":"mine"}`)
}

// A tenant that falls silent is judged by the clock of its partition, and an alert on silence fires.
func TestAlertsOfSilentTenants(t *testing.T) {
	task := alertTask(t, []alerting.Alert{{Name: "Silent", From: events.Metrics, Over: 30 * time.Second, When: "count < 1", ForgetAfter: 10 * time.Minute}}, nil)
	state := stateLog{}
	var got []heardAlert
	epoch := func(after time.Duration, records ...pipeline.Record) {
		now := start.Add(after)
		step(task, now, records...)
		task.SetReach(pipeline.Reach{Partition: at, Signal: events.Metrics, Through: now.UnixMilli()})
		out := drain(task, now)
		task.Committed(true)
		state.append(out.State)
		got = append(got, heardOf(t, out)...)
	}
	epoch(0, ping{"acme", "a", 0, 1}.record())
	for after := time.Second; after < 20*time.Minute; after += 5 * time.Second {
		epoch(after)
	}
	want := []heardAlert{{"Silent", "acme", "", "firing", 31, 0}, {"Silent", "acme", "", "resolved", 31 + 600, 0}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if left := alertState(state); len(left) > 0 {
		t.Errorf("the log still holds %q", left)
	}
}

// An alert that configuration no longer has is resolved, and its state goes; one whose threshold changes goes on.
func TestAlertsThatChange(t *testing.T) {
	before := alerting.Alert{Name: "Busy", From: events.Metrics, By: []string{"host"}, Over: 10 * time.Second, When: "count >= 2"}
	after := before
	after.When, after.Severity = "count >= 1", "P0"
	f := func(list []alerting.Alert, later int64, want ...heardAlert) {
		t.Helper()
		task, state := alertTask(t, []alerting.Alert{before}, nil), stateLog{}
		step(task, start, ping{"acme", "a", 0, 1}.record(), ping{"acme", "a", 0, 1}.record(), ping{"acme", "b", 1, 1}.record())
		out := drain(task, start)
		task.Committed(true)
		state.append(out.State)
		if got := heardOf(t, out); !slices.Equal(got, []heardAlert{{"Busy", "acme", "a", "firing", 1, 2}}) {
			t.Fatalf("got %+v, want a to fire", got)
		}
		task = alertTask(t, list, nil)
		state.restore(t, task)
		if later > 0 {
			step(task, start, ping{"acme", "c", later, 1}.record())
		}
		for _, abort := range []bool{true, false} {
			out = drain(task, start)
			if got := heardOf(t, out); !slices.Equal(got, want) {
				t.Errorf("abort %v: got %+v, want %+v", abort, got, want)
			}
			if abort {
				task.Forget()
				if later > 0 {
					step(task, start, ping{"acme", "c", later, 1}.record())
				}
			}
		}
		task.Committed(true)
		state.append(out.State)
		if left := alertState(state); list == nil && len(left) > 0 {
			t.Errorf("the log still holds %q", left)
		}
	}
	f(nil, 0, heardAlert{"Busy", "acme", "a", "resolved", 0, 0})
	f([]alerting.Alert{after}, 2, heardAlert{"Busy", "acme", "b", "firing", 2, 1})
}

// What an alert cannot take is counted, and a tenant keeps no more slices than it may.
func TestAlertsCountWhatTheyLeaveOut(t *testing.T) {
	limits := tenants.DefaultConfig()
	limits.Overrides = map[tenants.ID]tenants.Limits{"acme": {OpenWindows: 2}}
	task := alertTask(t, []alerting.Alert{{Name: "Busy", From: events.Metrics, By: []string{"host"}, Over: 10 * time.Second, When: "count >= 2"}},
		func(cfg *pipeline.TaskConfig) { cfg.Limits = func() *tenants.Config { return &limits } })
	step(task, start, ping{"acme", "a", 20, 1}.record(), ping{"acme", "a", 10, 1}.record(), ping{"acme", "a", 11, 1}.record(),
		ping{"acme", "b", 20, 1}.record(), ping{"acme", "c", 20, 1}.record(), ping{"demo", "c", 20, 1}.record())
	got := map[string]uint64{}
	for key, n := range drain(task, start).Tally.Unheard {
		got[key.Tenant+" "+string(key.Reason)] = n
	}
	if want := map[string]uint64{"acme too_late": 1, "acme window_limit": 2}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAlertConfigErrors(t *testing.T) {
	f := func(want string, change func(*alerting.Alert)) {
		t.Helper()
		a := alerting.Alert{Name: "Busy", From: events.Spans, By: []string{"route"}, Over: time.Minute, When: "count > 1"}
		change(&a)
		cfg := pipeline.DefaultConfig()
		cfg.Alerts = []alerting.Alert{a}
		err := cfg.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	f("", func(*alerting.Alert) {})
	f(`alerts[0] "a b": name "a b": want letters`, func(a *alerting.Alert) { a.Name = "a b" })
	f("when: want a condition on measures", func(a *alerting.Alert) { a.When = "" })
	f("when: 1:7: =: want == or =~", func(a *alerting.Alert) { a.When = "count = 1" })
	f(`when: "route" is no measure: want count, rate, sum`, func(a *alerting.Alert) { a.When = `route == "x"` })
	f("share: want the condition", func(a *alerting.Alert) { a.When = "share > 0.5" })
	f("", func(a *alerting.Alert) { a.When, a.Share = "share > 0.5", "status_code >= 500" })
	f("until:", func(a *alerting.Alert) { a.Until = "counts < 2" })
	f("over 1.5s: want whole seconds", func(a *alerting.Alert) { a.Over = 1500 * time.Millisecond })
	f("over 48h0m0s: want whole seconds, 1s to 24h0m0s", func(a *alerting.Alert) { a.Over = 48 * time.Hour })
	f("every 7s: want whole seconds of which over (1m0s) is a multiple", func(a *alerting.Alert) { a.Every = 7 * time.Second })
	f("of at most 300", func(a *alerting.Alert) { a.Over, a.Every = 10*time.Minute, time.Second })
	f("", func(a *alerting.Alert) { a.Over = 86399 * time.Second })
	f("want 0s or more", func(a *alerting.Alert) { a.For = -1 })
	f(`severity "high": want one of P0, P1, P2, P3`, func(a *alerting.Alert) { a.Severity = "high" })
	f(`group "host": want one of by`, func(a *alerting.Alert) { a.Group = []string{"host"} })
	f("annotations.summary: ${host}: it is no label of by", func(a *alerting.Alert) { a.Annotations = map[string]string{"summary": "${host}"} })
	f("annotations.summary: ${p99}: neither when nor until", func(a *alerting.Alert) { a.Annotations = map[string]string{"summary": "${p99}"} })
	f("", func(a *alerting.Alert) {
		a.When, a.Annotations = "p50 > 1s", map[string]string{"summary": "${route}: ${p99} after ${count}"}
	})
	cfg := pipeline.DefaultConfig()
	cfg.Alerts = []alerting.Alert{alertRules[0], alertRules[0]}
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "another alert has the name") {
		t.Errorf("got %v, want a refusal of two alerts of one name", err)
	}
}
