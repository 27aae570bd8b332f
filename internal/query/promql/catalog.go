package promql

import (
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/vigie-io/vigie/pkg/events"
)

// facet is which PromQL series of a stored metric is meant.
type facet uint8

const (
	whole     facet = iota // the metric under its own name
	count                  // <name>_count of a sketch
	sum                    // <name>_sum of a sketch
	bucket                 // <name>_bucket{le} of a sketch
	least                  // <name>_min of a closed window with a sketch
	most                   // <name>_max of the same
	perSecond              // <name>_rate of a closed window
	first                  // <name>_first of a closed window whose rule keeps it, and so on
	last
	distinct
	top // <name>_top{item}
)

// topLabel is the label of <name>_top that has the value of the field. No closed window with a top has it itself.
const topLabel = "item"

// own is the label that series of the facet have and the stored series has not, or "".
func (f facet) own() string {
	switch f {
	case bucket:
		return labels.BucketLabel
	case top:
		return topLabel
	}
	return ""
}

var derived = []struct {
	facet  facet
	suffix string
	kinds  kinds // that have it
	kept   Kept  // that its rule has to keep; 0: nothing
}{
	{count, "_count", kindSketch | kindClosedSketch, 0}, {sum, "_sum", kindSketch | kindClosedSketch, 0},
	{bucket, "_bucket", kindSketch | kindClosedSketch, 0},
	{least, "_min", kindClosedSketch, 0}, {most, "_max", kindClosedSketch, 0}, {perSecond, "_rate", kindClosed, 0},
	{first, "_first", kindClosed, KeptFirst}, {last, "_last", kindClosed, KeptLast},
	{distinct, "_distinct", kindClosed, KeptDistinct}, {top, "_top", kindClosed, KeptTop},
}

// target is one stored metric seen under one PromQL name.
type target struct {
	metric string // stored
	facet  facet
	kinds  kinds // of the stored metric's series that serve this facet
}

// kinds is a set of series kinds.
type kinds uint8

const (
	kindSketch       kinds = 1 << iota // windows with native histograms
	kindDelta                          // windows with floats
	kindLevel                          // samples: gauges and cumulative totals
	kindClosedSketch                   // results of closed windows, as gauges: with native histograms
	kindClosedSum                      // and with floats

	kindClosed = kindClosedSketch | kindClosedSum
)

func (m *Meta) kinds() kinds   { return kindOf(m.Kind, m.Native, m.Shape) }
func (s *Series) kinds() kinds { return kindOf(s.Kind, s.Native, s.Shape) }

func kindOf(kind events.Kind, native bool, shape string) kinds {
	switch {
	case shape != "" && kind == events.Observation:
		return kindClosedSketch
	case shape != "":
		return kindClosedSum
	case kind == events.Observation, kind == events.Delta && native:
		return kindSketch
	case kind == events.Delta:
		return kindDelta
	}
	return kindLevel
}

// catalog resolves PromQL names to stored metrics. It is immutable.
type catalog struct {
	metas   []Meta
	names   []string // ascending
	targets map[string][]target
	kindsOf map[string]kinds // of the series of each stored metric
	// longest is how long a window of each metric with closed windows may be, ms.
	longest map[string]int64
}

// newCatalog gives every stored metric its own name, and every sketch its derived ones. A stored metric
// hides a derived one of the same name: what was sent is never replaced by what was computed.
func newCatalog(metas []Meta) *catalog {
	stored := make(map[string]kinds, len(metas))
	kept := make(map[string]Kept)
	for _, m := range metas {
		stored[m.Metric] |= m.kinds()
		if m.Kept != 0 {
			kept[m.Metric] |= m.Kept
		}
	}
	c := &catalog{metas: metas, targets: make(map[string][]target, len(stored)), kindsOf: stored, longest: longest(metas)}
	for metric, k := range stored {
		c.targets[metric] = append(c.targets[metric], target{metric, whole, k})
		for _, d := range derived {
			if _, hidden := stored[metric+d.suffix]; !hidden && k&d.kinds != 0 && kept[metric]&d.kept == d.kept {
				c.targets[metric+d.suffix] = append(c.targets[metric+d.suffix], target{metric, d.facet, k & d.kinds})
			}
		}
	}
	for name := range c.targets {
		c.names = append(c.names, name)
	}
	slices.Sort(c.names)
	return c
}

// named is a target under the name it was found by.
type named struct {
	name string
	target
}

// match returns the targets whose names meet every matcher on __name__, by name, and the other matchers.
func (c *catalog) match(matchers []*labels.Matcher) (found []named, rest []*labels.Matcher) {
	var byName []*labels.Matcher
	for _, m := range matchers {
		if m.Name == model.MetricNameLabel {
			byName = append(byName, m)
		} else {
			rest = append(rest, m)
		}
	}
	names := c.names
	if i := slices.IndexFunc(byName, func(m *labels.Matcher) bool { return m.Type == labels.MatchEqual }); i >= 0 {
		names = []string{byName[i].Value}
	}
	for _, name := range names {
		if !matchesAll(byName, name) {
			continue
		}
		for _, t := range c.targets[name] {
			found = append(found, named{name, t})
		}
	}
	return found, rest
}

func matchesAll(ms []*labels.Matcher, value string) bool {
	for _, m := range ms {
		if !m.Matches(value) {
			return false
		}
	}
	return true
}

// stored are the kinds of a stored metric's series.
func (c *catalog) stored(metric string) kinds { return c.kindsOf[metric] }

// mixed tells whether a stored metric has series of kinds that a target does not mean.
func (c *catalog) mixed(t named) bool { return c.stored(t.metric)&^t.kinds != 0 }

// kinds is what a selector may meet.
func (c *catalog) kinds(matchers []*labels.Matcher) kinds {
	var k kinds
	found, _ := c.match(matchers)
	for _, t := range found {
		k |= t.kinds
	}
	return k
}

// longestOf is how long the windows are that a selector may meet, ms; 0 when there are none.
func (c *catalog) longestOf(matchers []*labels.Matcher) (longest int64) {
	found, _ := c.match(matchers)
	for _, t := range found {
		longest = max(longest, c.longest[t.metric])
	}
	return longest
}
