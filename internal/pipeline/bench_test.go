package pipeline

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline/alerting"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// benchMetrics are events of n series in random order, the worst for caches; values are log-normal.
func benchMetrics(n int) []events.Metric {
	r := rand.New(rand.NewPCG(1, 2))
	all := make([]events.Metric, n)
	for i := range all {
		all[i] = events.Metric{
			Tenant: "acme", Time: benchNow.UnixNano(), Name: "http_request_duration_seconds", Value: r.ExpFloat64(),
			Labels: series.Labels{
				{Name: "instance", Value: fmt.Sprintf("10.0.%d.%d:8080", i>>8&255, i&255)}, {Name: "method", Value: "GET"},
				{Name: "route", Value: fmt.Sprintf("/api/v1/orders/%d", i>>16)}, {Name: "service", Value: fmt.Sprintf("svc-%d", i%50)},
				{Name: "status", Value: "200"},
			},
		}
	}
	r.Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

var benchNow = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func benchTask(b *testing.B) *Task {
	cfg := DefaultConfig()
	t := NewTask(TaskConfig{Partition: Partition{Topic: "t"}, Signal: events.Metrics, Config: cfg, Limits: tenants.Unlimited})
	t.now, t.admit = benchNow.UnixMilli(), newAdmission(&cfg, benchNow.UnixMilli())
	return t
}

// processorTime makes the benchmark report the thread's own time beside the clock's, which says more on a busy machine.
func processorTime(b *testing.B) (done func()) {
	b.ReportAllocs()
	runtime.LockOSThread()
	start := threadCPU()
	return func() {
		b.ReportMetric(float64((threadCPU()-start).Nanoseconds())/float64(b.N), "cpu-ns/op")
		runtime.UnlockOSThread()
	}
}

// BenchmarkAccumulate is one decoded event to its accumulator.
func BenchmarkAccumulate(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("series=%d", n), func(b *testing.B) {
			all, task := benchMetrics(n), benchTask(b)
			for range 30 { // until sketches have their size
				for i := range all {
					task.metric(&all[i])
				}
			}
			done := processorTime(b)
			i := 0
			for b.Loop() {
				if m := &all[i]; task.wanted(nil, 0, m.Time) {
					task.metric(m)
				}
				if i++; i == n {
					i = 0
				}
			}
			done()
		})
	}
}

// BenchmarkDeclared is what one decoded event costs beside its default rollup: into a pane, and into windows.
func BenchmarkDeclared(b *testing.B) {
	hopping := &windowed.Window{Hopping: &windowed.Hopping{Size: 5 * time.Minute, Every: time.Minute}}
	session := &windowed.Window{Session: &windowed.Session{Gap: 30 * time.Minute}}
	for name, window := range map[string]*windowed.Window{"pane": nil, "tumbling": {Tumbling: time.Minute},
		"hopping": hopping, "session": session} {
		b.Run(name, func(b *testing.B) {
			const n = 10_000
			cfg := DefaultConfig()
			cfg.Rollups = []rollup.Declared{{Name: "r", From: events.Metrics, By: []string{"route", "service"}, Window: window}}
			all := benchMetrics(n)
			task := NewTask(TaskConfig{Partition: Partition{Topic: "t"}, Signal: events.Metrics, Config: cfg})
			for i := range all {
				task.declareMetric(&all[i])
			}
			done := processorTime(b)
			i := 0
			for b.Loop() {
				task.declareMetric(&all[i])
				if i++; i == n {
					i = 0
				}
			}
			done()
		})
	}
}

