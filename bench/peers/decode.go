package main

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/valyala/fastjson"
)

// metric is an event as encoding/json reads it.
type metric struct {
	Tenant string            `json:"tenant"`
	Time   int64             `json:"time"`
	Name   string            `json:"name"`
	Value  *float64          `json:"value"`
	Labels map[string]string `json:"labels"`
}

// decodeStandard is what is written first.
func decodeStandard(value []byte, e *event) bool {
	var m metric
	if json.Unmarshal(value, &m) != nil || m.Name == "" || m.Value == nil || m.Time == 0 {
		return false
	}
	names := make([]string, 0, len(m.Labels))
	for name := range m.Labels {
		names = append(names, name)
	}
	slices.Sort(names)
	e.time, e.value = m.Time, *m.Value
	e.key = append(append(append(e.key[:0], m.Tenant...), 0), m.Name...)
	for _, name := range names {
		e.key = append(append(append(append(e.key, 0), name...), 1), m.Labels[name]...)
	}
	return true
}

// label is one of a series.
type label struct{ name, value []byte }

// newFastDecoder is what is written when the first is too slow: fastjson, with a parser and memory that are used again.
func newFastDecoder() func(value []byte, e *event) bool {
	scan := newFastScanner()
	return func(value []byte, e *event) bool {
		if !scan.scan(value) {
			return false
		}
		e.time, e.value = scan.time, scan.value
		e.key = append(append(append(e.key[:0], scan.tenant...), 0), scan.name...)
		for _, l := range scan.labels {
			e.key = append(append(append(append(e.key, 0), l.name...), 1), l.value...)
		}
		return true
	}
}

// fastScanner holds the fields of an event, labels by name; they are good until the next.
type fastScanner struct {
	parser       fastjson.Parser
	time         int64
	value        float64
	tenant, name []byte
	labels       []label
	visit        func(key []byte, v *fastjson.Value)
}

func newFastScanner() *fastScanner {
	s := new(fastScanner)
	s.visit = func(key []byte, v *fastjson.Value) {
		s.labels = append(s.labels, label{key, v.GetStringBytes()})
	}
	return s
}

func (s *fastScanner) scan(value []byte) bool {
	v, err := s.parser.ParseBytes(value)
	if err != nil {
		return false
	}
	number := v.Get("value")
	if number == nil || number.Type() != fastjson.TypeNumber {
		return false
	}
	s.time, s.value = v.GetInt64("time"), number.GetFloat64()
	s.tenant, s.name = v.GetStringBytes("tenant"), v.GetStringBytes("name")
	s.labels = s.labels[:0]
	if labels := v.GetObject("labels"); labels != nil {
		labels.Visit(s.visit)
	}
	if s.time == 0 || len(s.name) == 0 {
		return false
	}
	if !slices.IsSortedFunc(s.labels, compareLabels) {
		slices.SortFunc(s.labels, compareLabels)
	}
	return true
}

func compareLabels(a, b label) int { return strings.Compare(string(a.name), string(b.name)) }
