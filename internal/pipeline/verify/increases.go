package verify

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// fileIdle is how long a series of files may be silent, in event time, before it may begin anew (docs/backfill.md).
const fileIdle = 24 * time.Hour

// fileIncrease is a rule of measure increase as files fill it: from the samples of all files of a set, in the order of
// time.
type fileIncrease struct {
	*rule
	id   uint64 // in LoadedFile.Parts
	take func(e *event, d *derived, part string)
}

// fileSamples are the metrics of files that such rules take. They wait for all that come before them in time.
type fileSamples struct {
	rules   []fileIncrease
	most    int  // that may wait
	full    bool // more came: they are not in order, and what they count is not known
	waiting []fileSample
	series  map[string]*fileSeries
	numbers map[string]int   // of series, whatever their unit
	sets    map[string]int32 // in the place of partitions, negative
	key     []byte
}

type fileSample struct {
	of          *fileSeries
	file        *LoadedFile
	time, start int64
	value       float64
}

const fileSampleBytes = int64(unsafe.Sizeof(fileSample{}))

// fileSeries is what samples of a series, of one unit, have in common.
type fileSeries struct {
	events.Metric
	number int
}

// newFileSamples keeps them in a quarter of a recount's memory.
func newFileSamples(memory int64) fileSamples {
	return fileSamples{
		most: int(memory / 4 / fileSampleBytes), series: map[string]*fileSeries{}, numbers: map[string]int{},
		sets: map[string]int32{},
	}
}

// add takes the metric of a row.
func (s *fileSamples) add(e *event) {
	m := &e.metric
	if m.Stale || m.Histogram != nil || m.Kind != events.Cumulative && m.Kind != events.Delta ||
		!slices.ContainsFunc(s.rules, func(of fileIncrease) bool { return of.wants(e) }) {
		return
	}
	s.waiting = append(s.waiting, fileSample{s.seriesOf(m), e.file, m.Time, m.Start, m.Value})
	if s.full = s.full || len(s.waiting) > s.most; s.full {
		s.count()
	}
}

// seriesOf finds the series of a metric. It keeps nothing of the batch that the metric is of.
func (s *fileSamples) seriesOf(m *events.Metric) *fileSeries {
	s.key = append(append(s.key[:0], m.Tenant...), 0)
	s.key = series.AppendKey(s.key, byte(m.Kind), m.Name, m.Labels)
	number, known := s.numbers[string(s.key)]
	if !known {
		number = len(s.numbers)
		s.numbers[string(s.key)] = number
	}
	s.key = append(append(s.key, 0), m.Unit...)
	of := s.series[string(s.key)]
	if of == nil {
		of = &fileSeries{number: number, Metric: events.Metric{
			Tenant: strings.Clone(m.Tenant), Kind: m.Kind, Name: strings.Clone(m.Name), Unit: strings.Clone(m.Unit),
		}}
		for _, l := range m.Labels {
			of.Labels = append(of.Labels, series.Label{Name: strings.Clone(l.Name), Value: strings.Clone(l.Value)})
		}
		s.series[string(s.key)] = of
	}
	return of
}

// release counts what waits when all files have been read, and calls after behind each sample.
func (s *fileSamples) release(after func() error) error {
	slices.SortFunc(s.waiting, func(a, b fileSample) int {
		// Of several that a series has at one time the earliest start comes first, and then the greatest: only the
		// first counts.
		return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.of.number, b.of.number),
			cmp.Compare(a.start, b.start), cmp.Compare(b.value, a.value), strings.Compare(a.of.Unit, b.of.Unit))
	})
	for i := range s.waiting {
		s.give(&s.waiting[i])
		if err := after(); err != nil {
			return err
		}
	}
	s.waiting = nil
	return nil
}

// count counts what waits, of which the order is not known.
func (s *fileSamples) count() {
	for i := range s.waiting {
		s.give(&s.waiting[i])
	}
	s.waiting = s.waiting[:0]
}

// give gives a sample to the rules. A file's clock is that of its events.
func (s *fileSamples) give(sample *fileSample) {
	m := sample.of.Metric
	m.Time, m.Start, m.Value = sample.time, sample.start, sample.value
	e := &event{timestamp: m.Time, metric: m, file: sample.file, unknown: s.full}
	e.fields = metricFields{&e.metric}
	for _, of := range s.rules {
		if part := sample.file.Parts[of.id]; part != "" {
			e.partition = s.set(part)
			of.derive(e, func(d derived) { of.take(e, &d, part) })
		}
	}
}

// set numbers the sets of files: each begins with counters of its own.
func (s *fileSamples) set(part string) int32 {
	n, known := s.sets[part]
	if !known {
		n = -1 - int32(len(s.sets))
		s.sets[part] = n
	}
	return n
}
