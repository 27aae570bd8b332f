package promql

import (
	"context"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/storage"

	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// windows reads delta series: sketches or sums.
func (r *reader) windows(ctx context.Context, kind kinds, members []member) error {
	from := source{metrics: metricsOf(members), members: members}
	if r.fold != nil {
		if groups, of, ok := r.fold.groups(members); ok {
			from = source{metrics: from.metrics, members: groups, ids: idsOf(members), groups: of}
			r.trace.Pushdown = r.fold.String()
			r.trace.Groups += len(groups) - len(members)
		}
	}
	return r.windowsOf(ctx, kind, from)
}

func (r *reader) windowsOf(ctx context.Context, kind kinds, from source) error {
	horizon := max(r.service.cfg.ActivityHorizon.Milliseconds(), r.tier.millis())
	// Was a series active shortly before the range, it reads as zero from the start. At 10 s, a minute's
	// resolution is enough to know; wider windows are few enough to read along with a short range.
	probe, extra := r.tier == Tier10s || r.hints.Range >= horizon, int64(0)
	if !probe {
		extra = horizon
	}
	grid := r.grid(extra)
	if len(grid.segments) == 0 {
		return nil
	}
	grid.fill = max(horizon, r.hints.Range)

	b := newWindowBuilder(r, grid, kind, from.members)
	read := func(s segment) error { return r.panes(ctx, from, s, b.query, b.add) }
	if r.steps != nil && !r.quantiles() && from.ids == nil && from.services == nil {
		read = func(s segment) error { return r.paneColumns(ctx, from, s, b.query, b.addColumn) }
	}
	for _, s := range grid.segments {
		if err := read(s); err != nil {
			return err
		}
	}
	if probe {
		if err := r.probe(ctx, b, from, horizon); err != nil {
			return err
		}
	}
	return r.emit(b.build()...)
}

// probe looks before the grid, for the members whose activity does not begin with it.
func (r *reader) probe(ctx context.Context, b *windowBuilder, from source, horizon int64) error {
	start := b.grid.from()
	late := from.those(func(i int) bool { return len(b.starts[i]) == 0 || b.starts[i][0] != start })
	if len(late.members) == 0 {
		return nil
	}
	places := make(map[series.ID]int, len(from.members))
	for i := range from.members {
		places[from.members[i].ID] = i
	}
	tier := max(r.tier, Tier1m)
	return r.panes(ctx, late, segment{tier, start - ceil(horizon, tier.millis()), start}, PaneQuery{}, func(i int, p *Pane) error {
		b.prior[places[late.members[i].ID]] = p.Start + tier.millis()
		return nil
	})
}

// windowBuilder turns panes into the series of every facet asked for.
type windowBuilder struct {
	reader  *reader
	grid    *grid
	kind    kinds
	members []member
	prior   []int64
	starts  [][]int64
	facets  [][]column // by member, as its targets
	windows int        // about how many there are at most
	query   PaneQuery  // what they need of a pane
	decoder decoder
	decoded *sketches.Sketch // of the pane at hand
	counts  []float64
}

// column is the values of one facet of one series; buckets has one list per bound.
type column struct {
	values  []float64
	hists   []*histogram.FloatHistogram
	buckets [][]float64
	counts  *bucketCounts // in place of hists
}

func newWindowBuilder(r *reader, grid *grid, kind kinds, members []member) *windowBuilder {
	b := &windowBuilder{
		reader: r, grid: grid, kind: kind, members: members,
		prior:  make([]int64, len(members)),
		starts: make([][]int64, len(members)),
		facets: make([][]column, len(members)),

		windows: int((grid.to()-grid.from())/grid.width(grid.from())) + 1,
	}
	for i, m := range members {
		b.prior[i] = never
		b.facets[i] = make([]column, len(m.targets))
		for j, t := range m.targets {
			if t.facet == bucket {
				b.facets[i][j].buckets = make([][]float64, len(r.bounds))
			}
			if t.facet == whole && r.quantiles() {
				b.facets[i][j].counts = &bucketCounts{windows: b.windows}
			}
			sketched := kind == kindSketch && (t.facet == whole || t.facet == bucket)
			b.query.Sketch = b.query.Sketch || sketched
			b.query.Count = b.query.Count || t.facet == count
			b.query.Sum = b.query.Sum || t.facet == sum || t.facet == whole
		}
	}
	return b
}

func (b *windowBuilder) add(i int, p *Pane) error {
	if b.query.Sketch && !b.reader.quantiles() {
		var err error
		if b.decoded, err = b.decoder.decode(p.Sketch); err != nil {
			return err
		}
	}
	weight := 0
	b.reserve(i)
	for j, t := range b.members[i].targets {
		c := &b.facets[i][j]
		switch {
		case t.facet == bucket:
			b.addBuckets(c, p)
			weight += len(c.buckets)
		case t.facet == count:
			c.values = append(c.values, float64(p.Count))
			weight++
		case t.facet == sum || b.kind == kindDelta:
			c.values = append(c.values, p.Sum)
			weight++
		case c.counts != nil:
			n, err := c.counts.add(p.Sketch)
			if err != nil {
				return err
			}
			c.values = append(c.values, p.Sum)
			weight += 1 + n // a count takes less than a sample
		default:
			h := windowHistogram(b.decoded, p.Sum)
			c.hists = append(c.hists, h)
			weight += (h.Size() + 8) / 16
		}
	}
	b.starts[i] = append(b.starts[i], p.Start)
	return b.reader.take(weight)
}

// addColumn is add for panes of which all targets want the one number.
func (b *windowBuilder) addColumn(i int, c *PaneColumn) error {
	b.reserve(i)
	b.starts[i] = append(b.starts[i], c.Starts...)
	for j := range b.facets[i] {
		of := &b.facets[i][j]
		of.values = append(of.values, c.Values...)
	}
	return b.reader.take(len(c.Starts) * len(b.facets[i]))
}

// reserve has room for all windows of a member that is evaluated as it is read: as many as inTurns counts on.
func (b *windowBuilder) reserve(i int) {
	if b.starts[i] != nil || b.reader.steps == nil {
		return
	}
	b.starts[i] = make([]int64, 0, b.windows)
	for j := range b.facets[i] {
		b.facets[i][j].values = make([]float64, 0, b.windows)
	}
}

func (b *windowBuilder) addBuckets(c *column, p *Pane) {
	b.counts = cumulate(b.counts[:0], b.decoded, bounds(b.reader.bounds))
	for k, n := range b.counts {
		c.buckets[k] = append(c.buckets[k], n)
	}
}

// build leaves out what reads as nothing in the whole grid.
func (b *windowBuilder) build() (list []storage.Series) {
	for i, m := range b.members {
		alive := b.prior[i] != never && b.grid.from() < b.prior[i]+b.grid.fill
		if len(b.starts[i]) == 0 && !alive {
			continue
		}
		for j, t := range m.targets {
			c := b.facets[i][j]
			one := deltas{grid: b.grid, prior: b.prior[i], starts: b.starts[i], values: c.values, hists: c.hists, counts: c.counts}
			if t.facet == bucket {
				for k, le := range b.reader.bounds {
					each := one
					each.labels, each.values = seriesLabels(t.name, m.Labels, le.le), c.buckets[k]
					list = append(list, &each)
				}
				continue
			}
			if t.facet == whole && b.kind == kindSketch && one.hists == nil && one.counts == nil {
				one.hists = []*histogram.FloatHistogram{}
			}
			one.labels = seriesLabels(t.name, m.Labels, "")
			list = append(list, &one)
		}
	}
	return list
}
