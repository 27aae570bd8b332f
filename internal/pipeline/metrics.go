package pipeline

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/pkg/events"
)

const (
	// maxTenantLabels bounds the tenants that counters name; further ones share the label otherTenant.
	maxTenantLabels = 200
	// topTenants bounds the tenants that gauges show: those with the most series.
	topTenants  = 20
	otherTenant = "_other" // '_' begins no tenant's name
)

// Metrics are shared by the workers of a process.
type Metrics struct {
	records, bytes, events *prometheus.CounterVec // signal
	refused                *prometheus.CounterVec // signal, tenant, reason
	dropped                *prometheus.CounterVec // signal, tenant, reason
	late                   *prometheus.CounterVec // signal, tenant
	missed                 *prometheus.CounterVec // signal, tenant, policy
	alerts                 *prometheus.CounterVec // signal, tenant, state
	unheard                *prometheus.CounterVec // signal, tenant, reason
	windows                *prometheus.CounterVec // signal, tenant, outcome
	letters, omitted       prometheus.Counter
	lost                   *prometheus.CounterVec // signal, reason
	stateRecords           *prometheus.CounterVec // signal
	stateBytes             *prometheus.CounterVec // signal
	replaced               *prometheus.CounterVec // signal
	restores               *prometheus.CounterVec // outcome
	restoreRecords         prometheus.Counter
	restoreBytes           prometheus.Counter
	restoreSeconds         prometheus.Histogram
	noTime, stale, coarse  prometheus.Counter
	clamped                prometheus.Counter
	wall, cpu              [stages]prometheus.Counter
	epochSeconds           prometheus.Histogram
	epochRows              prometheus.Histogram
	longer                 prometheus.Counter
	endings                *prometheus.CounterVec // cause
	epochs                 *prometheus.CounterVec // outcome
	rows, blocks           *prometheus.CounterVec // table
	starts, failures       prometheus.Counter
	held                   prometheus.Gauge
	unsettled              prometheus.Counter

	mu      sync.Mutex
	labels  map[string]struct{} // tenants with a label of their own
	workers []*Worker
}

// NewMetrics registers the metrics of package pipeline; call it once for a registry. A nil registerer makes metrics
// that nobody sees.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{labels: make(map[string]struct{})}
	r := registry{reg}
	m.ofEvents(r)
	m.ofState(r)
	m.ofEpochs(r)
	m.ofResults(r)
	r.register((*gauges)(m))
	return m
}

// ofEvents makes the metrics of what comes in, and of what becomes of it.
func (m *Metrics) ofEvents(r registry) {
	m.records = r.vector("records_total", "Source records of committed epochs.", "signal")
	m.bytes = r.vector("record_bytes_total", "Bytes of keys and values of source records of committed epochs.", "signal")
	m.events = r.vector("events_total", "Events accumulated in committed epochs, with what OTLP histograms fan out to.", "signal")
	m.refused = r.vector("refused_events_total",
		"Events, or records refused whole, that were dead-lettered.", "signal", "tenant", "reason")
	m.dropped = r.vector("dropped_events_total",
		"Events dropped, by reason: a limit was reached, or (too_late) all windows of "+
			"a declared rollup had passed their lateness, or (duplicate, out_of_order, "+
			"invalid) a cumulative sample adds nothing to an increase.", "signal", "tenant", "reason")
	m.late = r.vector("late_events_total",
		"Events taken although they were older than their tenant's watermark: rollups count "+
			"them, windows do what their late policy says.", "signal", "tenant")
	m.missed = r.vector("window_late_events_total",
		"Events that came after a window of a rollup had closed, by what became of "+
			"them: recompute, merge, divert (the rollup's policy), or too_late (past "+
			"allowed lateness: not in the window).", "signal", "tenant", "policy")
	m.alerts = r.vector("alerts_total",
		"Alerts of the stream that began to fire, and that were resolved.", "signal", "tenant", "state")
	m.unheard = r.vector("alert_missed_events_total",
		"Events that an alert did not take: too_late (older than all it judges), "+
			"window_limit (the tenant has as many slices as open_windows allows).", "signal", "tenant", "reason")
	m.windows = r.vector("windows_total",
		"Rows of closed windows: closed, corrected (written again whole), merged "+
			"(late events, to be added), retracted (a session that has become part of "+
			"another), diverted (late events beside their window).", "signal", "tenant", "outcome")
	m.letters = r.counter("dead_letters_total", "Dead letters written.")
	m.omitted = r.counter("dead_letters_omitted_total", "Dead letters without their original, which was too large.")
	m.lost = r.vector("lost_offsets_total",
		"Offsets that were never read, by reason: deleted (by the broker, before they were "+
			"read), skipped (the group's offset was set beyond them). Markers of transactions and "+
			"aborted records among them are counted too.", "signal", "reason")
	m.noTime = r.counter("untimed_events_total", "Events that took their record's timestamp for want of a time.")
	m.stale = r.counter("stale_markers_total",
		"Ends of series that were skipped: those of delta points, and quantiles that are no number.")
	m.coarse = r.counter("coarse_histograms_total", "Pre-aggregated histograms coarser than the sketches they were merged into.")
	m.clamped = r.counter("clamped_values_total", "Values outside the range of sketches, counted in their first or last bucket.")
}

