package verify

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/pkg/rules"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// WindowKey names what one source partition has of a series in a window of a rule.
type WindowKey struct {
	Key  // Start is the window's
	End  int64
	Rule uint64
	Part string // topic/partition
}

func (k WindowKey) compare(other WindowKey) int {
	return cmp.Or(k.Key.compare(other.Key), cmp.Compare(k.End, other.End), cmp.Compare(k.Rule, other.Rule),
		cmp.Compare(k.Part, other.Part))
}

func (k WindowKey) clone() WindowKey {
	k.Key, k.Part = k.Key.clone(), strings.Clone(k.Part)
	return k
}

// WindowRow is what the table says of a WindowKey: the window with its corrections, and what was put beside it.
type WindowRow struct {
	WindowKey
	Late                uint64 // of Count, beside the window
	Count               uint64
	Sum, Min, Max       float64
	Sketch              []byte
	Measures            windowed.Measures
	FirstTime, LastTime int64 // Unix nanoseconds, 0 for none
	First, Last         float64
	Distinct            []byte
	Items               []string // of the top, with what is known of each: WindowTop
	Counts, Errors      []float64
	Floor, Total        float64
}

// windowCell is what a loop says of a window.
type windowCell struct {
	Cell
	late   uint64 // of Count, events that may have come after the window had closed, or closed for good
	unsure uint64 // and of which it is not known whether they count, or how much
	kept   keptCell
}

// keptCell is what a rule with a Keep wants to know.
type keptCell struct {
	first, last moment // time 0: none
	distinct    map[string]bool
	weights     map[string]float64 // by item, in units
	total       float64
}

type moment struct {
	time  int64
	value float64
}

func (a moment) compare(b moment) int {
	return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.value, b.value))
}

func newWindowCell() *windowCell { return &windowCell{Cell: *newCell()} }

// take adds an event; it says about how many bytes that took.
func (c *windowCell) take(d *derived, e *event, names names, late bool) (bytes int64) {
	before := len(c.kept.distinct) + len(c.kept.weights)
	bytes = int64(c.add(&d.Metric, d.Kind)) * bucketBytes
	switch {
	case d.unsure || e.unknown:
		c.unsure++
	case late:
		c.late++
	}
	if d.rule.Keep != nil {
		c.kept.take(d, e.fields, names)
	}
	return bytes + int64(len(c.kept.distinct)+len(c.kept.weights)-before)*keptBytes
}

// keptBytes is about what a value of a field takes.
const keptBytes = 100

func (c *keptCell) take(d *derived, f rules.Fields, names names) {
	keep := d.rule.Keep
	c.begin()
	if at := (moment{d.Time, d.Value}); d.Histogram == nil {
		if c.first.time == 0 || at.compare(c.first) < 0 {
			c.first = at
		}
		if c.last.time == 0 || at.compare(c.last) > 0 {
			c.last = at
		}
	}
	if keep.Distinct != "" {
		if value := f.Text(keep.Distinct); value != "" {
			c.distinct[names.name(value)] = true
		}
	}
	if keep.Top == nil {
		return
	}
	item, weight := f.Text(keep.Top.Of), 1.0
	if keep.Top.Weight != "" {
		v, _ := f.Number(keep.Top.Weight)
		weight = math.RoundToEven(v / topUnit(keep.Top))
	}
	if item != "" && len(item) <= 256 && weight > 0 && weight <= 1e15 {
		c.weights[names.name(item)] += weight
		c.total += weight
	}
}

func (c *keptCell) begin() {
	if c.distinct == nil {
		c.distinct, c.weights = map[string]bool{}, map[string]float64{}
	}
}

func topUnit(top *windowed.Top) float64 {
	switch {
	case top.Unit != 0:
		return top.Unit
	case top.Weight == "duration_seconds":
		return 1e-6
	}
	return 1
}

func topCounters(top *windowed.Top) float64 {
	k := cmp.Or(top.K, 10)
	return float64(cmp.Or(top.Counters, 10*k))
}

// merge adds what another cell of the same rule holds.
func (c *windowCell) merge(o *windowCell) {
	c.Count, c.Sum, c.magnitude, c.late, c.unsure = c.Count+o.Count, c.Sum+o.Sum, c.magnitude+
		o.magnitude, c.late+o.late, c.unsure+o.unsure
	c.Min, c.Max, c.zero = math.Min(c.Min, o.Min), math.Max(c.Max, o.Max), c.zero+o.zero
	for _, side := range []struct{ into, from *map[int32]float64 }{{&c.positive, &o.positive}, {&c.negative, &o.negative}} {
		for bucket, n := range *side.from {
			put(side.into, bucket, n)
		}
	}
	if a, b := &c.kept, &o.kept; b.first.time != 0 {
		if a.first.time == 0 || b.first.compare(a.first) < 0 {
			a.first = b.first
		}
		if a.last.time == 0 || b.last.compare(a.last) > 0 {
			a.last = b.last
		}
	}
	c.kept.begin()
	maps.Copy(c.kept.distinct, o.kept.distinct)
	for item, weight := range o.kept.weights {
		c.kept.weights[item] += weight
	}
	c.kept.total += o.kept.total
}

