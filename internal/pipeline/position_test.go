package pipeline_test

import (
	"context"
	"encoding/hex"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/pkg/events"
)

var topicID = [16]byte{0xab, 0xcd}

func origin(committed, first, end int64) pipeline.Origin {
	return pipeline.Origin{TopicID: topicID, Group: "vigie", Committed: committed, Start: first, End: end}
}

// numbered are records at offsets from up to before to.
func numbered(from, to int64) (records []pipeline.Record) {
	for offset := from; offset < to; offset++ {
		r := record("acme", event(start, "m", ""))
		r.Offset = offset
		records = append(records, r)
	}
	return records
}

// readTo is a log of a task that has read the partition up to next.
func readTo(t rapid.TB, next int64) stateLog {
	t.Helper()
	task, log := newTask(nil), stateLog{}
	if _, err := task.Begin(origin(-1, 0, next)); err != nil {
		t.Fatal(err)
	}
	step(task, start, numbered(next-1, next)...)
	log.append(drain(task, start).State)
	return log
}

func TestPositionGolden(t *testing.T) {
	got := ""
	for key, value := range readTo(t, 258) {
		if strings.HasPrefix(key, "\x03") {
			got = hex.EncodeToString([]byte(key)) + "=" + hex.EncodeToString([]byte(value))
		}
	}
	if want := "0301=01abcd00000000000000000000000000000201000000000000"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Where a task begins, given how far its results are and what the group says.
func TestBegin(t *testing.T) {
	f := func(next int64, o pipeline.Origin, seek int64, want string) {
		t.Helper()
		task := newTask(nil)
		if next > 0 {
			readTo(t, next).restore(t, task)
		}
		move, err := task.Begin(o)
		got := int64(-1)
		if move != nil {
			got = move.Offset
		}
		switch {
		case want == "" && (err != nil || got != seek):
			t.Errorf("read to %d, %+v: got %d, %v, want %d", next, o, got, err, seek)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("read to %d, %+v: got %v, want an error with %q", next, o, err, want)
		}
	}
	f(0, origin(-1, 0, 9), -1, "")
	f(0, origin(7, 0, 9), -1, "")
	f(7, origin(7, 0, 9), -1, "")
	// the group's offset expired, or the group was deleted
	f(7, origin(-1, 0, 9), 7, "")
	f(7, origin(-1, 0, 7), 7, "")
	f(7, origin(-1, 8, 9), -1, "") // everything since has been deleted
	f(7, origin(-1, 0, 3), -1, "offset -1 of group vigie in vigie.metrics.v1/4 is before 7")
	// set by an operator
	f(7, origin(3, 0, 9), -1, "is before 7, up to where the results are: reading from there would count records twice")
	f(7, origin(3, 0, 9), -1, "kafka-consumer-groups.sh --group vigie --reset-offsets --to-offset 7 --topic vigie.metrics.v1:4 --execute")
	f(7, origin(8, 0, 9), -1, "")
	f(7, origin(10, 0, 9), -1, "is behind the end of the log (9)")
	// committed by a worker, without the results of its epoch
	own := func(o pipeline.Origin) pipeline.Origin { o.Own = true; return o }
	f(7, own(origin(9, 0, 9)), 7, "")
	f(7, own(origin(7, 0, 9)), -1, "")
	f(7, own(origin(9, 8, 9)), -1, "") // and deleted since
	f(7, own(origin(3, 0, 9)), -1, "is before 7")
	// the log lost its end
	f(7, origin(7, 0, 5), -1, "")
	// a topic made anew
	other := origin(3, 0, 9)
	other.TopicID[0]++
	f(7, other, -1, "belongs to another topic vigie.metrics.v1 than is there now")
	f(7, own(other), -1, "belongs to another topic vigie.metrics.v1 than is there now") // in another cluster, or by an older version
	other.Committed = -1
	f(7, other, -1, "")
	// made anew in this cluster, and a member committed once more for the one before, or for one in between
	of := func(committed, first int64, id [16]byte) pipeline.Origin {
		o := own(origin(committed, first, 9))
		o.TopicID, o.Of = other.TopicID, id
		return o
	}
	f(7, of(7, 0, topicID), 0, "")
	f(7, of(7, 2, topicID), 2, "")
	f(7, of(0, 0, topicID), 0, "") // the next session knows it by the new id
	f(7, of(1, 0, [16]byte{9}), 0, "")
	f(7, of(2, 2, other.TopicID), -1, "")
	f(7, of(1, 2, other.TopicID), -1, "") // and deleted since
	f(7, of(3, 2, other.TopicID), 2, "")  // without the results of its epoch
	// of which nothing is known
	f(0, of(7, 0, topicID), 0, "")
	f(0, of(7, 0, other.TopicID), -1, "")
	// in a topic that is the one that was read, all is as it was
	f(7, func() pipeline.Origin { o := own(origin(9, 0, 9)); o.Of = topicID; return o }(), 7, "")
	// nothing is known of the topic
	f(7, pipeline.Origin{Committed: 3}, -1, "")
}

func TestPositionRefuses(t *testing.T) {
	f := func(want, key, value string) {
		t.Helper()
		if err := newTask(nil).Restore([]byte(key), []byte(value)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%x=%x: got %v, want an error with %q", key, value, err, want)
		}
	}
	f("got a name of 1 bytes", "\x03\x01x", "\x01"+strings.Repeat("\x00", 24))
	f("got 23 bytes, want 24", "\x03\x01", "\x01"+strings.Repeat("\x00", 23))
	f("got offset -1", "\x03\x01", "\x01"+strings.Repeat("\xff", 24))
}

// Through epochs that commit or abort, crashes, deleted records, markers and skips, the log says where the group is,
// and each offset is counted once: as read, skipped or deleted.
func TestPositionFollowsTheGroup(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const end = 200
		log, task := stateLog{}, (*pipeline.Task)(nil)
		group, first, polled := int64(-1), int64(0), int64(0)
		counted, markers := int64(0), int64(0) // of what is committed
		begin := func() {
			task = newTask(nil)
			log.restore(t, task)
			if move, err := task.Begin(origin(group, first, end)); err != nil || move != nil {
				t.Fatalf("group at %d: got %v, %v, want it to begin", group, move, err)
			}
			if polled = group; group < 0 {
				polled, counted = first, first
			}
		}
		begin()
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0: // retention
				first = min(first+rapid.Int64Range(0, 9).Draw(t, "deleted"), end)
			case 1: // a crash, after which an operator may set the offset forward
				if group >= 0 {
					group = min(group+rapid.Int64Range(0, 3).Draw(t, "skipped"), end)
				}
				begin()
			default:
				from := max(polled, first)
				to := min(from+rapid.Int64Range(1, 9).Draw(t, "records"), end)
				if from >= to {
					continue
				}
				task.Step(&pipeline.Chunk{Partition: at, Signal: events.Metrics, Records: numbered(from, to), LogStart: first},
					start.UnixMilli())
				marker := rapid.Int64Range(0, 1).Draw(t, "marker")
				polled = to + marker
				task.SetReach(pipeline.Reach{Partition: at, Signal: events.Metrics, Next: polled})
				out := drain(task, start)
				if rapid.IntRange(0, 3).Draw(t, "abort") == 0 {
					task.Forget()
					if polled = group; group < 0 {
						polled = counted
					}
					continue
				}
				task.Committed(false)
				log.append(out.State)
				group, markers = polled, markers+marker
				counted += int64(out.Tally.Records + out.Tally.Skipped + out.Tally.Deleted)
				if counted+markers != group {
					t.Fatalf("got %d offsets read, skipped or deleted and %d markers, want %d", counted, markers, group)
				}
			}
		}
	})
}