// ofState makes those of keyed state, and of its restoring.
func (m *Metrics) ofState(r registry) {
	m.stateRecords = r.vector("state_records_total",
		"Changes of keyed state written in committed epochs, tombstones included.", "signal")
	m.stateBytes = r.vector("state_bytes_total",
		"Bytes of keys and values of changes of keyed state written in committed epochs.", "signal")
	m.replaced = r.vector("replaced_sources_total",
		"Times that a task whose results were of a topic that has been deleted began at the start of its "+
			"namesake. What was unread of the one before is lost, and nobody knows how much that was.", "signal")
	m.restores = r.vector("restores_total",
		"Readings of a task's state by outcome: restored, stopped (it cannot be restored, and the task "+
			"waits).", "outcome")
	for _, outcome := range []string{"restored", "stopped"} {
		m.restores.WithLabelValues(outcome)
	}
	m.restoreRecords = r.counter("restore_records_total", "Records read to restore state.")
	m.restoreBytes = r.counter("restore_bytes_total", "Bytes of keys and values read to restore state.")
	m.restoreSeconds = r.histogram("restore_seconds",
		"From the assignment of a partition until its state is restored, or cannot be.",
		[]float64{.01, .03, .1, .3, 1, 3, 10, 30, 100})
}

// ofEpochs makes those of workers and their epochs.
func (m *Metrics) ofEpochs(r registry) {
	wall := r.vector("stage_seconds_total", "Time by stage of work.", "stage")
	cpu := r.vector("stage_cpu_seconds_total",
		"Processor time of workers' threads by stage of work, where the system tells it.", "stage")
	for i, name := range stageNames {
		m.wall[i], m.cpu[i] = wall.WithLabelValues(name), cpu.WithLabelValues(name)
	}
	m.epochs = r.vector("epochs_total",
		"Epochs by outcome: committed, aborted (to be done again), failed (the worker started anew).", "outcome")
	for _, outcome := range []string{"committed", "aborted", "failed"} {
		m.epochs.WithLabelValues(outcome)
	}
	m.longer = r.counter("longer_epochs_total",
		"Committed epochs that went on beyond their length, as all their records were in the log before they began "+
			"and more followed.")
	m.endings = r.vector("epoch_ends_total", "Committed epochs with records by what ended them: "+endingsHelp+".", "cause")
	for _, cause := range endings {
		m.endings.WithLabelValues(string(cause))
	}
	m.starts = r.counter("worker_starts_total", "Sessions opened.")
	m.failures = r.counter("worker_failures_total", "Sessions that could not be opened or ended with an error.")
	m.epochSeconds = r.histogram("epoch_seconds", "From the first record of an epoch to its commit.",
		[]float64{.1, .25, .5, 1, 2, 3, 5, 7.5, 10, 20})
	m.epochRows = r.histogram("epoch_rows", "Rollup and series rows of an epoch.",
		[]float64{1, 10, 100, 1000, 3000, 10_000, 30_000, 100_000, 300_000})
}

