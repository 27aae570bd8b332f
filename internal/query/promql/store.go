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

// Meta is one stored metric of a tenant.
type Meta struct {
	Metric string
	Kind   events.Kind
	Native bool // carries native histograms as samples (cumulative or gauge histograms)
	Unit   string
	Help   string
}

// Series is one stored series.
type Series struct {
	ID     series.ID
	Metric string
	Kind   events.Kind
	Native bool
	Labels series.Labels
}

// Tier is the width of a rollup tier.
type Tier time.Duration

// Tiers.
const (
	Tier10s = Tier(10 * time.Second)
	Tier1m  = Tier(time.Minute)
	Tier1h  = Tier(time.Hour)
)

// Pane is one merged row of a series: every delta of that pane already summed.
type Pane struct {
	Start    int64 // Unix milliseconds
	Count    uint64
	Sum      float64
	Min, Max float64
	LastTime int64 // Unix nanoseconds
	Last     float64
	LastHist string // bytes as in pipeline.Rollups
	Sketch   []byte // one quantilesDD state; empty unless asked for
}

// PaneQuery asks for the panes of some series of one metric.
type PaneQuery struct {
	Metric   string
	IDs      []series.ID
	Tier     Tier
	From, To int64 // pane starts, Unix milliseconds, [From, To)
	Sketch   bool  // read sketches
	Last     bool  // read levels
}

// Store is what PromQL needs of the database. Every call is bound to one tenant and sees nothing of another.
// Implemented by internal/clickhouse.
type Store interface {
	// Metas lists the stored metrics seen at or after since (Unix ms; 0 = ever).
	Metas(ctx context.Context, tenant tenants.ID, since int64) ([]Meta, error)
	// Series lists the series of the given stored metrics that meet all matchers, at most limit (0 = no limit).
	Series(ctx context.Context, tenant tenants.ID, metrics []string, matchers []Matcher, since int64, limit int) ([]Series, error)
	// Panes calls yield for every pane, grouped by series in the order of IDs ascending, panes ascending in Start.
	// The pane is only valid during the call. A yield error ends the read and is returned.
	Panes(ctx context.Context, tenant tenants.ID, q PaneQuery, yield func(id series.ID, p *Pane) error) error
	// Progress returns the rows of vigie.progress that matter to the tenant.
	Progress(ctx context.Context, tenant tenants.ID) ([]Progress, error)
}

// Progress is how far one source partition reaches: see pipeline.ProgressRows.
type Progress struct {
	Topic     string
	Partition int32
	Tenant    tenants.ID // "" for the partition's own row
	Time      int64      // Unix milliseconds
	Updated   int64      // Unix milliseconds
}
