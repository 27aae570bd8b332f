package alerting

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"github.com/vigie-io/vigie/internal/pipeline/aggregate"
	"github.com/vigie-io/vigie/internal/pipeline/state"
	"github.com/vigie-io/vigie/pkg/rules"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// slice is what a key got in one step of event time.
type slice struct {
	rules.Totals
	index    int64 // it holds [index*every, (index+1)*every)
	lastTime int64
	noted    bool // in the epoch's undo
}

func newSlice(index int64, sketched bool) *slice {
	s := &slice{index: index, Totals: rules.Totals{Min: math.Inf(1), Max: math.Inf(-1)}}
	if sketched {
		s.Sketch = new(sketches.Sketch)
	}
	return s
}

// add takes an event; hit says whether it met the rule's second condition.
func (s *slice) add(time int64, m *aggregate.Measurement, hit bool) {
	count := uint64(1)
	if h := m.Histogram; h != nil {
		count = aggregate.Count(h)
		s.Sum += h.Sum
		aggregate.Widen(&s.Min, &s.Max, h.Min, h.Max)
		if s.Sketch != nil {
			aggregate.Observe(s.Sketch, h)
		}
	} else {
		s.Sum += m.Value
		aggregate.Widen(&s.Min, &s.Max, m.Value, m.Value)
		if time > s.lastTime || time == s.lastTime && m.Value > s.Last {
			s.lastTime, s.Last = time, m.Value
		}
		if s.Sketch != nil {
			s.Sketch.Add(m.Value)
		}
	}
	s.Count += count
	if hit {
		s.Hits += count
	}
}

// append appends the slice's form in state: docs/format/state.md.
func (s *slice) append(dst []byte) []byte {
	dst = binary.AppendVarint(dst, s.index)
	dst = binary.AppendUvarint(dst, s.Count)
	dst = binary.AppendUvarint(dst, s.Hits)
	dst = state.AppendFloat(state.AppendFloat(state.AppendFloat(dst, s.Sum), s.Min), s.Max)
	dst = state.AppendFloat(binary.AppendVarint(dst, s.lastTime), s.Last)
	if s.Sketch == nil {
		return append(dst, 0)
	}
	return s.Sketch.AppendDD(append(dst, 1))
}

var errSlice = errors.New("slice of an alert ends early, or goes on")

func decodeSlice(src []byte) (*slice, error) {
	r := state.Reader{Rest: src}
	s := &slice{index: r.Varint()}
	s.Count, s.Hits = r.Uvarint(), r.Uvarint()
	s.Sum, s.Min, s.Max = r.Float(), r.Float(), r.Float()
	s.lastTime, s.Last = r.Varint(), r.Float()
	if sketched := r.Byte(); sketched == 1 {
		s.Sketch = new(sketches.Sketch)
		n, err := s.Sketch.DecodeDD(r.Rest)
		if err != nil {
			return nil, err
		}
		r.Skip(n)
	} else if sketched != 0 {
		return nil, errSlice
	}
	if r.Bad || len(r.Rest) > 0 {
		return nil, errSlice
	}
	return s, nil
}

// instance is one alert of a rule and tenant: a combination of labels.
type instance struct {
	name   string   // a series key, of the alert's name and labels
	slices []*slice // ascending in index
	status rules.Status
	quiet  int64 // step at which nothing was left to judge; 0: something is
	told   uint8 // severity that was told last

	logged       slotSet // what the log holds
	statusLogged bool

	touched bool // in its book's touched
	noted   bool // its status, in the epoch's undo
	changed []int64
}

// silentSince says whether a key has no slice from an index on.
func (k *instance) silentSince(index int64) bool {
	n := len(k.slices)
	return n == 0 || k.slices[n-1].index < index
}

// at finds the slice with the index.
func (k *instance) at(index int64) (pos int, found bool) {
	if n := len(k.slices); n > 0 && k.slices[n-1].index <= index {
		if k.slices[n-1].index == index {
			return n - 1, true
		}
		return n, false
	}
	return slices.BinarySearchFunc(k.slices, index, func(s *slice, index int64) int { return cmp.Compare(s.index, index) })
}

// empty says whether there is nothing to remember of the key.
func (k *instance) empty() bool { return len(k.slices) == 0 && k.status.State == rules.Inactive }

// totals adds up the slices with indexes in [from, to). into's sketch, when it has one, is emptied first.
func (k *instance) totals(into *rules.Totals, from, to int64) {
	sketch := into.Sketch
	*into = rules.Totals{Min: math.Inf(1), Max: math.Inf(-1), Sketch: sketch}
	if sketch != nil {
		sketch.Reset()
	}
	start, _ := k.at(from)
	for _, s := range k.slices[start:] {
		if s.index >= to {
			break
		}
		into.Count += s.Count
		into.Hits += s.Hits
		into.Sum += s.Sum
		into.Min, into.Max = min(into.Min, s.Min), max(into.Max, s.Max)
		if s.lastTime != 0 {
			into.Last = s.Last
		}
		if sketch != nil && s.Sketch != nil {
			sketch.Merge(s.Sketch)
		}
	}
}

// slotSet is a set of small numbers.
type slotSet []uint64

func (s *slotSet) set(n int64, in bool) {
	for int64(len(*s)) <= n/64 {
		*s = append(*s, 0)
	}
	if in {
		(*s)[n/64] |= 1 << (n % 64)
	} else {
		(*s)[n/64] &^= 1 << (n % 64)
	}
}

func (s slotSet) each(fn func(n int64)) {
	for i, word := range s {
		for n := range int64(64) {
			if word&(1<<n) != 0 {
				fn(int64(i)*64 + n)
			}
		}
	}
}
