package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/alerting"
	"github.com/vigie-io/vigie/pkg/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// timedSession is a session in the time of a synctest bubble: Poll waits for what the test sends.
type timedSession struct {
	mu       sync.Mutex // polls, commits, state and origin, where a test looks at them while the worker goes on
	polls    chan pipeline.Fetch
	assigned []pipeline.Reach
	commits  []timedCommit
	state    []pipeline.Message
	answer   func(n int) (bool, error) // to the n-th commit; nil = committed
	takes    time.Duration             // a commit, unless its context ends before
	closed   bool
	failing  atomic.Bool // Poll ends with an error

	shown    bool
	logOf    func(pipeline.Partition) stateLog        // to restore from; nil = nothing
	records  []pipeline.Record                        // and before that
	restore  func(p int32) error                      // before the log is read; nil = at once
	released chan struct{}                            // closed with the first release
	origin   func(pipeline.Partition) pipeline.Origin // nil = not known
	sought   chan int64                               // offsets of Seek

	encoder  *copyEncoder                                                                // for tests that read what they told
	unstored func(context.Context, []pipeline.Partition, func(pipeline.Partition)) error // nil: all is stored
}

type timedCommit struct {
	at       time.Duration // since start of the test
	messages []pipeline.Message
}

var errBroken = errors.New("broken")

func (s *timedSession) Poll(ctx context.Context) (pipeline.Fetch, error) {
	if !s.shown {
		s.shown = true
		return pipeline.Fetch{Assigned: s.assigned}, nil
	}
	s.mu.Lock()
	polls := s.polls
	s.mu.Unlock()
	select {
	case f, ok := <-polls:
		if len(f.Chunks) > 0 {
			<-s.released
		}
		if !ok {
			return f, errBroken
		}
		if f.Assigned != nil { // from now on
			s.assigned = f.Assigned
		}
		f.Assigned = s.assigned
		return f, nil
	case <-ctx.Done():
		if s.failing.Load() {
			return pipeline.Fetch{}, errBroken
		}
		return pipeline.Fetch{Assigned: s.assigned}, nil
	}
}

func (s *timedSession) Commit(ctx context.Context, messages []pipeline.Message) (bool, error) {
	if s.takes > 0 {
		_ = pause.For(ctx, s.takes)
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	commit := timedCommit{at: time.Since(bubbleStart)}
	s.mu.Lock()
	for _, m := range messages {
		if strings.HasPrefix(m.Topic, "vigie.state.") {
			s.state = append(s.state, m)
			continue
		}
		commit.messages = append(commit.messages, m)
	}
	s.commits = append(s.commits, commit)
	s.mu.Unlock()
	if s.answer != nil {
		return s.answer(len(s.commits))
	}
	return true, nil
}

func (s *timedSession) Restore(_ context.Context, p pipeline.Partition,
	apply func(*pipeline.Record) error) (pipeline.Origin, error) {
	if s.restore != nil {
		if err := s.restore(p.Partition); err != nil {
			return pipeline.Origin{}, err
		}
	}
	records := slices.Clone(s.records)
	if s.logOf != nil {
		log := s.logOf(p)
		for _, key := range slices.Sorted(maps.Keys(log)) {
			records = append(records, pipeline.Record{Offset: int64(len(records)), Key: []byte(key), Value: []byte(log[key])})
		}
	}
	for i := range records {
		if err := apply(&records[i]); err != nil {
			return pipeline.Origin{}, err
		}
	}
	s.mu.Lock()
	origin := s.origin
	s.mu.Unlock()
	if origin != nil {
		return origin(p), nil
	}
	return pipeline.Origin{}, nil
}

func (s *timedSession) Seek(_ context.Context, _ pipeline.Partition, to pipeline.Move) error {
	s.sought <- to.Offset
	return pipeline.ErrMoved
}

func (s *timedSession) Stored(ctx context.Context, sources []pipeline.Partition, stored func(pipeline.Partition)) error {
	if s.unstored != nil {
		return s.unstored(ctx, sources, stored)
	}
	for _, p := range sources {
		stored(p)
	}
	return nil
}

func (s *timedSession) Release(...pipeline.Reach) {
	select {
	case <-s.released:
	default:
		close(s.released)
	}
}

func (s *timedSession) ResultPartition() int32 { return 7 }

// bubbleStart is when every synctest bubble begins.
var bubbleStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// tables names the messages, but for what tenants are told of limits and dead letters.
func tables(messages []pipeline.Message) string {
	var out []string
	for i := range messages {
		if messages[i].Topic == "vigie.dlq.v1" {
			out = append(out, "letter")
			continue
		}
		if table := header(&messages[i], pipeline.HeaderTable); table != pipeline.TableLimits && table != pipeline.TableLetters {
			out = append(out, table)
		}
	}
	return strings.Join(out, " ")
}

func fetchOf(p pipeline.Partition, records ...pipeline.Record) pipeline.Fetch {
	return pipeline.Fetch{Chunks: []pipeline.Chunk{{Partition: p, Signal: events.Metrics, Records: records}}}
}

func reach(p pipeline.Partition, through int64) pipeline.Reach {
	return pipeline.Reach{Partition: p, Signal: events.Metrics, Through: through, Lag: 3}
}

// caughtUp is the reach of a partition that has been read to its end.
func caughtUp(p pipeline.Partition) pipeline.Reach {
	return pipeline.Reach{Partition: p, Signal: events.Metrics}
}

// inBubble runs a worker over s in fake time, while test acts; then ends it.
func inBubble(t *testing.T, s *timedSession, change func(*pipeline.WorkerConfig),
	test func(t *testing.T, w *pipeline.Worker, end context.CancelFunc)) {
	synctest.Test(t, func(t *testing.T) {
		s.polls = make(chan pipeline.Fetch)
		cfg := pipeline.WorkerConfig{
			Config: pipeline.DefaultConfig(), Slot: 2, Encoder: &copyEncoder{},
			Open: func(context.Context) (pipeline.Session, func(), error) {
				s.shown, s.released = false, make(chan struct{})
				return s, func() { s.closed = true }, nil
			},
		}
		if change != nil {
			change(&cfg)
		}
		w := pipeline.NewWorker(cfg)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		synctest.Wait()
		test(t, w, cancel)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("got error %v, want none", err)
		}
		if got := w.Topology().State; got != "stopped" || !s.closed {
			t.Errorf("got state %s, session closed %v; want stopped, true", got, s.closed)
		}
	})
}

