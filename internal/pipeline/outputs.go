package pipeline

import (
	"slices"

	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/pkg/series"
)

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
	arena             arena                         // of State
	labels            series.Labels                 // of the last rows of Series
	labelPages        pool[[labelPage]series.Label] // of all their rows
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
		b.Reset()
	}
	o.spareRollups, o.Rollups = append(o.spareRollups, o.Rollups...), o.Rollups[:0]
	clear(o.Series)
	o.Series, o.labels, o.labelPages = o.Series[:0], nil, pool[[labelPage]series.Label]{}
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
		b.Reset()
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
		o.labels = nil
		o.labelPages.reset()
	}
	o.Series, o.seriesBytes = append(o.Series, b), 0
	return b
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

// addSketch takes the sketches of a block, the last row's behind the others.
func (o *Outputs) addSketch(b *Rollups, all []byte) {
	o.rollupBytes += len(all) - len(b.Sketch)
	b.Sketch = all
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
		o.labels = o.labelPages.take()[:0] // earlier rows keep what they have
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
	r.Grain, r.Tenant = slices.Grow(r.Grain, n), slices.Grow(r.Tenant, n)
	r.Metric, r.Service = slices.Grow(r.Metric, n), slices.Grow(r.Service, n)
	r.Series, r.Pane, r.Count = slices.Grow(r.Series, n), slices.Grow(r.Pane, n), slices.Grow(r.Count, n)
	r.Sum, r.Min, r.Max = slices.Grow(r.Sum, n), slices.Grow(r.Min, n), slices.Grow(r.Max, n)
	r.LastTime, r.Last, r.LastHist = slices.Grow(r.LastTime, n), slices.Grow(r.Last, n), slices.Grow(r.LastHist, n)
}

// Reset empties the block and keeps its memory.
func (r *Rollups) Reset() {
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
	r.Tenant, r.Metric, r.Service = slices.Grow(r.Tenant, n), slices.Grow(r.Metric, n), slices.Grow(r.Service, n)
	r.ID, r.Kind, r.Native = slices.Grow(r.ID, n), slices.Grow(r.Kind, n), slices.Grow(r.Native, n)
	r.Unit, r.Help = slices.Grow(r.Unit, n), slices.Grow(r.Help, n)
	r.Labels, r.LastSeen = slices.Grow(r.Labels, n), slices.Grow(r.LastSeen, n)
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
