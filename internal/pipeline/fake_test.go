package pipeline_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// block is what copyEncoder writes: rows under a number, in place of their bytes.
type block struct {
	rollups  pipeline.Rollups
	series   pipeline.SeriesRows
	progress pipeline.ProgressRows
	windows  windowed.Rows
	limits   pipeline.LimitRows
	letters  []pipeline.LetterRow
}

// copyEncoder keeps copies of rows, so that a test can read them where ClickHouse would.
type copyEncoder struct {
	mu     sync.Mutex
	blocks []block
	fail   error
}

func (e *copyEncoder) add(dst []byte, b block) ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.blocks = append(e.blocks, b)
	return strconv.AppendInt(dst, int64(len(e.blocks)-1), 10), e.fail
}

func (e *copyEncoder) EncodeRollups(dst []byte, r *pipeline.Rollups) ([]byte, error) {
	return e.add(dst, block{rollups: copyRollups(r)})
}

func (e *copyEncoder) EncodeSeries(dst []byte, r *pipeline.SeriesRows) ([]byte, error) {
	return e.add(dst, block{series: copySeries(r)})
}

func (e *copyEncoder) EncodeWindows(dst []byte, r *windowed.Rows) ([]byte, error) {
	return e.add(dst, block{windows: *r}) // Outputs makes each anew
}

func (e *copyEncoder) EncodeLimits(dst []byte, r *pipeline.LimitRows) ([]byte, error) {
	return e.add(dst, block{limits: *r}) // Outputs makes each anew
}

func (e *copyEncoder) EncodeLetters(dst []byte, rows []pipeline.LetterRow) ([]byte, error) {
	return e.add(dst, block{letters: rows}) // Outputs makes each anew
}

func (e *copyEncoder) EncodeProgress(dst []byte, r *pipeline.ProgressRows) ([]byte, error) {
	return e.add(dst, block{progress: pipeline.ProgressRows{
		Topic: clone(r.Topic), Partition: clone(r.Partition), Tenant: clone(r.Tenant),
		Time: clone(r.Time), Updated: clone(r.Updated),
	}})
}