// After an error of Poll nothing is committed, not at the end of the process either: records may have been polled that
// no task saw, and the commit would be beyond them.
func TestNoCommitAfterAPollThatFailed(t *testing.T) {
	s := &timedSession{assigned: []pipeline.Reach{reach(at, 0)}}
	commits := 0
	inBubble(t, s, nil, func(t *testing.T, _ *pipeline.Worker, end context.CancelFunc) {
		s.polls <- fetchOf(at, record("acme", event(bubbleStart, "m", "")))
		synctest.Wait()
		commits = len(s.commits)
		s.failing.Store(true)
		end()
	})
	if got := len(s.commits); got != commits {
		t.Errorf("got %d commits after the error, want none", got-commits)
	}
}

func TestEpochRhythm(t *testing.T) {
	s := &timedSession{assigned: []pipeline.Reach{reach(at, 123)}}
	inBubble(t, s, nil, func(t *testing.T, w *pipeline.Worker, _ context.CancelFunc) {
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		// Idle: a sign of life every second.
		if len(s.commits) != 2 || tables(s.commits[1].messages) != pipeline.TableProgress || s.commits[1].at != 2*time.Second {
			t.Fatalf("got %v, want progress after 1s and 2s", s.commits)
		}
		// The first records begin a short epoch, those after them one that ends 250 ms later, and progress is published
		// when its time has come.
		s.polls <- fetchOf(at, record("acme", event(time.Now(), "m", ""), "{"))
		time.Sleep(100 * time.Millisecond)
		s.polls <- fetchOf(at, record("acme", event(time.Now(), "m", "")))
		time.Sleep(300 * time.Millisecond)
		synctest.Wait()
		if c := s.commits[2]; c.at != 2515625*time.Microsecond || tables(c.messages) != "letter ingest_series ingest_panes" {
			t.Fatalf("got %s at %s, want the first epoch without progress at 2.515625s", tables(c.messages), c.at)
		}
		if c := s.commits[3]; c.at != 2850*time.Millisecond || tables(c.messages) != "ingest_panes" {
			t.Fatalf("got %s at %s, want the second epoch without progress at 2.85s", tables(c.messages), c.at)
		}
		s.polls <- fetchOf(at, record("acme", event(time.Now(), "m", "")))
		time.Sleep(time.Second)
		synctest.Wait()
		if c := s.commits[4]; c.at != 3150*time.Millisecond || tables(c.messages) != "ingest_panes ingest_progress" {
			t.Fatalf("got %s at %s, want rows before progress at 3.15s", tables(c.messages), c.at)
		}
		rollups := s.commits[4].messages[0]
		if rollups.Topic != "vigie.results.v1" || rollups.Partition != 7 ||
			header(&rollups, pipeline.HeaderFormat) != "native/1" ||
			header(&rollups, pipeline.HeaderRows) != "2" || header(&rollups, pipeline.HeaderCount) != "1" ||
			header(&rollups, pipeline.HeaderNewest) != fmt.Sprint(bubbleStart.Add(2900*time.Millisecond).UnixMilli()) {
			t.Errorf("got %+v, want the headers of a block of 2 rows", rollups)
		}
		top := w.Topology()
		if top.State != "running" || top.Slot != 2 || len(top.Tasks) != 1 || top.Tasks[0].Series != 1 || top.Tasks[0].Lag != 3 ||
			top.Tasks[0].Top[0].Tenant != "acme" {
			t.Errorf("got %+v, want the running task", top)
		}
	})
}

