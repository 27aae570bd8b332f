package pipeline

import "unsafe"

// windowValue is what a series has in a window.
type windowValue struct {
	distribution
	begun  bool
	logged uint32     // bytes in the log, once it is there
	more   *keptValue // of rules with a Keep
}

func (v *windowValue) begin() {
	if !v.begun {
		v.begun = true
		v.reset()
	}
}

func (v *windowValue) add(m *measurement, p *particular) {
	v.begin()
	v.take(m)
	if p.keep != nil {
		if v.more == nil {
			v.more = new(keptValue)
		}
		v.more.add(p, m.value)
	}
}

func (v *windowValue) mergeFrom(from *windowValue) {
	v.begin()
	v.merge(&from.distribution)
	if from.more != nil {
		if v.more == nil {
			v.more = new(keptValue)
		}
		v.more.merge(from.more)
	}
}

// bytes is an estimate, of what the count says: it is asked for at each event, and after a restore it has to be the same.
// 1024 buckets hold values up to 65,536 times the least.
func (v *windowValue) bytes() int {
	n := int(unsafe.Sizeof(*v)) + 8*int(min(v.count, 1024))
	if v.more != nil {
		n += v.more.bytes()
	}
	return n
}
