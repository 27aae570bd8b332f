package pipeline_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// told lists the partitions that the commits from a time on tell of.
func told(s *timedSession, from time.Duration) map[int32]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[int32]bool{}
	for _, c := range s.commits {
		for i := range c.messages {
			if c.at >= from && header(&c.messages[i], pipeline.HeaderTable) == pipeline.TableProgress {
				rows := s.encoder.read(c.messages[i].Value).progress
				for _, p := range rows.Partition {
					out[p] = true
				}
			}
		}
	}
	return out
}

// A partition's progress, and that of its tenants, waits for what its last owner left; rows, and the progress of other
// partitions, do not.
func TestProgressWaitsForTheLastOwnersResults(t *testing.T) {
	other := pipeline.Partition{Topic: at.Topic, Partition: 5}
	var free chan struct{} // of the bubble
	s := &timedSession{assigned: []pipeline.Reach{reach(at, 100), reach(other, 100)}, encoder: &copyEncoder{}}
	s.unstored = func(ctx context.Context, _ []pipeline.Partition, stored func(pipeline.Partition)) error {
		stored(other)
		select {
		case <-free:
			stored(at)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	change := func(c *pipeline.WorkerConfig) { c.Encoder, free = s.encoder, make(chan struct{}) }
	inBubble(t, s, change, func(t *testing.T, _ *pipeline.Worker, _ context.CancelFunc) {
		s.polls <- fetchOf(at, record("acme", event(time.Now(), "m", "")))
		time.Sleep(5500 * time.Millisecond)
		synctest.Wait()
		if tables(s.commits[0].messages) != "ingest_series ingest_panes" {
			t.Fatalf("got %s, want the rows at once", tables(s.commits[0].messages))
		}
		if got := told(s, 0); got[at.Partition] || !got[other.Partition] {
			t.Fatalf("got progress of %v, want of partition 5 only", got)
		}
		close(free)
		time.Sleep(time.Second)
		synctest.Wait()
		last := s.commits[len(s.commits)-1]
		rows := s.encoder.read(last.messages[len(last.messages)-1].Value).progress
		if got := rows.Tenant; len(got) != 3 || got[0] != "" || got[1] != "acme" || got[2] != "" {
			t.Errorf("got progress of %v of %v, want the partition, its tenant, and the other partition", got, rows.Partition)
		}
	})
}

// A partition that comes back has had another owner meanwhile.
func TestProgressWaitsAgainAfterEachAssignment(t *testing.T) {
	again := reach(at, 100)
	again.Assignment++
	s := &timedSession{assigned: []pipeline.Reach{reach(at, 100)}, encoder: &copyEncoder{}}
	calls := 0
	s.unstored = func(ctx context.Context, sources []pipeline.Partition, stored func(pipeline.Partition)) error {
		if calls++; calls == 1 {
			stored(sources[0])
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}
	reg := prometheus.NewRegistry()
	change := func(c *pipeline.WorkerConfig) {
		c.Encoder, c.Metrics, c.Config.ProgressHold = s.encoder, pipeline.NewMetrics(reg), time.Minute
	}
	inBubble(t, s, change, func(t *testing.T, _ *pipeline.Worker, _ context.CancelFunc) {
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if !told(s, 0)[at.Partition] {
			t.Fatalf("got %v, want progress after a second", s.commits)
		}
		s.polls <- pipeline.Fetch{Assigned: []pipeline.Reach{}}
		s.polls <- pipeline.Fetch{Assigned: []pipeline.Reach{again}}
		from := time.Since(bubbleStart)
		time.Sleep(50 * time.Second)
		synctest.Wait()
		if got := told(s, from); len(got) > 0 {
			t.Fatalf("got progress of %v, want none of the new assignment", got)
		}
		wantCount(t, reg, "vigie_pipeline_progress_held_partitions", 1)
		// What never comes is given up, and counted.
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if !told(s, from)[at.Partition] {
			t.Error("got no progress, want it after progress_hold")
		}
		wantCount(t, reg, "vigie_pipeline_progress_held_partitions", 0)
		wantCount(t, reg, "vigie_pipeline_progress_unsettled_total", 1)
	})
}

func wantCount(t *testing.T, reg *prometheus.Registry, name string, want float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			m := family.GetMetric()[0]
			if got := m.GetCounter().GetValue() + m.GetGauge().GetValue(); got != want {
				t.Errorf("%s: got %v, want %v", name, got, want)
			}
			return
		}
	}
	t.Errorf("%s: got no such metric", name)
}