// Epochs of a backlog last up to epoch.backlog; one that has come beyond the end of what was there when it began, in
// any partition, is over at once; at the end, it lasts as long again. Over at once is one whose partition is taken
// away, or whose backlog does not come. Their rows go to all tiers at once, those of any other epoch to the finest.
func TestEpochsOfABacklog(t *testing.T) {
	other := pipeline.Partition{Topic: at.Topic, Partition: at.Partition + 1}
	reaches := func(next, lag int64, fresh int64) []pipeline.Reach {
		return []pipeline.Reach{
			{Partition: at, Signal: events.Metrics, Next: next, Lag: lag}, {Partition: other, Signal: events.Metrics, Next: fresh},
		}
	}
	s := &timedSession{assigned: reaches(0, 0, 5)}
	reg := prometheus.NewRegistry()
	inBubble(t, s, func(c *pipeline.WorkerConfig) { c.Metrics = pipeline.NewMetrics(reg) }, func(t *testing.T, _ *pipeline.Worker, _ context.CancelFunc) {
		next, told := int64(0), 0
		var rollups []bool // of each commit: for all tiers
		// step lets records come at offset next, of which there are lag more, and returns after 50 ms how long ago the
		// commits since then were.
		step := func(p pipeline.Partition, lag, fresh int64) (since []time.Duration) {
			next++
			f := fetchOf(p, record("acme", event(time.Now(), "m", "")))
			f.Assigned = reaches(next, lag, fresh)
			s.polls <- f
			time.Sleep(50 * time.Millisecond)
			synctest.Wait()
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, c := range s.commits[told:] {
				since = append(since, time.Since(bubbleStart)-c.at)
				rollups = append(rollups, strings.Contains(tables(c.messages), pipeline.TableRollups))
				if rollups[len(rollups)-1] == strings.Contains(tables(c.messages), pipeline.TablePanes) {
					t.Errorf("got %s, want rollups for one table", tables(c.messages))
				}
			}
			told = len(s.commits)
			return since
		}
		last := time.Now()
		f := func(why string, want time.Duration) {
			t.Helper()
			for len(step(at, 1_000_000, 5)) == 0 {
			}
			if got := time.Since(last); got < want || got > want+100*time.Millisecond {
				t.Errorf("%s: got a commit %s after the last, want %s", why, got, want)
			}
			last = time.Now()
		}
		f("the first epoch of a session", 50*time.Millisecond)
		f("after it", 5*time.Second)
		f("after that", 10*time.Second)
		f("as long as may be", 20*time.Second)
		f("and again", 20*time.Second)
		want := "# HELP vigie_pipeline_longer_epochs_total Committed epochs that went on beyond their length, as all their records were in the log before they began and more followed.\n" +
			"# TYPE vigie_pipeline_longer_epochs_total counter\nvigie_pipeline_longer_epochs_total 4\n"
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "vigie_pipeline_longer_epochs_total"); err != nil {
			t.Error(err)
		}
		gone := func(why string, of pipeline.Partition, jump, fresh int64) {
			t.Helper()
			for range 20 {
				if got := step(at, 1_000_000, 5); len(got) > 0 {
					t.Fatalf("%s: got commits %s ago, want none within a second", why, got)
				}
			}
			next += jump
			if got := step(of, 1_000_000, fresh); len(got) != 1 || got[0] != 50*time.Millisecond {
				t.Errorf("%s: got commits %s ago, want one at once", why, got)
			}
		}
		gone("a record that is fresh", other, 0, 6)
		gone("a record behind the end of what was there", at, 2_000_000, 6)
		step(at, 1_000_000, 6) // begins an epoch
		began, end := time.Now().Add(-50*time.Millisecond), next+1_000_000
		for time.Since(began) < 3*time.Second {
			step(at, 1_000_000, 6)
		}
		for next = end - 1; len(step(at, 0, 6)) == 0; next = end - 1 {
		}
		if got := time.Since(began); got < 6*time.Second || got > 6200*time.Millisecond {
			t.Errorf("a partition that was read to the end of what was there after 3s: got a commit after %s, want 6s", got)
		}
		for range 20 {
			step(at, 1_000_000, 6)
		}
		time.Sleep(400 * time.Millisecond)
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := len(s.commits) - told; n != 1 {
			t.Errorf("got %d commits after waiting for a backlog that does not come, want one", n)
		}
		if want := []bool{false, true, true, true, true, true, true, true}; !slices.Equal(rollups, want) {
			t.Errorf("rows for all tiers of each epoch: got %v, want %v", rollups, want)
		}
		if got := ends(t, reg); got != "backlog 4, caught_up 3, length 1, starved 1" {
			t.Errorf("got epochs that ended by %s, want backlog 4, caught_up 3, length 1, starved 1", got)
		}
	})
}

