package pipeline

import (
	"cmp"
	"math"
	"slices"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// zeroID is the series of service rows.
var zeroID series.ID

// Drain appends to out what changed since the last drain, sorted by tenant, metric, service, series and pane, and
// empties the accumulators. Committed or Forget must follow before the next Step.
func (t *Task) Drain(out *Outputs, now int64) {
	t.drained = now
	t.counters.At(now)
	t.alerts.At(now)
	t.windows.TakesFrom(newAdmission(&t.cfg.Config, now).oldest)
	slices.SortFunc(t.dirty, func(a, b *tenant) int { return cmp.Compare(a.name, b.name) })
	for _, tn := range t.exceeding {
		t.tally.dropped(tn.name, ReasonSeriesLimit, int(tn.beyond.number))
		t.tally.dropped(tn.name, ReasonSeriesBytes, int(tn.beyond.bytes))
	}
	t.closeWindows(out)
	t.drainState(out)
	t.drainAlerts(out)
	t.drainLimits(out)
	for _, tn := range t.dirty {
		slices.SortFunc(tn.dirty, func(a, b *group) int { return a.compare(&b.groupKey) })
		for _, g := range tn.dirty {
			t.drainGroup(out, tn, g)
		}
		clear(tn.dirty)
		tn.dirty, tn.marked = tn.dirty[:0], false
		t.tally.addLate(tn.name, tn.late)
		tn.late = 0
	}
	out.Letters = append(out.Letters, t.letters...)
	out.LetterRows = append(out.LetterRows, t.letterRows.rows...)
	out.Tally.add(&t.tally)
	t.empty()
}

func (t *Task) drainGroup(out *Outputs, tn *tenant, g *group) {
	t.sortSeries(tn, g)
	alone := len(t.sorted) == 1
	for _, s := range t.sorted {
		e := tn.table.At(s.ref)
		if e.announced != 0 || t.hasSamples(g, e) {
			t.announce(out, tn, s.ref, e)
		}
		t.eachCell(e, func(c *cell) {
			t.addCell(out, tn, g, GrainSeries, s.id, c)
			if g.distribution() && !alone {
				t.mergeCell(t.mergedPane(c.start), c)
			}
		})
	}
	switch {
	case !g.distribution():
	case alone:
		t.eachCell(tn.table.At(t.sorted[0].ref), func(c *cell) { t.addCell(out, tn, g, GrainService, zeroID, c) })
	default:
		for _, p := range t.merged {
			b := out.addRollup(tn, g, GrainService, zeroID,
				&rollupRow{start: p.start, count: p.Count, sum: p.Sum, min: p.Min, max: p.Max})
			out.addSketch(b, p.Sketch.AppendDD(b.Sketch))
		}
		t.merged = t.merged[:0]
		t.merging.used = 0
	}
	for _, ref := range g.dirty {
		tn.table.At(ref).cell.form = unused
	}
	g.dirty = g.dirty[:0]
}

// sortedSeries is a series in the order of a drain.
type sortedSeries struct {
	id  series.ID
	ref uint32
}

func (t *Task) sortSeries(tn *tenant, g *group) {
	t.sorted = t.sorted[:0]
	for _, ref := range g.dirty {
		t.sorted = append(t.sorted, sortedSeries{tn.id(ref), ref})
	}
	slices.SortFunc(t.sorted, func(a, b sortedSeries) int { return a.id.Compare(b.id) })
}

func (t *Task) addCell(out *Outputs, tn *tenant, g *group, grain Grain, id series.ID, c *cell) {
	row := rollupRow{start: c.start, count: c.Count, sum: c.Sum, min: c.Min, max: c.Max}
	switch c.form {
	case level, levelOf:
		row.lastTime, row.last = int64(c.word(0)), math.Float64frombits(c.word(1))
		row.lastHist = string(t.histogram(c))
	case dense:
		if grain == GrainSeries {
			t.tally.Clamped += t.sketch(c).Clamped()
		}
	}
	b := out.addRollup(tn, g, grain, id, &row)
	out.addSketch(b, t.appendSketch(b.Sketch, c))
}

// mergedPane returns the service group's pane that begins at start.
func (t *Task) mergedPane(start uint32) *pane {
	at, found := slices.BinarySearchFunc(t.merged, start, func(p *pane, start uint32) int { return cmp.Compare(p.start, start) })
	if !found {
		p := t.merging.take()
		p.begin(start)
		t.merged = slices.Insert(t.merged, at, p)
	}
	return t.merged[at]
}

// announce writes the series' labels when it is new, or was announced long ago. Refreshes are spread over a quarter of
// their interval, so that series that began together do not come together for ever.
func (t *Task) announce(out *Outputs, tn *tenant, ref uint32, e *entry) {
	if t.stale(e, t.drained) {
		out.addSeries(tn, ref, e)
		t.announcing = append(t.announcing, e)
	}
}

// stale says whether the last announcement of a series does not do any more.
func (t *Task) stale(e *entry, now int64) bool {
	refresh := t.cfg.Config.SeriesRefresh.Milliseconds()
	spread := int64(e.high>>32) * (refresh / 4) >> 32
	since := now - int64(e.announced)*1000
	return e.announced == 0 || since < 0 || since >= refresh-spread || e.announcedNative != e.native
}

// hasSamples is false of a series of which nothing is there but that it has ended: it may be one of another kind, whose
// kind the producer had forgotten.
func (t *Task) hasSamples(g *group, e *entry) (has bool) {
	if g.kind != events.Gauge && g.kind != events.Cumulative {
		return true
	}
	t.eachCell(e, func(c *cell) { has = has || c.Count > 0 })
	return has
}
