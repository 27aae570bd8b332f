package pipeline

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// zeroID is the series of service rows.
var zeroID series.ID

// Outputs is what an epoch leaves: rows in blocks of bounded size, dead letters and counts. Several tasks drain into
// one.
type Outputs struct {
	Rollups []*Rollups
	Series  []*SeriesRows
	Windows windowed.Blocks
	State   []Message // changes of keyed state
	Letters []Message
	Alerts  []Message
	Limits  LimitRows
	// LetterRows say of Letters what tenants may know.
	LetterRows []LetterRow
	Tally      Tally

	// full and fullSeries take each block of Rollups and of Series but the last as soon as it is full, so that one is
	// in memory at a time. Nil: all stay in Rollups and Series.
	full       func(*Rollups)
	fullSeries func(*SeriesRows)

	maxRows, maxBytes int
	rollupBytes       int // estimate, of the last block
	lastGroup         *group
	seriesBytes       int
	spareRollups      []*Rollups
	arena             arena         // of State
	labels            series.Labels // of the last rows of Series
}

// NewOutputs returns empty Outputs whose blocks keep to cfg's bounds.
func NewOutputs(cfg *Config) *Outputs {
	return &Outputs{
		maxRows: cfg.BlockRows, maxBytes: int(cfg.BlockBytes),
		Windows: windowed.NewBlocks(cfg.BlockRows, int(cfg.BlockBytes)),
	}
}

// Reset empties the outputs and keeps the memory of blocks of rollups. Encoders keep no reference to them.
func (o *Outputs) Reset() {
	for _, b := range o.Rollups {
		b.reset()
	}
	o.spareRollups, o.Rollups = append(o.spareRollups, o.Rollups...), o.Rollups[:0]
	clear(o.Series)
	o.Series, o.labels = o.Series[:0], nil
	o.Windows.Reset()
	clear(o.Letters)
	clear(o.State)
	clear(o.Alerts)
	o.Alerts = o.Alerts[:0]
	o.State, o.arena = o.State[:0], nil
	o.Limits, o.LetterRows = LimitRows{}, nil
	o.Letters, o.Tally = o.Letters[:0], Tally{}
}

// Rows is the number of rows in all blocks.
func (o *Outputs) Rows() (n int) {
	for _, b := range o.Rollups {
		n += len(b.Grain)
	}
	for _, b := range o.Series {
		n += len(b.Tenant)
	}
	return n + o.windowRows()
}

func (o *Outputs) windowRows() (n int) {
	for _, b := range o.Windows.Blocks {
		n += len(b.Tenant)
	}
	return n
}

const (
	rollupRowBytes = 96      // of a row's fixed columns, low-cardinality indexes included
	usualSketch    = 1 << 10 // bytes of one; a larger one is copied as it grows
	seriesRowBytes = 64
)

// rollups returns the block to append a row to.
func (o *Outputs) rollups() *Rollups {
	if n := len(o.Rollups); n > 0 {
		if b := o.Rollups[n-1]; len(b.Grain) < o.maxRows && o.rollupBytes < o.maxBytes {
			b.room()
			return b
		}
	}
	var b *Rollups
	if o.full != nil && len(o.Rollups) > 0 {
		b, o.Rollups = o.Rollups[0], o.Rollups[:0]
		o.full(b)
		b.reset()
	} else if n := len(o.spareRollups); n > 0 {
		b, o.spareRollups = o.spareRollups[n-1], o.spareRollups[:n-1]
	} else {
		b = new(Rollups)
	}
	o.Rollups, o.rollupBytes, o.lastGroup = append(o.Rollups, b), 0, nil
	return b
}

func (o *Outputs) series() *SeriesRows {
	if n := len(o.Series); n > 0 {
		if b := o.Series[n-1]; len(b.Tenant) < o.maxRows && o.seriesBytes < o.maxBytes {
			b.room()
			return b
		}
	}
	b := new(SeriesRows)
	if o.fullSeries != nil && len(o.Series) > 0 {
		b, o.Series = o.Series[0], o.Series[:0]
		o.fullSeries(b)
		b.reset()
	}
	o.Series, o.seriesBytes = append(o.Series, b), 0
	return b
}

