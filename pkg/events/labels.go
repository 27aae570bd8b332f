package events

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/vigie-io/vigie/pkg/series"
)

// labels reads an object of texts into the label arena.
func (w *work) labels(dst *series.Labels) bool {
	s, c := w.s, &w.out.scratch
	if b := s.space(); b != '{' {
		return s.other(b, `an object of texts, such as {"service":"checkout"}`)
	}
	s.pos++
	from, words := len(c.labels), &s.keys.labels
	at, version := words.start(), words.version
	s.ranks = s.ranks[:0]
	for first := true; ; first = false {
		name, more, ok := s.nextKey(first, &at)
		if !ok {
			return false
		}
		if !more {
			break
		}
		s.field = "labels"
		value, ok := w.labelValue(name)
		if !ok {
			return false
		}
		w.checkLabel(name, value)
		if len(value) == 0 || len(c.labels)-from > w.opts.MaxLabels {
			continue
		}
		c.labels = append(c.labels, series.Label{Name: name, Value: value})
		s.ranks = append(s.ranks, uint64(at.rankOf()))
	}
	given := c.labels[from:]
	switch {
	case len(given) == 0:
	case len(given) > w.opts.MaxLabels:
		w.tooMany("labels", w.opts.MaxLabels)
	case s.fault.reason == "" && words.version == version && s.byRank(given):
		*dst = given[:len(given):len(given)]
	default:
		*dst = w.sorted(from)
	}
	return true
}

// labelValue reads the value of a label; null is the same as the empty text.
func (w *work) labelValue(name string) (value string, ok bool) {
	s := w.s
	switch b := s.space(); {
	case b == '"':
		text, ok := s.text()
		return view(text), ok
	case b == 'n' && s.buf[s.pos+1] == 'u':
		return "", s.literal("null")
	default:
		return "", s.other(b, "a text in quotes as value of label "+quoted([]byte(name)))
	}
}

// checkLabel refuses a metric label that a series cannot have.
func (w *work) checkLabel(name, value string) {
	switch {
	case len(name) == 0:
		w.s.refuse(ReasonBadLabel, "a label has no name")
	case len(name) > w.opts.MaxName:
		w.s.refuse(ReasonTooLong,
			fmt.Sprintf("label name %s has %d bytes, the limit is %d", quoted([]byte(name)), len(name), w.opts.MaxName))
	case len(value) > w.opts.MaxValue:
		w.s.refuse(ReasonTooLong,
			fmt.Sprintf("label %s has a value of %d bytes, the limit is %d", quoted([]byte(name)), len(value), w.opts.MaxValue))
	case name == "__name__":
		w.s.refuse(ReasonBadLabel, `label "__name__" is reserved; write the name into the field name`)
	}
}

func (w *work) tooMany(what string, limit int) {
	w.s.refuse(ReasonTooManyLabels,
		fmt.Sprintf("the event has more than %d %s; leave those out that tell no series apart", limit, what))
}

// sorted makes labels of the arena's end.
func (w *work) sorted(from int) series.Labels {
	c := &w.out.scratch
	if from == len(c.labels) {
		return nil
	}
	labels, err := series.Sort(c.labels[from:])
	switch {
	case err == nil:
	case errors.Is(err, series.ErrDuplicateName):
		w.s.refuse(ReasonDuplicateLabel, err.Error()+"; an event holds a name once")
	default:
		w.s.refuse(ReasonBadLabel, err.Error())
	}
	c.labels = c.labels[:from+len(labels)]
	return labels[:len(labels):len(labels)]
}

// attributeReader collects the attributes of one span or log in the label arena: those of its object, and
// the fields the contract does not know.
type attributeReader struct {
	w    *work
	from int
}

func (w *work) attributes() attributeReader { return attributeReader{w, len(w.out.scratch.labels)} }

// object reads the field attributes.
func (a attributeReader) object() bool {
	s := a.w.s
	if c := s.space(); c != '{' {
		return s.other(c, "an object of attributes")
	}
	s.pos++
	at := s.keys.labels.start()
	for first := true; ; first = false {
		key, more, ok := s.nextKey(first, &at)
		if !ok || !more {
			return ok
		}
		if !a.value(key, 2) {
			return false
		}
	}
}

// value reads one attribute of any type: texts as they are, the rest as JSON text; null is no attribute.
func (a attributeReader) value(name string, depth int) bool {
	s := a.w.s
	s.field = "attributes"
	var value []byte
	if s.space() == '"' {
		var ok bool
		if value, ok = s.text(); !ok {
			return false
		}
	} else {
		start := s.pos
		if !s.skip(depth) {
			return false
		}
		if value = s.buf[start:s.pos]; string(value) == "null" {
			return true
		}
		if !utf8.Valid(value) {
			s.refuse(ReasonInvalidUTF8, "attribute "+quoted([]byte(name))+" is not UTF-8")
		}
	}
	a.add(name, view(value))
	return true
}

func (a attributeReader) add(name, value string) {
	w, c := a.w, &a.w.out.scratch
	switch {
	case name == "":
		w.s.refuse(ReasonBadLabel, "an attribute has no name")
	case len(name) > w.opts.MaxName:
		w.s.refuse(ReasonTooLong,
			fmt.Sprintf("attribute name %s has %d bytes, the limit is %d", quoted([]byte(name)), len(name), w.opts.MaxName))
	case len(value) > w.opts.MaxAttribute:
		w.s.refuse(ReasonTooLong,
			fmt.Sprintf("attribute %s has a value of %d bytes, the limit is %d", quoted([]byte(name)),
				len(value), w.opts.MaxAttribute))
	case len(c.labels)-a.from >= w.opts.MaxAttributes:
		w.tooMany("attributes", w.opts.MaxAttributes)
	case value != "":
		c.labels = append(c.labels, series.Label{Name: name, Value: value})
	}
}

func (a attributeReader) sorted() series.Labels {
	a.w.s.field = "attributes"
	return a.w.sorted(a.from)
}
