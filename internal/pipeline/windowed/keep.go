package windowed

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"github.com/vigie-io/vigie/internal/pipeline/aggregate"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/rules"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// Keep says what the windows of a rollup hold beside count, sum, extremes and sketch of its measure.
type Keep struct {
	// First keeps the measure of the window's first event in event time; of several at that time the least.
	First bool `yaml:"first,omitempty" json:",omitempty"`
	// Last keeps that of its last event; of several at that time the greatest.
	Last bool `yaml:"last,omitempty" json:",omitempty"`
	// Distinct is a field of which different values are counted: exactly up to 512, then with a standard error of 0.81
	// %. What an event does not have is no value.
	Distinct string `yaml:"distinct,omitempty" json:",omitempty"`
	// Top finds the values of a field that come most often, or weigh most.
	Top *Top `yaml:"top,omitempty" json:",omitempty"`
}

// Top says of what the greatest are kept. What an event does not have is no value; values longer than 256 bytes are
// left out and counted (long_item).
type Top struct {
	// Of is the field.
	Of string `yaml:"of"`
	// K is how many values are shown, 1 to 100. Default 10.
	K int `yaml:"k,omitempty" json:",omitempty"`
	// Weight is a field whose number is added up, instead of counting events: 0 or more, at most 10^15 units; others
	// are left out and counted (bad_weight). Default none: each event counts 1.
	Weight string `yaml:"weight,omitempty" json:",omitempty"`
	// Unit is what weights are rounded to. Default 1e-6 for duration_seconds, else 1.
	Unit float64 `yaml:"unit,omitempty" json:",omitempty"`
	// Counters is how many values are counted beside each other, K to 1000. Of all that was counted at most 1/Counters
	// is an error of a value. Default 10 times K.
	Counters int `yaml:"counters,omitempty" json:",omitempty"`
}

const (
	durationField = "duration_seconds"

	maxTopK     = 100
	maxCounters = 1000
	// maxTopItem bounds a value of a top, so that 1000 counters stay below 300 kB.
	maxTopItem = 256
	// maxWeight is the greatest weight of an event, in units: 18,000 of them fit into a sum.
	maxWeight = 1e15
)

// Reasons for which an event is not in the top of a window that it is in.
const (
	// ReasonLongItem: the value is longer than 256 bytes.
	ReasonLongItem events.Reason = "long_item"
	// ReasonBadWeight: its weight is below 0 or above 10^15 units.
	ReasonBadWeight events.Reason = "bad_weight"
)

// Validate checks what is to be kept, and fills the defaults in.
func (k *Keep) Validate() (*Keep, error) {
	if *k == (Keep{}) {
		return nil, errors.New("keep: want one of first, last, distinct and top")
	}
	kept := *k
	if k.Top != nil {
		top, err := k.Top.validate()
		if err != nil {
			return nil, fmt.Errorf("keep.top.%w", err)
		}
		kept.Top = top
	}
	return &kept, nil
}

// TopLabel is the label that has the values of a top in PromQL.
const TopLabel = "item"

func (p *Top) validate() (*Top, error) {
	top := *p
	if top.K == 0 {
		top.K = 10
	}
	if top.Counters == 0 {
		top.Counters = 10 * top.K
	}
	if top.Unit == 0 {
		top.Unit = 1
		if top.Weight == durationField {
			top.Unit = 1e-6
		}
	}
	switch {
	case top.Of == "":
		return nil, errors.New("of: want the name of a field")
	case top.K < 1 || top.K > maxTopK:
		return nil, fmt.Errorf("k %d: want 1 to %d", top.K, maxTopK)
	case top.Counters < top.K || top.Counters > maxCounters:
		return nil, fmt.Errorf("counters %d: want k (%d) to %d", top.Counters, top.K, maxCounters)
	case !(top.Unit > 0 && top.Unit <= math.MaxFloat32):
		return nil, fmt.Errorf("unit %g: want more than 0", top.Unit)
	case top.Unit != 1 && p.Weight == "":
		return nil, errors.New("unit: want a weight with it")
	}
	return &top, nil
}

// Measures says what the windows of a rule hold beside the measures that all have.
type Measures uint8

// Kinds of measures. Their values are part of the format of results and of state.
const (
	MeasureFirst Measures = 1 << iota
	MeasureLast
	MeasureDistinct
	MeasureTop

	allMeasures = MeasureFirst | MeasureLast | MeasureDistinct | MeasureTop
)

