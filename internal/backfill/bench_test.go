package backfill_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/backfill"
	"github.com/vigie-io/vigie/internal/clickhouse"
)

// nowhere is a store that keeps nothing, so that what is measured is reading, stepping, draining and encoding.
type nowhere struct{}

func (nowhere) Insert(context.Context, string, string, int, []byte) error { return nil }
func (nowhere) Entries(context.Context, string, string) ([]backfill.Entry, error) {
	return nil, nil
}
func (nowhere) Record(context.Context, string, string, *backfill.Entry) error { return nil }
func (nowhere) Mark(context.Context) (uint64, error)                          { return 0, nil }

// BenchmarkLoad is one file of 500,000 rows to encoded blocks, on one worker.
func BenchmarkLoad(b *testing.B) {
	const rows = 500_000
	dir, all := b.TempDir(), someMetrics(rows)
	write(b, filepath.Join(dir, "a.ndjson"), ndjson(all))
	writeParquet(b, filepath.Join(dir, "a.parquet"), all, toMapRow)
	for _, name := range []string{"a.ndjson", "a.parquet"} {
		b.Run(name, func(b *testing.B) {
			cfg := config(filepath.Join(dir, name))
			cfg.Parallel = 1
			b.ReportAllocs()
			start := time.Now()
			n := 0
			for b.Loop() {
				if _, err := backfill.New(cfg, nowhere{}, clickhouse.Encoder{}, &output{}, nil).Run(b.Context()); err != nil {
					b.Fatal(err)
				}
				n++
			}
			b.ReportMetric(float64(n*rows)/time.Since(start).Seconds(), "rows/s")
		})
	}
}