// While results wait to be stored, epochs of live records last half as long, up to what those of a backlog may, and twice as
// long as it takes to store one, up to epoch.max. They end when results no longer wait. Where alerts are declared, which do not wait for ClickHouse, they stay as they are.
func TestEpochsWhileResultsWait(t *testing.T) {
	type next func(why string, want time.Duration)
	f := func(why string, alerts []alerting.Alert, steps func(next, *atomic.Pointer[pipeline.Storing]), want string) {
		t.Run(why, func(t *testing.T) {
			s := &timedSession{assigned: []pipeline.Reach{reach(at, 0)}}
			reg := prometheus.NewRegistry()
			var storing atomic.Pointer[pipeline.Storing]
			storing.Store(&pipeline.Storing{})
			inBubble(t, s, func(c *pipeline.WorkerConfig) {
				c.Metrics, c.Storing = pipeline.NewMetrics(reg), func() pipeline.Storing { return *storing.Load() }
				c.Config.Alerts = alerts
			}, func(t *testing.T, _ *pipeline.Worker, _ context.CancelFunc) {
				const every = 30 * time.Millisecond
				offset, told, last := int64(0), 0, time.Duration(0)
				steps(func(why string, want time.Duration) {
					t.Helper()
					for len(s.commits) == told {
						offset++
						f := fetchOf(at, record("acme", event(time.Now(), "m", "")))
						f.Assigned = []pipeline.Reach{{Partition: at, Signal: events.Metrics, Next: offset}} // all of the log
						s.polls <- f
						time.Sleep(every)
						synctest.Wait()
					}
					at := s.commits[told].at
					if got := at - last; got < want || got > want+2*every {
						t.Errorf("%s: got a commit %s after the last, want %s", why, got, want)
					}
					told, last = told+1, at
				}, &storing)
				if got := ends(t, reg); got != want {
					t.Errorf("got epochs that ended by %s, want %s", got, want)
				}
			})
		})
	}
	f("live", nil, func(commit next, storing *atomic.Pointer[pipeline.Storing]) {
		commit("the first epoch of a session", 15*time.Millisecond)
		commit("results do not wait", 250*time.Millisecond)
		storing.Store(&pipeline.Storing{Waits: 4 * time.Second})
		commit("they wait for 4s", 2*time.Second)
		storing.Store(&pipeline.Storing{Waits: time.Hour})
		commit("they wait for an hour", 20*time.Second)
		time.AfterFunc(time.Second, func() { storing.Store(&pipeline.Storing{}) })
		commit("they wait no longer after a second", time.Second)
		storing.Store(&pipeline.Storing{Waits: 100 * time.Millisecond, Takes: 100 * time.Millisecond})
		commit("they take less than half of an epoch", 250*time.Millisecond)
		storing.Store(&pipeline.Storing{Waits: time.Second, Takes: time.Second})
		commit("they take a second", 2*time.Second)
		storing.Store(&pipeline.Storing{Takes: time.Hour})
		commit("they take an hour", 5*time.Second)
	}, "length 3, results 5")
	f("alerts", alertRules[:1], func(commit next, storing *atomic.Pointer[pipeline.Storing]) {
		storing.Store(&pipeline.Storing{Waits: time.Hour, Takes: time.Hour})
		commit("the first epoch of a session", 15*time.Millisecond)
		commit("alerts do not wait", 250*time.Millisecond)
	}, "length 2")
}