// measures is what k says; nil says nothing.
func (k *Keep) measures() (m Measures) {
	if k == nil {
		return 0
	}
	for _, one := range []struct {
		is   bool
		kind Measures
	}{{k.First, MeasureFirst}, {k.Last, MeasureLast}, {k.Distinct != "", MeasureDistinct}, {k.Top != nil, MeasureTop}} {
		if one.is {
			m |= one.kind
		}
	}
	return m
}

// Particular is what one event gives a window beside its measurement. Its strings are the event's.
type Particular struct {
	keep     *Keep // nil: nothing
	time     int64
	valued   bool // it has a value of its own: pre-aggregated ones have none
	distinct string
	item     string
	weight   uint64
}

// ParticularOf is what an event gives beside its measurement. refused says why it is not in the top, if anything is
// wrong with it.
func (k *Keep) ParticularOf(time int64, f rules.Fields, m *aggregate.Measurement) (p Particular, refused events.Reason) {
	if k == nil {
		return Particular{}, ""
	}
	p = Particular{keep: k, time: time, valued: m.Histogram == nil}
	if k.Distinct != "" {
		p.distinct = f.Text(k.Distinct)
	}
	if k.Top == nil {
		return p, ""
	}
	if p.item = f.Text(k.Top.Of); p.item == "" {
		return p, ""
	}
	if len(p.item) > maxTopItem {
		p.item = ""
		return p, ReasonLongItem
	}
	weight, ok := k.Top.weigh(f)
	if !ok {
		refused = ReasonBadWeight
	}
	p.weight = weight
	return p, refused
}

// weigh is the weight of an event in units; one without the field weighs nothing.
func (p *Top) weigh(f rules.Fields) (weight uint64, ok bool) {
	if p.Weight == "" {
		return 1, true
	}
	v, there := f.Number(p.Weight)
	if !there {
		return 0, true
	}
	v = math.RoundToEven(v / p.Unit)
	if !(v >= 0 && v <= maxWeight) {
		return 0, false
	}
	return uint64(v), true
}

// keptValue is what a window holds as a Keep says. Parts are nil until an event has something for them.
type keptValue struct {
	measures    Measures // that first and last are of: MeasureFirst, MeasureLast
	first, last timed
	distinct    *sketches.Distinct
	top         *sketches.TopK
}

// bytesOf are the bytes of s, only to be read.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// timed is a value at an event time, Unix nanoseconds.
type timed struct {
	time  int64
	value float64
}

func (a timed) before(b timed) bool { return a.time < b.time || a.time == b.time && a.value < b.value }

func (k *keptValue) add(p *Particular, value float64) {
	if p.valued {
		k.ends(p.keep.measures(), timed{p.time, value}, timed{p.time, value})
	}
	if p.distinct != "" {
		if k.distinct == nil {
			k.distinct = new(sketches.Distinct)
		}
		k.distinct.Add(bytesOf(p.distinct))
	}
	if p.item != "" && p.weight > 0 {
		if k.top == nil {
			k.top = sketches.NewTopK(p.keep.Top.Counters)
		}
		k.top.Add(bytesOf(p.item), p.weight)
	}
}

// ends takes a first and a last value, of those measures that are among m.
func (k *keptValue) ends(m Measures, first, last timed) {
	if m&MeasureFirst != 0 && (k.measures&MeasureFirst == 0 || first.before(k.first)) {
		k.first = first
	}
	if m&MeasureLast != 0 && (k.measures&MeasureLast == 0 || k.last.before(last)) {
		k.last = last
	}
	k.measures |= m & (MeasureFirst | MeasureLast)
}

func (k *keptValue) merge(from *keptValue) {
	k.ends(from.measures, from.first, from.last)
	if from.distinct != nil {
		if k.distinct == nil {
			k.distinct = new(sketches.Distinct)
		}
		k.distinct.Merge(from.distinct)
	}
	if from.top != nil {
		if k.top == nil {
			k.top = sketches.NewTopK(from.top.Capacity())
		}
		k.top.Merge(from.top)
	}
}

// bytes is about what it takes in memory, and the same for equal contents.
func (k *keptValue) bytes() (n int) {
	n = 64
	if k.distinct != nil {
		n += 64 + k.distinct.StateBytes()
	}
	if k.top != nil {
		n += 96 + k.top.Bytes()
	}
	return n
}