// addRollup appends a row but for its sketch, which has to follow, and returns the block that it is in.
func (o *Outputs) addRollup(tn *tenant, g *group, grain Grain, id series.ID, r *rollupRow) *Rollups {
	b := o.rollups()
	b.Grain = append(b.Grain, grain)
	b.Series = append(b.Series, id)
	b.Tenant = append(b.Tenant, tn.name)
	b.Metric = append(b.Metric, g.metric)
	b.Service = append(b.Service, g.service)
	b.Pane = append(b.Pane, r.start)
	b.Count = append(b.Count, r.count)
	b.Sum = append(b.Sum, r.sum)
	b.Min = append(b.Min, r.min)
	b.Max = append(b.Max, r.max)
	b.LastTime = append(b.LastTime, r.lastTime)
	b.Last = append(b.Last, r.last)
	b.LastHist = append(b.LastHist, r.lastHist)
	o.rollupBytes += rollupRowBytes + len(r.lastHist)
	// Names are written once for their run of rows, but a hostile producer may give every row names of its own.
	if o.lastGroup != g {
		o.lastGroup = g
		o.rollupBytes += len(tn.name) + len(g.metric) + len(g.service)
	}
	return b
}

const (
	labelPage   = 4096 // labels that are allocated together
	usualLabels = 32   // of a series; more are copied
)

func (o *Outputs) addSeries(tn *tenant, ref uint32, e *entry) {
	b, of := o.series(), tn.class(e)
	b.Tenant = append(b.Tenant, tn.name)
	b.Metric = append(b.Metric, of.group.metric)
	b.Service = append(b.Service, of.group.service)
	b.ID = append(b.ID, tn.id(ref))
	b.Kind = append(b.Kind, uint8(of.group.kind))
	b.Native = append(b.Native, e.native)
	b.Unit = append(b.Unit, of.about.unit)
	b.Help = append(b.Help, of.about.help)
	if cap(o.labels)-len(o.labels) < usualLabels {
		o.labels = make(series.Labels, 0, labelPage) // earlier rows keep what they have
	}
	from := len(o.labels)
	o.labels = tn.table.AppendLabels(o.labels, ref)
	labels := o.labels[from:len(o.labels):len(o.labels)]
	b.Labels = append(b.Labels, labels)
	b.LastSeen = append(b.LastSeen, e.seen)
	o.seriesBytes += seriesRowBytes + len(of.group.metric) + len(of.group.service) + len(of.about.unit) + len(of.about.help)
	for _, l := range labels {
		o.seriesBytes += len(l.Name) + len(l.Value) + 2
	}
}

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

