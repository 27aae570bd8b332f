package promql

import (
	"context"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Others than our own engine know no start timestamps: to them a window on its own looks like a counter that resets all
// the time. They are given totals instead, which begin with what they asked for.

type cumulativeKey struct{}

// asTotals has selectors under ctx give totals in the place of windows.
func asTotals(ctx context.Context) context.Context {
	return context.WithValue(ctx, cumulativeKey{}, true)
}

func wantsTotals(ctx context.Context) bool { return ctx.Value(cumulativeKey{}) != nil }

// totals replaces windows by what was counted since the first of them. A sample of zero where that begins makes the
// first window count, too.
func totals(list []storage.Series) {
	for i, s := range list {
		if d, ok := s.(*deltas); ok {
			list[i] = d.total()
		}
	}
}

func (s *deltas) total() *levels {
	t := &levels{labels: s.labels}
	if s.hists != nil {
		t.hists = []*histogram.FloatHistogram{}
	}
	it, _ := s.Iterator(nil).(*windowIterator)
	var (
		sum  float64
		hist = empty.Copy()
	)
	hist.CounterResetHint = histogram.UnknownCounterReset
	for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
		if value.IsStaleNaN(it.f) || it.h == staleHistogram {
			t.append(it.t, it.f, it.h)
			continue
		}
		if begin := it.t - s.grid.width(it.t-1); len(t.times) == 0 && begin >= s.grid.from() {
			t.append(begin, 0, copied(hist, s.hists != nil))
		}
		if sum += it.f; it.h != nil {
			added := it.h.Copy()
			added.CounterResetHint = histogram.UnknownCounterReset
			if _, _, _, err := hist.Add(added); err != nil {
				panic("BUG: windows have one schema: " + err.Error())
			}
		}
		t.append(it.t, sum, copied(hist, s.hists != nil))
	}
	return t
}

func copied(h *histogram.FloatHistogram, wanted bool) *histogram.FloatHistogram {
	if !wanted {
		return nil
	}
	return h.Copy().Compact(0)
}
