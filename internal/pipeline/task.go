package pipeline

import (
	"github.com/vigie-io/vigie/internal/pipeline/alerting"
	"github.com/vigie-io/vigie/internal/pipeline/counters"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// TaskConfig is what a Task needs.
type TaskConfig struct {
	Partition Partition
	Signal    events.Signal
	Config    Config // valid

	// Decoder reads records. Nil is one with each tenant's limits of labels; a tenant that only the record's value
	// names has the defaults'.
	Decoder *events.Decoder
	// Limits are those of tenants; it is asked between epochs, so that one epoch knows one set of them. The result is
	// not to be changed. Nil is the defaults of package tenants.
	Limits func() *tenants.Config
	// Scratch is memory that tasks of one goroutine share. Nil gives the task its own.
	Scratch *Scratch
	// Increases gets the metrics that rollups of measure increase take, each once and in their place: such metrics have
	// to come in order, which a file does not promise. What it gets is valid during the call. Nil leaves them to the
	// rollups.
	Increases func(m *events.Metric)

	watch *stopwatch // measures stages; nil measures nothing
}

// Scratch is memory to decode into. Tasks that one goroutine steps may share one.
type Scratch struct {
	records [runRecords]Record
	batches [runRecords]events.Batch
	keys    events.Keys // of all batches
	headers [runRecords]sourceHeaders
	looks   [runRecords]events.Look
	looker  events.Looker
	ahead   []ahead

	ofRun, ofRecord searches
}

// Task owns one source partition and everything derived from it since the last committed epoch, and remembers the
// series that are active. One goroutine uses it. It has no clock: processing time is passed in, in Unix milliseconds.
// The same calls give the same outputs, bit for bit.
//
// Its life is Restore…, and then rounds of Step… → Drain → Committed, or Step… → (Drain →) Forget when the epoch is
// aborted.
type Task struct {
	cfg     TaskConfig
	tenants map[string]*tenant
	current *tenant // of the last event
	claims  claims
	dirty   []*tenant
	epoch   gathered
	reach   Reach
	there   int64 // offset up to which the log was known to go when the epoch began
	// assignment is that of reach when the state was restored.
	assignment uint64
	held       bool  // it must not publish progress in the epoch that ends (fences)
	published  int64 // Reach.Through of the last committed progress
	publishing int64 // the same of the epoch that ends

	rollups    []*rollup.Rule // declared for the signal
	declares   bool           // it has rollups or alerts
	fields     fields
	particular windowed.Particular // of the event at hand, for the rollup at hand
	windows    *windowed.Windows
	clocks     clocks
	counters   counters.Counters
	alerts     *alerting.Alerts
	limits     *tenants.Config // in force for the epoch
	decoders   decoders
	rates      *rates

	limiting  []*tenant // whose use of limits is reported with the epoch
	exceeding []*tenant // with events beyond the limit of series, since the last drain

	operators []operator
	reading   reading
	resting   map[string]int64 // newest event times of tenants without series, of committed epochs
	gone      []string         // tenants to be removed from resting in the log

	announcing []*entry
	drained    int64 // processing time of the last drain
	swept      int64 // and of the last sweep for idle series

	tally       Tally
	written     uint64 // dead letters of committed epochs
	dropped     uint64 // events over a limit, of committed epochs
	letters     []Message
	letterBytes int64
	letterRows  letterRows
	arena       arena // of letters

	now     int64
	fetched uint64 // of no meaning: what is read ahead has to go somewhere
	offset  int64  // of the record at hand
	admit   admission

	cells      paged[cell]                  // panes of series that are not the one in place
	scattered  map[*entry]map[uint32]uint32 // cells, by their start, of series that have many
	lists      paged[further]               // of cells
	sketches   paged[sketches.Sketch]
	histograms paged[[]byte]
	ordered    []*cell        // of the series at hand
	sorted     []sortedSeries // of the service group at hand
	merged     []*pane
	merging    pool[pane]

	words   words       // of groups
	groups  slab[group] // of all tenants
	key     []byte
	values  []sketches.Bucket
	labels  []series.Label
	known   series.Labels // of the known event at hand
	hist    []byte
	refused []refusal
}

// NewTask returns an empty task.
func NewTask(cfg TaskConfig) *Task {
	if cfg.Limits == nil {
		limits := tenants.DefaultConfig()
		cfg.Limits = func() *tenants.Config { return &limits }
	}
	if cfg.Scratch == nil {
		cfg.Scratch = new(Scratch)
	}
	t := &Task{
		cfg: cfg, tenants: make(map[string]*tenant),
		rollups: rollup.Of(cfg.Config.Rollups, cfg.Signal),
		reach:   Reach{Partition: cfg.Partition, Signal: cfg.Signal}, resting: make(map[string]int64), limits: cfg.Limits(),
	}
	t.decoders = newDecoders(cfg.Decoder)
	t.rates = newRates(t.limits, cfg.Config.MaxTenants)
	t.windows = windowed.New(rollup.Windows(t.rollups), t.limits)
	t.clocks = newClocks(&t.cfg.Config)
	alertRules := alerting.Of(cfg.Config.Alerts, cfg.Signal)
	t.declares = len(t.rollups)+len(alertRules) > 0
	t.alerts = alerting.New(alertRules, func(tenant string) int { return t.limits.For(tenants.ID(tenant)).OpenWindows })
	counted := rollup.Counters(t.rollups)
	for _, r := range alertRules {
		counted = append(counted, rollup.Counters([]*rollup.Rule{r.Rollup})...)
	}
	t.counters = counters.New(cfg.Config.SeriesIdle, func(tenant string) (series int, bytes int64) {
		l := t.limits.For(tenants.ID(tenant))
		return l.ActiveSeries, int64(l.SeriesBytes)
	}, counted)
	t.operators = []operator{
		{(*watermarks)(t), kindWatermark, watermarkVersion}, {t.windows, kindWindows, windowed.Version},
		{(*position)(t), kindPosition, positionVersion}, {&t.clocks, kindClock, clockVersion},
		{t.rates, kindRates, ratesVersion}, {&t.counters, kindCounters, counters.Version},
		{t.alerts, kindAlerts, alerting.Version},
	}
	return t
}

// SetReach says how far the partition has been polled. It counts once everything polled has been stepped.
func (t *Task) SetReach(r Reach) {
	t.reach = r
	t.reading.next = max(t.reading.next, r.Next)
}
