package app_test

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/vigie-io/vigie/internal/app"
	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/telemetry"
)

var update = flag.Bool("update", false, "write docs/metrics.md anew")

const (
	root      = "../.."
	reference = root + "/docs/metrics.md"
)

// preface stands before the tables, with ' for `.
const preface = `# Metrics

<!-- Written by 'make docs' from what the programs register; edit the Help texts instead. -->

What each program shows at '/metrics', beside the metrics of the Go runtime ('go_*') and of the process ('process_*'). What to watch
and what to do: [operating](operating.md), [alerts](../deploy/prometheus/vigie.rules.yml), [runbooks](runbooks/README.md).

| question | metrics |
|---|---|
| records and bytes in | 'vigie_pipeline_records_total', 'vigie_pipeline_record_bytes_total', 'vigie_ingest_body_bytes_total' |
| time by stage | 'vigie_pipeline_stage_seconds_total', 'vigie_pipeline_stage_cpu_seconds_total' |
| lag; of watermarks, by tenant | 'vigie_pipeline_lag_records'; 'vigie_pipeline_watermark_lag_seconds' |
| epochs: length, size, aborts | 'vigie_pipeline_epoch_seconds', 'vigie_pipeline_epoch_rows', 'vigie_pipeline_epochs_total' |
| state: keys, bytes | 'vigie_pipeline_state_keys', 'vigie_pipeline_state_size_bytes' |
| late; too late, or over a limit | 'vigie_pipeline_late_events_total'; 'vigie_pipeline_dropped_events_total' |
| dead letters | 'vigie_pipeline_dead_letters_total', 'vigie_pipeline_refused_events_total' |
| results out | 'vigie_pipeline_rows_total', 'vigie_pipeline_blocks_total' |
| the sink: rows, time, deduplicated blocks | 'vigie_sink_rows_total', 'vigie_sink_insert_seconds', 'vigie_sink_deduplicated_blocks_total' |
| freshness, from event to queryable | 'vigie_sink_freshness_seconds{from="event"}' |

- Metrics of 'vigie_pipeline_*' count committed epochs: after a crash or an abort nothing is counted twice.
- The label 'tenant' is bounded: what is beyond the bound shares '_other' ('other' in ingest).
- Every histogram has native buckets beside the classic ones. A Prometheus that scrapes native histograms reads
  'histogram_quantile(0.99, sum(rate(vigie_sink_freshness_seconds[5m])))', any other adds '_bucket' and 'by (le)'.
`

// metric is one name that a program registered.
type metric struct {
	name, kind, help string
	labels           string
}

// recorder is a registry that remembers what was registered: metrics with labels show nothing until they are first
// used.
type recorder struct {
	*prometheus.Registry
	t  *testing.T
	mu sync.Mutex
	of map[string]metric
}

func (r *recorder) Register(c prometheus.Collector) error {
	r.describe(c)
	return r.Registry.Register(c)
}

func (r *recorder) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		r.describe(c)
	}
	r.Registry.MustRegister(all...)
}

var description = regexp.MustCompile(`^Desc\{fqName: ("(?:[^"\\]|\\.)*"), help: ("(?:[^"\\]|\\.)*"), unit: "[^"]*", constLabels: \{\}, variableLabels: \{(.*)\}\}$`)

func (r *recorder) describe(c prometheus.Collector) {
	r.mu.Lock()
	defer r.mu.Unlock()
	descriptions := make(chan *prometheus.Desc, 1000)
	c.Describe(descriptions)
	close(descriptions)
	for d := range descriptions {
		parts := description.FindStringSubmatch(d.String())
		if parts == nil {
			r.t.Fatalf("cannot read %s", d)
		}
		var m metric
		if _, err := fmt.Sscanf(parts[1]+" "+parts[2], "%q %q", &m.name, &m.help); err != nil {
			r.t.Fatal(err)
		}
		m.labels, m.kind = parts[3], kindOf(r.t, c, m.name, parts[3])
		r.of[m.name] = m
	}
}

// kindOf finds the type of a collector. A collector of our own has gauges.
func kindOf(t *testing.T, c prometheus.Collector, name, labels string) string {
	var one prometheus.Metric
	switch c := c.(type) {
	case *prometheus.CounterVec:
		return "counter"
	case *prometheus.GaugeVec:
		return "gauge"
	case *prometheus.HistogramVec:
		one = c.WithLabelValues(make([]string, strings.Count(labels, ",")+1)...).(prometheus.Metric)
	case prometheus.Metric:
		one = c
	default:
		return "gauge"
	}
	var m dto.Metric
	if err := one.Write(&m); err != nil {
		t.Fatal(err)
	}
	switch {
	case m.Counter != nil:
		return "counter"
	case m.Gauge != nil:
		return "gauge"
	case m.Histogram == nil:
		t.Fatalf("%s: want a counter, a gauge or a histogram", name)
	case m.Histogram.Schema == nil || len(m.Histogram.Bucket) == 0:
		t.Errorf("%s: want a histogram with classic and with native buckets", name)
	}
	return "histogram"
}

