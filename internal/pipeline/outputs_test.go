package pipeline

import (
	"slices"
	"testing"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// Labels of announcements lie in memory that is used again for the next block: each block has to hold its own until it is
// taken, however many there are.
func TestBlocksOfSeriesHoldTheirLabels(t *testing.T) {
	const n = 5000
	cfg := DefaultConfig()
	cfg.BlockRows = n / 3 // of two pages of labels each
	task := NewTask(TaskConfig{Partition: Partition{Topic: "t"}, Signal: events.Metrics, Config: cfg, Limits: tenants.Unlimited})
	want := map[series.ID]series.Labels{}
	all := benchMetrics(n)
	for i := range all {
		task.metric(&all[i])
		want[series.Hash(series.AppendKey(nil, byte(all[i].Kind), all[i].Name, all[i].Labels))] = all[i].Labels
	}
	out := NewOutputs(&cfg)
	blocks := 0
	out.fullSeries = func(rows *SeriesRows) {
		blocks++
		for i, id := range rows.ID {
			if !slices.Equal(rows.Labels[i], want[id]) {
				t.Fatalf("block %d: got labels %v of series %v, want %v", blocks, rows.Labels[i], id, want[id])
			}
			delete(want, id)
		}
	}
	task.Drain(out, benchNow.UnixMilli())
	for _, rows := range out.Series {
		out.fullSeries(rows)
	}
	if len(want) > 0 || blocks != 4 {
		t.Errorf("%d blocks, and %d of %d series are in none: want 4 blocks with all of them", blocks, len(want), n)
	}
}
