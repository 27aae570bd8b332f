package promql

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"

	"github.com/vigie-io/vigie/pkg/series"
)

// twins say of each member which other has the same labels, of which one is a gauge and one a cumulative total; −1 for
// none. PromQL knows no kinds, and a sender that corrects the type of a metric goes on with its series, so they are
// one, by time.
type twins []int

// unmarked is a validity by which no pause ends a series.
const unmarked = math.MaxInt64 / 2

// twinsOf finds them among levels; nil when there are none.
func twinsOf(members []member) twins {
	kinds := false
	for i := range members {
		kinds = kinds || members[i].Kind != members[0].Kind
	}
	if !kinds {
		return nil
	}
	var key []byte
	found, any := make(twins, len(members)), false
	first := make(map[string]int, len(members))
	for i := range members {
		key = series.AppendKey(key[:0], 0, members[i].Metric, members[i].Labels)
		j, known := first[string(key)]
		if found[i] = -1; !known {
			first[string(key)] = i
			continue
		}
		found[i], found[j], any = j, i, true
	}
	if !any {
		return nil
	}
	return found
}

// has tells whether a member is one of two.
func (tw twins) has(i int) bool { return tw != nil && tw[i] >= 0 }

// join puts the samples of both into the first; the second has none then. Of two at one time the first counts, unless
// it says that the series has ended. valid is how long a sample of the time t is.
func (tw twins) join(built []levels, valid func(t int64) int64) {
	for first, second := range tw {
		if second <= first {
			continue
		}
		a, b := &built[first], &built[second]
		out := levels{}
		if a.hists != nil || b.hists != nil {
			out.hists = []*histogram.FloatHistogram{}
		}
		for i, j := 0, 0; i < len(a.times) || j < len(b.times); {
			from, at := a, &i
			switch {
			case i == len(a.times), j < len(b.times) && b.times[j] < a.times[i]:
				from, at = b, &j
			case j < len(b.times) && b.times[j] == a.times[i]:
				if value.IsStaleNaN(a.values[i]) {
					from, at = b, &j
					i++
				} else {
					j++
				}
			}
			out.take(from, *at, valid(from.times[*at]))
			*at++
		}
		*a, *b = out, levels{}
	}
}

// take appends a sample of another.
func (s *levels) take(from *levels, i int, valid int64) {
	if value.IsStaleNaN(from.values[i]) {
		s.mark(from.times[i], valid)
		s.end(from.times[i])
		return
	}
	var h *histogram.FloatHistogram
	if from.hists != nil {
		h = from.hists[i]
	}
	s.add(from.times[i], from.values[i], h, valid)
}
