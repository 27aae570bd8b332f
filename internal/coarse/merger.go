package coarse

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// minuteSeconds is the width of a merged row. It is part of the storage format.
const minuteSeconds = 60

// Bounds of a block. Smaller ones cost ClickHouse more: 2 MiB instead of 8 a sixth, in a backlog.
const (
	blockRows = 50_000
	// BlockBytes is what a block takes at most, about: its last row may pass it.
	BlockBytes = 8 << 20
)

// Rows are rows of panes as they were read.
type Rows struct {
	pipeline.Rollups
	Ends []int // where each row's state ends in Sketch
}

// Merger adds up rows of panes to rows of a minute: counts and sums add, the least and the greatest stand, of levels the
// last, and sketches merge. The same rows in the same order give the same rows, bit for bit. The zero value is empty and
// ready. One goroutine uses it.
type Merger struct {
	words  map[string]string // that names have
	groups map[group]uint32
	names  []group
	rows   map[key]uint32
	list   []row
	kept   keptStates
	pages  []*[pageSketches]sketches.Sketch
	used   int // sketches
	merged sketches.Sketch
	bytes  int // but those of kept
}

// group is what many rows have in common.
type group struct {
	tenant, metric, service string
	grain                   pipeline.Grain
}

func (g *group) compare(other *group) int {
	return cmp.Or(cmp.Compare(g.tenant, other.tenant), cmp.Compare(g.metric, other.metric),
		cmp.Compare(g.service, other.service), cmp.Compare(g.grain, other.grain))
}

type key struct {
	id            series.ID
	group, minute uint32
}

// row is a merged row.
type row struct {
	key
	count         uint64
	sum, min, max float64
	lastTime      int64
	last          float64
	lastHist      string
	states        uint8 // that are kept of it
	state         int32 // the last of these
	sketch        int32 // number of it; none as long as its states are kept
}

const (
	none = -1
	// mostStates of a row are kept as they came, and merged when it is written, all in the memory of one sketch. Rows
	// that hardly merge, as in a backlog, need no sketch of their own, which takes more than a few states.
	mostStates   = 2
	pageSketches = 256
	rowBytes     = int(unsafe.Sizeof(row{})+unsafe.Sizeof(key{})) + 16 // with its place in the map
)

// emptyState is the state of no values.
var emptyState = new(sketches.Sketch).AppendDD(nil)

// Add merges rows of panes, whose states are valid, as a decoder has found. After an error, which says that they are
// not, the merger holds a part of them. It keeps nothing of rows.
func (m *Merger) Add(rows *Rows) error {
	if m.rows == nil {
		m.words, m.groups, m.rows = map[string]string{}, map[group]uint32{}, map[key]uint32{}
	}
	var of uint32
	begin := 0
	for i, end := range rows.Ends {
		if i == 0 || !sameGroup(rows, i-1, i) {
			of = m.group(group{rows.Tenant[i], rows.Metric[i], rows.Service[i], rows.Grain[i]})
		}
		r := m.row(key{rows.Series[i], of, rows.Pane[i] - rows.Pane[i]%minuteSeconds})
		hist := len(r.lastHist)
		r.merge(rows, i)
		m.bytes += len(r.lastHist) - hist
		if err := m.mergeState(r, rows.Sketch[begin:end]); err != nil {
			return fmt.Errorf("sketch of row %d of %d: %w", i, len(rows.Ends), err)
		}
		begin = end
	}
	return nil
}

func sameGroup(rows *Rows, a, b int) bool {
	return rows.Grain[a] == rows.Grain[b] && rows.Service[a] == rows.Service[b] && rows.Metric[a] == rows.Metric[b] &&
		rows.Tenant[a] == rows.Tenant[b]
}

func (m *Merger) group(g group) uint32 {
	number, known := m.groups[g]
	if !known {
		number = uint32(len(m.names))
		g = group{m.word(g.tenant), m.word(g.metric), m.word(g.service), g.grain}
		m.groups[g] = number
		m.names = append(m.names, g)
		m.bytes += 2 * int(unsafe.Sizeof(g))
	}
	return number
}

// word is the merger's own copy of a text.
func (m *Merger) word(text string) string {
	if own, known := m.words[text]; known {
		return own
	}
	own := strings.Clone(text)
	m.words[own] = own
	m.bytes += 2*int(unsafe.Sizeof(own)) + len(own)
	return own
}

func (m *Merger) row(k key) *row {
	at, known := m.rows[k]
	if !known {
		at = uint32(len(m.list))
		m.rows[k] = at
		m.list = append(m.list, row{key: k, min: math.Inf(1), max: math.Inf(-1), state: none, sketch: none})
		m.bytes += rowBytes
	}
	return &m.list[at]
}

func (r *row) merge(rows *Rows, i int) {
	r.count += rows.Count[i]
	r.sum += rows.Sum[i]
	r.min, r.max = min(r.min, rows.Min[i]), max(r.max, rows.Max[i])
	r.takeLevel(rows.LastTime[i], rows.Last[i], rows.LastHist[i])
}

// mergeState takes a state of a row.
func (m *Merger) mergeState(r *row, state []byte) error {
	switch {
	case bytes.Equal(state, emptyState):
		return nil
	case r.sketch != none:
		return m.grow(r.sketch, state)
	case r.states < mostStates:
		r.state = m.kept.add(state, r.state)
		r.states++
		return nil
	}
	r.sketch = m.newSketch()
	for kept := range m.kept.all(r.state) {
		if err := m.grow(r.sketch, kept); err != nil {
			return err
		}
	}
	return m.grow(r.sketch, state)
}