// rollupRow is what a row says of its pane.
type rollupRow struct {
	start         uint32
	count         uint64
	sum, min, max float64
	lastTime      int64
	last          float64
	lastHist      string
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

// addSketch takes the sketches of a block, the last row's behind the others.
func (o *Outputs) addSketch(b *Rollups, all []byte) {
	o.rollupBytes += len(all) - len(b.Sketch)
	b.Sketch = all
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

// AppendProgress appends how far the partition and its tenants are, with what is being drained now: the partition's own
// row always once it is known, a tenant's when its watermark has moved since the last that was committed.
func (t *Task) AppendProgress(rows *ProgressRows, now int64) {
	if t.publishing = max(t.published, t.reach.Through); t.publishing > 0 {
		rows.add(t.cfg.Partition, "", t.publishing, now)
	}
	var moved []*tenant
	for _, tn := range t.tenants {
		if tn.newest > tn.published {
			moved = append(moved, tn)
		}
	}
	slices.SortFunc(moved, func(a, b *tenant) int { return cmp.Compare(a.name, b.name) })
	for _, tn := range moved {
		rows.add(t.cfg.Partition, tn.name, t.watermark(tn)/int64(time.Millisecond), now)
	}
}

// watermark is the event time before which no event of the tenant is expected any more, Unix nanoseconds.
func (t *Task) watermark(tn *tenant) int64 { return tn.newest - int64(t.cfg.Config.WatermarkDelay) }

// blocks calls fn for parts of the rows that are within the bounds of a block.
func (r *ProgressRows) blocks(cfg *Config, fn func(*ProgressRows) error) error {
	// No row takes more than 128 bytes beside its topic: a tenant's name has 64 at most.
	return parts(cfg, len(r.Topic), 256, func(from, to int) error {
		return fn(&ProgressRows{
			Topic: r.Topic[from:to], Partition: r.Partition[from:to], Tenant: r.Tenant[from:to], Time: r.Time[from:to],
			Updated: r.Updated[from:to],
		})
	})
}

// parts calls fn for runs of rows that are within the bounds of a block, when no row takes more than so many bytes.
func parts(cfg *Config, rows, bytes int, fn func(from, to int) error) error {
	most := max(min(cfg.BlockRows, int(cfg.BlockBytes)/bytes), 1)
	for from := 0; from < rows; from += most {
		if err := fn(from, min(from+most, rows)); err != nil {
			return err
		}
	}
	return nil
}

func (r *ProgressRows) add(p Partition, tenant string, time, updated int64) {
	r.Topic = append(r.Topic, p.Topic)
	r.Partition = append(r.Partition, p.Partition)
	r.Tenant = append(r.Tenant, tenant)
	r.Time = append(r.Time, time)
	r.Updated = append(r.Updated, updated)
}

// Committed says that what was drained last is in the log for good, and withProgress whether progress was with it.
func (t *Task) Committed(withProgress bool) {
	for _, e := range t.announcing {
		e.announced, e.announcedNative = uint32(max(t.drained/1000, 1)), e.native
	}
	clear(t.announcing)
	t.announcing = t.announcing[:0]
	if withProgress {
		t.published = max(t.published, t.publishing)
		for _, tn := range t.tenants {
			tn.published = tn.newest
		}
	}
	t.settleState(true)
	t.settleLimits(true)
	t.takeLimits()
	if idle := t.cfg.Config.SeriesIdle.Milliseconds(); t.drained-t.swept >= idle/4 || t.drained < t.swept {
		t.swept = t.drained
		t.sweep(idle)
	}
}

// takeLimits puts the limits in force that hold now.
func (t *Task) takeLimits() {
	limits := t.cfg.Limits()
	if limits == t.limits {
		return
	}
	t.limits = limits
	for _, tn := range t.tenants {
		tn.bound(limits, &t.decoders)
		tn.limited = 0
	}
	t.windows.Bound(limits)
	t.rates.replace(limits)
}

// Forget returns to the last committed epoch: everything since is dropped, drained or not, and announced series count
// as not announced. The records will come again, here or elsewhere.
func (t *Task) Forget() {
	for _, tn := range t.dirty {
		for _, g := range tn.dirty {
			for _, ref := range g.dirty {
				tn.table.At(ref).cell.form = unused
			}
			g.dirty = g.dirty[:0]
		}
		clear(tn.dirty)
		tn.dirty, tn.marked, tn.late = tn.dirty[:0], false, 0
	}
	clear(t.announcing)
	t.announcing = t.announcing[:0]
	t.settleState(false)
	t.settleLimits(false)
	t.takeLimits()
	t.reach.Through = 0
	t.empty()
}

// empty forgets what a drain took, or an abort dropped.
func (t *Task) empty() {
	clear(t.dirty)
	t.dirty, t.epoch = t.dirty[:0], gathered{}
	for i, tn := range t.exceeding {
		tn.beyond, t.exceeding[i] = beyond{}, nil
	}
	t.exceeding = t.exceeding[:0]
	t.cells.reset()
	t.lists.reset()
	t.sketches.reset()
	t.histograms.reset()
	t.merging.reset()
	clear(t.scattered)
	clear(t.letters)
	t.letters, t.letterBytes = t.letters[:0], 0
	t.letterRows.forget()
	t.tally = Tally{}
}

// sweep forgets series and tenants that have been silent for idle milliseconds. Nothing is dirty when it runs. What was
// last heard of in the future was so before the clock was set back, and counts as heard of now.
func (t *Task) sweep(idle int64) {
	for name, tn := range t.tenants {
		var gone bool
		tn.table.Range(func(ref uint32) bool {
			e := tn.table.At(ref)
			e.touched = min(e.touched, t.drained)
			if t.drained-e.touched < idle {
				return true
			}
			if g := tn.class(e).group; g.size == 1 {
				delete(tn.groups, g.groupKey)
			} else {
				g.size--
			}
			t.key = tn.table.AppendKey(t.key[:0], ref)
			tn.bytes -= namesBytes(t.key, tn.class(e).about)
			tn.classes.leave(e.class)
			tn.table.Delete(t.key)
			gone = true
			return true
		})
		if gone {
			tn.repeats.Forget(func(ref uint32) bool { return tn.table.At(ref).class == 0 })
		}
		tn.seen = min(tn.seen, t.drained)
		if tn.table.Len() == 0 && t.drained-tn.seen >= idle {
			delete(t.tenants, name)
			(*watermarks)(t).rest(tn)
			t.alerts.Rest(name)
			t.current, t.claims = nil, claims{}
		}
	}
	(*watermarks)(t).forget()
	t.rates.sweep(t.drained, idle)
}

// room makes room for a row more. Columns become twice as large when they are full: append would let them grow by a
// quarter, and copy what is large four times.
func (r *Rollups) room() {
	if len(r.Sketch) > cap(r.Sketch)-usualSketch {
		r.Sketch = slices.Grow(r.Sketch, len(r.Sketch))
	}
	n := len(r.Grain)
	if n < cap(r.Grain) {
		return
	}
	r.Grain, r.Tenant, r.Metric, r.Service = slices.Grow(r.Grain, n), slices.Grow(r.Tenant, n), slices.Grow(r.Metric,
		n), slices.Grow(r.Service, n)
	r.Series, r.Pane, r.Count = slices.Grow(r.Series, n), slices.Grow(r.Pane, n), slices.Grow(r.Count, n)
	r.Sum, r.Min, r.Max = slices.Grow(r.Sum, n), slices.Grow(r.Min, n), slices.Grow(r.Max, n)
	r.LastTime, r.Last, r.LastHist = slices.Grow(r.LastTime, n), slices.Grow(r.Last, n), slices.Grow(r.LastHist, n)
}

func (r *Rollups) reset() {
	*r = Rollups{
		Grain: r.Grain[:0], Tenant: r.Tenant[:0], Metric: r.Metric[:0], Service: r.Service[:0], Series: r.Series[:0],
		Pane: r.Pane[:0], Count: r.Count[:0], Sum: r.Sum[:0], Min: r.Min[:0], Max: r.Max[:0],
		LastTime: r.LastTime[:0], Last: r.Last[:0], LastHist: r.LastHist[:0], Sketch: r.Sketch[:0],
	}
}

// reset lets labels go, and with them the keys of series that their strings are part of.
func (r *SeriesRows) reset() {
	clear(r.Labels)
	*r = SeriesRows{
		Tenant: r.Tenant[:0], Metric: r.Metric[:0], Service: r.Service[:0], ID: r.ID[:0], Kind: r.Kind[:0], Native: r.Native[:0],
		Unit: r.Unit[:0], Help: r.Help[:0], Labels: r.Labels[:0], LastSeen: r.LastSeen[:0],
	}
}

// room is that of Rollups.
func (r *SeriesRows) room() {
	n := len(r.Tenant)
	if n < cap(r.Tenant) {
		return
	}
	r.Tenant, r.Metric, r.Service, r.ID = slices.Grow(r.Tenant, n), slices.Grow(r.Metric,
		n), slices.Grow(r.Service, n), slices.Grow(r.ID, n)
	r.Kind, r.Native, r.Unit, r.Help = slices.Grow(r.Kind, n), slices.Grow(r.Native,
		n), slices.Grow(r.Unit, n), slices.Grow(r.Help, n)
	r.Labels, r.LastSeen = slices.Grow(r.Labels, n), slices.Grow(r.LastSeen, n)
}

func (r *ProgressRows) reset() {
	*r = ProgressRows{
		Topic: r.Topic[:0], Partition: r.Partition[:0], Tenant: r.Tenant[:0], Time: r.Time[:0], Updated: r.Updated[:0],
	}
}
