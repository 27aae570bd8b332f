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
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

var declared = []rollup.Declared{
	{Name: "server_seconds", From: events.Spans, Where: `kind == "server" && status_code >= 400`, By: []string{"service", "status_class", "shop.id"},
		AlsoBy: [][]string{{"service"}, {}}},
	{Name: "slow_total", From: events.Spans, Where: "duration_seconds > 100ms", Measure: "events", By: []string{"route"}, Tenants: []tenants.ID{"acme"}},
}

// derived is one row of a declared metric: labels, pane, count and sum; extremes and the sketch beside.
type derived struct {
	cell
	sketch sketches.Sketch
}

// A declared rollup holds what a plain loop over the events finds, whatever the cuts into epochs.
func TestDeclaredRecount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := pipeline.DefaultConfig()
		cfg.Rollups = declared
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		task := pipeline.NewTask(pipeline.TaskConfig{Partition: at, Signal: events.Spans, Config: cfg})
		got, want := map[string]*derived{}, map[string]*derived{}
		labels := map[series.ID]string{}
		drainAll := func() {
			out := pipeline.NewOutputs(&cfg)
			task.Drain(out, start.UnixMilli())
			task.Committed(true)
			takeDerived(t, out, labels, got)
		}
		for range rapid.IntRange(1, 40).Draw(t, "records") {
			if rapid.IntRange(0, 9).Draw(t, "epoch") == 0 {
				drainAll()
				continue
			}
			tenant := rapid.SampledFrom([]string{"acme", "demo"}).Draw(t, "tenant")
			kind := rapid.SampledFrom([]string{"server", "client"}).Draw(t, "kind")
			code := rapid.SampledFrom([]int{0, 200, 404, 503}).Draw(t, "code")
			route := rapid.SampledFrom([]string{"", "/a", "/b"}).Draw(t, "route")
			shop := rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "shop")
			millis := rapid.IntRange(0, 300).Draw(t, "millis")
			when := start.Add(time.Duration(rapid.IntRange(-20, 20).Draw(t, "second")) * time.Second)
			span := map[string]any{"service": "s", "name": "n", "kind": kind, "time": when.Format(time.RFC3339Nano),
				"duration": fmt.Sprint(millis, "ms"),
				"route":    route, "attributes": map[string]string{"shop.id": shop}}
			if code > 0 {
				span["status_code"] = code
			}
			text, err := json.Marshal(span)
			if err != nil {
				t.Fatal(err)
			}
			task.Step(&pipeline.Chunk{Partition: at, Signal: events.Spans, Records: []pipeline.Record{record(tenant, string(text))}}, start.UnixMilli())

			add := func(metric string, value float64, sketched bool, labels ...string) {
				key := fmt.Sprint(tenant, " ", metric, " ", strings.Join(labels, ","), " ", when.Unix()/10*10)
				d := want[key]
				if d == nil {
					d = &derived{cell: cell{min: math.Inf(1), max: math.Inf(-1)}}
					want[key] = d
				}
				d.value(value)
				if sketched {
					d.sketch.Add(value)
				}
			}
			seconds := float64(time.Duration(millis)*time.Millisecond) / 1e9
			if kind == "server" && code >= 400 {
				ls := []string{"service=s"}
				if shop != "" {
					ls = append(ls, "shop_id="+shop)
				}
				add("server_seconds", seconds, true, append(ls, fmt.Sprintf("status_class=%dxx", code/100))...)
				add("server_seconds:service", seconds, true, "service=s")
				add("server_seconds:", seconds, true)
			}
			if millis > 100 && tenant == "acme" {
				if route != "" {
					route = "route=" + route
				}
				add("slow_total", 1, false, route)
			}
		}
		drainAll()
		if len(got) != len(want) {
			t.Fatalf("got rows %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
		for key, w := range want {
			g := got[key]
			if g == nil || g.count != w.count || math.Abs(g.sum-w.sum) > 1e-9 || g.min != w.min || g.max != w.max {
				t.Fatalf("%s: got %+v, want %+v", key, g, w)
			}
			if string(g.sketch.AppendDD(nil)) != string(w.sketch.AppendDD(nil)) {
				t.Fatalf("%s: got another sketch than the loop's", key)
			}
		}
	})
}

// takeDerived adds the series rows of declared metrics to got.
func takeDerived(t *rapid.T, out *pipeline.Outputs, labels map[series.ID]string, got map[string]*derived) {
	for _, b := range out.Series {
		for i := range b.ID {
			var ls []string
			for _, l := range b.Labels[i] {
				ls = append(ls, l.Name+"="+l.Value)
			}
			labels[b.ID[i]] = strings.Join(ls, ",")
		}
	}
	for _, b := range out.Rollups {
		states := b.Sketch
		for i := range b.Grain {
			var sketch sketches.Sketch
			n, err := sketch.DecodeDD(states)
			if err != nil {
				t.Fatal(err)
			}
			states = states[n:]
			if b.Grain[i] != pipeline.GrainSeries || b.Metric[i] == rollup.SpanMetric {
				continue
			}
			key := fmt.Sprint(b.Tenant[i], " ", b.Metric[i], " ", labels[b.Series[i]], " ", b.Pane[i])
			d := got[key]
			if d == nil {
				d = &derived{cell: cell{min: math.Inf(1), max: math.Inf(-1)}}
				got[key] = d
			}
			d.count, d.sum = d.count+b.Count[i], d.sum+b.Sum[i]
			d.min, d.max = min(d.min, b.Min[i]), max(d.max, b.Max[i])
			d.sketch.Merge(&sketch)
		}
	}
}

