package windowed

import (
	"unsafe"

	"github.com/vigie-io/vigie/internal/pipeline/aggregate"
)

// contents are what a series has in a window.
type contents struct {
	aggregate.Distribution
	begun  bool
	logged uint32     // bytes in the log, once it is there
	more   *keptValue // of rules with a Keep
}

func (v *contents) begin() {
	if !v.begun {
		v.begun = true
		v.Reset()
	}
}

func (v *contents) add(m *aggregate.Measurement, p *Particular) {
	v.begin()
	v.Take(m)
	if p.keep != nil {
		if v.more == nil {
			v.more = new(keptValue)
		}
		v.more.add(p, m.Value)
	}
}

func (v *contents) mergeFrom(from *contents) {
	v.begin()
	v.Merge(&from.Distribution)
	if from.more != nil {
		if v.more == nil {
			v.more = new(keptValue)
		}
		v.more.merge(from.more)
	}
}

// bytes is an estimate, of what the count says: it is asked for at each event, and after a restore it has to be the
// same. 1024 buckets hold values up to 65,536 times the least.
func (v *contents) bytes() int {
	n := int(unsafe.Sizeof(*v)) + 8*int(min(v.Count, 1024))
	if v.more != nil {
		n += v.more.bytes()
	}
	return n
}