// knows says whether it is known what the window holds, with what was put beside it.
func (c *windowCell) knows(rule *windowRule) bool {
	return c.unsure == 0 && (c.late == 0 || rule.diverts())
}

// least is how many events it holds at least, and Count at most.
func (c *windowCell) least(rule *windowRule) uint64 {
	if rule.diverts() {
		return c.Count - c.unsure
	}
	return c.Count - c.unsure - c.late
}

// differs says in which fields a stored row is not what the loop says; "" when it is, as far as anybody can tell.
func (c *windowCell) differs(r *WindowRow, rule *windowRule) string {
	var wrong []string
	if r.Late > 0 && (!rule.diverts() || r.Late > c.late+c.unsure) {
		wrong = append(wrong,
			fmt.Sprintf("late: stored %d events beside it, of which at most %d can have been late", r.Late, c.late+c.unsure))
	}
	if !c.knows(rule) {
		if r.Count < c.least(rule) || r.Count > c.Count {
			wrong = append(wrong, fmt.Sprintf("count: stored %d, counted %d to %d", r.Count, c.least(rule), c.Count))
		}
		return strings.Join(wrong, "; ")
	}
	row := Row{Key: Key{}, Count: r.Count, Sum: r.Sum, Min: r.Min, Max: r.Max, Sketch: r.Sketch}
	if what := c.Cell.differs(&row); what != "" {
		wrong = append(wrong, what)
	}
	if keep := rule.Keep; keep != nil {
		wrong = append(wrong, c.kept.differs(r, keep)...)
	}
	return strings.Join(wrong, "; ")
}

func (c *keptCell) differs(r *WindowRow, keep *windowed.Keep) (wrong []string) {
	note := func(bad bool, field string, got, want any) {
		if bad {
			wrong = append(wrong, fmt.Sprintf("%s: stored %v, counted %v", field, got, want))
		}
	}
	if first := (moment{r.FirstTime, r.First}); keep.First {
		note(first != c.first, "first", first, c.first)
	}
	if last := (moment{r.LastTime, r.Last}); keep.Last {
		note(last != c.last, "last", last, c.last)
	}
	if keep.Distinct != "" {
		var stored, counted sketches.Distinct
		n, err := stored.DecodeState(r.Distinct)
		note(err != nil || n != len(r.Distinct), "distinct",
			fmt.Sprintf("%d bytes that are no state", len(r.Distinct)), len(c.distinct))
		for value := range c.distinct {
			counted.Add([]byte(value))
		}
		note(string(stored.AppendState(nil)) != string(counted.AppendState(nil)), "distinct", stored.Estimate(), len(c.distinct))
	}
	if keep.Top != nil {
		if what := c.differsTop(r, keep.Top); what != "" {
			wrong = append(wrong, what)
		}
	}
	return wrong
}

// differsTop holds the top to what it promises: of a value came at most its count, and at least that less its error,
// and no error is above the total divided by the counters.
func (c *keptCell) differsTop(r *WindowRow, top *windowed.Top) string {
	unit := topUnit(top)
	total := c.total * unit
	bound := total / topCounters(top)
	slack := 1e-9 * total
	if math.Abs(r.Total-total) > slack || r.Floor > bound+slack {
		return fmt.Sprintf("top: stored a total of %v above %v, counted %v, of which at most %v may be wrong",
			r.Total, r.Floor, total, bound)
	}
	known := map[string]int{}
	for i, item := range r.Items {
		known[item] = i
		if weight := c.weights[item] * unit; weight < r.Counts[i]-r.Errors[i]-slack || r.Errors[i]+r.Floor > bound+slack {
			return fmt.Sprintf("top: %q: stored %v less at most %v, counted %v", item, r.Counts[i]+r.Floor,
				r.Errors[i]+r.Floor, weight)
		}
	}
	for _, item := range slices.Sorted(maps.Keys(c.weights)) {
		most := r.Floor
		if i, is := known[item]; is {
			most += r.Counts[i]
		}
		if weight := c.weights[item] * unit; weight > most+slack {
			return fmt.Sprintf("top: %q: stored at most %v, counted %v", item, most, weight)
		}
	}
	return ""
}
