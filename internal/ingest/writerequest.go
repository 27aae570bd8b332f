package ingest

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/vigie-io/vigie/pkg/series"
)

// metricType is the type that remote write metadata gives; the numbers are those of both protocol versions.
type metricType uint8

const (
	typeUnknown metricType = iota
	typeCounter
	typeGauge
	typeHistogram
	typeGaugeHistogram
	typeSummary
	typeInfo
	typeStateSet
)

// writeSample is one float sample; times are Unix milliseconds, start is 0 when unknown.
type writeSample struct {
	value       float64
	time, start int64
}

// writeSeries is one TimeSeries message of either version. Strings point into the request's body. labels are
// as they were sent: unsorted and unchecked. invalid says why the series cannot be read, "" when it can.
type writeSeries struct {
	labels     []series.Label
	samples    []writeSample
	histograms []writeHistogram
	exemplars  int
	kind       metricType
	help, unit string
	invalid    string

	refs []uint64 // scratch
}

func (s *writeSeries) reset() {
	s.labels, s.samples, s.histograms = s.labels[:0], s.samples[:0], s.histograms[:0]
	s.exemplars, s.kind, s.help, s.unit, s.invalid = 0, typeUnknown, "", "", ""
}

// nextHistogram makes room for one more, and keeps the slices of earlier use.
func (s *writeSeries) nextHistogram() *writeHistogram {
	if len(s.histograms) < cap(s.histograms) {
		s.histograms = s.histograms[:len(s.histograms)+1]
	} else {
		s.histograms = append(s.histograms, writeHistogram{})
	}
	h := &s.histograms[len(s.histograms)-1]
	h.reset()
	return h
}

// writeMetadata is one MetricMetadata message of remote write 1.0.
type writeMetadata struct {
	family, help, unit string
	kind               metricType
}

// decodeWrite1 walks a prometheus.WriteRequest. scratch is reused for every series; the callbacks must not
// retain what they get. An error means that the message is broken; what came before has been visited.
func decodeWrite1(body []byte, scratch *writeSeries, onSeries func(*writeSeries), onMetadata func(writeMetadata)) error {
	return walk(body, func(f field) error {
		switch f.num {
		case 1:
			if err := f.expect(protowire.BytesType); err != nil {
				return err
			}
			scratch.reset()
			if err := scratch.decode1(f.bytes); err != nil {
				return err
			}
			onSeries(scratch)
		case 3:
			metadata, err := decodeMetadata1(f)
			if err != nil {
				return err
			}
			onMetadata(metadata)
		}
		return nil
	})
}

