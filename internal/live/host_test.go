package live_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/live"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// What is measured here and now is plausible, and the contract takes all of it.
func TestHostMeasures(t *testing.T) {
	host := live.NewHost()
	host.Measure(t.Context(), time.Now().Add(-10*time.Second))
	now := time.Now()
	measured := host.Measure(t.Context(), now)

	decoder := events.NewDecoder(events.DefaultOptions())
	var batch events.Batch
	values, keys := map[string]float64{}, map[string]bool{}
	for i := range measured {
		m := &measured[i]
		decoder.Decode(&batch, events.Source{Signal: events.Metrics, Tenant: "demo", Value: events.AppendMetric(nil, m)})
		if len(batch.Rejects) > 0 || len(batch.Metrics) != 1 {
			t.Fatalf("%+v: got %+v, want it accepted", m, batch.Rejects)
		}
		if m.Time != now.UnixNano() || m.Tenant != "" || m.Labels.Get("service") != "host" || m.Labels.Get("instance") == "" {
			t.Fatalf("got %+v, want time %d, no tenant, service host and an instance", m, now.UnixNano())
		}
		if total := strings.HasSuffix(m.Name, "_total"); total != (m.Kind == events.Cumulative) {
			t.Errorf("%s: got kind %s, want cumulative for totals and gauge for the rest", m.Name, m.Kind)
		}
		key := string(series.AppendKey(nil, byte(m.Kind), m.Name, m.Labels))
		if keys[key] {
			t.Errorf("%s%v: got it twice, want one value a series", m.Name, m.Labels)
		}
		keys[key] = true
		values[m.Name] += m.Value
	}
	if len(keys) > 500 {
		t.Errorf("got %d series, want at most 500 on any host", len(keys))
	}
	if runtime.GOOS != "linux" {
		return
	}
	for _, name := range []string{
		"host_cpu_seconds_total", "host_cpus", "host_memory_total_bytes", "host_memory_used_bytes", "host_filesystem_size_bytes",
		"host_network_receive_bytes_total", "host_processes", "host_process_resident_memory_bytes", "host_context_switches_total",
	} {
		if values[name] <= 0 {
			t.Errorf("%s: got %v, want more than 0", name, values[name])
		}
	}
	if values["host_memory_used_bytes"] > values["host_memory_total_bytes"] {
		t.Error("got more memory used than there is")
	}
	if got := values["host_cpus"]; got < 1 || got > 10_000 {
		t.Errorf("got %v processors, want as many as there are", got)
	}
}

func TestHostRun(t *testing.T) {
	t.Run("until its context ends", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		rounds := 0
		err := live.NewHost().Run(ctx, time.Millisecond, func(_ context.Context, measured []events.Metric) error {
			if len(measured) == 0 {
				t.Error("got nothing measured, want something")
			}
			if rounds++; rounds == 2 {
				cancel()
			}
			return nil
		})
		if err != nil || rounds != 2 {
			t.Fatalf("got %d rounds and error %v, want 2 and none", rounds, err)
		}
	})
	t.Run("until send gives up", func(t *testing.T) {
		broken := errors.New("broken")
		err := live.NewHost().Run(t.Context(), time.Hour, func(context.Context, []events.Metric) error { return broken })
		if !errors.Is(err, broken) {
			t.Fatalf("got error %v, want send's", err)
		}
	})
}

func BenchmarkHostMeasure(b *testing.B) {
	host := live.NewHost()
	b.ReportAllocs()
	for b.Loop() {
		host.Measure(b.Context(), time.Now())
	}
}