// ends is what ended epochs so far.
func ends(t *testing.T, reg prometheus.Gatherer) string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, family := range families {
		if family.GetName() != "vigie_pipeline_epoch_ends_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			if n := m.GetCounter().GetValue(); n > 0 {
				parts = append(parts, fmt.Sprintf("%s %v", m.GetLabel()[0].GetValue(), n))
			}
		}
	}
	return strings.Join(parts, ", ")
}

func TestShutdownCommitsTheEpochUnderWay(t *testing.T) {
	s := &timedSession{assigned: []pipeline.Reach{caughtUp(at)}}
	inBubble(t, s, nil, func(t *testing.T, _ *pipeline.Worker, end context.CancelFunc) {
		s.polls <- fetchOf(at, record("acme", event(time.Now(), "m", "")))
		end()
		synctest.Wait()
		if len(s.commits) != 1 || s.commits[0].at != 0 || tables(s.commits[0].messages) != "ingest_series ingest_panes" {
			t.Errorf("got %v, want one commit at once", s.commits)
		}
	})
}

// A commit that runs when the process is told to end has close_timeout to come through.
func TestShutdownDuringACommit(t *testing.T) {
	f := func(takes time.Duration, want int, wantEnd time.Duration) {
		t.Helper()
		s := &timedSession{assigned: []pipeline.Reach{reach(at, 0)}, takes: takes}
		inBubble(t, s, nil, func(t *testing.T, w *pipeline.Worker, end context.CancelFunc) {
			s.polls <- fetchOf(at, record("acme", event(bubbleStart, "m", "")))
			time.Sleep(500 * time.Millisecond) // the first epoch is short, and its commit under way
			end()
			began := time.Now()
			for w.Topology().State != "stopped" {
				time.Sleep(10 * time.Millisecond)
			}
			if took := time.Since(began); took > wantEnd {
				t.Errorf("got an end after %s, want at most %s", took, wantEnd)
			}
		})
		if got := len(s.commits); got != want {
			t.Errorf("takes %s: got %d commits at the end, want %d", takes, got, want)
		}
	}
	f(time.Second, 1, 600*time.Millisecond)
	f(time.Minute, 0, 3100*time.Millisecond) // given up: the records come again
}

// A partition that is taken away ends the epoch at once, with its rows in it; then its task is gone.
func TestRevokedPartition(t *testing.T) {
	other := pipeline.Partition{Topic: at.Topic, Partition: 5}
	s := &timedSession{assigned: []pipeline.Reach{reach(at, 0), reach(other, 0)}}
	inBubble(t, s, nil, func(t *testing.T, w *pipeline.Worker, _ context.CancelFunc) {
		s.polls <- fetchOf(at, record("acme", event(time.Now(), "m", "")))
		f := fetchOf(other, record("acme", event(time.Now(), "m", "")))
		f.Assigned = []pipeline.Reach{reach(other, 0)}
		s.polls <- f
		synctest.Wait()
		if len(s.commits) != 1 || header(&s.commits[0].messages[1], pipeline.HeaderCount) != "2" || s.commits[0].at != 0 {
			t.Fatalf("got %v, want one commit of both tasks at once", s.commits)
		}
		if top := w.Topology(); len(top.Tasks) != 1 || top.Tasks[0].Partition != 5 {
			t.Errorf("got tasks %+v, want the other only", top.Tasks)
		}
	})
}

