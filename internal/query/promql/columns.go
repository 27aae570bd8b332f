package promql

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/vigie-io/vigie/pkg/series"
)

// seriesAtOnce is how many series of so many panes each are read at a time where they are evaluated as they are read:
// what is held of them is 4 million panes, 100 MB, or of few series more.
func seriesAtOnce(panes int) int { return max(64, 4<<20/panes) }

// paneColumns is panes for series that come as a row each, in any order; those of a series are given in one piece or a few.
// It is for queries of one column.
func (r *reader) paneColumns(ctx context.Context, of source, s segment, q PaneQuery, add func(i int, c *PaneColumn) error) error {
	for _, p := range r.parts(s) {
		if err := r.columnsOfPart(ctx, of, p, q, add); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) columnsOfPart(ctx context.Context, of source, s part, q PaneQuery, add func(i int, c *PaneColumn) error) error {
	q.Metrics, q.Tier, q.From, q.To, q.Finer = of.metrics, s.tier, s.from, s.to, s.finer
	q.IDs = idsOf(of.members)
	at := make(map[series.ID]int, len(of.members))
	for i := range of.members {
		at[of.members[i].ID] = i
	}
	rows := 0
	err := r.service.store.Columns(ctx, r.plan.tenant, q, func(id series.ID, c *PaneColumn) error {
		i, asked := at[id]
		if !asked {
			return fmt.Errorf("read panes of %q: series %x not asked for", of.metrics, id)
		}
		rows += len(c.Starts)
		return add(i, c)
	})
	r.trace.Panes += rows
	r.service.metrics.panes.WithLabelValues(time.Duration(s.tier).String()).Add(float64(rows))
	return err
}

// levelPanes gives the panes of columns of levels one by one.
func levelPanes(add func(i int, p *Pane) error) func(i int, c *PaneColumn) error {
	var pane Pane
	return func(i int, c *PaneColumn) error {
		for j, start := range c.Starts {
			pane = Pane{Start: start, Last: c.Values[j], LastTime: c.Times[j]}
			if math.IsInf(pane.Last, -1) { // as no sample is
				pane.LastHist = Ended
			}
			if err := add(i, &pane); err != nil {
				return err
			}
		}
		return nil
	}
}

// inTurns reads so many members at a time that what is held of them stays small. Groups of members are few as they are.
func (r *reader) inTurns(read func(context.Context, kinds, []member) error) func(context.Context, kinds, []member) error {
	return func(ctx context.Context, kind kinds, members []member) error {
		if r.fold != nil || kind == kindLevel && twinsOf(members) != nil { // which are read together
			return read(ctx, kind, members)
		}
		turn := r.service.seriesAtOnce(int((r.to-r.from)/r.tier.millis()) + 2)
		if len(members) > turn { // rows lie by service, and then by ID: a turn reads few services whole, not a little of each
			slices.SortStableFunc(members, func(a, b member) int {
				return cmp.Compare(a.Labels.Get(serviceLabel), b.Labels.Get(serviceLabel))
			})
		}
		for some := range slices.Chunk(members, turn) {
			slices.SortFunc(some, func(a, b member) int { return compareIDs(a.ID, b.ID) })
			if err := read(ctx, kind, some); err != nil {
				return err
			}
			r.release()
		}
		return nil
	}
}

// take counts samples that are held.
func (r *reader) take(n int) error {
	r.held += n
	return r.plan.budget.take(n)
}

// release counts them no more.
func (r *reader) release() {
	_ = r.plan.budget.take(-r.held) // never over
	r.held = 0
}
