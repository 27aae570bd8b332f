package simulation

import (
	"testing"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// Rows count in the tiers that their table fills: those of a worker that is behind in all.
func TestWarehouseCountsByTier(t *testing.T) {
	block, err := clickhouse.Encoder{}.EncodeRollups(nil, &pipeline.Rollups{
		Grain: []pipeline.Grain{pipeline.GrainSeries}, Tenant: []string{"acme"}, Metric: []string{"m"}, Service: []string{""},
		Series: []series.ID{{Lo: 1}}, Pane: []uint32{60}, Count: []uint64{5}, Sum: []float64{5}, Min: []float64{1}, Max: []float64{1},
		LastTime: []int64{0}, Last: []float64{0}, LastHist: []string{""}, Sketch: new(sketches.Sketch).AppendDD(nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string][2]uint64{
		pipeline.TablePanes: {5, 0}, pipeline.TableRollups: {5, 5}, coarse.TableMinutes: {0, 5},
	} {
		w := newWarehouse()
		for range 2 { // the second is a duplicate
			if err := w.store(table, "t/0/1/"+table, 1, block); err != nil {
				t.Fatal(err)
			}
		}
		finest, wider := w.Counted()
		if got := [2]uint64{finest["acme"], wider["acme"]}; got != want {
			t.Errorf("%s: got %v events in the finest tier and in the wider ones, want %v", table, got, want)
		}
	}
}
