package pipeline_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vigie-io/vigie/internal/pipeline"
)

var other = pipeline.Partition{Topic: at.Topic, Partition: 5}

func taskOf(t *testing.T, w *pipeline.Worker, p pipeline.Partition) pipeline.TaskTopology {
	t.Helper()
	for _, task := range w.Topology().Tasks {
		if task.Partition == p.Partition {
			return task
		}
	}
	t.Fatalf("got tasks %+v, want one of partition %d", w.Topology().Tasks, p.Partition)
	return pipeline.TaskTopology{}
}

// A damaged record stops its task and no other; it is tried again, and a repair is taken up.
func TestStoppedTask(t *testing.T) {
	s := &timedSession{assigned: []pipeline.Reach{reach(at, 0), reach(other, 0)}}
	damaged := stateLog{"\x01\x01acme": "\x09", "\x07\x01x": "\x01"}
	var mu sync.Mutex
	var repaired bool
	var tried []time.Duration
	s.logOf = func(p pipeline.Partition) stateLog {
		if p == at {
			mu.Lock()
			defer mu.Unlock()
			if tried = append(tried, time.Since(bubbleStart)); !repaired {
				return damaged
			}
		}
		return nil
	}
	reg := prometheus.NewRegistry()
	inBubble(t, s, func(c *pipeline.WorkerConfig) { c.Metrics = pipeline.NewMetrics(reg) }, func(t *testing.T, w *pipeline.Worker, _ context.CancelFunc) {
		s.polls <- fetchOf(other, record("acme", event(time.Now(), "m", "")))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := taskOf(t, w, other); got.State != pipeline.TaskRunning || got.Series != 1 || len(s.state) != 2 {
			t.Errorf("got %+v and %d changes of state, want the other task to go on", got, len(s.state))
		}
		want := "restore vigie.state.metrics.v1/4@0 (2 such keys): state value of kind 1 has version 9"
		if got := taskOf(t, w, at); got.State != pipeline.TaskStopped || !strings.Contains(got.Error, want) ||
			!strings.Contains(got.Error, "write a tombstone") {
			t.Errorf("got %+v, want it stopped with %q", got, want)
		}
		states := `
# HELP vigie_pipeline_task_states Partitions that workers own by state of their task: running, restoring (it reads its state), stopped (its state cannot be restored; /topology says why).
# TYPE vigie_pipeline_task_states gauge
vigie_pipeline_task_states{state="restoring"} 0
vigie_pipeline_task_states{state="running"} 1
vigie_pipeline_task_states{state="stopped"} 1
# HELP vigie_pipeline_restores_total Readings of a task's state by outcome: restored, stopped (it cannot be restored, and the task waits).
# TYPE vigie_pipeline_restores_total counter
vigie_pipeline_restores_total{outcome="restored"} 1
vigie_pipeline_restores_total{outcome="stopped"} 1
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(states), "vigie_pipeline_task_states",
			"vigie_pipeline_restores_total"); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		mu.Lock()
		repaired = true
		mu.Unlock()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := taskOf(t, w, at); got.State != pipeline.TaskRunning {
			t.Errorf("got %+v, want it to run after the repair", got)
		}
		if want := []time.Duration{0, 5 * time.Second, 15 * time.Second}; !slices.EqualFunc(tried, want, func(a, b time.Duration) bool { return a >= b && a < b+2*time.Second }) {
			t.Errorf("got tries at %v, want about %v", tried, want)
		}
	})
}

// A later record of the same key makes a damaged one good.
func TestDamageIsCured(t *testing.T) {
	s := &timedSession{assigned: []pipeline.Reach{reach(at, 0)}}
	s.records = []pipeline.Record{
		{Offset: 3, Key: []byte("\x01\x01acme"), Value: []byte("\x09")},
		{Offset: 4, Key: []byte("\x01\x01acme"), Value: nil},
	}
	inBubble(t, s, nil, func(t *testing.T, w *pipeline.Worker, _ context.CancelFunc) {
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := taskOf(t, w, at); got.State != pipeline.TaskRunning {
			t.Errorf("got %+v, want it to run", got)
		}
	})
}

// Others go on while a task reads its state; events older than what it restored do not move the watermark.
func TestOthersGoOnWhileOneRestores(t *testing.T) {
	s := &timedSession{assigned: []pipeline.Reach{reach(at, 0), reach(other, 0)}}
	before := stateLog{}
	task := newTask(nil)
	step(task, bubbleStart, record("acme", event(bubbleStart.Add(time.Minute), "m", "")))
	before.append(drain(task, bubbleStart).State)
	s.logOf = func(p pipeline.Partition) stateLog {
		if p == at {
			time.Sleep(30 * time.Second)
			return before
		}
		return nil
	}
	inBubble(t, s, nil, func(t *testing.T, w *pipeline.Worker, _ context.CancelFunc) {
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := taskOf(t, w, at); got.State != pipeline.TaskRestoring {
			t.Errorf("got %+v, want it restoring", got)
		}
		s.polls <- fetchOf(other, record("acme", event(time.Now(), "m", "")))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(s.state) != 2 || s.state[0].Partition != other.Partition {
			t.Fatalf("got %v, want the state of the other task", s.state)
		}
		time.Sleep(30 * time.Second)
		s.polls <- fetchOf(at, record("acme", event(time.Now(), "m", "")))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		got := taskOf(t, w, at)
		if got.State != pipeline.TaskRunning || got.StateKeys != 2 || got.Series != 1 {
			t.Errorf("got %+v, want it to run", got)
		}
		if want := bubbleStart.Add(55 * time.Second).UnixMilli(); got.Top[0].Watermark != want || len(s.state) != 3 {
			t.Errorf("got watermark %d and state %v, want the restored %d to stand, and the rate alone to change",
				got.Top[0].Watermark, s.state, want)
		}
	})
}

// A partition that goes away while its state is read is forgotten; one that comes back is restored again.
func TestAssignmentsWhileRestoring(t *testing.T) {
	s := &timedSession{assigned: []pipeline.Reach{reach(at, 0)}}
	var read []time.Duration
	s.logOf = func(pipeline.Partition) stateLog {
		read = append(read, time.Since(bubbleStart).Truncate(time.Second))
		time.Sleep(10 * time.Second)
		return nil
	}
	inBubble(t, s, nil, func(t *testing.T, w *pipeline.Worker, _ context.CancelFunc) {
		time.Sleep(3 * time.Second)
		s.polls <- pipeline.Fetch{Assigned: []pipeline.Reach{}}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := w.Topology().Tasks; len(got) != 0 {
			t.Errorf("got tasks %+v, want none", got)
		}
		again := reach(at, 0)
		again.Assignment = 7
		s.polls <- pipeline.Fetch{Assigned: []pipeline.Reach{again}}
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if got := taskOf(t, w, at); got.State != pipeline.TaskRunning {
			t.Errorf("got %+v, want it to run", got)
		}
		again.Assignment = 8 // went and came back between two polls
		s.polls <- pipeline.Fetch{Assigned: []pipeline.Reach{again}}
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if want := []time.Duration{0, 5 * time.Second, 20 * time.Second}; !slices.Equal(read, want) {
			t.Errorf("got state read at %v, want %v", read, want)
		}
	})
}

// A log that cannot be read stops the task with what the session says.
func TestUnreadableState(t *testing.T) {
	s := &timedSession{assigned: []pipeline.Reach{reach(at, 0)}}
	s.restore = func(int32) error { return errors.New("topic is not there") }
	inBubble(t, s, nil, func(t *testing.T, w *pipeline.Worker, _ context.CancelFunc) {
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := taskOf(t, w, at); got.State != pipeline.TaskStopped || got.Error != "topic is not there" {
			t.Errorf("got %+v, want it stopped", got)
		}
	})
}
