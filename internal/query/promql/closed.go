package promql

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
	"github.com/vigie-io/vigie/pkg/windows"
)

// longest is how long the windows of each metric may be, ms. A shape that cannot be read has none.
func longest(metas []Meta) map[string]int64 {
	out := make(map[string]int64)
	for _, m := range metas {
		if m.Shape != "" {
			shape, _ := windows.ParseShape(m.Shape)
			out[m.Metric] = max(out[m.Metric], shape.Longest().Milliseconds())
		}
	}
	return out
}

// results turns the closed windows of one group into samples: each at the window's end, valid until the next window of
// its rule has ended, or for as long as a gauge when that is not known beforehand (sessions). Where none is there by
// then, the series is marked stale: nothing happened in the next window.
type results struct {
	reader  *reader
	members []member
	shapes  []windows.Shape
	last    []windows.Window // ms; the latest of each member
	built   [][]levels       // by member, as its targets; buckets have one each bound
	tops    []topSeries      // by member
	sketch  bool
	kept    Kept
	decoder decoder
	decoded *sketches.Sketch // of the window at hand
	counts  []float64
}

// topSeries are the series of one top: all, and those that the latest window has, by item.
type topSeries struct{ all, open map[string]*levels }

// closed reads closed windows.
func (r *reader) closed(ctx context.Context, kind kinds, members []member) error {
	b := &results{
		reader: r, members: members, shapes: make([]windows.Shape, len(members)),
		last: make([]windows.Window, len(members)), built: make([][]levels, len(members)),
		tops: make([]topSeries, len(members)),
	}
	q := WindowQuery{
		Metrics: metricsOf(members), IDs: make([]series.ID, len(members)), From: r.from, To: min(r.to, r.plan.closed),
	}
	bounded := true
	for i, m := range members {
		// A shape of a newer Vigie is taken for one that does not say when the next window ends.
		b.shapes[i], _ = windows.ParseShape(m.Shape)
		longest := b.shapes[i].Longest()
		q.IDs[i], q.Longest, bounded = m.ID, max(q.Longest, longest), bounded && longest > 0
		b.prepare(i, kind)
	}
	if !bounded {
		q.Longest = 0
	}
	q.Sketch, q.Kept = b.sketch, b.kept
	if q.From > q.To {
		return nil
	}
	at, rows := cursor{members: members}, 0
	err := r.service.store.Windows(ctx, r.plan.tenant, q, func(id series.ID, w *Closed) error {
		i, err := at.find(id)
		if err != nil {
			return fmt.Errorf("read windows of %q: %w", q.Metrics, err)
		}
		rows++
		return b.add(i, w)
	})
	r.service.metrics.panes.WithLabelValues("windows").Add(float64(rows))
	if err != nil {
		return err
	}
	b.finish()
	return nil
}

func (b *results) prepare(i int, kind kinds) {
	for _, t := range b.members[i].targets {
		for _, d := range derived {
			if d.facet == t.facet {
				b.kept |= d.kept
			}
		}
		switch {
		case t.facet == top:
			b.tops[i] = topSeries{map[string]*levels{}, map[string]*levels{}}
		case t.facet == bucket:
			b.sketch = true
			for range b.reader.bounds {
				b.built[i] = append(b.built[i], levels{})
			}
		case t.facet == whole && kind == kindClosedSketch:
			b.sketch = true
			b.built[i] = append(b.built[i], levels{hists: []*histogram.FloatHistogram{}})
		default:
			b.built[i] = append(b.built[i], levels{})
		}
	}
}

func (b *results) add(i int, w *Closed) error {
	if w.Count == 0 || w.End == b.last[i].End {
		// A rule that has changed may have windows of two sizes that end at one time: the longer came first.
		return nil
	}
	b.mark(i, w.End)
	weight, err := b.addTop(i, w)
	if err != nil {
		return err
	}
	b.last[i] = windows.Window{Start: w.Start, End: w.End}
	if b.sketch {
		var err error
		if b.decoded, err = b.decoder.decode(w.Sketch); err != nil {
			return err
		}
	}
	at := 0
	for _, t := range b.members[i].targets {
		if t.facet == top {
			continue
		}
		n, size, err := b.addTo(b.built[i][at:], t.facet, b.members[i].Kind, w)
		if err != nil {
			return err
		}
		at, weight = at+n, weight+size
	}
	return b.reader.plan.budget.take(weight)
}