// A task whose partition is gone when its epoch has been aborted says nothing any more, not even how far it had come:
// the new owner's word on that may stand in the log already.
func TestTakenAwayWhenAborted(t *testing.T) {
	other := pipeline.Partition{Topic: at.Topic, Partition: 5}
	s := &timedSession{assigned: []pipeline.Reach{reach(at, 0), reach(other, 0)}}
	s.origin = func(pipeline.Partition) pipeline.Origin { return pipeline.Origin{TopicID: [16]byte{1}, Group: "g"} }
	s.answer = func(n int) (bool, error) { return n > 1, nil }
	inBubble(t, s, nil, func(t *testing.T, _ *pipeline.Worker, _ context.CancelFunc) {
		s.polls <- fetchOf(at, record("acme", event(time.Now(), "m", "")))
		time.Sleep(300 * time.Millisecond)
		synctest.Wait()
		s.mu.Lock()
		aborted := len(s.state)
		s.mu.Unlock()
		f := fetchOf(other, record("acme", event(time.Now(), "m", "")))
		f.Assigned = []pipeline.Reach{reach(other, 0)}
		s.polls <- f
		time.Sleep(2 * time.Second)
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		said := map[int32]int{}
		for _, m := range s.state[aborted:] {
			said[m.Partition]++
		}
		if len(s.commits) < 2 || said[other.Partition] == 0 || said[at.Partition] > 0 {
			t.Errorf("got %d commits, and after the first was aborted state of partitions %v, want of %d only",
				len(s.commits), said, other.Partition)
		}
	})
}

