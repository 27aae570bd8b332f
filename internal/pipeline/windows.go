package pipeline

import (
	"fmt"
	"math"
	"unsafe"

	"github.com/vigie-io/vigie/internal/pipeline/aggregate"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/windows"
)

// window puts an event into the windows of a rollup's grouping, whose labels are t.labels.
func (t *Task) window(r *rollup.Rule, g *rollup.Grouping, tenant string, time int64, m *aggregate.Measurement) {
	tn := t.named(tenant)
	if tn == nil {
		return
	}
	// Its series may have met a limit: what the windows take moves their watermark all the same.
	tn.seen, tn.newest = t.now, max(tn.newest, time)
	t.touch(tn)
	t.key = series.AppendKey(t.key[:0], byte(m.Kind), g.Metric, t.labels)
	if verdict := t.windows.Add(r.WindowID, tn.name, t.key, time, m,
		&t.particular); verdict != windows.OnTime || r.Late == windows.Divert {
		t.late(r, tn, unsafe.String(unsafe.SliceData(t.key), len(t.key)), time, m, verdict)
	}
}

// closeWindows writes the windows that the watermarks of changed tenants have passed, in the order of tenants, and then
// those of silent tenants, whose alerts it judges.
func (t *Task) closeWindows(out *Outputs) {
	if t.windows.Idle() && t.alerts.Idle() {
		return
	}
	part := fmt.Sprintf("%s/%d", t.cfg.Partition.Topic, t.cfg.Partition.Partition)
	emit := func(c windowed.Closed) {
		t.tally.window(c.Tenant, c.Outcome)
		out.Windows.Add(part, c)
	}
	t.clocks.watch(t.reach.Through)
	for _, tn := range t.dirty {
		t.windows.Advance(tn.name, t.watermark(tn), emit)
		if t.windows.Next(tn.name) < math.MaxInt64 || t.alerts.Waits(tn.name) {
			t.clocks.note(tn.name, tn.newest, tn.seen)
		} else {
			t.clocks.drop(tn.name)
		}
	}
	for _, name := range t.clocks.silent() {
		t.windows.Close(name, t.clocks.watermark(name), emit)
		t.silentAlerts(name, t.clocks.watermark(name))
		if t.windows.Next(name) == math.MaxInt64 && !t.alerts.Waits(name) {
			t.clocks.drop(name)
		}
	}
	t.windows.Diverted(emit)
}

// late counts an event by what its windows said, and puts it beside those that it missed when the rule wants that. key
// is the series'.
func (t *Task) late(r *rollup.Rule, tn *tenant, key string, time int64, m *aggregate.Measurement, verdict windows.Verdict) {
	switch {
	case verdict == windows.Full:
		t.tally.drop(tn.name, windowed.ReasonWindowLimit)
	case r.Late == windows.Divert:
		t.divert(r, tn, key, time, m, verdict)
	case verdict == windows.Late:
		t.tally.missed(tn.name, r.Late.String())
	case verdict == windows.TooLate:
		t.tally.drop(tn.name, windowed.ReasonTooLate)
		t.tally.missed(tn.name, "too_late")
	}
}

func (t *Task) divert(r *rollup.Rule, tn *tenant, key string, time int64, m *aggregate.Measurement, verdict windows.Verdict) {
	missed, full := t.windows.Divert(r.WindowID, tn.name, key, time, t.offset, verdict, m, &t.particular)
	if full {
		t.tally.drop(tn.name, windowed.ReasonWindowLimit)
	} else if missed {
		t.tally.missed(tn.name, r.Late.String())
	}
}

// TakeWindows calls emit for what the windows of the task's windowed rollups hold, series by series and ascending in
// key, and empties them, so that none of them closes: for input that has an end, whose windows are closed when all of
// it has been taken. Values of one key, of any number of tasks, are added up by JoinWindows; Closing makes rows of
// them. It is called before Drain.
func (t *Task) TakeWindows(emit func(key, value []byte)) { t.windows.Take(emit) }
