package pipeline_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/internal/units"
)

func limitLines(out *pipeline.Outputs) string {
	var lines []string
	l := &out.Limits
	for i := range l.Tenant {
		lines = append(lines, fmt.Sprintf("%s %s %s %s %d/%d -%d", l.Tenant[i], l.Signal[i], l.Part[i], l.Reason[i], l.Used[i], l.Most[i], l.Dropped[i]))
	}
	return strings.Join(lines, "; ")
}

// Use is told once a minute of tenants that are active, and again when limits change; what is lost, in the epoch that
// lost it.
func TestLimitRows(t *testing.T) {
	live := tenants.NewLive(*limitsOf(map[tenants.ID]tenants.Limits{"acme": {StreamEventsPerSecond: 10, StreamBytesPerSecond: 100_000, ActiveSeries: 2}})())
	task := newTask(func(c *pipeline.TaskConfig) { c.Limits = live.Config })
	now := start
	f := func(want string, commit bool, series ...string) {
		t.Helper()
		for _, s := range series {
			r := record("acme", event(start, "m", fmt.Sprintf(`"s":%q`, s)))
			r.Timestamp = now.UnixNano()
			step(task, now, r)
		}
		if got := limitLines(drain(task, now)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if commit {
			task.Committed(false)
		} else {
			task.Forget()
		}
	}
	told := func(bytes, events, series, most, lost int) string {
		return fmt.Sprintf("acme metrics vigie.metrics.v1/4 rate_bytes %d/100000 -0; acme metrics vigie.metrics.v1/4 rate_events %d/10 -0; acme metrics vigie.metrics.v1/4 series_limit %d/%d -%d",
			bytes, events, series, most, lost)
	}
	f("", true)
	f(told(154, 2, 2, 2, 2), false, "a", "b", "c", "d") // aborted, and told again; 4 events of 77 bytes in 2 seconds
	f(told(154, 2, 2, 2, 2), true, "a", "b", "c", "d")
	now = now.Add(30 * time.Second)
	f("", true, "a")
	f("acme metrics vigie.metrics.v1/4 series_limit 2/2 -1", true, "a", "x")
	now = now.Add(30 * time.Second)
	f("", true) // silent
	f(told(154, 2, 2, 2, 0), true, "a")
	live.Replace(*limitsOf(map[tenants.ID]tenants.Limits{"acme": {StreamEventsPerSecond: 10, StreamBytesPerSecond: 100_000, ActiveSeries: 3}})())
	f("", true) // taken between epochs
	f(told(154, 2, 2, 3, 0), true, "a")
	long := strings.Repeat("x", 5000)
	f("acme metrics vigie.metrics.v1/4 too_long 0/0 -2", true, long, "a", long)
}

// Of both limits of series, what a loop over the events takes is taken, whatever comes again, is silent or changes.
func TestSeriesLimitsRecount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := func() tenants.Limits {
			return tenants.Limits{ActiveSeries: rapid.IntRange(1, 12).Draw(t, "series"),
				SeriesBytes: units.Bytes(rapid.IntRange(1, 2000).Draw(t, "bytes"))}
		}
		limits := limit()
		live := tenants.NewLive(*limitsOf(map[tenants.ID]tenants.Limits{"acme": limits})())
		task := newTask(func(c *pipeline.TaskConfig) { c.Limits = live.Config })
		active, size, swept, now := map[string]time.Time{}, map[string]int{}, time.UnixMilli(0), start
		commit := func() {
			task.Committed(false)
			if idle := pipeline.DefaultConfig().SeriesIdle; now.Sub(swept) >= idle/4 {
				swept = now
				maps.DeleteFunc(active, func(_ string, heard time.Time) bool { return now.Sub(heard) >= idle })
			}
		}
		for range rapid.IntRange(1, 12).Draw(t, "epochs") {
			var want, got [3]uint64
			for range rapid.IntRange(0, 30).Draw(t, "events") {
				labels := fmt.Sprintf(`"s":%q`, strings.Repeat("x", rapid.IntRange(1, 20).Draw(t, "label")*20))
				step(task, now, record("acme", event(now, "m", labels)))
				held := 0
				for s := range active {
					held += size[s]
				}
				// Kind, then one length and one name, twice, and a value of one or two bytes of length.
				value := len(labels) - len(`"s":""`)
				size[labels] = 1 + 2 + 2 + len(binary.AppendUvarint(nil, uint64(value))) + value
				switch _, known := active[labels]; {
				case known || len(active) < limits.ActiveSeries && held+size[labels] <= int(limits.SeriesBytes):
					active[labels] = now
					want[0]++
				case len(active) >= limits.ActiveSeries:
					want[1]++
				default:
					want[2]++
				}
			}
			out := drain(task, now)
			got[0] = out.Tally.Events
			got[1] = out.Tally.Dropped[pipeline.TenantReason{Tenant: "acme", Reason: pipeline.ReasonSeriesLimit}]
			got[2] = out.Tally.Dropped[pipeline.TenantReason{Tenant: "acme", Reason: pipeline.ReasonSeriesBytes}]
			if got != want {
				t.Fatalf("limits %d and %d: got %v events taken and dropped for number and bytes, want %v",
					limits.ActiveSeries, limits.SeriesBytes, got, want)
			}
			commit()
			now = now.Add(time.Duration(rapid.IntRange(0, 6).Draw(t, "minutes")) * time.Minute)
			if rapid.IntRange(0, 3).Draw(t, "change") == 0 {
				limits = limit()
				live.Replace(*limitsOf(map[tenants.ID]tenants.Limits{"acme": limits})())
				drain(task, now) // they are taken between epochs
				commit()
			}
		}
	})
}