// ofResults makes those of what epochs write.
func (m *Metrics) ofResults(r registry) {
	m.rows = r.vector("rows_total", "Rows of committed result blocks.", "table")
	m.blocks = r.vector("blocks_total", "Committed result blocks; each becomes one INSERT.", "table")
	m.held = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "vigie_pipeline_progress_held_partitions",
		Help: "Partitions whose progress is not published yet, as results of their last worker are not stored. " +
			"PromQL waits at what was published before.",
	})
	r.register(m.held)
	m.unsettled = r.counter("progress_unsettled_total",
		"Times that progress of a partition was published although results of its last worker were not stored within "+
			"progress_hold.")
}

// registry makes the metrics of package pipeline.
type registry struct {
	to prometheus.Registerer // nil: nobody sees them
}

func (r registry) register(c prometheus.Collector) {
	if r.to != nil {
		r.to.MustRegister(c)
	}
}

func (r registry) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "vigie_pipeline_" + name, Help: help})
	r.register(c)
	return c
}

func (r registry) vector(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vigie_pipeline_" + name, Help: help}, labels)
	r.register(c)
	return c
}

func (r registry) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "vigie_pipeline_" + name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
	})
	r.register(h)
	return h
}

// tenantLabel bounds the values of the label tenant: first come, first named.
func (m *Metrics) tenantLabel(tenant string) string {
	if tenant == "" {
		return ""
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.labels[tenant]; known {
		return tenant
	}
	if len(m.labels) >= maxTenantLabels {
		return otherTenant
	}
	m.labels[tenant] = struct{}{}
	return tenant
}

// count adds what a task did in a committed epoch.
func (m *Metrics) count(signal events.Signal, t *Tally) {
	name := string(signal)
	m.records.WithLabelValues(name).Add(float64(t.Records))
	m.bytes.WithLabelValues(name).Add(float64(t.Bytes))
	m.events.WithLabelValues(name).Add(float64(t.Events))
	m.noTime.Add(float64(t.NoTime))
	m.stale.Add(float64(t.Stale))
	m.coarse.Add(float64(t.Coarse))
	m.clamped.Add(float64(t.Clamped))
	m.letters.Add(float64(t.Letters))
	m.stateRecords.WithLabelValues(name).Add(float64(t.StateRecords))
	m.stateBytes.WithLabelValues(name).Add(float64(t.StateBytes))
	m.lost.WithLabelValues(name, "deleted").Add(float64(t.Deleted))
	m.lost.WithLabelValues(name, "skipped").Add(float64(t.Skipped))
	m.omitted.Add(float64(t.Omitted))
	for tenant, n := range t.Late {
		m.late.WithLabelValues(name, m.tenantLabel(tenant)).Add(float64(n))
	}
	reasons := func(of *prometheus.CounterVec, counts map[TenantReason]uint64) {
		for key, n := range counts {
			of.WithLabelValues(name, m.tenantLabel(key.Tenant), string(key.Reason)).Add(float64(n))
		}
	}
	reasons(m.missed, t.Missed)
	reasons(m.windows, t.Windows)
	reasons(m.alerts, t.Alerts)
	reasons(m.unheard, t.Unheard)
	reasons(m.refused, t.Refused)
	reasons(m.dropped, t.Dropped)
}

// restored counts one reading of state.
func (m *Metrics) restored(outcome string, r *restore, took time.Duration) {
	m.restores.WithLabelValues(outcome).Inc()
	m.restoreRecords.Add(float64(r.records.Load()))
	m.restoreBytes.Add(float64(r.bytes.Load()))
	m.restoreSeconds.Observe(took.Seconds())
}

// block counts one committed result block.
func (m *Metrics) block(table string, rows int) {
	m.blocks.WithLabelValues(table).Inc()
	m.rows.WithLabelValues(table).Add(float64(rows))
}

func (m *Metrics) join(w *Worker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.workers = append(m.workers, w)
}

func (m *Metrics) leave(w *Worker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.workers = slices.DeleteFunc(m.workers, func(o *Worker) bool { return o == w })
}