// A worker moves a group without an offset, stops a task whose offset went back, and refuses records that come again.
func TestWorkerKeepsItsPlace(t *testing.T) {
	s := &timedSession{assigned: []pipeline.Reach{reach(at, 0)}, sought: make(chan int64, 1)}
	log := readTo(t, 7)
	s.logOf = func(pipeline.Partition) stateLog { return log }
	group := int64(-1)
	s.origin = func(pipeline.Partition) pipeline.Origin { return origin(group, 0, 20) }
	reg := prometheus.NewRegistry()
	inBubble(t, s, func(c *pipeline.WorkerConfig) { c.Metrics = pipeline.NewMetrics(reg) }, func(t *testing.T, w *pipeline.Worker, _ context.CancelFunc) {
		if got := <-s.sought; got != 7 {
			t.Fatalf("got the group moved to %d, want 7", got)
		}
		again := reach(at, 0)
		begin := func(offset int64) {
			again.Assignment++
			group = offset
			s.polls <- pipeline.Fetch{Assigned: []pipeline.Reach{again}}
			time.Sleep(2 * time.Second)
			synctest.Wait()
		}
		begin(3)
		if got := taskOf(t, w, at); got.State != pipeline.TaskStopped ||
			!strings.Contains(got.Error, "would count records twice") {
			t.Errorf("got %+v, want it stopped", got)
		}
		begin(9)
		f := fetchOf(at, numbered(12, 14)...)
		f.Chunks[0].LogStart = 12
		s.polls <- f
		time.Sleep(2 * time.Second)
		synctest.Wait()
		lost := `
# HELP vigie_pipeline_lost_offsets_total Offsets that were never read, by reason: deleted (by the broker, before they were read), skipped (the group's offset was set beyond them). Markers of transactions and aborted records among them are counted too.
# TYPE vigie_pipeline_lost_offsets_total counter
vigie_pipeline_lost_offsets_total{reason="deleted",signal="metrics"} 3
vigie_pipeline_lost_offsets_total{reason="skipped",signal="metrics"} 2
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(lost), "vigie_pipeline_lost_offsets_total"); err != nil {
			t.Error(err)
		}
		s.polls <- fetchOf(at, numbered(13, 14)...)
		synctest.Wait()
		if top := w.Topology(); top.State != "waiting" ||
			!strings.Contains(top.Error, "offset 13 of vigie.metrics.v1/4 came again: the results are up to 14") {
			t.Errorf("got %+v, want it to refuse the record", top)
		}
		s.mu.Lock()
		s.origin = nil // the log of the next session is of no interest
		s.mu.Unlock()
		time.Sleep(time.Second)
	})
}
