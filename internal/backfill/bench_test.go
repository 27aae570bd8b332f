package backfill_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/vigie-io/vigie/internal/backfill"
	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// nowhere is a store that keeps nothing, so that what is measured is reading, stepping, draining and encoding.
type nowhere struct{}

func (nowhere) Insert(context.Context, string, string, int, []byte) error { return nil }
func (nowhere) Meets(context.Context, *windowed.Rows, []int) ([]int, error) {
	return nil, nil
}
func (nowhere) Note(context.Context, string, []backfill.Hours) error { return nil }

func (nowhere) Entries(context.Context, string, string) ([]backfill.Entry, error) {
	return nil, nil
}
func (nowhere) Record(context.Context, string, string, *backfill.Entry) error { return nil }
func (nowhere) Mark(context.Context) (uint64, error)                          { return 0, nil }
func (nowhere) Replaced(context.Context) (backfill.Replaced, error)           { return nil, nil }

const benchSeries = 10_000

// benchMetric makes the i-th of events as BenchmarkStep of package pipeline has them: 10,000 series of 5 labels, six
// events of each every ten seconds, in the order of time.
func benchMetric(r *rand.Rand, start time.Time) func(i int) events.Metric {
	all := make([]series.Labels, benchSeries)
	for i := range all {
		all[i] = series.Labels{
			{Name: "instance", Value: fmt.Sprintf("10.0.%d.%d:8080", i>>8&255, i&255)}, {Name: "method", Value: "GET"},
			{Name: "route", Value: fmt.Sprintf("/api/v1/orders/%d", i>>16)}, {Name: "service", Value: fmt.Sprintf("svc-%d", i%50)},
			{Name: "status", Value: "200"},
		}
	}
	return func(i int) events.Metric {
		return events.Metric{
			Tenant: "acme", Time: start.UnixNano() + int64(i)*int64(10*time.Second)/(6*benchSeries),
			Name:  "http_request_duration_seconds",
			Value: r.ExpFloat64(), Labels: all[r.IntN(benchSeries)],
		}
	}
}

// benchRows is how many rows are loaded; VIGIE_BENCH_ROWS says another number.
func benchRows(b *testing.B) int {
	text := os.Getenv("VIGIE_BENCH_ROWS")
	if text == "" {
		return 600_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// BenchmarkLoad is a file to encoded blocks on one worker; memory is the same events as records of the stream that are
// in memory already, to encoded blocks, by one task: what a worker of the stream does of them.
func BenchmarkLoad(b *testing.B) {
	rows, dir := benchRows(b), b.TempDir()
	start := time.Now().Add(-48 * time.Hour).Truncate(time.Hour)
	all := func() func(int) events.Metric { return benchMetric(rand.New(rand.NewPCG(1, 2)), start) }
	b.Run("memory", func(b *testing.B) { benchMemory(b, min(rows, 2_000_000), all()) })
	for _, name := range []string{"a.ndjson", "a.parquet"} {
		path := filepath.Join(dir, name)
		rows := rows
		if name == "a.ndjson" {
			rows = min(rows, 2_000_000)
		}
		benchFile(b, path, rows, all())
		b.Run(name, func(b *testing.B) {
			cfg := config(path)
			cfg.Parallel = 1
			measure(b, rows, func() {
				if _, err := backfill.New(cfg, nowhere{}, clickhouse.Encoder{}, &output{}, nil).Run(b.Context()); err != nil {
					b.Fatal(err)
				}
			})
		})
		if err := os.Remove(path); err != nil {
			b.Fatal(err)
		}
	}
}

// measure reports processor time beside the clock's, which says more on a busy machine.
func measure(b *testing.B, rows int, run func()) {
	b.ReportAllocs()
	began, n := processorTime(b), 0
	for b.Loop() {
		run()
		n++
	}
	spent := processorTime(b) - began
	b.ReportMetric(float64(n*rows)/spent.Seconds(), "rows/cpu-s")
	b.ReportMetric(float64(spent.Nanoseconds())/float64(n*rows), "cpu-ns/row")
}

func benchMemory(b *testing.B, rows int, metric func(int) events.Metric) {
	const epoch = 1 << 18
	records := make([]pipeline.Record, rows)
	for i := range records {
		m := metric(i)
		records[i] = pipeline.Record{Offset: int64(i), Key: []byte("acme"), Value: events.AppendMetric(nil, &m)}
	}
	cfg, now := pipeline.DefaultConfig(), time.Now().UnixMilli()
	task := pipeline.NewTask(pipeline.TaskConfig{Signal: events.Metrics, Config: cfg, Limits: tenants.Unlimited})
	out := pipeline.NewOutputs(&cfg)
	var block []byte
	measure(b, rows, func() {
		for from := 0; from < rows; from += epoch {
			task.Step(&pipeline.Chunk{Signal: events.Metrics, Records: records[from:min(from+epoch, rows)]}, now)
			task.Drain(out, now)
			for _, part := range out.Rollups {
				var err error
				if block, err = (clickhouse.Encoder{}).EncodeRollups(block[:0], part); err != nil {
					b.Fatal(err)
				}
			}
			out.Reset()
			task.Committed(false)
		}
	})
}

// benchFile writes the file without holding its rows.
func benchFile(b *testing.B, path string, rows int, metric func(int) events.Metric) {
	if filepath.Ext(path) == ".ndjson" {
		var text []byte
		for i := range rows {
			m := metric(i)
			text = append(events.AppendMetric(text, &m), '\n')
		}
		write(b, path, text)
		return
	}
	type row struct {
		Tenant string            `parquet:"tenant,dict"`
		Time   time.Time         `parquet:"time,timestamp(nanosecond),delta"`
		Name   string            `parquet:"name,dict"`
		Value  float64           `parquet:"value"`
		Labels map[string]string `parquet:"labels" parquet-key:",dict" parquet-value:",dict"`
	}
	file, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	out := parquet.NewGenericWriter[row](file, parquet.Compression(&parquet.Zstd), parquet.MaxRowsPerRowGroup(1<<20))
	for i := range rows {
		m := metric(i)
		labels := make(map[string]string, len(m.Labels))
		for _, l := range m.Labels {
			labels[l.Name] = l.Value
		}
		if _, err := out.Write([]row{{m.Tenant, time.Unix(0, m.Time), m.Name, m.Value, labels}}); err != nil {
			b.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		b.Fatal(err)
	}
}
