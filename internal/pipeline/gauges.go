package pipeline

import (
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
	for _, d := range []*prometheus.Desc{seriesDesc, watermarkDesc, lagDesc, usedDesc, mostDesc, tasksDesc, statesDesc, keysDesc, sizeDesc, lengthDesc} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(out chan<- prometheus.Metric) {
	g.mu.Lock()
	workers := slices.Clone(g.workers)
	g.mu.Unlock()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	tenants, lags := make(map[string]TenantTopology), make(map[string]time.Duration)
	limits := make(map[limitKey]LimitTopology)
	tasks, keys, sizes := 0, make(map[string]int), make(map[string]int64)
	states := map[string]int{TaskRunning: 0, TaskRestoring: 0, TaskStopped: 0}
	for _, w := range workers {
		t := w.Topology()
		gauge(lengthDesc, t.EpochTarget.Seconds(), slotName(t.Slot))
		tasks += len(t.Tasks)
		for i := range t.Tasks {
			gauge(lagDesc, float64(t.Tasks[i].Lag), t.Tasks[i].Topic, slotName(int(t.Tasks[i].Partition)))
			states[t.Tasks[i].State]++
			keys[t.Tasks[i].Topic] += t.Tasks[i].StateKeys
			sizes[t.Tasks[i].Topic] += t.Tasks[i].StateBytes
			sumTenants(tenants, &t.Tasks[i])
			sumLimits(limits, &t.Tasks[i])
			for _, tenant := range t.Tasks[i].Lagging {
				lags[tenant.Tenant] = max(lags[tenant.Tenant], tenant.Lag)
			}
		}
	}
	gauge(tasksDesc, float64(tasks))
	for state, n := range states {
		gauge(statesDesc, float64(n), state)
	}
	for topic, n := range keys {
		gauge(keysDesc, float64(n), topic)
		gauge(sizeDesc, float64(sizes[topic]), topic)
	}
	for _, tenant := range mostLagging(lags) {
		gauge(watermarkDesc, tenant.Lag.Seconds(), tenant.Tenant)
	}
	for key, l := range limits {
		gauge(usedDesc, float64(l.Used), key.signal, key.tenant, key.limit)
		gauge(mostDesc, float64(l.Most), key.signal, key.tenant, key.limit)
	}
	top := make([]TenantTopology, 0, len(tenants))
	for _, tenant := range tenants {
		top = append(top, tenant)
	}
	slices.SortFunc(top, compareTenants)
	others := 0
	for i, tenant := range top {
		if i >= topTenants || tenant.Tenant == otherTenant {
			others += tenant.Series
			continue
		}
		gauge(seriesDesc, float64(tenant.Series), tenant.Tenant)
	}
	gauge(seriesDesc, float64(others), otherTenant)
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
