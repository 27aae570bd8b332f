package promql

import (
	"context"
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// Matcher is one condition on a label, with Prometheus' four operators. Name "__name__" never occurs:
// metric names travel apart.
type Matcher struct {
	Name  string
	Op    string // "=", "!=", "=~", "!~"; regular expressions are anchored RE2
	Value string
}

// Meta is one stored metric of a tenant. A name with panes and windows, or windows of several shapes, has several.
type Meta struct {
	Metric string
	Kind   events.Kind
	Native bool // carries native histograms as samples (cumulative or gauge histograms)
	Unit   string
	Help   string
	Shape  string // of closed windows, as windows.ParseShape reads it; "" for panes
	Kept   Kept   // what closed windows hold beside what all do
}

// Kept says what rules keep in windows. Values are those of pipeline.Measures.
type Kept uint8

// Kinds of what is kept.
const (
	KeptFirst Kept = 1 << iota
	KeptLast
	KeptDistinct
	KeptTop
)

// Series is one stored series.
type Series struct {
	ID     series.ID
	Metric string
	Kind   events.Kind
	Native bool
	Labels series.Labels
	Shape  string // of closed windows; "" for panes. A series of panes and one of windows may share their ID
}

// Tier is the width of a rollup tier.
type Tier time.Duration

// Tiers.
const (
	Tier10s = Tier(10 * time.Second)
	Tier1m  = Tier(time.Minute)
	Tier1h  = Tier(time.Hour)
)

// Ended is the LastHist of a pane whose last event says that the series has ended.
const Ended = "\x00"

// Pane is one merged row of a series: every delta of that pane already summed.
type Pane struct {
	Start    int64 // Unix milliseconds
	Count    uint64
	Sum      float64
	LastTime int64 // Unix nanoseconds
	Last     float64
	LastHist string // bytes as in pipeline.Rollups; Ended when the series had ended by then
	Sketch   []byte // quantilesDD states, one after another, whose sum it is
}

// PaneQuery asks for the panes of some series of some metrics. What it does not ask for of a pane is zero.
type PaneQuery struct {
	Metrics  []string
	IDs      []series.ID
	Tier     Tier
	From, To int64 // pane starts, Unix milliseconds, [From, To)
	// Finer, when not nil, says of which finer tiers the rows come in the place of Tier's, which may not be there yet:
	// ascending, the first from From on, each up to the next, the last up to To. Panes are of Tier's width all the same;
	// From and To are multiples of it then.
	Finer  []Stretch
	Count  bool // read counts
	Sum    bool // read sums
	Sketch bool // read sketches
	Last   bool // read levels
	// Groups, when not nil, has for each of IDs the group that it belongs to: the panes of a group are added up, and it
	// stands for its series with the ID {0, group}. Not with Last.
	Groups []uint32
	// Services, when not nil and ascending, asks for the panes of services, of all their series together, in the place
	// of IDs: under the ID {0, position}, or with Together all under {0, 0}. Of one metric, and not with Last.
	Services []string
	Together bool
}

// Stretch is where the rows of a tier are read.
type Stretch struct {
	Tier Tier
	From int64 // Unix milliseconds, a multiple of the width of the stretch before
}

// PaneColumn is one column of the panes of a series, starts ascending.
type PaneColumn struct {
	Starts []int64 // Unix milliseconds
	Values []float64
	Times  []int64 // of levels: when they were taken, Unix nanoseconds, 0 for a pane without one
}

// Closed is one closed window of a series, its parts added up.
type Closed struct {
	Start, End int64 // Unix milliseconds, End exclusive
	Count      uint64
	Sum        float64
	Min, Max   float64
	Sketch     []byte // one quantilesDD state

	Kept        Kept     // that the window holds, of those asked for
	First, Last float64  // NaN for none
	Distinct    []byte   // state of sketches.Distinct
	Items       []string // of the top, the greatest first; Counts beside them
	Counts      []float64
}

// WindowQuery asks for the closed windows of some series of some metrics.
type WindowQuery struct {
	Metrics  []string
	IDs      []series.ID
	From, To int64         // window ends, Unix milliseconds, [From, To]
	Longest  time.Duration // no window is longer; 0: no bound
	Sketch   bool          // read sketches
	Kept     Kept          // read these
}

// SeriesQuery asks for the series of some stored metrics that meet all matchers.
type SeriesQuery struct {
	Metrics  []string // of panes
	Closed   []string // of closed windows
	Matchers []Matcher
	Since    int64 // seen at or after, Unix ms; 0 = ever
	Limit    int   // at most so many; 0 = no limit
}

// LabelQuery asks for the labels of the series that a SeriesQuery asks for; Limit is of labels.
type LabelQuery struct {
	SeriesQuery
	// Name is the label whose values are wanted: __name__ for the stored metrics. "" asks for the names of labels, with
	// __name__ among them when there is any series.
	Name string
}

// Store is what PromQL needs of the database. Every call is bound to one tenant and sees nothing of another.
// Implemented by internal/clickhouse.
type Store interface {
	// Metas lists the stored metrics seen at or after since (Unix ms; 0 = ever).
	Metas(ctx context.Context, tenant tenants.ID, since int64) ([]Meta, error)
	// Series lists series, each of panes and each of closed windows once, by metric and ID.
	Series(ctx context.Context, tenant tenants.ID, q SeriesQuery) ([]Series, error)
	// Labels lists names or values, each once, ascending.
	Labels(ctx context.Context, tenant tenants.ID, q LabelQuery) ([]string, error)
	// Panes calls yield for every pane, grouped by series in the order of IDs ascending, panes ascending in Start.
	// The pane is only valid during the call. A yield error ends the read and is returned.
	Panes(ctx context.Context, tenant tenants.ID, q PaneQuery, yield func(id series.ID, p *Pane) error) error
	// Columns calls yield once for every series with panes, in any order. q asks for one of Count, Sum and Last, of
	// series. What is given is only valid during the call. A yield error ends the read and is returned.
	Columns(ctx context.Context, tenant tenants.ID, q PaneQuery, yield func(id series.ID, c *PaneColumn) error) error
	// Services lists the services that have series of the stored metric and meet all matchers, which are on the label
	// service; by name.
	Services(ctx context.Context, tenant tenants.ID, metric string, matchers []Matcher, since int64) ([]string, error)
	// Windows calls yield for every closed window, grouped by series in the order of IDs ascending, windows ascending
	// in End and then Start. The window is only valid during the call. A yield error ends the read and is returned.
	Windows(ctx context.Context, tenant tenants.ID, q WindowQuery, yield func(id series.ID, w *Closed) error) error
	// Progress returns the rows of vigie.progress of the partitions themselves and of some tenants, those of partitions
	// with what vigie.coarse_progress says of them.
	Progress(ctx context.Context, of []tenants.ID) ([]Progress, error)
}

// Progress is how far one source partition reaches: see pipeline.ProgressRows.
type Progress struct {
	Topic     string
	Partition int32
	Tenant    tenants.ID // "" for the partition's own row
	Time      int64      // Unix milliseconds
	Updated   int64      // Unix milliseconds
	Coarse    int64      // of a partition's own row: Time of the tiers of a minute and an hour, 0 for none
}
