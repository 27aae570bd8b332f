package events

import "bytes"

// repeat puts the event at pos into the batch without decoding it, when it is known. Otherwise the scanner is as
// before.
func (w *work) repeat() bool {
	s, r, b := w.s, w.src.Repeats, w.src.Value
	if r.used == 0 {
		return false
	}
	l := w.src.Look
	if l != nil && s.pos > 0 {
		l = nil // it is of another event
	}
	if l != nil && l.way != byBytes || l == nil && r.vain.hopeless() {
		return false
	}
	var e Repeat
	p := cut{start: s.pos}
	if l != nil && l.Missed() {
		if e, p = l.Repeat, l.cut; !endOf(b, &p) || p.end == l.cut.end {
			return false // it is this event that was looked up
		}
	} else if !s.cutter.cut(r, b, &p, &e) || !endOf(b, &p) {
		r.tell(byBytes, false)
		return false
	}
	if p.noTime {
		if e.Time = w.src.Timestamp; e.Time <= 0 {
			return false
		}
	}
	ref, ok := r.find(r.digest(b, &p))
	if r.tell(byBytes, ok); !ok {
		return false
	}
	e.Index, e.Ref = w.out.Events, ref
	w.out.Events++
	if p.noTime {
		w.out.NoTime++
	}
	w.out.Repeats = append(w.out.Repeats, e)
	s.pos = p.end
	return true
}

// endOf guesses where the event ends: at a brace behind which the record ends or another event begins.
func endOf(b []byte, p *cut) bool {
	i := p.afterSecond
	if p.noTime {
		i = p.afterFirst
	}
	for {
		n := bytes.IndexByte(b[i:], '}')
		if n < 0 {
			return false
		}
		i += n + 1
		at := spaces(b, i)
		if at < len(b) && b[at] == ',' {
			at = spaces(b, at+1)
		}
		if at >= len(b) || b[at] == '{' || b[at] == ']' {
			p.end = i
			return true
		}
	}
}

// spaces is where white space from i on ends.
func spaces(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// unordered says whether the record is one event that was looked up by its unordered digest, in vain.
func (w *work) unordered() bool {
	l := w.src.Look
	return l != nil && l.way == unordered && l.Missed()
}

// learnable gives an event that was decoded in full its digest, if it is worth one. time and value are where they
// stand; time is nowhere when there is none.
func (w *work) learnable(m *Metric, start int, time, value [2]int) {
	r := w.src.Repeats
	if w.unordered() {
		m.Digest = w.src.Look.digest
		return
	}
	if !r.worthLearning() {
		return
	}
	p := cut{start: start, end: w.s.pos, noTime: !w.s.has(fieldTime)}
	switch {
	case p.noTime:
		p.first, p.afterFirst = value[0], value[1]
	case value[0] < time[0]:
		p.first, p.afterFirst, p.second, p.afterSecond = value[0], value[1], time[0], time[1]
	default:
		p.first, p.afterFirst, p.second, p.afterSecond = time[0], time[1], value[0], value[1]
	}
	r.heads.remember(p.first - start)
	if !p.noTime {
		r.gaps.remember(p.second - p.afterFirst)
	}
	m.Digest = r.digest(w.src.Value, &p)
}
