package verify

import (
	"cmp"
	"fmt"
	"math"
	"sort"
	"strings"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// Key names a row of a table. ID is zero in tables by service.
type Key struct {
	Tenant, Metric, Service string
	ID                      series.ID
	Start                   int64 // of the pane, Unix seconds
}

func (k Key) compare(other Key) int {
	return cmp.Or(cmp.Compare(k.Tenant, other.Tenant), cmp.Compare(k.Metric, other.Metric),
		cmp.Compare(k.Service, other.Service), k.ID.Compare(other.ID), cmp.Compare(k.Start, other.Start))
}

// clone copies the strings, which may be a reader's.
func (k Key) clone() Key {
	k.Tenant, k.Metric, k.Service = strings.Clone(k.Tenant), strings.Clone(k.Metric), strings.Clone(k.Service)
	return k
}

// Cell is what a loop says of one row.
type Cell struct {
	Count    uint64
	Sum      float64
	Min, Max float64 // +Inf and −Inf when no event brought one
	LastTime int64   // Unix nanoseconds of the level, 0 when there is none
	Last     float64
	LastHist string

	magnitude          float64 // sum of |v|, to which the error of a sum is relative
	zero               float64
	positive, negative map[int32]float64 // observations by bucket of their magnitude
}

func newCell() *Cell { return &Cell{Min: math.Inf(1), Max: math.Inf(-1)} }

// add takes one event; it says how many buckets are new.
func (c *Cell) add(m *events.Metric, kind events.Kind) (buckets int) {
	h := m.Histogram
	switch {
	case m.Stale:
		c.level(m.Time, math.Inf(-1), "\x00")
		return 0
	case h != nil && kind == events.Observation:
		c.Count += uint64(math.RoundToEven(math.Max(h.Count, 0)))
		c.Sum += h.Sum
		c.magnitude += math.Abs(h.Sum)
		if !math.IsNaN(h.Min) {
			c.Min = math.Min(c.Min, h.Min)
		}
		if !math.IsNaN(h.Max) {
			c.Max = math.Max(c.Max, h.Max)
		}
		if h.ZeroCount > 0 {
			c.zero += h.ZeroCount
		}
		return c.histogram(&c.positive, h.Scale, &h.Positive) + c.histogram(&c.negative, h.Scale, &h.Negative)
	case h != nil:
		c.Count++
		c.level(m.Time, h.Sum, string(pipeline.AppendHistogram(nil, h)))
		return 0
	}
	c.Count++
	c.Sum += m.Value
	c.magnitude += math.Abs(m.Value)
	c.Min, c.Max = math.Min(c.Min, m.Value), math.Max(c.Max, m.Value)
	switch {
	case kind == events.Gauge || kind == events.Cumulative:
		c.level(m.Time, m.Value, "")
	case kind == events.Delta:
	case m.Value > 0:
		return put(&c.positive, bucketOf(m.Value), 1)
	case m.Value < 0:
		return put(&c.negative, bucketOf(-m.Value), 1)
	default:
		c.zero++
	}
	return 0
}

// level keeps the last value; of one time the greater.
func (c *Cell) level(at int64, value float64, hist string) {
	if at > c.LastTime || at == c.LastTime && (value > c.Last || value == c.Last && hist > c.LastHist) {
		c.LastTime, c.Last, c.LastHist = at, value, hist
	}
}

func put(side *map[int32]float64, bucket int32, n float64) (fresh int) {
	if *side == nil {
		*side = map[int32]float64{}
	}
	if (*side)[bucket] == 0 {
		fresh = 1
	}
	(*side)[bucket] += n
	return fresh
}

// bucketOf is the bucket i with γ^i < v ≤ γ^(i+1), found by looking.
func bucketOf(v float64) int32 {
	first, last := guess(sketches.MinValue), guess(sketches.MaxValue)
	i := sort.Search(int(last-first), func(i int) bool { return v <= sketches.Bound(first+int32(i)+1) })
	return first + int32(i)
}

// guess is the bucket of a power that lies inside of one.
func guess(v float64) int32 { return int32(math.Ceil(math.Log2(v)*64)) - 1 }

// histogram adds the buckets of another scale: finer ones fall into one of ours, a coarser one counts at its geometric
// middle.
func (c *Cell) histogram(side *map[int32]float64, scale int32, b *events.Buckets) (fresh int) {
	first, last := guess(sketches.MinValue), guess(sketches.MaxValue)
	for j, n := range b.Counts {
		if !(n > 0) || math.IsInf(n, 1) {
			continue
		}
		i, at := int64(b.Offset)+int64(j), int64(0)
		if scale >= sketches.Scale {
			at = int64(math.Floor(math.Ldexp(float64(i), -int(scale-sketches.Scale))))
		} else {
			// its middle is γ'^(i+1/2), an upper border of ours; a scale below −11 spans all numbers
			at = int64(math.Ldexp(float64(i)+0.5, sketches.Scale-int(max(scale, -11)))) - 1
		}
		fresh += put(side, int32(min(max(at, int64(first)), int64(last))), n)
	}
	return fresh
}

// sumTolerance is the relative error that the order of additions may make.
const sumTolerance = 1e-9

// differs says in which fields a stored row is not what the loop says; "" when it is.
func (c *Cell) differs(row *Row) string {
	var wrong []string
	note := func(bad bool, field string, got, want any) {
		if bad {
			wrong = append(wrong, fmt.Sprintf("%s: stored %v, counted %v", field, got, want))
		}
	}
	note(row.Count != c.Count, "count", row.Count, c.Count)
	note(!near(row.Sum, c.Sum, c.magnitude), "sum", row.Sum, c.Sum)
	note(row.Min != c.Min, "min", row.Min, c.Min)
	note(row.Max != c.Max, "max", row.Max, c.Max)
	if row.ID != (series.ID{}) {
		note(row.LastTime != c.LastTime || row.Last != c.Last || row.LastHist != c.LastHist, "last",
			fmt.Sprintf("%v at %d", row.Last, row.LastTime), fmt.Sprintf("%v at %d", c.Last, c.LastTime))
	}
	if problem := c.compareSketch(row.Sketch); problem != "" {
		wrong = append(wrong, problem)
	}
	return strings.Join(wrong, "; ")
}

// exceeds says what of the cell a row does not hold to which other events were added; "" when it holds all.
func (c *Cell) exceeds(row *Row) string {
	var wrong []string
	note := func(bad bool, field string, got, want any) {
		if bad {
			wrong = append(wrong, fmt.Sprintf("%s: stored %v with what was backfilled, counted %v without", field, got, want))
		}
	}
	note(row.Count < c.Count, "count", row.Count, c.Count)
	note(row.Min > c.Min, "min", row.Min, c.Min)
	note(row.Max < c.Max, "max", row.Max, c.Max)
	note(row.ID != (series.ID{}) && row.LastTime < c.LastTime, "last", row.LastTime, c.LastTime)
	return strings.Join(wrong, "; ")
}

// missing describes a cell that is not stored.
func (c *Cell) missing() string {
	return fmt.Sprintf("not stored, counted %d, sum %v", c.Count, c.Sum)
}

func near(a, b, magnitude float64) bool {
	return a == b || math.Abs(a-b) <= sumTolerance*magnitude
}

// compareSketch compares bucket by bucket, from which equal quantiles follow.
func (c *Cell) compareSketch(state []byte) string {
	var stored sketches.Sketch
	if n, err := stored.DecodeDD(state); err != nil || n != len(state) {
		return fmt.Sprintf("sketch: stored %d bytes that are no state: %v", len(state), err)
	}
	if !near(stored.Zero(), c.zero, c.zero) {
		return fmt.Sprintf("sketch: stored %v zeros, counted %v", stored.Zero(), c.zero)
	}
	for _, side := range []struct {
		sign    string
		stored  sketches.Buckets
		counted map[int32]float64
	}{{"", stored.Positive(), c.positive}, {"-", stored.Negative(), c.negative}} {
		found := 0
		for j, got := range side.stored.Counts {
			bucket := side.stored.Offset + int32(j)
			if got > 0 {
				found++
			}
			if want := side.counted[bucket]; !near(got, want, want) {
				return fmt.Sprintf("sketch: bucket %s%.6g: stored %v, counted %v (p50, p95, p99 follow from buckets)", side.sign,
					sketches.Bound(bucket+1), got, want)
			}
		}
		if found != len(side.counted) {
			return fmt.Sprintf("sketch: stored %d buckets, counted %d", found, len(side.counted))
		}
	}
	return ""
}