func (s *writeSeries) decode1(message []byte) (err error) {
	for f := (field{}); len(message) > 0; {
		if message, err = f.next(message); err != nil {
			return err
		}
		if f.num > 4 {
			continue
		}
		if err := f.expect(protowire.BytesType); err != nil {
			return err
		}
		switch f.num {
		case 1:
			err = s.decodeLabel1(f.bytes)
		case 2:
			err = s.decodeSample(f.bytes)
		case 3:
			s.exemplars++
		case 4:
			err = s.nextHistogram().decode(f.bytes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *writeSeries) decodeLabel1(message []byte) (err error) {
	var label series.Label
	for f := (field{}); len(message) > 0; {
		if message, err = f.next(message); err != nil {
			return err
		}
		if f.num > 2 {
			continue
		}
		if err := f.expect(protowire.BytesType); err != nil {
			return err
		}
		if f.num == 1 {
			label.Name = view(f.bytes)
		} else {
			label.Value = view(f.bytes)
		}
	}
	s.labels = append(s.labels, label)
	return nil
}

func (s *writeSeries) decodeSample(message []byte) (err error) {
	var sample writeSample
	for f := (field{}); len(message) > 0; {
		if message, err = f.next(message); err != nil {
			return err
		}
		want := protowire.VarintType
		switch f.num {
		case 1:
			sample.value, want = f.double(), protowire.Fixed64Type
		case 2:
			sample.time = f.int64()
		case 3:
			sample.start = f.int64()
		default:
			continue
		}
		if err := f.expect(want); err != nil {
			return err
		}
	}
	s.samples = append(s.samples, sample)
	return nil
}

func decodeMetadata1(f field) (writeMetadata, error) {
	var m writeMetadata
	if err := f.expect(protowire.BytesType); err != nil {
		return m, err
	}
	err := walk(f.bytes, func(f field) error {
		switch f.num {
		case 1:
			m.kind = typeOf(f.number)
			return f.expect(protowire.VarintType)
		case 2:
			m.family = view(f.bytes)
		case 4:
			m.help = view(f.bytes)
		case 5:
			m.unit = view(f.bytes)
		default:
			return nil
		}
		return f.expect(protowire.BytesType)
	})
	return m, err
}

// decodeWrite2 walks an io.prometheus.write.v2.Request. symbols and scratch are reused; otherwise as decodeWrite1.
// The symbols are gathered first: protobuf does not promise that they come before the series.
func decodeWrite2(body []byte, symbols []string, scratch *writeSeries, onSeries func(*writeSeries)) ([]string, error) {
	symbols = symbols[:0]
	err := walk(body, func(f field) error {
		if f.num != 4 {
			return nil
		}
		symbols = append(symbols, view(f.bytes))
		return f.expect(protowire.BytesType)
	})
	if err != nil {
		return symbols, err
	}
	if len(symbols) > 0 && symbols[0] != "" {
		return symbols, fmt.Errorf("%w: the first symbol must be the empty string", errWire)
	}
	return symbols, walk(body, func(f field) error {
		if f.num != 5 {
			return nil
		}
		if err := f.expect(protowire.BytesType); err != nil {
			return err
		}
		scratch.reset()
		if err := scratch.decode2(f.bytes, symbols); err != nil {
			return err
		}
		onSeries(scratch)
		return nil
	})
}

func (s *writeSeries) decode2(message []byte, symbols []string) error {
	s.refs = s.refs[:0]
	err := walk(message, func(f field) (err error) {
		if f.num == 1 {
			s.refs, err = f.appendVarints(s.refs)
			return err
		}
		if f.num > 5 {
			return nil
		}
		if err := f.expect(protowire.BytesType); err != nil {
			return err
		}
		switch f.num {
		case 2:
			return s.decodeSample(f.bytes)
		case 3:
			return s.nextHistogram().decode(f.bytes)
		case 4:
			s.exemplars++
		case 5:
			return s.decodeMetadata2(f.bytes, symbols)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.resolve(symbols)
	return nil
}

// resolve turns label references into labels. A wrong reference spoils its series, not the request.
func (s *writeSeries) resolve(symbols []string) {
	if len(s.refs)%2 != 0 {
		s.invalid = fmt.Sprintf("labels_refs has %d entries: want pairs of name and value", len(s.refs))
		return
	}
	for i := 0; i < len(s.refs); i += 2 {
		name, value := s.refs[i], s.refs[i+1]
		if max(name, value) >= uint64(len(symbols)) {
			s.invalid = fmt.Sprintf("labels_refs names symbol %d of %d", max(name, value), len(symbols))
			return
		}
		s.labels = append(s.labels, series.Label{Name: symbols[name], Value: symbols[value]})
	}
}

func (s *writeSeries) decodeMetadata2(message []byte, symbols []string) error {
	symbol := func(ref uint64) string {
		if ref >= uint64(len(symbols)) {
			s.invalid = fmt.Sprintf("metadata names symbol %d of %d", ref, len(symbols))
			return ""
		}
		return symbols[ref]
	}
	return walk(message, func(f field) error {
		switch f.num {
		case 1:
			s.kind = typeOf(f.number)
		case 3:
			s.help = symbol(f.number)
		case 4:
			s.unit = symbol(f.number)
		default:
			return nil
		}
		return f.expect(protowire.VarintType)
	})
}

func typeOf(number uint64) metricType {
	if number > uint64(typeStateSet) {
		return typeUnknown
	}
	return metricType(number)
}
