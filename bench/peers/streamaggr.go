package main

import (
	"strings"
	"unsafe"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/streamaggr"
)

// batch is how many samples are pushed together.
const batch = 1000

// aggregation is the same job in VictoriaMetrics' own words, but that windows are those of arrival. Its results are
// counted and dropped, which vmagent would send on.
const aggregation = `
- interval: 10s
  outputs: [count_samples, "quantiles(0.5, 0.95, 0.99)"]
  flush_on_shutdown: true
  no_align_flush_to_interval: true
`

// aggregator decodes with fastjson and aggregates with VictoriaMetrics' stream aggregation.
type aggregator struct {
	scan          *fastScanner
	to            *streamaggr.Aggregators
	series        []prompb.TimeSeries
	labels        []prompb.Label
	samples       []prompb.Sample
	text          []byte // that labels point to
	matched       []uint32
	bad           int
	counted, rows int // of results
}

func newAggregator() (*aggregator, error) {
	a := &aggregator{scan: newFastScanner()}
	var err error
	a.to, err = streamaggr.LoadFromData([]byte(aggregation), a.flushed, &streamaggr.Options{}, "bench")
	return a, err
}

// flushed gets results, from one goroutine at a time.
func (a *aggregator) flushed(results []prompb.TimeSeries) {
	for i := range results {
		for _, l := range results[i].Labels {
			if l.Name == "__name__" && strings.HasSuffix(l.Value, "_count_samples") {
				a.rows++
				for _, s := range results[i].Samples {
					a.counted += int(s.Value)
				}
			}
		}
	}
}

func (a *aggregator) take(_ int32, value []byte) {
	s := a.scan
	if !s.scan(value) {
		a.bad++
		return
	}
	from := len(a.labels)
	a.label("__name__", s.name)
	a.label("tenant", s.tenant)
	for _, l := range s.labels {
		a.label(a.own(l.name), l.value)
	}
	at := len(a.samples)
	a.samples = append(a.samples, prompb.Sample{Value: s.value, Timestamp: s.time})
	a.series = append(a.series, prompb.TimeSeries{
		Labels: a.labels[from:len(a.labels):len(a.labels)], Samples: a.samples[at : at+1 : at+1],
	})
	if len(a.series) == batch {
		a.push()
	}
}

func (a *aggregator) label(name string, value []byte) {
	a.labels = append(a.labels, prompb.Label{Name: name, Value: a.own(value)})
}

// own copies b into the batch's text.
func (a *aggregator) own(b []byte) string {
	if len(a.text)+len(b) > cap(a.text) {
		a.text = make([]byte, 0, 1<<20) // the old one lives while its labels do
	}
	from := len(a.text)
	a.text = append(a.text, b...)
	return unsafe.String(unsafe.SliceData(a.text[from:]), len(b))
}

func (a *aggregator) push() {
	a.matched = a.to.Push(a.series, a.matched)
	a.series, a.labels, a.samples, a.text = a.series[:0], a.labels[:0], a.samples[:0], a.text[:0]
}

func (a *aggregator) polled() error { return nil }

func (a *aggregator) finish() (report, error) {
	a.push()
	a.to.MustStop()
	return report{Counted: a.counted, Bad: a.bad, Results: a.rows}, nil
}
