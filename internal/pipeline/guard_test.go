package pipeline

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

var update = flag.Bool("update", false, "write testdata/costs.json anew")

const (
	costsPath  = "testdata/costs.json"
	costEvents = 10_000
	// costRise is how much dearer than recorded something may become.
	costRise = 0.10
)

// costFloor is what is not worth a word: the runtime allocates, too.
func costFloor(name string) float64 {
	if strings.Contains(name, "bytes") {
		return 4
	}
	return 0.01
}

// TestCosts compares what events cost, in things that do not depend on the machine, with what they were recorded to
// cost: allocations and allocated bytes an event, for records as they should be and as they should not, bytes of state
// a series, bytes of result a row. A rise of more than a tenth fails, with the places that allocate the most. When it
// is meant: go test -run TestCosts ./internal/pipeline -update.
func TestCosts(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector, with which -short runs, allocates beside what is measured")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection would empty pools in between
	got, again := map[string]float64{}, map[string]func(watch){}
	for name := range costlyRecords(0) {
		step := func(w watch) (allocs, bytes float64) {
			return costOfStep(func(round int) []Record { return costlyRecords(round)[name] }, w)
		}
		allocs, bytes := "step "+name+": allocations an event", "step "+name+": bytes an event"
		got[allocs], got[bytes] = step(unwatched)
		again[allocs] = func(w watch) { step(w) }
		again[bytes] = again[allocs]
	}
	state := func(name string, cost func(n int, w watch) float64) {
		for n, events := range map[int]string{1: "one event", 30: "30 events"} {
			name := "state: bytes " + name + " of " + events
			got[name] = cost(n, unwatched)
			again[name] = func(w watch) { cost(n, w) }
		}
	}
	state("a series", costOfSeries)
	state("an open window", costOfWindow)
	got["drain: bytes of sketch a row of 6 events"] = costOfRow()
	if *update {
		text, err := json.MarshalIndent(got, "", "\t")
		if err == nil {
			err = os.WriteFile(costsPath, append(text, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(costsPath)
	if err != nil {
		t.Fatal(err)
	}
	recorded := map[string]float64{}
	if err := json.Unmarshal(text, &recorded); err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		switch was, found := recorded[name]; {
		case !found:
			t.Errorf("%s: nothing is recorded", name)
		case got[name] > was*(1+costRise)+costFloor(name):
			t.Errorf("%s: got %.4g, recorded %.4g: more than %.0f %% dearer%s",
				name, got[name], was, 100*costRise, whatAllocates(again[name]))
		}
	}
	if len(recorded) != len(got) {
		t.Errorf("%s holds %d costs, want %d", costsPath, len(recorded), len(got))
	}
}

// costlyRecords are records of costEvents events each, those of one round with labels that those of another have not.
func costlyRecords(round int) map[string][]Record {
	all := benchMetrics(1000)
	of := func(value func(i int, m *events.Metric) []byte) (records []Record) {
		for i := range costEvents {
			m := all[i%len(all)]
			records = append(records,
				Record{Offset: int64(i), Timestamp: benchNow.UnixNano(), Key: []byte("acme"), Value: value(i, &m)})
		}
		return records
	}
	out := map[string][]Record{
		"known JSON":     of(func(_ int, m *events.Metric) []byte { return events.AppendMetric(nil, m) }),
		"known protobuf": of(func(_ int, m *events.Metric) []byte { return events.AppendMetricProtobuf(nil, m) }),
		"protobuf with a label of its own": of(func(i int, m *events.Metric) []byte {
			m.Labels = append(slices.Clone(m.Labels), series.Label{Name: "trace", Value: fmt.Sprint(round*costEvents + i)})
			return events.AppendMetricProtobuf(nil, m)
		}),
		"JSON spelled otherwise each time": of(func(i int, m *events.Metric) []byte {
			return append(fmt.Appendf(nil, `{"x":%d,`, round*costEvents+i), events.AppendMetric(nil, m)[1:]...)
		}),
		"JSON with a label of its own": of(func(i int, m *events.Metric) []byte {
			m.Labels = append(slices.Clone(m.Labels), series.Label{Name: "trace", Value: fmt.Sprint(round*costEvents + i)})
			return events.AppendMetric(nil, m)
		}),
		"JSON cut off": of(func(_ int, m *events.Metric) []byte {
			value := events.AppendMetric(nil, m)
			return value[:len(value)-10]
		}),
	}
	for from := 0; from < costEvents; from += 100 {
		request := func(list []events.Metric) Record {
			return Record{Offset: int64(from), Timestamp: benchNow.UnixNano(), Key: []byte("acme"), Value: exportRequest(list)}
		}
		list := slices.Clone(all[from%1000:][:100])
		out["OTLP"] = append(out["OTLP"], request(list))
		list[50].Labels = append(slices.Clone(list[50].Labels),
			series.Label{Name: "trace", Value: fmt.Sprint(round*costEvents + from)})
		out["OTLP with one of 100 new"] = append(out["OTLP with one of 100 new"], request(list))
	}
	return out
}

// costOfStep is that of the third round.
func costOfStep(records func(round int) []Record, w watch) (allocs, bytes float64) {
	cfg := DefaultConfig()
	task := NewTask(TaskConfig{Partition: Partition{Topic: "t"}, Signal: events.Metrics, Config: cfg})
	chunk := Chunk{Signal: events.Metrics}
	out := NewOutputs(&cfg)
	for round := range 2 {
		chunk.Records = records(round)
		task.Step(&chunk, benchNow.UnixMilli())
		out.Reset()
		task.Drain(out, benchNow.UnixMilli())
		task.Committed(false)
	}
	chunk.Records = records(2)
	var before, after runtime.MemStats
	w(func() {
		runtime.ReadMemStats(&before)
		task.Step(&chunk, benchNow.UnixMilli())
		runtime.ReadMemStats(&after)
	})
	return float64(after.Mallocs-before.Mallocs) / costEvents, float64(after.TotalAlloc-before.TotalAlloc) / costEvents
}

// costOfSeries is what stays allocated of a series with so many events in a pane, its labels and spellings included.
func costOfSeries(n int, w watch) float64 {
	return costOfTask(n, w, func() *Task {
		return NewTask(TaskConfig{Partition: Partition{Topic: "t"}, Signal: events.Metrics, Config: DefaultConfig()})
	}, func(*Task) {})
}

// costOfWindow is what stays allocated of an open window with so many events, each of another series, once its epoch is
// committed.
func costOfWindow(n int, w watch) float64 {
	with := DefaultConfig()
	with.Rollups = []rollup.Declared{{
		Name: "open", From: events.Metrics, Measure: "value", By: []string{"service", "instance", "route"},
		Window: &windowed.Window{Tumbling: time.Hour},
	}}
	if err := with.Validate(); err != nil {
		panic(err)
	}
	committed := func(cfg Config, w watch) float64 {
		return costOfTask(n, w, func() *Task {
			return NewTask(TaskConfig{Partition: Partition{Topic: "t"}, Signal: events.Metrics, Config: cfg})
		}, func(task *Task) {
			task.Drain(NewOutputs(&cfg), benchNow.UnixMilli())
			task.Committed(true)
		})
	}
	return committed(with, w) - committed(DefaultConfig(), unwatched)
}

// costOfTask is what stays allocated of a task, by its series, after so many events of each and what is done then.
func costOfTask(n int, w watch, start func() *Task, then func(*Task)) float64 {
	all := benchMetrics(costEvents)
	var before, after runtime.MemStats
	var task *Task
	w(func() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		task = start()
		var value []byte
		for i := range n {
			for j := range all {
				all[j].Value = math.Exp(float64((i*7+j)%30) / 10)
				value = events.AppendMetric(value[:0], &all[j])
				task.Step(&Chunk{Signal: events.Metrics, Records: []Record{{Timestamp: benchNow.UnixNano(), Key: []byte("acme"), Value: value}}}, benchNow.UnixMilli())
			}
		}
		then(task)
		runtime.GC()
		runtime.ReadMemStats(&after)
	})
	runtime.KeepAlive(all)
	runtime.KeepAlive(task)
	return float64(after.HeapAlloc-before.HeapAlloc) / costEvents
}

func costOfRow() float64 {
	cfg := DefaultConfig()
	task, out := NewTask(TaskConfig{Partition: Partition{Topic: "t"}, Signal: events.Metrics, Config: cfg}), NewOutputs(&cfg)
	task.now, task.admit = benchNow.UnixMilli(), newAdmission(&cfg, benchNow.UnixMilli())
	all := benchMetrics(1000)
	for i := range 6 {
		for j := range all {
			all[j].Value = math.Exp(float64((i*7+j)%30) / 10)
			task.metric(&all[j])
		}
	}
	task.Drain(out, benchNow.UnixMilli())
	return float64(len(out.Rollups[0].Sketch)) / float64(len(out.Rollups[0].Grain))
}

// exportRequest is an OTLP export request of gauges, one metric with a data point each.
func exportRequest(list []events.Metric) []byte {
	var scope []byte
	for i := range list {
		m := &list[i]
		point := binary.LittleEndian.AppendUint64([]byte{3<<3 | 1}, uint64(m.Time))
		point = binary.LittleEndian.AppendUint64(append(point, 4<<3|1), math.Float64bits(m.Value))
		for _, l := range m.Labels {
			point = field(point, 7, field(field(nil, 1, []byte(l.Name)), 2, field(nil, 1, []byte(l.Value))))
		}
		scope = field(scope, 2, field(field(nil, 1, []byte(m.Name)), 5, field(nil, 1, point)))
	}
	resource := field(nil, 1, field(field(nil, 1, []byte("host.name")), 2, field(nil, 1, []byte("node-1"))))
	return field(nil, 1, field(field(nil, 1, resource), 2, scope))
}

// field appends a field of bytes in protobuf.
func field(dst []byte, number int, b []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(number)<<3|2)
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}
