package promql

import (
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// millis is a Unix time in milliseconds. Iterators' Seek takes it under this name so that vet does not mistake
// the method for io.Seeker's.
type millis = int64

// set is a SeriesSet that reads when it is first asked: the engine selects everything before it evaluates
// anything, and a query that fails early should read nothing.
type set struct {
	load     func() ([]storage.Series, annotations.Annotations, error)
	series   []storage.Series
	at       int
	warnings annotations.Annotations
	err      error
}

func (s *set) Next() bool {
	if s.load != nil {
		s.series, s.warnings, s.err = s.load()
		s.load, s.at = nil, -1
	}
	s.at++
	return s.err == nil && s.at < len(s.series)
}

func (s *set) At() storage.Series                { return s.series[s.at] }
func (s *set) Err() error                        { return s.err }
func (s *set) Warnings() annotations.Annotations { return s.warnings }
