package query

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	upstream "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

// tsdbOf is Prometheus' own storage with the samples that a scrape at each window's end would have taken of a size:
// totals, and gauges.
func tsdbOf(t testing.TB, s size, end int64) *tsdb.DB {
	t.Helper()
	options := tsdb.DefaultOptions()
	options.MinBlockDuration, options.MaxBlockDuration = (30 * 24 * time.Hour).Milliseconds(), (30 * 24 * time.Hour).Milliseconds() // all in its head
	options.WALSegmentSize = -1
	db, err := tsdb.Open(t.TempDir(), slog.New(slog.DiscardHandler), nil, options, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	from := end - int64((s.span + s.rng).Seconds())
	pane := int64(s.pane.Seconds())
	panes := int((end-from)/pane) + int(time.Hour/s.pane) // as fill counts them
	totals, names := make([]float64, s.series), make([][2]labels.Labels, s.series)
	refs := make([][2]storage.SeriesRef, s.series)
	for i := range names {
		of := []string{"env", "prod", "instance", fmt.Sprint("10.0.0.", i), "region", fmt.Sprint("r", i%10), "service",
			fmt.Sprint("s", i%50), "version", fmt.Sprint("v", i%4)}
		names[i] = [2]labels.Labels{labels.FromStrings(append(of, "__name__", "requests_total")...),
			labels.FromStrings(append(of, "__name__", "queue_depth")...)}
	}
	for p := int(time.Hour / s.pane); p < panes; p++ {
		appender := db.Appender(context.Background())
		at := (from + int64(p+1-int(time.Hour/s.pane))*pane) * 1000
		for i := range names {
			v := float64(1 + (i*7+p*13)%29)
			totals[i] += v
			for j, value := range []float64{totals[i], v} {
				if refs[i][j], err = appender.Append(refs[i][j], names[i][j], at-int64(j)*1000, value); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := appender.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

// prometheus evaluates a panel over a TSDB as Prometheus does, without its HTTP.
func prometheus(t testing.TB, engine *upstream.Engine, db *tsdb.DB, query string, s size, end int64) answers {
	t.Helper()
	q, err := engine.NewRangeQuery(t.Context(), db, nil, query, time.Unix(end, 0).Add(-s.span), time.Unix(end, 0), s.step)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	result := q.Exec(t.Context())
	matrix, err := result.Matrix()
	if err != nil {
		t.Fatal(err)
	}
	got := answers{}
	for _, series := range matrix {
		for _, point := range series.Floats {
			got[point.T/1000] = append(got[point.T/1000], point.F)
		}
	}
	return got
}

func newEngine() *upstream.Engine {
	return upstream.NewEngine(upstream.EngineOpts{Logger: slog.New(slog.DiscardHandler),
		MaxSamples: math.MaxInt32, Timeout: time.Hour})
}