// registered runs a program, for which nothing has to be there, until its address is open.
func registered(t *testing.T, name string, run app.Runner) map[string]metric {
	t.Helper()
	cfg := config.Default()
	cfg.Kafka.Brokers, cfg.ClickHouse.Addrs = []string{"127.0.0.1:1"}, []string{"127.0.0.1:1"}
	cfg.Ingest.Listen, cfg.Stream.Listen, cfg.Query.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	watched := &recorder{Registry: prometheus.NewRegistry(), t: t, of: map[string]metric{}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := run(ctx, cfg, app.Process{
		Name: name, Log: slog.New(slog.DiscardHandler), Registry: watched,
		Ready: func(telemetry.Check) { cancel() },
	})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	watched.mu.Lock()
	defer watched.mu.Unlock()
	return watched.of
}

// programs is which programs have a metric.
func programs(t *testing.T) (all map[string]metric, in map[string][]string) {
	all, in = map[string]metric{}, map[string][]string{}
	for _, p := range []struct {
		name string
		run  app.Runner
	}{{"ingest", app.Ingest}, {"stream", app.Stream}, {"query", app.Query}} {
		for name, m := range registered(t, p.name, p.run) {
			if old, known := all[name]; known && old != m {
				t.Errorf("%s: got %+v in %s and %+v in %v", name, m, p.name, old, in[name])
			}
			all[name], in[name] = m, append(in[name], p.name)
		}
	}
	commands := &recorder{Registry: prometheus.NewRegistry(), t: t, of: map[string]metric{}}
	app.NewChecks("verify", commands)
	for name, m := range commands.of {
		all[name], in[name] = m, []string{commandLine}
	}
	return all, in
}

// commandLine is where metrics are that no program shows.
const commandLine = "the files that `vigie verify -metrics` and `vigie audit results -metrics` write"

// TestMetricsReference keeps docs/metrics.md equal to what the programs register.
func TestMetricsReference(t *testing.T) {
	all, in := programs(t)
	all["vigie_build_info"] = metric{"vigie_build_info", "gauge", "Always 1; the labels say which build this is.", "version,revision,goversion"}
	in["vigie_build_info"] = []string{"ingest", "stream", "query"}
	sections := map[string][]metric{}
	for name, m := range all {
		if !strings.HasPrefix(name, "vigie_") {
			continue
		}
		title := strings.Join(in[name], " and ")
		if len(in[name]) == 3 {
			title = "every program"
		}
		sections[title] = append(sections[title], m)
	}
	var out bytes.Buffer
	out.WriteString(strings.ReplaceAll(preface, "'", "`"))
	for _, title := range slices.Sorted(maps.Keys(sections)) {
		fmt.Fprintf(&out, "\n## In %s\n| metric | type | labels | meaning |\n|---|---|---|---|\n", title)
		slices.SortFunc(sections[title], func(a, b metric) int { return cmp.Compare(a.name, b.name) })
		for _, m := range sections[title] {
			fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", m.name, m.kind, strings.ReplaceAll(m.labels, ",", ", "), strings.ReplaceAll(m.help, "|", `\|`))
		}
	}
	if *update {
		if err := os.WriteFile(reference, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("%s is not what the programs register: run `make docs`", reference)
	}
}

// TestMetricNames keeps the names to their rules, and the documents to names that exist.
func TestMetricNames(t *testing.T) {
	all, _ := programs(t)
	for name, m := range all {
		if counter := strings.HasSuffix(name, "_total"); strings.HasPrefix(name, "vigie_") && (counter != (m.kind == "counter") || !strings.HasSuffix(m.help, ".")) {
			t.Errorf("%s, %s %q: want _total for counters and no others, and a sentence", name, m.kind, m.help)
		}
	}
	word := regexp.MustCompile(`\bvigie_(build|check|config|ingest|kafka|pipeline|query|sink)_[a-z0-9_]+`)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".md" || path == reference {
			return err
		}
		text, err := os.ReadFile(path)
		for _, name := range word.FindAllString(string(text), -1) {
			base := regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(name, "")
			if _, known := all[name]; !known && all[base].kind != "histogram" && name != "vigie_build_info" {
				t.Errorf("%s: no program has a metric %s", path, name)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
