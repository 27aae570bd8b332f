package simulation

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// Key names one merged row of a rollup table.
type Key struct {
	Table   string // "rollups_10s"
	Tenant  string
	Metric  string
	Service string
	Series  series.ID // zero in the tables of services
	Start   uint32    // of the pane or window, Unix seconds
	End     uint32    // of a window, exclusive; 0 of a pane
	Part    string    // topic/partition whose part of a window it is; "" of a pane
}

func (k Key) String() string {
	at := time.Unix(int64(k.Start), 0).UTC().Format(time.TimeOnly)
	text := fmt.Sprintf("%s %s %s service=%q series=%x%016x %s", k.Table, k.Tenant, k.Metric, k.Service,
		k.Series.Hi, k.Series.Lo, at)
	if k.End > 0 {
		text += fmt.Sprintf("+%ds of %s", k.End-k.Start, k.Part)
	}
	return text
}

// Cell is what a merged row says.
type Cell struct {
	Count    uint64
	Sum      float64
	Min, Max float64
	LastTime int64
	Last     float64
	LastHist string
	Sketch   sketches.Sketch
}

func newCell() *Cell { return &Cell{Min: math.Inf(1), Max: math.Inf(-1)} }

func (c *Cell) merge(other *Cell) {
	c.Count += other.Count
	c.Sum += other.Sum
	c.Min, c.Max = min(c.Min, other.Min), max(c.Max, other.Max)
	c.level(other.LastTime, other.Last, other.LastHist)
	c.Sketch.Merge(&other.Sketch)
}

func (c *Cell) level(t int64, v float64, hist string) {
	if t > c.LastTime || t == c.LastTime && (v > c.Last || v == c.Last && hist > c.LastHist) {
		c.LastTime, c.Last, c.LastHist = t, v, hist
	}
}

func (c *Cell) String() string {
	return fmt.Sprintf("count %d sum %v min %v max %v last %v@%d sketch %v", c.Count, c.Sum, c.Min, c.Max, c.Last,
		c.LastTime, c.Sketch.Count())
}

func (c *Cell) equal(other *Cell) bool {
	return c.Count == other.Count && c.Sum == other.Sum && c.Min == other.Min && c.Max == other.Max &&
		c.LastTime == other.LastTime && c.Last == other.Last && c.LastHist == other.LastHist &&
		string(c.Sketch.AppendDD(nil)) == string(other.Sketch.AppendDD(nil))
}

// Contents are merged rows of all rollup tables.
type Contents map[Key]*Cell

func (c Contents) at(k Key) *Cell {
	cell := c[k]
	if cell == nil {
		cell = newCell()
		c[k] = cell
	}
	return cell
}

// total is the number of events that are counted.
func (c Contents) total() (n uint64) {
	for key, cell := range c {
		if key.Table == finest {
			n += cell.Count
		}
	}
	return n
}

// maxDifferences bounds what Diff spells out.
const maxDifferences = 5

// Diff describes how got differs from want, "" when it does not.
func Diff(got, want Contents) string {
	keys := map[Key]bool{}
	for key := range want {
		keys[key] = true
	}
	for key := range got {
		keys[key] = true
	}
	var different []Key
	for key := range keys {
		if g, w := got[key], want[key]; g == nil || w == nil || !g.equal(w) {
			different = append(different, key)
		}
	}
	if len(different) == 0 {
		return ""
	}
	slices.SortFunc(different, func(a, b Key) int { return cmp.Compare(a.String(), b.String()) })
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d rows differ; %d events are counted, want %d", len(different), len(keys), got.total(), want.total())
	for _, key := range different[:min(len(different), maxDifferences)] {
		fmt.Fprintf(&b, "\n  %v\n    got  %v\n    want %v", key, describe(got[key]), describe(want[key]))
	}
	return b.String()
}

func describe(c *Cell) string {
	if c == nil {
		return "no row"
	}
	return c.String()
}

// tier is one width of panes.
type tier struct {
	name      string
	width     uint32 // seconds
	partition string // time layout that gives the partition of a row: rows of one partition are one part
}

var tiers = []tier{{"10s", 10, "20060102"}, {"1m", 60, "20060102"}, {"1h", 3600, "200601"}}

const finest = "rollups_10s"
