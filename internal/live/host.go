// Package live measures what is really there, so that a fresh installation has something true to show: this host (Host)
// and Vigie's own metrics registries (Registry), both as events of the public contract.
//
// It sends nothing itself: whoever runs it gives it a way to the ingest door. The events carry no tenant; that comes
// from the credential they are sent with.
package live

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// maxParts bounds the disks, file systems, network interfaces and process names that get series of their own: a host
// with a thousand containers has thousands.
const maxParts = 24

// hostService is the label service of everything Host reports.
const hostService = "host"

// Host measures this host: processor, load, memory, file systems, disks, network interfaces, processes. Names follow
// node_exporter's with host_ in front: totals since boot are cumulative and end in _total, levels are gauges. Every
// event has the labels service="host" and instance, the host's name. Not safe for concurrent use.
type Host struct {
	instance  string
	parts     []part
	failures  map[string]float64
	processes processes
}

// part is one thing to measure.
type part struct {
	name    string
	measure func(ctx context.Context, s *sample) error
}

// NewHost prepares measuring; it cannot fail, and what cannot be measured on this host is counted in
// host_measure_errors_total{part} and left out.
func NewHost() *Host {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "localhost"
	}
	h := &Host{instance: name, failures: map[string]float64{}}
	h.parts = []part{
		{"cpu", measureCPU}, {"load", measureLoad}, {"memory", measureMemory}, {"filesystem", measureFilesystems},
		{"disk", measureDisks}, {"network", measureNetwork}, {"process", h.processes.measure},
	}
	return h
}

// Run measures at once and then every so often, until ctx ends, and gives the events to send. It returns nil when ctx
// ends and the first error of send otherwise. The events belong to send.
func (h *Host) Run(ctx context.Context, every time.Duration, send func(context.Context, []events.Metric) error) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		measured := h.Measure(ctx, time.Now())
		if ctx.Err() != nil {
			return nil
		}
		if err := send(ctx, measured); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("send %d host figures: %w", len(measured), err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Measure returns the host's figures as of now, in new memory. It takes some milliseconds.
func (h *Host) Measure(ctx context.Context, now time.Time) []events.Metric {
	s := &sample{now: now.UnixNano(), instance: h.instance}
	for _, p := range h.parts {
		if err := p.measure(ctx, s); err != nil {
			h.failures[p.name]++
		}
	}
	for _, p := range h.parts {
		s.total("host_measure_errors_total", "", h.failures[p.name], "part", p.name)
	}
	return s.metrics
}

// sample collects the events of one measurement.
type sample struct {
	now      int64
	instance string
	metrics  []events.Metric
}

// total adds a running total. namesAndValues are further labels, names and values in turn.
func (s *sample) total(name, unit string, value float64, namesAndValues ...string) {
	s.add(name, unit, events.Cumulative, value, namesAndValues)
}

// level adds a gauge.
func (s *sample) level(name, unit string, value float64, namesAndValues ...string) {
	s.add(name, unit, events.Gauge, value, namesAndValues)
}

func (s *sample) add(name, unit string, kind events.Kind, value float64, namesAndValues []string) {
	labels := []series.Label{{Name: "instance", Value: s.instance}, {Name: "service", Value: hostService}}
	for i := 0; i < len(namesAndValues); i += 2 {
		labels = append(labels, series.Label{Name: namesAndValues[i], Value: namesAndValues[i+1]})
	}
	sorted, err := series.Sort(labels)
	if err != nil {
		panic("BUG: host labels: " + err.Error())
	}
	s.metrics = append(s.metrics, events.Metric{Time: s.now, Name: name, Kind: kind, Value: value, Unit: unit, Labels: sorted})
}