// grow merges a state into a sketch.
func (m *Merger) grow(sketch int32, state []byte) error {
	s := m.sketch(sketch)
	before := s.Bytes()
	err := mergeAll(s, state)
	m.bytes += s.Bytes() - before
	return err
}

// mergeAll merges bytes that are one state.
func mergeAll(s *sketches.Sketch, state []byte) error {
	n, err := s.MergeDD(state)
	if err == nil && n != len(state) {
		err = fmt.Errorf("BUG: a state of %d bytes is said to have %d", n, len(state))
	}
	return err
}

// takeLevel keeps the greater of two levels, as ClickHouse compares tuples: by time, then value, then histogram.
func (r *row) takeLevel(at int64, value float64, hist string) {
	if cmp.Or(cmp.Compare(at, r.lastTime), cmp.Compare(value, r.last), cmp.Compare(hist, r.lastHist)) > 0 {
		r.lastTime, r.last, r.lastHist = at, value, strings.Clone(hist)
	}
}

// newSketch returns the number of an empty sketch. Pages do not move.
func (m *Merger) newSketch() int32 {
	if m.used == len(m.pages)*pageSketches {
		m.pages = append(m.pages, new([pageSketches]sketches.Sketch))
	}
	n := m.used
	m.used++
	m.bytes += m.sketch(int32(n)).Bytes()
	return int32(n)
}

func (m *Merger) sketch(n int32) *sketches.Sketch { return &m.pages[n/pageSketches][n%pageSketches] }

// Rows is how many rows there are.
func (m *Merger) Rows() int { return len(m.list) }

// Bytes is what they take in memory, about.
func (m *Merger) Bytes() int { return m.bytes + m.kept.bytes() }

// blocks are what rows are written into, by all mergers: they are large, and needed for a moment.
var blocks = sync.Pool{New: func() any { return new(pipeline.Rollups) }}

// Blocks calls fn for all rows, in blocks, sorted by tenant, metric, service, grain, series and minute. A block is valid
// during the call.
func (m *Merger) Blocks(fn func(*pipeline.Rollups) error) error {
	m.sort()
	block := blocks.Get().(*pipeline.Rollups)
	defer func() {
		block.Reset()
		blocks.Put(block)
	}()
	size := 0 // of what is not in block.Sketch
	for i := range m.list {
		n, err := m.addTo(block, &m.list[i])
		if err != nil {
			return err
		}
		size += n
		if len(block.Grain) < blockRows && len(block.Sketch)+size < BlockBytes {
			continue
		}
		if err := fn(block); err != nil {
			return err
		}
		block.Reset()
		size = 0
	}
	if len(block.Grain) == 0 {
		return nil
	}
	return fn(block)
}

func (m *Merger) sort() {
	order := make([]uint32, len(m.names))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int { return m.names[a].compare(&m.names[b]) })
	rank := make([]uint32, len(order))
	for at, number := range order {
		rank[number] = uint32(at)
	}
	slices.SortFunc(m.list, func(a, b row) int {
		return cmp.Or(cmp.Compare(rank[a.group], rank[b.group]), a.id.Compare(b.id), cmp.Compare(a.minute, b.minute))
	})
	clear(m.rows) // it does not hold any more
}

// addTo appends a row, and returns what it takes beside its sketch, at most about.
func (m *Merger) addTo(block *pipeline.Rollups, r *row) (int, error) {
	g := &m.names[r.group]
	block.Grain = append(block.Grain, g.grain)
	block.Tenant, block.Metric, block.Service = append(block.Tenant, g.tenant), append(block.Metric, g.metric), append(block.Service, g.service)
	block.Series, block.Pane = append(block.Series, r.id), append(block.Pane, r.minute)
	block.Count, block.Sum = append(block.Count, r.count), append(block.Sum, r.sum)
	block.Min, block.Max = append(block.Min, r.min), append(block.Max, r.max)
	block.LastTime, block.Last, block.LastHist = append(block.LastTime, r.lastTime), append(block.Last, r.last), append(block.LastHist, r.lastHist)
	var err error
	block.Sketch, err = m.appendState(block.Sketch, r)
	return rowBytes + len(r.lastHist) + len(g.tenant) + len(g.metric) + len(g.service), err
}

func (m *Merger) appendState(dst []byte, r *row) ([]byte, error) {
	switch {
	case r.sketch != none:
		return m.sketch(r.sketch).AppendDD(dst), nil
	case r.states == 0:
		return append(dst, emptyState...), nil
	case r.states == 1:
		return append(dst, m.kept.get(r.state)...), nil
	}
	m.merged.Reset()
	for state := range m.kept.all(r.state) {
		if err := mergeAll(&m.merged, state); err != nil {
			return dst, err
		}
	}
	return m.merged.AppendDD(dst), nil
}

// Reset empties the merger. It keeps the memory of as many rows as there were.
func (m *Merger) Reset() {
	for i := range m.used {
		m.sketch(int32(i)).Reset()
	}
	m.pages = m.pages[:(m.used+pageSketches-1)/pageSketches]
	m.kept.reset()
	clear(m.words)
	clear(m.groups)
	clear(m.names)
	clear(m.rows)
	clear(m.list)
	m.names, m.list, m.used, m.bytes = m.names[:0], m.list[:0], 0, 0
}
