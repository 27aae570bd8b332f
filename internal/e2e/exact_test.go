package e2e

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit"
)

// Sizes of TestExactUnderKills; the defaults suit CI. The full run of the project's claim is
// VIGIE_TEST_EVENTS=1000000 VIGIE_TEST_SERIES=5000 VIGIE_TEST_KILLS=10.
const (
	defaultEvents = 60_000
	defaultSeries = 600
	defaultKills  = 3
)

// relativeError is the sketch's α, and a little for printing.
const relativeError = 0.00542

// TestExactUnderKills is the first invariant: what ClickHouse says equals a plain loop over the accepted records, while
// stream is killed again and again and ClickHouse once. The broker is Apache Kafka, the producer a plain client.
func TestExactUnderKills(t *testing.T) {
	events, kills := number(t, "VIGIE_TEST_EVENTS", defaultEvents), number(t, "VIGIE_TEST_KILLS", defaultKills)
	in := install(t, testkit.ApacheKafka(t), []string{"stream", "query"})
	l := &load{
		random: rand.New(rand.NewPCG(1, 2)), events: events, series: number(t, "VIGIE_TEST_SERIES", defaultSeries),
		start: time.Now().Unix()/60*60 - 600, span: 300,
	}
	o := newOracle()
	rate := max(events/(4*(kills+2)), 2000) // the load outlasts the kills
	produced := make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	go func() { defer close(produced); produce(ctx, t, in.broker.Addr, in.topic("metrics"), l, o, rate) }()
	for kill := range kills {
		time.Sleep(time.Duration(2000+500*(kill%4)) * time.Millisecond)
		in.stream.kill()
		if kill == kills/2 {
			in.clickhouse.Kill()
			time.Sleep(time.Second)
			in.clickhouse.Restart()
		}
		in.stream.start()
	}
	<-produced
	in.awaitCounts(o)
	t.Logf("%d events, %d series, %d kills of stream, 1 of ClickHouse", events, len(o.cells), kills)
	in.compareRollups(o)
	in.compareQuantiles(o)
	in.comparePromQL(o, l)
	t.Logf("vigie verify:\n%s", in.vigie("verify", "-from", in.topic("metrics"), "-table", "all"))
	t.Logf("vigie audit results:\n%s", in.vigie("audit", "results", "-since", "2h"))
}

// awaitCounts waits until ClickHouse counts every event of every tenant, in the first and the last tier to be filled.
func (in *installation) awaitCounts(o *oracle) {
	in.t.Helper()
	testkit.Eventually(in.t, 3*time.Minute, func() error {
		for tenant, want := range o.counts {
			for _, view := range []string{"api.metrics_10s", "api.metrics_1h"} {
				status, got := in.trySQL(tenant, "SELECT sum(count) FROM "+view+" WHERE metric LIKE 'e2e_%'")
				if status != 200 || got != strconv.FormatUint(want, 10) {
					return fmt.Errorf("tenant %s: got %s events in %s, want %d", tenant, got, view, want)
				}
			}
		}
		return nil
	})
}

// compareRollups compares every series and pane of every tenant with the plain loop, in every tier.
func (in *installation) compareRollups(o *oracle) {
	in.t.Helper()
	for _, tier := range []struct {
		view  string
		width int64
	}{{"api.metrics_10s", 10}, {"api.metrics_1m", 60}, {"api.metrics_1h", 3600}} {
		wrong, rows := 0, 0
		want := o.at(tier.width)
		for _, tenant := range testTenants {
			for _, line := range strings.Split(in.sql(tenant, `SELECT tenant, metric, labels['service'], labels['route'], labels['instance'],
				toUnixTimestamp(ts), count, sum, min, max FROM `+tier.view+` WHERE metric LIKE 'e2e_%' FORMAT TSV`), "\n") {
				f := strings.Split(line, "\t")
				key := seriesKey{f[0], f[1], f[2], f[3], f[4]}
				start := integer(in.t, f[5])
				got := cell{uint64(integer(in.t, f[6])), float(in.t, f[7]), float(in.t, f[8]), float(in.t, f[9])}
				rows++
				c := want[key][start]
				switch {
				case f[0] != tenant:
					in.t.Fatalf("%s: tenant %s reads a row of %s", tier.view, tenant, f[0])
				case c == nil || *c != got:
					if wrong++; wrong < 10 {
						in.t.Errorf("%s %v at %d: got %+v, want %+v", tier.view, key, start, got, c)
					}
				}
				delete(want[key], start)
			}
		}
		for key, panes := range want {
			for start, c := range panes {
				if wrong++; wrong < 10 {
					in.t.Errorf("%s %v at %d: got no row, want %+v", tier.view, key, start, *c)
				}
			}
		}
		in.t.Logf("%s: %d rows equal to the plain loop, %d not", tier.view, rows-wrong, wrong)
	}
}

