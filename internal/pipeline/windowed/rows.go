package windowed

import (
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// Rows are closed windows of declared rollups: what the task has of a series and window. A row replaces that of the
// same series, window, Rule and Part with a lesser Version.
type Rows struct {
	Tenant     []string
	Metric     []string
	Service    []string
	Series     []series.ID
	Labels     []series.Labels
	Start, End []int64  // Unix seconds, End exclusive
	SeriesKind []uint8  // events.Kind of what is measured
	Shape      []string // of the windows, as windows.ParseShape reads it
	Rule       []uint64
	Part       []string // topic/partition
	Version    []uint32
	Kind       []Kind
	Delta      []uint64 // of rows that add up instead of replacing each other: its number; 0 for all others
	Count      []uint64
	Sum        []float64
	Min        []float64
	Max        []float64
	Sketch     []byte // one state a row

	// What rules with a Keep hold: of no row, or of all when one has any.
	Measures            []Measures // that the row's rule has
	FirstTime, LastTime []int64    // Unix nanoseconds, 0 for none
	First, Last         []float64
	Distinct            []byte // one state a row
	Top                 []TopRow
}

// TopRow is a space-saving summary, so that summaries add up: a value came at most Floor and its Count together, of
// which Floor and its Error may be too much; one that is not among Items came at most Floor times. Numbers are in
// events, or in the weight's own.
type TopRow struct {
	Items          []string // ascending in rank
	Counts, Errors []float64
	Floor, Total   float64
	K              uint16 // how many are to be shown; 0 when the row has none
}

// Kind is what a row of Rows means.
type Kind uint8

// Kinds of rows. Their values are part of the format of results.
const (
	// Whole rows replace what was known of the window.
	Whole Kind = 0
	// Retracted rows say that a session is no more: it has become part of another. They hold nothing.
	Retracted Kind = 1
	// Delta rows add up with the whole one and with each other.
	Delta Kind = 2
	// Late rows hold events that came after the window closed and are not in it (late: divert), within allowed
	// lateness; TooLate rows such that came after it. They add up.
	Late    Kind = 3
	TooLate Kind = 4
)

// keep appends what a window holds as its rule says, and returns about how many bytes it takes. Rows of rules that keep
// nothing cost nothing until there is one that does.
func (b *Rows) keep(keep *Keep, v *keptValue) (size int) {
	if keep == nil && b.Measures == nil {
		return 0
	}
	for len(b.Measures) < len(b.Tenant)-1 {
		b.append(0, &keptValue{}, nil)
	}
	if v == nil {
		v = &keptValue{}
	}
	before := len(b.Distinct)
	b.append(keep.measures(), v, keep)
	size = 40 + len(b.Distinct) - before
	for _, item := range b.Top[len(b.Top)-1].Items {
		size += 24 + len(item)
	}
	return size
}

func (b *Rows) append(m Measures, v *keptValue, keep *Keep) {
	b.Measures = append(b.Measures, m)
	b.FirstTime, b.First = append(b.FirstTime, v.first.time), append(b.First, v.first.value)
	b.LastTime, b.Last = append(b.LastTime, v.last.time), append(b.Last, v.last.value)
	distinct := v.distinct
	if distinct == nil {
		distinct = new(sketches.Distinct)
	}
	b.Distinct = distinct.AppendState(b.Distinct)
	top := TopRow{}
	if m&MeasureTop != 0 {
		top = rowTop(v.top, keep.Top)
	}
	b.Top = append(b.Top, top)
}

// rowTop is a summary as rows have it.
func rowTop(t *sketches.TopK, of *Top) TopRow {
	top := TopRow{K: uint16(of.K)}
	if t == nil {
		return top
	}
	floor := t.Floor()
	top.Floor, top.Total = float64(floor)*of.Unit, float64(t.Total())*of.Unit
	for _, c := range t.Top(t.Capacity()) {
		top.Items = append(top.Items, c.Item)
		top.Counts = append(top.Counts, float64(c.Count-floor)*of.Unit)
		top.Errors = append(top.Errors, (float64(c.Error)-float64(floor))*of.Unit)
	}
	return top
}
