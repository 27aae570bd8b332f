package simulation

import (
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// rollupTable is a table of rollups with the view that fills it.
type rollupTable struct {
	name  string
	grain pipeline.Grain
	tier  tier
	parts parts
	rows  Contents
}

// merged are the rows of a block as the table stores them, by partition.
func (t *rollupTable) merged(rows []rollupRow) map[string]Contents {
	out := map[string]Contents{}
	for i := range rows {
		r := &rows[i]
		if r.grain != t.grain {
			continue
		}
		key := r.key
		key.Table, key.Start = t.name, key.Start/t.tier.width*t.tier.width
		partition := time.Unix(int64(key.Start), 0).UTC().Format(t.tier.partition)
		if out[partition] == nil {
			out[partition] = Contents{}
		}
		out[partition].at(key).merge(&r.cell)
	}
	return out
}

type rollupRow struct {
	grain pipeline.Grain
	key   Key
	cell  Cell
}

// rollupRows takes a block apart. The decoder has checked the sketches.
func rollupRows(b *pipeline.Rollups) []rollupRow {
	out := make([]rollupRow, len(b.Grain))
	states := b.Sketch
	for i := range out {
		r := &out[i]
		r.grain = b.Grain[i]
		r.key = Key{Tenant: b.Tenant[i], Metric: b.Metric[i], Service: b.Service[i], Series: b.Series[i], Start: b.Pane[i]}
		r.cell = Cell{Count: b.Count[i], Sum: b.Sum[i], Min: b.Min[i], Max: b.Max[i], LastTime: b.LastTime[i],
			Last: b.Last[i], LastHist: b.LastHist[i]}
		if b.Grain[i] == pipeline.GrainService { // these tables have no level
			r.cell.LastTime, r.cell.Last, r.cell.LastHist = 0, 0, ""
		}
		n, err := r.cell.Sketch.DecodeDD(states)
		if err != nil {
			panic("BUG: sketch that was decoded before: " + err.Error())
		}
		states = states[n:]
	}
	return out
}

// filledBy are the tiers that rows of an ingest table go to.
func filledBy(table string) []int {
	switch table {
	case pipeline.TableRollups:
		return []int{0, 1, 2}
	case pipeline.TablePanes:
		return []int{0}
	case coarse.TableMinutes:
		return []int{1, 2}
	}
	return nil
}

func (s *Server) applyRollups(table, token string, b *pipeline.Rollups, limit int) {
	rows := rollupRows(b)
	if table == pipeline.TableRollups && !s.earlier {
		s.hits.add(hitAll, 1)
	}
	for n, t := range s.rollups {
		if !slices.Contains(filledBy(table), n%len(tiers)) {
			continue
		}
		byPartition := t.merged(rows)
		for _, partition := range sortedKeys(byPartition) {
			if limit == 0 {
				return
			}
			limit--
			if !s.put(&t.parts, table+partition, token) { // the engine adds the view to a token
				continue
			}
			for key, cell := range byPartition[partition] {
				t.rows.at(key).merge(cell)
			}
		}
	}
}
