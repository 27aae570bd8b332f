package pipeline_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/tenants"
)

// What is told of state is what a reader of the compacted log would count, through closed windows, an abort and a
// restart; losses count once they are committed.
func TestTopologyTellsOfStateAndLosses(t *testing.T) {
	log := stateLog{}
	s := &timedSession{assigned: []pipeline.Reach{reach(at, 0)}, logOf: func(pipeline.Partition) stateLog { return log }}
	aborted := 0
	s.answer = func(n int) (bool, error) {
		if n == 3 {
			aborted, s.state = aborted+1, nil
			return false, nil
		}
		log.append(s.state)
		s.state = nil
		return true, nil
	}
	reg := prometheus.NewRegistry()
	change := func(c *pipeline.WorkerConfig) {
		c.Config = windowedConfig(windowed.Window{Tumbling: 10 * time.Second, AllowedLateness: 10 * time.Second})
		c.Limits = limitsOf(map[tenants.ID]tenants.Limits{"acme": {ActiveSeries: 3}, "globex": {ActiveSeries: 3}})
		c.Metrics = pipeline.NewMetrics(reg)
	}
	inBubble(t, s, change, func(t *testing.T, w *pipeline.Worker, _ context.CancelFunc) {
		most := 0
		for i := range 30 {
			now := time.Now()
			s.polls <- fetchOf(at, record("acme", event(now, "m", fmt.Sprintf(`"service":"s%d"`, i%5)), "{"),
				record("globex", event(now.Add(-time.Minute), "m", "")))
			time.Sleep(2 * time.Second)
			synctest.Wait()
			got, keys, bytes := taskOf(t, w, at), 0, 0
			for key, value := range log {
				keys, bytes = keys+1, bytes+len(key)+len(value)
			}
			if most = max(most, keys); got.StateKeys != keys || got.StateBytes != int64(bytes) {
				t.Fatalf("round %d: got %d keys of %d bytes, want %d and %d", i, got.StateKeys, got.StateBytes, keys, bytes)
			}
			if i == 20 {
				close(s.polls) // the worker starts anew from the log
				synctest.Wait()
				s.mu.Lock()
				s.polls = make(chan pipeline.Fetch)
				s.mu.Unlock()
				time.Sleep(2 * time.Second)
				synctest.Wait()
			}
		}
		if most < 8 {
			t.Errorf("got at most %d keys, want open windows among them", most)
		}
		got, top := taskOf(t, w, at), w.Topology()
		if got.Letters != 9 || got.Dropped != 3 {
			t.Errorf("got %d dead letters and %d drops since the task began, want 9 and 3", got.Letters, got.Dropped)
		}
		if top.Failures != 1 || aborted != 1 || top.Epoch < 9 || top.EpochLength != 250*time.Millisecond {
			t.Errorf("got %+v, want one failure, and epochs of 250 ms", top)
		}
		// By lag, not by series.
		if l := got.Lagging; len(l) != 2 || l[0].Tenant != "globex" || l[0].Lag < time.Minute ||
			l[1].Tenant != "acme" || got.Top[0].Tenant != "acme" {
			t.Errorf("got %+v, want globex to lag most", l)
		}
		if n, err := testutil.GatherAndCount(reg, "vigie_pipeline_watermark_lag_seconds", "vigie_pipeline_state_size_bytes"); n != 3 || err != nil {
			t.Errorf("got %d metrics (%v), want the lags of both tenants and the size of the state", n, err)
		}
	})
}

// An abort shows in the picture of the same session.
func TestTopologyCountsAborts(t *testing.T) {
	s := &timedSession{assigned: []pipeline.Reach{reach(at, 0)}}
	s.answer = func(n int) (bool, error) { return n != 2, nil }
	inBubble(t, s, nil, func(t *testing.T, w *pipeline.Worker, _ context.CancelFunc) {
		time.Sleep(4500 * time.Millisecond)
		synctest.Wait()
		if top := w.Topology(); top.Aborted != 1 || top.Epoch != 3 {
			t.Errorf("got %d aborted and %d committed, want 1 and 3", top.Aborted, top.Epoch)
		}
	})
}

// What a tenant has used of its limits is told beside the limit in force: rates of all partitions together, series and
// windows of the partition with the most.
func TestLimitUseIsTold(t *testing.T) {
	other := pipeline.Partition{Topic: at.Topic, Partition: at.Partition + 1}
	s := &timedSession{assigned: []pipeline.Reach{reach(at, 0), reach(other, 0)}}
	s.answer = func(int) (bool, error) { s.state = nil; return true, nil }
	reg := prometheus.NewRegistry()
	change := func(c *pipeline.WorkerConfig) {
		c.Config = windowedConfig(windowed.Window{Tumbling: 10 * time.Second})
		c.Limits = limitsOf(map[tenants.ID]tenants.Limits{"acme": {ActiveSeries: 10, StreamEventsPerSecond: 50, OpenWindows: 7}})
		c.Metrics = pipeline.NewMetrics(reg)
	}
	inBubble(t, s, change, func(t *testing.T, w *pipeline.Worker, _ context.CancelFunc) {
		send := func(p pipeline.Partition, n int) {
			var records []pipeline.Record
			for i := range n {
				records = append(records, record("acme", event(time.Now(), "m", fmt.Sprintf(`"service":"s%d"`, i))))
				records[i].Timestamp = time.Now().UnixNano()
			}
			s.polls <- fetchOf(p, records...)
		}
		send(at, 4)
		send(other, 6)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		f := func(metric, limit string, want float64) {
			t.Helper()
			families, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, family := range families {
				for _, m := range family.GetMetric() {
					if family.GetName() == metric && m.GetLabel()[0].GetValue() == limit && m.GetLabel()[2].GetValue() == "acme" {
						if got := m.GetGauge().GetValue(); got != want {
							t.Errorf("%s of %s: got %v, want %v", metric, limit, got, want)
						}
						return
					}
				}
			}
			t.Errorf("%s of %s: got none, want %v", metric, limit, want)
		}
		f("vigie_pipeline_limit_used", "active_series", 6)
		f("vigie_pipeline_limit", "active_series", 10)
		f("vigie_pipeline_limit_used", "stream_events_per_second", 5) // 10 in a window of 2 s
		f("vigie_pipeline_limit", "stream_events_per_second", 50)
		f("vigie_pipeline_limit_used", "open_windows", 6)
		f("vigie_pipeline_limit", "open_windows", 7)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n, err := testutil.GatherAndCount(reg, "vigie_pipeline_limit_used"); n != 0 || err != nil {
			t.Errorf("of a silent tenant: got %d metrics (%v), want none", n, err)
		}
	})
}
