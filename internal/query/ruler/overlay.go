package ruler

import (
	"context"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// overlay shows the rules of a tenant what was recorded lately, before it has come back from the database: rules of a
// group build on each other at the same time of evaluation. Safe for concurrent use.
type overlay struct {
	keep int64 // ms

	mu     sync.Mutex
	series map[string]*recent
	newest int64
}

type recent struct {
	labels labels.Labels
	points []chunks.Sample // times ascend
}

func newOverlay(keep int64) *overlay { return &overlay{keep: keep, series: map[string]*recent{}} }

// put adds a sample, or replaces that of the same time when an evaluation is repeated.
func (o *overlay) put(ls labels.Labels, p point) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := string(ls.Bytes(nil))
	s := o.series[key]
	if s == nil {
		s = &recent{labels: ls}
		o.series[key] = s
	}
	at, found := slices.BinarySearchFunc(s.points, p.t, func(have chunks.Sample, t int64) int { return int(have.T() - t) })
	if found {
		s.points[at] = p
	} else {
		s.points = slices.Insert(s.points, at, chunks.Sample(p))
	}
	if p.t > o.newest {
		o.newest = p.t
		o.expire()
	}
}

// drop takes the sample of a time out again.
func (o *overlay) drop(ls labels.Labels, t int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s := o.series[string(ls.Bytes(nil))]; s != nil {
		s.points = slices.DeleteFunc(slices.Clone(s.points), func(p chunks.Sample) bool { return p.T() == t }) // readers hold the old ones
	}
}

func (o *overlay) expire() {
	for key, s := range o.series {
		old := 0
		for old < len(s.points) && s.points[old].T() < o.newest-o.keep {
			old++
		}
		if old == len(s.points) {
			delete(o.series, key)
		} else if old > 0 {
			s.points = slices.Clone(s.points[old:]) // readers hold the old ones
		}
	}
}

func (o *overlay) read(from, to int64, matchers []*labels.Matcher) (out []storage.Series) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.series {
		if !matches(s.labels, matchers) {
			continue
		}
		var points []chunks.Sample
		for _, p := range s.points {
			if from <= p.T() && p.T() <= to {
				points = append(points, p)
			}
		}
		if len(points) > 0 {
			out = append(out, storage.NewListSeries(s.labels, points))
		}
	}
	return out
}

// covers tells whether a selector meets something of it.
func (o *overlay) covers(matchers []*labels.Matcher) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.series {
		if matches(s.labels, matchers) {
			return true
		}
	}
	return false
}

func matches(ls labels.Labels, matchers []*labels.Matcher) bool {
	return !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(ls.Get(m.Name)) })
}

// over reads the database with the overlay above it.
type over struct {
	storage.Queryable
	overlay *overlay
}

func (o over) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := o.Queryable.Querier(mint, maxt)
	return &overQuerier{q, o.overlay, mint, maxt}, err
}

type overQuerier struct {
	storage.Querier
	overlay    *overlay
	mint, maxt int64
}

func (q *overQuerier) Select(ctx context.Context, ordered bool, hints *storage.SelectHints,
	matchers ...*labels.Matcher) storage.SeriesSet {
	below := q.Querier.Select(ctx, ordered, hints, matchers...)
	from, to := q.mint, q.maxt
	if hints != nil {
		from, to = hints.Start, hints.End
	}
	above := q.overlay.read(from, to, matchers)
	if len(above) == 0 {
		return below
	}
	return &merged{below: below, above: above}
}

// merged is a series set with some series laid over it. It reads when it is first asked, as the one below does.
type merged struct {
	below  storage.SeriesSet
	above  []storage.Series
	series []storage.Series
	at     int
	read   bool
}

func (m *merged) Next() bool {
	if !m.read {
		m.read, m.at = true, -1
		m.merge()
	}
	m.at++
	return m.below.Err() == nil && m.at < len(m.series)
}

func (m *merged) merge() {
	left := map[string]storage.Series{}
	for _, s := range m.above {
		left[string(s.Labels().Bytes(nil))] = s
	}
	for m.below.Next() {
		s := m.below.At()
		key := string(s.Labels().Bytes(nil))
		if newer, found := left[key]; found {
			delete(left, key)
			s = storage.ChainedSeriesMerge(newer, s)
		}
		m.series = append(m.series, s)
	}
	for _, s := range left {
		m.series = append(m.series, s)
	}
	slices.SortFunc(m.series, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
}

func (m *merged) At() storage.Series                { return m.series[m.at] }
func (m *merged) Err() error                        { return m.below.Err() }
func (m *merged) Warnings() annotations.Annotations { return m.below.Warnings() }

// point is a sample.
type point struct {
	t int64
	f float64
	h *histogram.FloatHistogram
}

func (p point) T() int64                      { return p.t }
func (p point) ST() int64                     { return 0 }
func (p point) F() float64                    { return p.f }
func (p point) H() *histogram.Histogram       { return nil }
func (p point) FH() *histogram.FloatHistogram { return p.h }
func (p point) Copy() chunks.Sample           { return p }

func (p point) Type() chunkenc.ValueType {
	if p.h != nil {
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}