// BenchmarkKeep is what an event costs a rollup whose windows keep something, and what its windows take, each of them
// with some 180 users and four paths: bytes are those that count toward window_bytes, log those of the state topic.
func BenchmarkKeep(b *testing.B) {
	for name, keep := range map[string]*windowed.Keep{
		"nothing": nil, "ends": {First: true, Last: true}, "distinct": {Distinct: "user"},
		"top": {Top: &windowed.Top{Of: "path"}},
	} {
		b.Run(name, func(b *testing.B) {
			const n = 10_000
			cfg := DefaultConfig()
			cfg.Rollups = []rollup.Declared{{Name: "r", From: events.Metrics, By: []string{"route", "service"},
				Window: &windowed.Window{Tumbling: time.Minute}, Keep: keep}}
			all := benchMetrics(n)
			for i := range all {
				all[i].Labels = append(slices.Clone(all[i].Labels), series.Label{Name: "path", Value: fmt.Sprint("/path/", i%4)},
					series.Label{Name: "user", Value: fmt.Sprint("user ", i%1000)})
				slices.SortFunc(all[i].Labels, func(a, b series.Label) int { return strings.Compare(a.Name, b.Name) })
			}
			task := NewTask(TaskConfig{Partition: Partition{Topic: "t"}, Signal: events.Metrics, Config: cfg})
			for i := range all {
				task.declareMetric(&all[i])
			}
			done := processorTime(b)
			i := 0
			for b.Loop() {
				task.declareMetric(&all[i])
				if i++; i == n {
					i = 0
				}
			}
			done()
			log := 0
			task.windows.Changes(func(key, value []byte) { log += len(key) + len(value) })
			windows, bytes := task.windows.Used(all[0].Tenant)
			b.ReportMetric(float64(bytes)/float64(windows), "bytes/window")
			b.ReportMetric(float64(log)/float64(windows), "log/window")
		})
	}
}

// BenchmarkAlert is what an event costs an alert that takes it; every second of event time all 10,000 are judged.
func BenchmarkAlert(b *testing.B) {
	for name, when := range map[string]string{"count": "count > 1e9", "quantile": "p99 > 1e9"} {
		b.Run(name, func(b *testing.B) {
			const n = 10_000
			cfg := DefaultConfig()
			cfg.Alerts = []alerting.Alert{{Name: "a", From: events.Metrics, By: []string{"route", "service"},
				Over: time.Minute, When: when}}
			all := benchMetrics(n)
			limits := tenants.DefaultConfig()
			limits.Defaults.OpenWindows = 1_000_000
			task := NewTask(TaskConfig{Partition: Partition{Topic: "t"}, Signal: events.Metrics, Config: cfg,
				Limits: func() *tenants.Config { return &limits }})
			done := processorTime(b)
			i, second := 0, benchNow
			for b.Loop() {
				all[i].Time = second.Add(time.Duration(i) * time.Second / n).UnixNano()
				task.declareMetric(&all[i])
				if i++; i == n {
					i, second = 0, second.Add(time.Second)
				}
			}
			done()
		})
	}
}

// BenchmarkStep is one record of one event to its accumulator, decoding included. known is how events mostly come: they
// repeat an earlier one but for time and value. Of strange ones no two have the same bytes, at the worst. In OTLP an
// operation is a data point, of 100 in a record.
func BenchmarkStep(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		for _, format := range []struct {
			name   string
			record func([]events.Metric) []byte
			events int
		}{
			{"", func(one []events.Metric) []byte { return events.AppendMetric(nil, &one[0]) }, 1},
			{"protobuf/", func(one []events.Metric) []byte { return events.AppendMetricProtobuf(nil, &one[0]) }, 1},
			{"otlp/", exportRequest, 100},
		} {
			for _, strange := range []bool{false, true} {
				kind := map[bool]string{false: "known", true: "strange"}[strange]
				b.Run(fmt.Sprintf("%s%s/series=%d", format.name, kind, n),
					func(b *testing.B) { benchStep(b, n, format.record, format.events, strange) })
			}
		}
	}
}

