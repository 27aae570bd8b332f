package clickhouse_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/pkg/series"
)

// BenchmarkInsert is what the server pays for a row of results with so many events in it, in the tier of 10 s or, as of a
// backfill, in all: processor time of its process until nothing is merged any more. Two blocks hold a pane, as of epochs
// of 5 s; values are latencies.
func BenchmarkInsert(b *testing.B) {
	for _, of := range []struct {
		table  string
		events int
	}{{pipeline.TablePanes, 18}, {pipeline.TableRollups, 18}, {pipeline.TablePanes, 118}, {pipeline.TableRollups, 118}} {
		b.Run(fmt.Sprintf("%s/events=%d", of.table, of.events), func(b *testing.B) {
			const blocks = 10
			server, client := migrated(b, nil)
			random, start := rand.New(rand.NewPCG(1, 2)), today(b, server)
			var encoded [blocks][]byte
			rows := 0
			for i := range blocks {
				list := latencyRows(random, of.events, start+uint32(i/2*10))
				rows = len(list)
				var err error
				if encoded[i], err = (clickhouse.Encoder{}).EncodeRollups(nil, rollups(list...)); err != nil {
					b.Fatal(err)
				}
			}
			before, at := processorOf(b, server), 0
			for b.Loop() {
				for _, block := range encoded {
					at++
					if err := client.Insert(b.Context(), of.table, fmt.Sprintf("topic/0/%d", at), rows, block); err != nil {
						b.Fatal(err)
					}
				}
				for ask(b, server, "SELECT count() FROM system.merges") != "0" {
					time.Sleep(50 * time.Millisecond)
				}
			}
			perRow := (processorOf(b, server) - before) / float64(at*rows)
			b.ReportMetric(perRow*1e6, "cpu-µs/row")
			b.ReportMetric(perRow*1e9/float64(of.events), "cpu-ns/event")
		})
	}
}

// latencyRows are rows of 10,000 series, and of 500 of metric and service with 20 times the events.
func latencyRows(random *rand.Rand, events int, pane uint32) (rows []row) {
	add := func(n, events int, grain pipeline.Grain) {
		for i := range n {
			r := row{grain: grain, tenant: fmt.Sprint("tenant-", i%200), metric: fmt.Sprint("metric", i%4),
				service: fmt.Sprint("checkout-", i%500), pane: pane}
			if grain == pipeline.GrainSeries {
				r.id = series.ID{Hi: uint64(i) * 0x9e3779b97f4a7c15, Lo: uint64(i)}
			}
			for range events {
				v := math.Exp(-3 + 1.2*random.NormFloat64())
				if random.IntN(10) == 0 {
					v = 0.05 / math.Pow(1-random.Float64(), 1/1.5)
				}
				r.values = append(r.values, v)
			}
			rows = append(rows, r)
		}
	}
	add(10_000, events, pipeline.GrainSeries)
	add(500, 20*events, pipeline.GrainService)
	return rows
}

// processorOf is the processor time of the server so far, in seconds.
func processorOf(b *testing.B, server *testkit.Server) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", server.Pid()))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, err := strconv.ParseFloat(fields[11], 64)
	if err != nil {
		b.Fatal(err)
	}
	system, err := strconv.ParseFloat(fields[12], 64)
	if err != nil {
		b.Fatal(err)
	}
	return (user + system) / 100 // ticks of the kernel
}

// BenchmarkAnnounced is what the server pays for a series that is announced, until nothing is merged any more, and what
// of it is for the values of its labels: blocks of 20,000 series of ten metrics, each series with a label of its own.
func BenchmarkAnnounced(b *testing.B) {
	for name, drop := range map[string]string{"whole": "", "without=label_values": "DROP VIEW vigie.label_values_mv SYNC"} {
		b.Run(name, func(b *testing.B) {
			const blocks, series = 10, 20_000
			server, client := migrated(b, nil)
			if drop != "" {
				ask(b, server, drop)
			}
			var encoded [blocks][]byte
			for i := range blocks {
				var err error
				if encoded[i], err = (clickhouse.Encoder{}).EncodeSeries(nil,
					announcedSeries(i*series, series, today(b, server))); err != nil {
					b.Fatal(err)
				}
			}
			before, at := processorOf(b, server), 0
			for b.Loop() {
				for _, block := range encoded {
					at++
					if err := client.Insert(b.Context(), pipeline.TableSeries,
						fmt.Sprintf("topic/0/%d", at), series, block); err != nil {
						b.Fatal(err)
					}
				}
				for ask(b, server, "SELECT count() FROM system.merges") != "0" {
					time.Sleep(50 * time.Millisecond)
				}
			}
			b.ReportMetric((processorOf(b, server)-before)/float64(at*series)*1e6, "cpu-µs/series")
		})
	}
}

func announcedSeries(from, n int, seen uint32) *pipeline.SeriesRows {
	rows := &pipeline.SeriesRows{}
	for i := from; i < from+n; i++ {
		service := fmt.Sprint("s", i%500)
		rows.Tenant, rows.Metric, rows.Service = append(rows.Tenant, "acme"), append(rows.Metric, fmt.Sprint("m", i%10)), append(rows.Service, service)
		rows.ID, rows.Kind, rows.Native = append(rows.ID, series.ID{Hi: uint64(i) * 0x9E3779B97F4A7C15, Lo: uint64(i)}), append(rows.Kind, 1), append(rows.Native, false)
		rows.Unit, rows.Help, rows.LastSeen = append(rows.Unit, ""), append(rows.Help, "help"), append(rows.LastSeen, seen)
		rows.Labels = append(rows.Labels, series.Labels{
			{Name: "env", Value: "prod"}, {Name: "instance", Value: fmt.Sprint("10.0.0.", i)}, {Name: "region", Value: fmt.Sprint("r", i%10)}, {Name: "service", Value: service}, {Name: "version", Value: fmt.Sprint("v", i%4)},
		})
	}
	return rows
}
