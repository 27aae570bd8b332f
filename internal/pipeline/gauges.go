package pipeline

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// gauges are what the running workers' topologies say.
type gauges Metrics

var (
	seriesDesc = prometheus.NewDesc("vigie_pipeline_active_series",
		"Active series of the tenants with the most; tenant _other is the sum of the others.", []string{"tenant"}, nil)
	watermarkDesc = prometheus.NewDesc("vigie_pipeline_watermark_lag_seconds",
		"How far behind processing time the watermark is, at most over partitions, of the "+
			"tenants that send and lag most.", []string{"tenant"}, nil)
	lagDesc = prometheus.NewDesc("vigie_pipeline_lag_records",
		"Records of a partition that have not been polled.", []string{"topic", "partition"}, nil)
	usedDesc = prometheus.NewDesc("vigie_pipeline_limit_used",
		"What tenants that send have used of a limit, of those nearest to it: rates over all partitions "+
			"of this process, an average second of the fullest recent window; others in the partition with "+
			"the most.", []string{"signal", "tenant", "limit"}, nil)
	mostDesc = prometheus.NewDesc("vigie_pipeline_limit",
		"The limit in force, of each vigie_pipeline_limit_used.", []string{"signal", "tenant", "limit"}, nil)
	tasksDesc = prometheus.NewDesc("vigie_pipeline_tasks",
		"Partitions that workers own.", nil, nil)
	statesDesc = prometheus.NewDesc("vigie_pipeline_task_states",
		"Partitions that workers own by state of their task: running, restoring (it reads "+
			"its state), stopped (its state cannot be restored; /topology says why).", []string{"state"}, nil)
	keysDesc = prometheus.NewDesc("vigie_pipeline_state_keys",
		"Keys of state of running tasks.", []string{"topic"}, nil)
	sizeDesc = prometheus.NewDesc("vigie_pipeline_state_size_bytes",
		"Bytes of the keys of state of running tasks and of their values.", []string{"topic"}, nil)
	lengthDesc = prometheus.NewDesc("vigie_pipeline_epoch_target_seconds",
		"Length that a worker's next epoch aims at.", []string{"slot"}, nil)
)

// Describe implements prometheus.Collector.
func (g *gauges) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		seriesDesc, watermarkDesc, lagDesc, usedDesc, mostDesc, tasksDesc, statesDesc, keysDesc, sizeDesc, lengthDesc,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(out chan<- prometheus.Metric) {
	g.mu.Lock()
	workers := slices.Clone(g.workers)
	g.mu.Unlock()
	sums := newTaskSums(func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	})
	for _, w := range workers {
		sums.worker(w.Topology())
	}
	sums.states()
	sums.limits()
	sums.tenants()
}

// taskSums add up what the tasks of a process say.
type taskSums struct {
	gauge   func(d *prometheus.Desc, v float64, labels ...string)
	tasks   int
	byState map[string]int             // tasks
	keys    map[string]int             // of state, by topic
	bytes   map[string]int64           // of state, by topic
	series  map[string]TenantTopology  // by tenant
	lags    map[string]time.Duration   // by tenant, the longest
	uses    map[limitKey]LimitTopology // of limits
}

func newTaskSums(gauge func(d *prometheus.Desc, v float64, labels ...string)) *taskSums {
	return &taskSums{
		gauge: gauge, byState: map[string]int{TaskRunning: 0, TaskRestoring: 0, TaskStopped: 0}, keys: map[string]int{},
		bytes: map[string]int64{}, series: map[string]TenantTopology{}, lags: map[string]time.Duration{},
		uses: map[limitKey]LimitTopology{},
	}
}

// worker adds the tasks of a worker, and shows what is of a worker or partition alone.
func (s *taskSums) worker(w *Topology) {
	s.gauge(lengthDesc, w.EpochTarget.Seconds(), slotName(w.Slot))
	s.tasks += len(w.Tasks)
	for i := range w.Tasks {
		t := &w.Tasks[i]
		s.gauge(lagDesc, float64(t.Lag), t.Topic, slotName(int(t.Partition)))
		s.byState[t.State]++
		s.keys[t.Topic] += t.StateKeys
		s.bytes[t.Topic] += t.StateBytes
		sumTenants(s.series, t)
		sumLimits(s.uses, t)
		for _, tenant := range t.Lagging {
			s.lags[tenant.Tenant] = max(s.lags[tenant.Tenant], tenant.Lag)
		}
	}
}

// states shows how many tasks there are, and what state they have.
func (s *taskSums) states() {
	s.gauge(tasksDesc, float64(s.tasks))
	for state, n := range s.byState {
		s.gauge(statesDesc, float64(n), state)
	}
	for topic, n := range s.keys {
		s.gauge(keysDesc, float64(n), topic)
		s.gauge(sizeDesc, float64(s.bytes[topic]), topic)
	}
}

// limits shows how near tenants are to them.
func (s *taskSums) limits() {
	for key, l := range s.uses {
		s.gauge(usedDesc, float64(l.Used), key.signal, key.tenant, key.limit)
		s.gauge(mostDesc, float64(l.Most), key.signal, key.tenant, key.limit)
	}
}

// tenants shows those that lag most, and those with the most series; all others count as one.
func (s *taskSums) tenants() {
	for _, tenant := range mostLagging(s.lags) {
		s.gauge(watermarkDesc, tenant.Lag.Seconds(), tenant.Tenant)
	}
	others := 0
	for i, tenant := range slices.SortedFunc(maps.Values(s.series), compareTenants) {
		if i >= topTenants || tenant.Tenant == otherTenant {
			others += tenant.Series
			continue
		}
		s.gauge(seriesDesc, float64(tenant.Series), tenant.Tenant)
	}
	s.gauge(seriesDesc, float64(others), otherTenant)
}

func mostLagging(lags map[string]time.Duration) []TenantTopology {
	rows := make([]TenantTopology, 0, len(lags))
	for tenant, lag := range lags {
		rows = append(rows, TenantTopology{Tenant: tenant, Lag: lag})
	}
	return topOf(rows, compareLags)
}

func sumTenants(into map[string]TenantTopology, task *TaskTopology) {
	add := func(t TenantTopology) {
		sum := into[t.Tenant]
		sum.Tenant = t.Tenant
		sum.Series += t.Series
		into[t.Tenant] = sum
	}
	for _, t := range task.Top {
		add(t)
	}
	add(TenantTopology{Tenant: otherTenant, Series: task.OtherSeries})
}