func (e *copyEncoder) read(value []byte) *block {
	n, err := strconv.Atoi(string(value))
	if err != nil {
		panic(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return &e.blocks[n]
}

func clone[T any](s []T) []T { return append([]T(nil), s...) }

func copyRollups(r *pipeline.Rollups) pipeline.Rollups {
	return pipeline.Rollups{
		Grain: clone(r.Grain), Tenant: clone(r.Tenant), Metric: clone(r.Metric),
		Service: clone(r.Service), Series: clone(r.Series),
		Pane: clone(r.Pane), Count: clone(r.Count), Sum: clone(r.Sum), Min: clone(r.Min), Max: clone(r.Max),
		LastTime: clone(r.LastTime), Last: clone(r.Last), LastHist: clone(r.LastHist), Sketch: clone(r.Sketch),
	}
}

func copySeries(r *pipeline.SeriesRows) pipeline.SeriesRows {
	return pipeline.SeriesRows{
		Tenant: clone(r.Tenant), Metric: clone(r.Metric), Service: clone(r.Service), ID: clone(r.ID), Kind: clone(r.Kind),
		Native: clone(r.Native), Unit: clone(r.Unit), Help: clone(r.Help), Labels: clone(r.Labels), LastSeen: clone(r.LastSeen),
	}
}

// cell is one merged row of storage.
type cell struct {
	count    uint64
	sum      float64
	min, max float64
	lastTime int64
	last     float64
	lastHist string
	sketch   sketches.Sketch
}

type cellKey struct {
	grain           pipeline.Grain
	tenant          string
	metric, service string
	id              series.ID
	pane            uint32
}

func (c *cell) String() string {
	return fmt.Sprintf("count %d sum %v min %v max %v last %v@%d %d bytes, sketch %x",
		c.count, c.sum, c.min, c.max, c.last, c.lastTime, len(c.lastHist), c.sketch.AppendDD(nil))
}

// store merges rows as ClickHouse does.
type store struct {
	cells     map[cellKey]*cell
	announced map[string]map[series.ID]series.Labels // by tenant
	series    int                                    // announcements
	progress  pipeline.ProgressRows
	letters   []pipeline.Message
}

func newStore() *store {
	return &store{cells: map[cellKey]*cell{}, announced: map[string]map[series.ID]series.Labels{}}
}

func (s *store) rollups(r *pipeline.Rollups) {
	state := r.Sketch
	for i := range r.Grain {
		key := cellKey{r.Grain[i], r.Tenant[i], r.Metric[i], r.Service[i], r.Series[i], r.Pane[i]}
		c := s.cells[key]
		if c == nil {
			c = &cell{min: r.Min[i], max: r.Max[i]}
			s.cells[key] = c
		}
		c.count += r.Count[i]
		c.sum += r.Sum[i]
		c.min, c.max = min(c.min, r.Min[i]), max(c.max, r.Max[i])
		c.level(r.LastTime[i], r.Last[i], r.LastHist[i])
		var sketch sketches.Sketch
		n, err := sketch.DecodeDD(state)
		if err != nil {
			panic(err)
		}
		c.sketch.Merge(&sketch)
		state = state[n:]
	}
	if len(state) > 0 {
		panic("sketch bytes left over")
	}
}

func (c *cell) level(t int64, v float64, hist string) {
	if t > c.lastTime || t == c.lastTime && (v > c.last || v == c.last && hist > c.lastHist) {
		c.lastTime, c.last, c.lastHist = t, v, hist
	}
}

func (s *store) announce(r *pipeline.SeriesRows) {
	for i := range r.ID {
		of := s.announced[r.Tenant[i]]
		if of == nil {
			of = map[series.ID]series.Labels{}
			s.announced[r.Tenant[i]] = of
		}
		of[r.ID[i]] = r.Labels[i]
		s.series++
	}
}

// fakeLog is a source and a result log of the partitions of one worker. Poll never waits: it moves the clock.
type fakeLog struct {
	parts  []*fakePartition
	store  *store
	enc    *copyEncoder
	clock  *fakeClock
	take   func(most int) int // how many records the next chunk gets
	abort  func() bool
	broken func() error // of Commit
	done   context.CancelFunc

	commits, aborts int
	messages        []pipeline.Message // of the last commit
	opened, closed  int

	mu       sync.Mutex
	shown    bool
	released chan struct{} // closed when all partitions are
	stored   chan struct{} // closed when Stored has returned
	state    map[pipeline.Partition]stateLog
	restored int
}

type fakePartition struct {
	pipeline.Partition
	signal            events.Signal
	records           []pipeline.Record
	polled, committed int
	revoked           bool
	numbered          bool // offsets are indexes
}

type fakeClock struct {
	mu sync.Mutex
	at time.Time
}

func (c *fakeClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *fakeClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func (l *fakeLog) open(context.Context) (pipeline.Session, func(), error) {
	l.opened++
	l.rewind()
	l.shown, l.restored, l.released, l.stored = false, 0, make(chan struct{}), make(chan struct{})
	return l, func() { l.closed++ }, nil
}

func (l *fakeLog) rewind() {
	for _, p := range l.parts {
		p.polled = p.committed
	}
}

func (l *fakeLog) ResultPartition() int32 { return 7 }

func (l *fakeLog) Poll(ctx context.Context) (pipeline.Fetch, error) {
	if l.shown {
		select {
		case <-l.released:
		case <-ctx.Done():
		}
		select {
		case <-l.stored:
		case <-ctx.Done():
		}
	}
	l.clock.add(50 * time.Millisecond)
	var f pipeline.Fetch
	left := 0
	for _, p := range l.parts {
		if p.revoked {
			continue
		}
		if n := min(l.most(len(p.records)-p.polled), len(p.records)-p.polled); n > 0 {
			f.Chunks = append(f.Chunks,
				pipeline.Chunk{Partition: p.Partition, Signal: p.signal, Unread: unread(p.records[p.polled : p.polled+n])})
			p.polled += n
		}
		through := int64(0)
		if p.polled == len(p.records) {
			through = l.clock.now().UnixMilli()
		}
		left += len(p.records) - p.committed
		f.Assigned = append(f.Assigned, pipeline.Reach{
			Partition: p.Partition, Signal: p.signal, Lag: int64(len(p.records) - p.polled), Through: through,
		})
	}
	l.shown = true
	if left == 0 {
		l.done()
	}
	return f, nil
}

// most is how many records of a partition come, none before it is released.
func (l *fakeLog) most(left int) int {
	if !l.shown {
		return 0
	}
	return l.take(left)
}

func (l *fakeLog) Restore(_ context.Context, p pipeline.Partition, apply func(*pipeline.Record) error) (pipeline.Origin, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(l.state[p])) {
		if err := apply(&pipeline.Record{Key: []byte(key), Value: []byte(l.state[p][key])}); err != nil {
			return pipeline.Origin{}, err
		}
	}
	return l.origin(p), nil
}

// origin is that of the partition's records, whose offsets are their indexes where the test numbers them.
func (l *fakeLog) origin(p pipeline.Partition) pipeline.Origin {
	for _, part := range l.parts {
		if part.Partition == p && part.numbered {
			return pipeline.Origin{TopicID: [16]byte{1}, Committed: int64(part.committed), End: int64(len(part.records))}
		}
	}
	return pipeline.Origin{}
}

func (l *fakeLog) Seek(context.Context, pipeline.Partition, pipeline.Move) error {
	return pipeline.ErrMoved
}

func (l *fakeLog) Release(reaches ...pipeline.Reach) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.restored += len(reaches); l.restored == len(l.parts) {
		close(l.released)
	}
}

// Stored has nothing to wait for. Poll waits for it, so that what is told when does not depend on the scheduler.
func (l *fakeLog) Stored(_ context.Context, sources []pipeline.Partition, stored func(pipeline.Partition)) error {
	for _, p := range sources {
		stored(p)
	}
	close(l.stored)
	return nil
}

func (l *fakeLog) Commit(_ context.Context, messages []pipeline.Message) (bool, error) {
	if l.broken != nil {
		if err := l.broken(); err != nil {
			return false, err
		}
	}
	l.clock.add(time.Millisecond)
	if l.abort() {
		l.aborts++
		l.rewind()
		return false, nil
	}
	l.commits++
	l.messages = l.messages[:0]
	for i := range messages {
		m := &messages[i]
		l.messages = append(l.messages, *m)
		if strings.HasPrefix(m.Topic, "vigie.state.") {
			if l.state == nil {
				l.state = map[pipeline.Partition]stateLog{}
			}
			source := pipeline.Partition{Topic: "vigie." + strings.TrimPrefix(m.Topic, "vigie.state."), Partition: m.Partition}
			if l.state[source] == nil {
				l.state[source] = stateLog{}
			}
			l.state[source].append([]pipeline.Message{*m})
			continue
		}
		if m.Topic == "vigie.dlq.v1" {
			l.store.letters = append(l.store.letters, *m)
			continue
		}
		b := l.enc.read(m.Value)
		l.store.announce(&b.series)
		l.store.rollups(&b.rollups)
		p := &l.store.progress
		p.Topic, p.Partition = append(p.Topic, b.progress.Topic...), append(p.Partition, b.progress.Partition...)
		p.Tenant, p.Time = append(p.Tenant, b.progress.Tenant...), append(p.Time, b.progress.Time...)
		p.Updated = append(p.Updated, b.progress.Updated...)
	}
	for _, p := range l.parts {
		p.committed = p.polled
	}
	return true, nil
}

func header(m *pipeline.Message, key string) string {
	for _, h := range m.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return "<none>"
}