// What the rows of committed epochs say was dropped is what the counters say, whatever is aborted.
func TestLimitRowsAreCounters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := limitsOf(map[tenants.ID]tenants.Limits{"acme": {StreamEventsPerSecond: 3, ActiveSeries: 2},
			"globex": {ActiveSeries: 1}})
		task := newTask(func(c *pipeline.TaskConfig) { c.Limits = limits })
		counted, told := map[string]uint64{}, map[string]uint64{}
		now := start
		for range rapid.IntRange(1, 12).Draw(t, "epochs") {
			now = now.Add(time.Duration(rapid.IntRange(0, 50).Draw(t, "seconds")) * time.Second)
			for range rapid.IntRange(0, 20).Draw(t, "records") {
				label := fmt.Sprintf(`"s":"%d"`, rapid.IntRange(0, 4).Draw(t, "series"))
				step(task, now, record(rapid.SampledFrom([]string{"acme", "globex"}).Draw(t, "tenant"), event(start, "m", label)))
			}
			out := drain(task, now)
			if rapid.IntRange(0, 3).Draw(t, "end") == 0 {
				task.Forget()
				continue
			}
			task.Committed(true)
			for key, n := range out.Tally.Dropped {
				counted[key.Tenant+" "+string(key.Reason)] += n
			}
			l := &out.Limits
			for i := range l.Tenant {
				if l.Dropped[i] > 0 {
					told[l.Tenant[i]+" "+l.Reason[i]] += l.Dropped[i]
				}
			}
		}
		if !maps.Equal(told, counted) {
			t.Fatalf("got %v in rows, want %v", told, counted)
		}
	})
}

// What an epoch lost that was aborted before it was drained is told with the one that takes its records again, once.
func TestLossesOfAnAbortedEpoch(t *testing.T) {
	task := newTask(func(c *pipeline.TaskConfig) {
		c.Limits = limitsOf(map[tenants.ID]tenants.Limits{"acme": {ActiveSeries: 1}, "hot": {StreamEventsPerSecond: 1}})
	})
	take := func() {
		for i := range 5 {
			step(task, start, record("acme", event(start, "m", fmt.Sprintf(`"s":"%d"`, i))), record("hot", event(start, "m", "")))
		}
	}
	take()
	task.Forget()
	take()
	got := drain(task, start).Tally.Dropped
	want := map[pipeline.TenantReason]uint64{
		{Tenant: "acme", Reason: pipeline.ReasonSeriesLimit}: 4, {Tenant: "hot", Reason: pipeline.ReasonRateEvents}: 3,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v lost, want %v", got, want)
	}
}

// Limits of labels are each tenant's own, and change between epochs, also for events that are known by their bytes.
func TestLabelLimits(t *testing.T) {
	of := func(acme tenants.Limits) tenants.Config {
		return *limitsOf(map[tenants.ID]tenants.Limits{"acme": acme})()
	}
	live := tenants.NewLive(of(tenants.Limits{}))
	task := newTask(func(c *pipeline.TaskConfig) { c.Limits = live.Config })
	f := func(refused string, tenant, labels string) {
		t.Helper()
		r := record(tenant, event(start, "m", labels))
		step(task, start, r, r, r)
		out := drain(task, start)
		task.Committed(true)
		got := ""
		for key, n := range out.Tally.Refused {
			got += fmt.Sprintf("%s %s %d", key.Tenant, key.Reason, n)
		}
		if got != refused || (out.Tally.Events == 0) == (refused == "") {
			t.Errorf("%s {%s}: got %q refused and %d events taken, want %q", tenant, labels, got, out.Tally.Events, refused)
		}
	}
	two, long := `"a":"1","b":"2"`, `"a":"12345"`
	f("", "acme", two)
	f("", "acme", long)
	live.Replace(of(tenants.Limits{MaxLabels: 1}))
	f("", "acme", two) // the epoch that ends knows the limits it began with
	f("acme too_many_labels 3", "acme", two)
	f("", "acme", long)
	f("", "globex", two)
	live.Replace(of(tenants.Limits{MaxLabelValue: 4}))
	f("acme too_many_labels 3", "acme", two)
	f("", "acme", two)
	f("acme too_long 3", "acme", long)
	f("", "globex", long)
	live.Replace(of(tenants.Limits{MaxLabelValue: 5}))
	f("acme too_long 3", "acme", long)
	f("", "acme", long)
}