// BenchmarkStepMixed is the same for events as many producers of many tenants write them, a backlog of 100 s in the
// order of time: four metrics, some spelled otherwise, drained as often as a worker would.
func BenchmarkStepMixed(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("series=%d", n), func(b *testing.B) {
			benchMixed(b, n, 100*time.Second, int64(DefaultConfig().Epoch.MaxBytes))
		})
	}
}

// BenchmarkStepMany is the same with all events within a second and more series than caches hold, drained when half of
// them have an event or two.
func BenchmarkStepMany(b *testing.B) {
	for _, n := range []int{10_000, 300_000} {
		b.Run(fmt.Sprintf("series=%d", n), func(b *testing.B) { benchMixed(b, n, time.Second, int64(n)*90) })
	}
}

// benchMixed steps a task with ten events of each of n series, over a span of time, and drains it when it holds so many
// bytes.
func benchMixed(b *testing.B, n int, span time.Duration, most int64) {
	all := benchMetrics(n)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range all {
		all[i].Tenant = fmt.Sprintf("tenant-%d", min(int(r.ExpFloat64()*30), 199))
		all[i].Name = [...]string{"http_request_duration_seconds", "rpc_seconds", "db_query_seconds", "queue_wait_seconds"}[i%4]
	}
	records := make([]Record, 10*n)
	for i := range records {
		m := all[r.IntN(n)]
		m.Value = r.ExpFloat64()
		m.Time = benchNow.Add(time.Duration(i)*span/time.Duration(len(records)) - span).UnixNano()
		value := events.AppendMetric(nil, &m)
		if r.IntN(70) == 0 {
			value = append(append([]byte{'{', ' '}, fmt.Sprintf(`"x":%d,`, r.IntN(1e9))...), value[1:]...)
		}
		records[i] = Record{Offset: int64(i), Timestamp: m.Time, Key: []byte(m.Tenant), Value: value}
	}
	task := benchTask(b)
	out, rows, drains := NewOutputs(&task.cfg.Config), 0, time.Duration(0)
	benchRecords(b, task, records, 1, 1, func(from int) {
		if bytes, _ := task.Pending(); from > 0 && bytes < most {
			return
		}
		began := threadCPU()
		out.Reset()
		task.Drain(out, benchNow.UnixMilli())
		task.Committed(false)
		if task.cfg.watch != nil { // it is measured
			rows, drains = rows+out.Rows(), drains+threadCPU()-began
		}
	})
	b.ReportMetric(float64(rows)/float64(b.N), "rows/op")
	b.ReportMetric(float64(drains.Nanoseconds())/float64(max(rows, 1)), "drain-ns/row")
}

// benchStep steps a task with n events, so many a record.
func benchStep(b *testing.B, n int, record func([]events.Metric) []byte, perRecord int, strange bool) {
	all, task := benchMetrics(n), benchTask(b)
	records := make([]Record, n/perRecord)
	for i := range records {
		records[i] = Record{Offset: int64(i), Timestamp: benchNow.UnixNano(), Key: []byte("acme"),
			Value: record(all[i*perRecord:][:perRecord])}
	}
	benchRecords(b, task, records, perRecord, 30, func(from int) {
		if strange && from == 0 && task.current != nil {
			task.current.repeats.Forget(func(uint32) bool { return true })
		}
	})
}

// benchRecords steps a task with the records of so many events each again and again, at first that many times
// unmeasured. before is called before each chunk with the number of its first record.
func benchRecords(b *testing.B, task *Task, records []Record, perRecord, warm int, before func(from int)) {
	chunkRecords := 500 / perRecord
	chunk := Chunk{Signal: events.Metrics}
	for i := range warm * len(records) / chunkRecords {
		from := i * chunkRecords % len(records)
		before(from)
		chunk.Records = records[from : from+chunkRecords]
		task.Step(&chunk, benchNow.UnixMilli())
	}
	watch := &stopwatch{now: time.Now}
	task.cfg.watch = watch
	done := processorTime(b)
	watch.start()
	i := 0
	for b.Loop() {
		if i++; i%(chunkRecords*perRecord) != 0 {
			continue
		}
		from := i / perRecord % len(records)
		before(from)
		chunk.Records = records[from : from+chunkRecords]
		task.Step(&chunk, benchNow.UnixMilli())
	}
	b.ReportMetric(float64(watch.cpu[stageDecode].Nanoseconds())/float64(b.N), "decode-ns/op")
	b.ReportMetric(float64(watch.cpu[stageAccumulate].Nanoseconds())/float64(b.N), "accumulate-ns/op")
	watch.stop()
	done()
}