// at merges the oracle's panes to a tier's width.
func (o *oracle) at(width int64) map[seriesKey]map[int64]*cell {
	out := map[seriesKey]map[int64]*cell{}
	for key, panes := range o.cells {
		wide := map[int64]*cell{}
		for start, c := range panes {
			w := wide[start/width*width]
			if w == nil {
				copied := *c
				wide[start/width*width] = &copied
				continue
			}
			w.count += c.count
			w.sum += c.sum
			w.min, w.max = min(w.min, c.min), max(w.max, c.max)
		}
		out[key] = wide
	}
	return out
}

// compareQuantiles asks SQL for the quantiles of each service, over series and over the service tier.
func (in *installation) compareQuantiles(o *oracle) {
	in.t.Helper()
	for _, view := range []string{"api.metrics_10s", "api.metrics_1m", "api.services_10s"} {
		worst := 0.0
		for _, tenant := range testTenants {
			for _, line := range strings.Split(in.sql(tenant, `SELECT service, p50(sketch), p95(sketch), p99(sketch) FROM `+view+`
				WHERE metric = '`+latency+`' GROUP BY service ORDER BY service FORMAT TSV`), "\n") {
				f := strings.Split(line, "\t")
				group := seriesKey{tenant: tenant, metric: latency, service: f[0]}
				for i, q := range []float64{0.5, 0.95, 0.99} {
					want, _ := o.quantile(group, q)
					got := float(in.t, f[i+1])
					off := math.Abs(got-want) / want
					worst = max(worst, off)
					if off > relativeError {
						in.t.Errorf("%s %s %s: got p%v %v, want %v within %v", view, tenant, f[0], q*100, got, want, relativeError)
					}
				}
			}
		}
		in.t.Logf("%s: p50, p95 and p99 at most %.3f %% off", view, 100*worst)
	}
}

// comparePromQL compares increase, rate and histogram_quantile with the plain loop at an aligned time behind the load.
func (in *installation) comparePromQL(o *oracle, l *load) {
	in.t.Helper()
	for _, tenant := range testTenants {
		at := l.start + l.span
		// the watermark moves on by itself once the tenant is idle
		testkit.Eventually(in.t, 90*time.Second, func() error {
			_, answer := in.tryPromQL(tenant, "max(timestamp("+requests+"))", at)
			if !strings.Contains(answer, `"`+strconv.FormatInt(at, 10)+`"`) {
				return fmt.Errorf("tenant %s is not complete at %d: %s", tenant, at, last(answer, 300))
			}
			return nil
		})
		for _, window := range []int64{60, 120} {
			in.compareIncrease(o, tenant, at, window)
		}
		in.compareHistogram(o, tenant, at)
	}
}

func (in *installation) compareIncrease(o *oracle, tenant string, at, window int64) {
	in.t.Helper()
	want := map[seriesKey]float64{}
	for key, panes := range o.cells {
		if key.tenant != tenant || key.metric != requests {
			continue
		}
		for start, c := range panes {
			if start >= at-window && start < at {
				want[key] += c.sum
			}
		}
	}
	for _, f := range []struct {
		name  string
		scale float64
	}{{"increase", 1}, {"rate", 1 / float64(window)}} {
		seen := 0
		for _, s := range in.promql(tenant, fmt.Sprintf("%s(%s[%ds])", f.name, requests, window), at) {
			key := seriesKey{tenant, requests, s.Metric["service"], s.Metric["route"], s.Metric["instance"]}
			expected := want[key] * f.scale
			if math.Abs(s.Value-expected) > 1e-9*max(1, expected) {
				in.t.Errorf("%s[%ds] of %v: got %v, want %v", f.name, window, key, s.Value, expected)
			}
			if _, ok := want[key]; ok {
				seen++
			}
		}
		if seen != len(want) {
			in.t.Errorf("%s[%ds] of tenant %s: got %d of the %d series with events", f.name, window, tenant, seen, len(want))
		}
	}
}

// compareHistogram checks that quantiles by PromQL lie in the bucket of the exact order statistic (or of the next:
// Prometheus ranks by q·n): the engine interpolates inside a bucket, whose width is 1.09 %.
func (in *installation) compareHistogram(o *oracle, tenant string, at int64) {
	in.t.Helper()
	const bucket = 0.011
	query := fmt.Sprintf("histogram_quantile(0.99, sum by (service) (increase(%s[10m])))", latency)
	got := in.promql(tenant, query, at) // the whole load
	if len(got) == 0 {
		in.t.Errorf("%s: got nothing", query)
	}
	for _, s := range in.promql(tenant, fmt.Sprintf("sum by (service) (increase(%s_count[10m]))", latency), at) {
		if want := len(o.values[seriesKey{tenant: tenant, metric: latency, service: s.Metric["service"]}]); s.Value != float64(want) {
			in.t.Errorf("events of %s: got %v, want %d", s.Metric["service"], s.Value, want)
		}
	}
	for _, s := range got {
		group := seriesKey{tenant: tenant, metric: latency, service: s.Metric["service"]}
		if low, high := o.quantile(group, 0.99); s.Value < low*(1-bucket) || s.Value > high*(1+bucket) {
			in.t.Errorf("%s of %s: got %v, want %v to %v within a bucket", query, group.service, s.Value, low, high)
		}
	}
}

func integer(t testing.TB, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func float(t testing.TB, text string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