func TestAbortedEpochIsForgotten(t *testing.T) {
	s := &timedSession{assigned: []pipeline.Reach{reach(at, 0)}}
	s.answer = func(n int) (bool, error) { return n > 1, nil }
	reg := prometheus.NewRegistry()
	inBubble(t, s, func(c *pipeline.WorkerConfig) { c.Metrics = pipeline.NewMetrics(reg) }, func(t *testing.T, _ *pipeline.Worker, _ context.CancelFunc) {
		s.polls <- fetchOf(at, record("acme", event(time.Now(), "m", ""), "{"))
		time.Sleep(300 * time.Millisecond)
		s.polls <- fetchOf(at, record("acme", event(time.Now(), "m", ""), "{"))
		time.Sleep(300 * time.Millisecond)
		synctest.Wait()
		if len(s.commits) != 2 || tables(s.commits[1].messages) != "letter ingest_series ingest_panes" ||
			header(&s.commits[1].messages[2], pipeline.HeaderCount) != "1" {
			t.Fatalf("got %v, want the same epoch again", s.commits)
		}
		// What was counted of the aborted epoch is not counted twice.
		want := `
# HELP vigie_pipeline_epochs_total Epochs by outcome: committed, aborted (to be done again), failed (the worker started anew).
# TYPE vigie_pipeline_epochs_total counter
vigie_pipeline_epochs_total{outcome="aborted"} 1
vigie_pipeline_epochs_total{outcome="committed"} 1
vigie_pipeline_epochs_total{outcome="failed"} 0
# HELP vigie_pipeline_refused_events_total Events, or records refused whole, that were dead-lettered.
# TYPE vigie_pipeline_refused_events_total counter
vigie_pipeline_refused_events_total{reason="bad_json",signal="metrics",tenant="acme"} 1
# HELP vigie_pipeline_active_series Active series of the tenants with the most; tenant _other is the sum of the others.
# TYPE vigie_pipeline_active_series gauge
vigie_pipeline_active_series{tenant="_other"} 0
vigie_pipeline_active_series{tenant="acme"} 1
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "vigie_pipeline_epochs_total",
			"vigie_pipeline_refused_events_total", "vigie_pipeline_active_series"); err != nil {
			t.Error(err)
		}
	})
}

func TestFatalErrorsStartAnewWithBackoff(t *testing.T) {
	s := &timedSession{assigned: []pipeline.Reach{reach(at, 0)}}
	var fail, refuse atomic.Bool
	fail.Store(true)
	opened := make(chan time.Duration, 10)
	times := func() (out []time.Duration) {
		for len(opened) > 0 {
			out = append(out, <-opened)
		}
		return out
	}
	s.answer = func(int) (bool, error) {
		if refuse.Load() {
			return false, errBroken
		}
		return true, nil
	}
	inBubble(t, s, func(c *pipeline.WorkerConfig) {
		open := c.Open
		c.Open = func(ctx context.Context) (pipeline.Session, func(), error) {
			opened <- time.Since(bubbleStart)
			if fail.Load() {
				return nil, nil, errBroken
			}
			return open(ctx)
		}
	}, func(t *testing.T, w *pipeline.Worker, _ context.CancelFunc) {
		time.Sleep(time.Second)
		synctest.Wait()
		if got, want := times(), []time.Duration{0, 250e6, 750e6}; !reflect.DeepEqual(got, want) {
			t.Fatalf("got sessions opened at %v, want %v", got, want)
		}
		if top := w.Topology(); top.State != "waiting" || !strings.Contains(top.Error, "broken") {
			t.Errorf("got %+v, want it to wait and say why", top)
		}
		fail.Store(false)
		time.Sleep(time.Second) // opened at 1.75 s
		s.polls <- fetchOf(at, record("acme", event(time.Now(), "m", "")))
		time.Sleep(time.Second)
		synctest.Wait()
		// The commit fails: what was polled comes again in the next session, soon because the last did progress.
		refuse.Store(true)
		times()
		s.polls <- fetchOf(at, record("acme", event(time.Now(), "m", "")))
		time.Sleep(time.Second)
		synctest.Wait()
		if got := times(); len(got) != 1 {
			t.Fatalf("got sessions opened at %v, want one new session", got)
		}
		refuse.Store(false)
		before := len(s.commits)
		s.polls <- fetchOf(at, record("acme", event(time.Now(), "m", "")))
		time.Sleep(time.Second)
		synctest.Wait()
		if len(s.commits) == before || tables(s.commits[before].messages) != "ingest_series ingest_panes" {
			t.Errorf("got %v, want the series announced in the new session", s.commits)
		}
	})
}

func TestFullEpochEndsEarlyInSeveralBlocks(t *testing.T) {
	s := &timedSession{assigned: []pipeline.Reach{caughtUp(at)}}
	reg := prometheus.NewRegistry()
	inBubble(t, s, func(c *pipeline.WorkerConfig) {
		c.Metrics, c.Config.BlockRows, c.Config.Epoch.MaxBytes = pipeline.NewMetrics(reg), 10, 1000
	}, func(t *testing.T, _ *pipeline.Worker, _ context.CancelFunc) {
		var values []string
		for i := range 12 {
			values = append(values, event(time.Now(), "m", fmt.Sprintf(`"i":"%d"`, i)))
		}
		s.polls <- fetchOf(at, record("acme", values...))
		synctest.Wait()
		if len(s.commits) != 1 || s.commits[0].at != 0 ||
			tables(s.commits[0].messages) != "ingest_series ingest_series ingest_panes ingest_panes" {
			t.Fatalf("got %v, want two blocks of each at once", s.commits)
		}
		if m := s.commits[0].messages; header(&m[0], pipeline.HeaderRows) != "10" || header(&m[3], pipeline.HeaderRows) != "3" {
			t.Errorf("got %s and %s rows, want 10 and 3", header(&m[0], pipeline.HeaderRows), header(&m[3], pipeline.HeaderRows))
		}
		s.polls <- fetchOf(at, record("acme", event(time.Now(), "m", "")))
		time.Sleep(time.Second)
		synctest.Wait()
		if got := ends(t, reg); got != "bytes 1, length 1" {
			t.Errorf("got epochs that ended by %s, want bytes 1, length 1", got)
		}
	})
}

func TestConfig(t *testing.T) {
	cfg := pipeline.DefaultConfig()
	if err := cfg.Validate(); err != nil {
		t.Errorf("default: got %v, want it valid", err)
	}
	f := func(want string, change func(*pipeline.Config)) {
		t.Helper()
		cfg := pipeline.DefaultConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want an error about %s", err, want)
		}
	}
	f("results_topic", func(c *pipeline.Config) { c.ResultsTopic = "" })
	f("dlq_topic", func(c *pipeline.Config) { c.DLQTopic = c.ResultsTopic })
	f("max_past 0s", func(c *pipeline.Config) { c.MaxPast = 0 })
	f("epoch.max 1ms: want at least epoch.min (250ms)", func(c *pipeline.Config) { c.Epoch.Max = time.Millisecond })
	f("block_rows", func(c *pipeline.Config) { c.BlockRows = 0 })
	f("epoch.backlog -1s", func(c *pipeline.Config) { c.Epoch.Backlog = -time.Second })
	f("epoch.max_bytes 1B", func(c *pipeline.Config) { c.Epoch.MaxBytes = 1 })
	f("block_bytes 1B", func(c *pipeline.Config) { c.BlockBytes = 1 })
}