// BenchmarkTwoTasks is an event of a task while another works on a second thread: x-alone is by how much that makes it
// dearer.
func BenchmarkTwoTasks(b *testing.B) {
	const n, chunkRecords = 50_000, 500
	r, all := rand.New(rand.NewPCG(3, 4)), benchMetrics(n)
	records := make([]Record, 10*n)
	for i := range records {
		m := all[r.IntN(n)]
		records[i] = Record{Offset: int64(i), Timestamp: m.Time, Key: []byte(m.Tenant), Value: events.AppendMetric(nil, &m)}
	}
	tasks := [2]*Task{benchTask(b), benchTask(b)}
	run := func(task *Task) (cpu time.Duration) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		began := threadCPU()
		for chunk := range slices.Chunk(records, chunkRecords) {
			task.Step(&Chunk{Signal: events.Metrics, Records: chunk}, benchNow.UnixMilli())
		}
		task.Drain(NewOutputs(&task.cfg.Config), benchNow.UnixMilli())
		task.Committed(false)
		return threadCPU() - began
	}
	run(tasks[0])
	run(tasks[1])
	var alone, beside time.Duration
	for b.Loop() {
		alone += run(tasks[0])
		var wg sync.WaitGroup
		var cpu [2]time.Duration
		for i := range tasks {
			wg.Go(func() { cpu[i] = run(tasks[i]) })
		}
		wg.Wait()
		beside += (cpu[0] + cpu[1]) / 2
	}
	b.ReportMetric(float64(alone.Nanoseconds())/float64(b.N*len(records)), "alone-ns")
	b.ReportMetric(float64(beside)/float64(alone), "x-alone")
}

// BenchmarkDrain is one row of a drain, its service rows and state bytes included; 6 events a row.
func BenchmarkDrain(b *testing.B) {
	const n = 10_000
	all, task := benchMetrics(n), benchTask(b)
	out := NewOutputs(&task.cfg.Config)
	b.ReportAllocs()
	rows := 0
	for b.Loop() {
		if rows == 0 {
			b.StopTimer()
			for range 6 {
				for i := range all {
					task.metric(&all[i])
				}
			}
			b.StartTimer()
			out.Reset()
			task.Drain(out, benchNow.UnixMilli())
			task.Committed(false)
			rows = n
		}
		rows--
	}
}

// BenchmarkAnnounce is one row of the first drain of a task: of a series that is new.
func BenchmarkAnnounce(b *testing.B) {
	const n = 10_000
	all := benchMetrics(n)
	b.ReportAllocs()
	rows := 0
	for b.Loop() {
		if rows == 0 {
			b.StopTimer()
			task := benchTask(b)
			for i := range all {
				task.metric(&all[i])
			}
			out := NewOutputs(&task.cfg.Config)
			b.StartTimer()
			task.Drain(out, benchNow.UnixMilli())
			rows = n
		}
		rows--
	}
}

// BenchmarkNewSeries is the first event of a series, and reports what a series costs to keep.
func BenchmarkNewSeries(b *testing.B) {
	const n = 100_000
	all := benchMetrics(n)
	task, i := benchTask(b), 0
	done := processorTime(b)
	defer done()
	for b.Loop() {
		if i == n {
			task, i = benchTask(b), 0
		}
		task.metric(&all[i])
		i++
	}
}