// What cannot be is refused with the rollup and what to change.
func TestRollupsValidate(t *testing.T) {
	f := func(r rollup.Declared, want string) {
		t.Helper()
		cfg := pipeline.DefaultConfig()
		cfg.Rollups = []rollup.Declared{{Name: "first_total", From: events.Logs}, r}
		err := cfg.Validate()
		if want == "" && err != nil || want != "" &&
			(err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "rollups[1]")) {
			t.Errorf("%+v: got %v, want %q", r, err, want)
		}
	}
	f(rollup.Declared{Name: "a", From: events.Spans, By: []string{"service"}, AlsoBy: [][]string{{}}}, "")
	f(rollup.Declared{Name: "a", From: events.Metrics, Measure: "events"}, "")
	f(rollup.Declared{Name: "a-b", From: events.Spans}, `name "a-b": want letters`)
	f(rollup.Declared{Name: "span_duration_seconds", From: events.Spans}, "default rollup")
	f(rollup.Declared{Name: "first_total", From: events.Spans}, "another rollup makes first_total")
	f(rollup.Declared{Name: "a", From: "costs"}, `from "costs": want metrics, spans or logs`)
	f(rollup.Declared{Name: "a", From: events.Logs, Measure: "value"}, `measure "value" of logs: want events`)
	f(rollup.Declared{Name: "a", From: events.Spans, Where: `kind = "x"`}, "where: 1:6: =: want ==")
	f(rollup.Declared{Name: "a", From: events.Spans, By: []string{"a.b", "a_b"}}, "two fields make the label a_b")
	f(rollup.Declared{Name: "a", From: events.Spans, By: []string{"1a"}}, `by "1a"`)
	f(rollup.Declared{Name: "a", From: events.Spans, By: []string{""}}, `by ""`)
	f(rollup.Declared{Name: "a", From: events.Spans, AlsoBy: [][]string{{"x"}, {"x"}}}, "it is there already")
	f(rollup.Declared{Name: "a", From: events.Spans, Tenants: []tenants.ID{"a#b"}}, "a#b")
}

// Metrics: observations, deltas and pre-aggregated distributions count; levels do not. An attribute too long for a
// label leaves the event out of the rollup, counted.
func TestDeclaredFromMetricsAndLogs(t *testing.T) {
	cfg := pipeline.DefaultConfig()
	cfg.Rollups = []rollup.Declared{
		{Name: "by_service", From: events.Metrics, Where: `name =~ "m.*"`, By: []string{"service"}},
		{Name: "errors_total", From: events.Logs, Where: `severity in ["error", "fatal"] && body =~ ".*card.*"`, By: []string{"service", "shop"}},
	}
	run := func(signal events.Signal, values ...string) (rows []string, task *pipeline.Outputs) {
		k := pipeline.NewTask(pipeline.TaskConfig{Partition: at, Signal: signal, Config: cfg})
		k.Step(&pipeline.Chunk{Partition: at, Signal: signal, Records: []pipeline.Record{record("acme", values...)}},
			start.UnixMilli())
		out := drain(k, start)
		for _, row := range rowsOf(out) {
			if strings.Contains(row, "by_service") || strings.Contains(row, "errors_total") {
				rows = append(rows, row)
			}
		}
		return rows, out
	}
	rows, _ := run(events.Metrics,
		`{"name":"m1","value":1.5,"labels":{"service":"s","a":"1"}}`, `{"name":"m2","value":2,"labels":{"service":"s","a":"2"}}`,
		`{"name":"x","value":100,"labels":{"service":"s"}}`, `{"name":"m3","kind":"gauge","value":7,"labels":{"service":"s"}}`,
		`{"name":"m4","kind":"delta","value":5,"labels":{"service":"s"}}`)
	if got, want := fmt.Sprint(rows), "[0 acme by_service s 0 count 2 sum 3.5 1 acme by_service s 0 count 2 sum 3.5 0 acme by_service s 0 count 1 sum 5 1 acme by_service s 0 count 1 sum 5]"; got != want {
		t.Errorf("metrics:\ngot  %s\nwant %s", got, want)
	}
	rows, out := run(events.Logs,
		`{"service":"pay","severity":"error","body":"card declined","attributes":{"shop":"1"}}`, `{"service":"pay","severity":"info","body":"card taken"}`,
		`{"service":"pay","severity":"fatal","body":"a card","attributes":{"shop":"`+strings.Repeat("x", 5000)+`"}}`)
	if got, want := fmt.Sprint(rows), "[0 acme errors_total pay 0 count 1 sum 1 1 acme errors_total pay 0 count 1 sum 1]"; got != want {
		t.Errorf("logs:\ngot  %s\nwant %s", got, want)
	}
	if n := out.Tally.Dropped[pipeline.TenantReason{Tenant: "acme", Reason: rollup.ReasonLongLabel}]; n != 1 {
		t.Errorf("dropped for a long label: got %d, want 1", n)
	}
}
