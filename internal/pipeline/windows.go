package pipeline

import (
	"fmt"
	"math"
	"unsafe"

	"github.com/vigie-io/vigie/internal/pipeline/aggregate"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/windows"
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
	emit := func(c closedWindow) {
		t.tally.window(c.tenant, c.outcome)
		out.Windows.add(part, c)
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
	t.windows.late(emit)
}

// late counts an event by what its windows said, and puts it beside those that it missed when the rule wants that. key is the
// series'.
func (t *Task) late(r *rollup, tn *tenant, key string, time int64, m *aggregate.Measurement, verdict windows.Verdict) {
	switch {
	case verdict == windows.Full:
		t.tally.drop(tn.name, ReasonWindowLimit)
	case r.late == windows.Divert:
		t.divert(r, tn, key, time, m, verdict)
	case verdict == windows.Late:
		t.tally.missed(tn.name, r.late.String())
	case verdict == windows.TooLate:
		t.tally.drop(tn.name, ReasonTooLate)
		t.tally.missed(tn.name, "too_late")
	}
}

func (t *Task) divert(r *rollup, tn *tenant, key string, time int64, m *aggregate.Measurement, verdict windows.Verdict) {
	missed, full := t.windows.divert(r.windowID, tn.name, key, time, t.offset, verdict, m, &t.particular)
	if full {
		t.tally.drop(tn.name, ReasonWindowLimit)
	} else if missed {
		t.tally.missed(tn.name, r.late.String())
	}
}

// TakeWindows calls emit for what the windows of the task's windowed rollups hold, series by series and ascending in key, and
// empties them, so that none of them closes: for input that has an end, whose windows are closed when all of it has been
// taken. Values of one key, of any number of tasks, are added up by JoinWindows; Closing makes rows of them. It is called before Drain.
func (t *Task) TakeWindows(emit func(key, value []byte)) { t.windows.take(emit) }
