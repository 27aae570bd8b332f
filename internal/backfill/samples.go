package backfill

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// samples are the metrics of a chunk that rollups of measure increase take. As records of a run they are sorted by
// time, tenant and series: the key is these three, the value what samples have beside, one after the other.
type samples struct {
	names map[string]string
	all   []sample
	key   []byte
}

type sample struct {
	time, start int64
	value       float64
	name        string // tenant and canonical key of the series
	unit        string
}

// add is pipeline.TaskConfig.Increases.
func (s *samples) add(m *events.Metric) {
	s.key = binary.AppendUvarint(s.key[:0], uint64(len(m.Tenant)))
	s.key = series.AppendKey(append(s.key, m.Tenant...), byte(m.Kind), m.Name, m.Labels)
	s.all = append(s.all, sample{m.Time, m.Start, m.Value, s.name(s.key), s.name([]byte(m.Unit))})
}

func (s *samples) name(b []byte) string {
	name, known := s.names[string(b)]
	if !known {
		if s.names == nil {
			s.names = map[string]string{}
		}
		name = string(b)
		s.names[name] = name
	}
	return name
}

// emit calls put for the records of a run.
func (s *samples) emit(put put) error {
	slices.SortFunc(s.all, func(a, b sample) int {
		return cmp.Or(cmp.Compare(a.time, b.time), strings.Compare(a.name, b.name))
	})
	var key, value []byte
	for i := 0; i < len(s.all); {
		at := &s.all[i]
		key = append(binary.BigEndian.AppendUint64(key[:0], uint64(at.time)), at.name...)
		for value = value[:0]; i < len(s.all) && s.all[i].time == at.time && s.all[i].name == at.name; i++ {
			value = s.all[i].append(value)
		}
		if err := put(key, value); err != nil {
			return err
		}
	}
	return nil
}

func (s *sample) append(dst []byte) []byte {
	dst = binary.AppendVarint(dst, s.start)
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(s.value))
	dst = binary.AppendUvarint(dst, uint64(len(s.unit)))
	return append(dst, s.unit...)
}

// joinSamples makes one value of those of a key.
func joinSamples(dst []byte, values ...[]byte) ([]byte, error) {
	for _, value := range values {
		dst = append(dst, value...)
	}
	return dst, nil
}

var errSample = errors.New("it is no run of samples")

// sampleReader makes metrics of the records of a run.
type sampleReader struct {
	known map[string]events.Metric // by tenant and series
	all   []sample
}

// mostKnown bounds the series that are kept taken apart.
const mostKnown = 1 << 16

// each calls fn for the samples of a record. Of those that a series has at one time the one of the earliest start comes
// first, and then the greatest: of a cumulative series only the first counts.
func (r *sampleReader) each(key, value []byte, fn func(*events.Metric)) error {
	if len(key) < 8 {
		return errSample
	}
	time, name := int64(binary.BigEndian.Uint64(key)), key[8:]
	m, known := r.known[string(name)]
	if !known {
		var err error
		if m, err = parseName(name); err != nil {
			return err
		}
		if r.known == nil || len(r.known) == mostKnown {
			r.known = map[string]events.Metric{}
		}
		r.known[string(name)] = m
	}
	if err := r.decode(value); err != nil {
		return err
	}
	slices.SortFunc(r.all, func(a, b sample) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(b.value, a.value), strings.Compare(a.unit, b.unit))
	})
	for i := range r.all {
		m.Time, m.Start, m.Value, m.Unit = time, r.all[i].start, r.all[i].value, r.all[i].unit
		fn(&m)
	}
	return nil
}

func parseName(name []byte) (m events.Metric, err error) {
	size, n := binary.Uvarint(name)
	if n <= 0 || size > uint64(len(name)-n) {
		return m, errSample
	}
	m.Tenant = string(name[n : n+int(size)])
	kind, metric, labels, err := series.ParseKey(name[n+int(size):])
	m.Kind, m.Name, m.Labels = events.Kind(kind), metric, labels
	return m, err
}

func (r *sampleReader) decode(value []byte) error {
	r.all = r.all[:0]
	for len(value) > 0 {
		start, n := binary.Varint(value)
		if n <= 0 || len(value) < n+8 {
			return errSample
		}
		s := sample{start: start, value: math.Float64frombits(binary.LittleEndian.Uint64(value[n:]))}
		value = value[n+8:]
		size, n := binary.Uvarint(value)
		if n <= 0 || size > uint64(len(value)-n) {
			return errSample
		}
		s.unit, value = string(value[n:n+int(size)]), value[n+int(size):]
		r.all = append(r.all, s)
	}
	return nil
}