// addTo gives one target what a window has for it. It returns how many of the levels are the target's, and the samples
// given.
func (b *results) addTo(dst []levels, f facet, kind events.Kind, w *Closed) (taken, weight int, err error) {
	switch {
	case f == bucket:
		b.counts = cumulate(b.counts[:0], b.decoded, bounds(b.reader.bounds))
		for j, n := range b.counts {
			dst[j].append(w.End, n, nil)
		}
		return len(b.counts), len(b.counts), nil
	case f == whole && dst[0].hists != nil:
		h := windowHistogram(b.decoded, w.Sum)
		h.CounterResetHint = histogram.GaugeType
		dst[0].append(w.End, 0, h)
		return 1, 1 + (h.Size()+8)/16, nil
	}
	value, there, err := valueOf(f, kind, w)
	if !there || err != nil {
		return 1, 0, err
	}
	dst[0].append(w.End, value, nil)
	return 1, 1, nil
}

// valueOf is one number of a window, when its rule keeps it.
func valueOf(f facet, kind events.Kind, w *Closed) (value float64, there bool, err error) {
	switch f {
	case count:
		return float64(w.Count), true, nil
	case least:
		return w.Min, true, nil
	case most:
		return w.Max, true, nil
	case perSecond:
		amount := w.Sum
		if kind == events.Observation {
			amount = float64(w.Count)
		}
		return amount * 1000 / float64(w.End-w.Start), true, nil
	case first:
		return w.First, w.First == w.First, nil
	case last:
		return w.Last, w.Last == w.Last, nil
	case distinct:
		return distinctOf(w)
	}
	return w.Sum, true, nil
}

func distinctOf(w *Closed) (value float64, there bool, err error) {
	if w.Kept&KeptDistinct == 0 {
		return 0, false, nil
	}
	var d sketches.Distinct
	if _, err := d.DecodeState(w.Distinct); err != nil {
		return 0, false, err
	}
	return d.Estimate(), true, nil
}

// addTop gives the items of a window to their series, and ends those that it has not.
func (b *results) addTop(i int, w *Closed) (weight int, err error) {
	s := b.tops[i]
	if s.all == nil {
		return 0, nil
	}
	open := make(map[string]*levels, len(w.Items))
	for j, item := range w.Items {
		if !matchesAll(b.reader.items, item) {
			continue
		}
		if s.all[item] == nil {
			s.all[item] = &levels{}
		}
		s.all[item].append(w.End, w.Counts[j], nil)
		open[item] = s.all[item]
		delete(s.open, item)
		weight++
	}
	for _, gone := range s.open {
		gone.mark(w.End+1, min(b.valid(i), w.End-b.last[i].End))
		weight++
	}
	b.tops[i].open = open
	return weight, nil
}

// mark ends the series of a member where its latest result stops to stand, when that is before t.
func (b *results) mark(i int, t int64) {
	if b.last[i] == (windows.Window{}) {
		return
	}
	valid := b.valid(i)
	for j := range b.built[i] {
		b.built[i][j].mark(t, valid)
	}
	for _, open := range b.tops[i].open {
		open.mark(t, valid)
	}
}

// valid is how long the latest result of a member stands, ms.
func (b *results) valid(i int) int64 {
	last := b.last[i]
	next, due := b.shapes[i].Next(windows.Window{Start: last.Start * int64(time.Millisecond),
		End: last.End * int64(time.Millisecond)})
	if !due {
		return b.reader.plan.valid
	}
	return next.End/int64(time.Millisecond) - last.End
}

func (b *results) finish() {
	for i, m := range b.members {
		if b.last[i] == (windows.Window{}) {
			continue
		}
		// Of a window that ends after closed it is not known that it is empty.
		b.mark(i, min(b.reader.to, b.reader.plan.closed)+1)
		at := 0
		for _, t := range m.targets {
			if t.facet == top {
				for item, one := range b.tops[i].all {
					one.labels = labels.NewBuilder(seriesLabels(t.name, m.Labels, "")).Set(topLabel, item).Labels()
					b.reader.list = append(b.reader.list, one)
				}
				continue
			}
			les := []le{{}}
			if t.facet == bucket {
				les = b.reader.bounds
			}
			for _, le := range les {
				one := b.built[i][at]
				one.labels = seriesLabels(t.name, m.Labels, le.le)
				b.reader.list = append(b.reader.list, &one)
				at++
			}
		}
	}
}
