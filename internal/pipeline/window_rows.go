package pipeline

import (
	"fmt"
	"math"
	"time"
	"unsafe"

	"github.com/vigie-io/vigie/internal/pipeline/aggregate"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/windows"
)

// Reasons for which an event is not in a window of a declared rollup.
const (
	// ReasonTooLate: the window has closed and its allowed lateness has passed.
	ReasonTooLate events.Reason = "too_late"
	// ReasonWindowLimit: the tenant has as many windows open in the rollup as it may.
	ReasonWindowLimit events.Reason = "window_limit"
	// ReasonNoSession: the event lacks a field that says whose session it is of.
	ReasonNoSession events.Reason = "no_session"
)

// window puts an event into the windows of a rollup's grouping, whose labels are t.labels.
func (t *Task) window(r *rollup, g *grouping, tenant string, time int64, m *aggregate.Measurement) {
	tn := t.named(tenant)
	if tn == nil {
		return
	}
	// Its series may have met a limit: what the windows take moves their watermark all the same.
	tn.seen, tn.newest = t.now, max(tn.newest, time)
	t.touch(tn)
	t.key = series.AppendKey(t.key[:0], byte(m.Kind), g.metric, t.labels)
	if verdict := t.windows.add(r.windowID, tn.name, t.key, time, m, &t.particular); verdict != windows.OnTime || r.late == windows.Divert {
		t.late(r, tn, unsafe.String(unsafe.SliceData(t.key), len(t.key)), time, m, verdict)
	}
}

// closeWindows writes the windows that the watermarks of changed tenants have passed, in the order of tenants, and then those of
// silent tenants, whose alerts it judges.
func (t *Task) closeWindows(out *Outputs) {
	if t.windows.idle() && t.alerts.idle() {
		return
	}
	part := fmt.Sprintf("%s/%d", t.cfg.Partition.Topic, t.cfg.Partition.Partition)
	emit := func(s *windowStore, e *windows.Emission[windowValue]) {
		what, kind, delta := outcome(e)
		t.tally.window(e.Tenant, what)
		out.addWindow(part, s, e, kind, delta)
	}
	t.clocks.watch(t.reach.Through)
	for _, tn := range t.dirty {
		t.windows.advance(tn.name, t.watermark(tn), emit)
		if t.windows.next(tn.name) < math.MaxInt64 || t.alerts.waits(tn.name) {
			t.clocks.note(tn.name, tn.newest, tn.seen)
		} else {
			t.clocks.drop(tn.name)
		}
	}
	for _, name := range t.clocks.silent() {
		t.windows.close(name, t.clocks.watermark(name), emit)
		t.silentAlerts(name, t.clocks.watermark(name))
		if t.windows.next(name) == math.MaxInt64 && !t.alerts.waits(name) {
			t.clocks.drop(name)
		}
	}
	t.windows.diverted.each(func(rule uint64, e *windows.Emission[windowValue], kind WindowKind, delta uint64) {
		t.tally.window(e.Tenant, windowDiverted)
		out.addWindow(part, t.windows.store(rule), e, kind, delta)
	})
}

func (o *Outputs) addWindow(part string, s *windowStore, e *windows.Emission[windowValue], kind WindowKind, delta uint64) {
	key := []byte(e.Key)
	measured, metric, labels, err := series.ParseKey(key)
	if err != nil {
		panic(fmt.Sprintf("BUG: series key %x: %v", key, err))
	}
	b := o.windows()
	v := e.Value
	if v == nil {
		v = new(windowValue)
	}
	v.begin()
	before := len(b.Sketch)
	b.Tenant = append(b.Tenant, e.Tenant)
	b.Metric = append(b.Metric, metric)
	b.Service = append(b.Service, labels.Get("service"))
	b.Series = append(b.Series, series.Hash(key))
	b.Labels = append(b.Labels, labels)
	b.Start = append(b.Start, e.Window.Start/int64(time.Second))
	b.End = append(b.End, e.Window.End/int64(time.Second))
	b.SeriesKind = append(b.SeriesKind, measured)
	b.Shape = append(b.Shape, s.shape)
	b.Rule = append(b.Rule, s.id)
	b.Part = append(b.Part, part)
	b.Version = append(b.Version, e.Version)
	b.Kind = append(b.Kind, kind)
	b.Delta = append(b.Delta, delta)
	b.Count = append(b.Count, v.Count)
	b.Sum = append(b.Sum, v.Sum)
	b.Min = append(b.Min, v.Min)
	b.Max = append(b.Max, v.Max)
	b.Sketch = v.Sketch.AppendDD(b.Sketch)
	o.windowBytes += rollupRowBytes + len(e.Key) + len(metric) + len(part) + len(b.Sketch) - before + b.keep(s.keep, v.more)
}

// windows returns the block to append a row to.
func (o *Outputs) windows() *WindowRows {
	if n := len(o.Windows); n > 0 {
		if b := o.Windows[n-1]; len(b.Tenant) < o.maxRows && o.windowBytes < o.maxBytes {
			return b
		}
	}
	b := new(WindowRows)
	o.Windows, o.windowBytes = append(o.Windows, b), 0
	return b
}
