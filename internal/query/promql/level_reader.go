package promql

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
)

// levels reads gauges and cumulative totals.
func (r *reader) levels(ctx context.Context, _ kinds, members []member) error {
	built := make([]levels, len(members))
	twins := twinsOf(members)
	for i, m := range members {
		if m.Native {
			built[i].hists = []*histogram.FloatHistogram{}
		}
	}
	from := source{metrics: metricsOf(members), members: members}
	grid := r.grid(0)
	// The pane that begins at the last wanted sample may hold it.
	if n := len(grid.segments); n > 0 && grid.segments[n-1].tier == Tier10s {
		grid.segments[n-1].to += Tier10s.millis()
	}
	for _, s := range grid.segments {
		valid := max(r.plan.valid, 2*s.tier.millis())
		add := func(i int, p *Pane) error {
			if twins.has(i) {
				return r.level(&built[i], &members[i], p, unmarked)
			}
			return r.level(&built[i], &members[i], p, valid)
		}
		var err error
		if q := (PaneQuery{Last: true}); r.steps != nil {
			err = r.paneColumns(ctx, from, s, q, levelPanes(add))
		} else {
			err = r.panes(ctx, from, s, q, add)
		}
		if err != nil {
			return err
		}
	}
	twins.join(built, func(t int64) (valid int64) { return max(r.plan.valid, 2*grid.width(t)) })
	valid := max(r.plan.valid, 2*r.tier.millis())
	for i, m := range members {
		if len(built[i].times) == 0 {
			continue
		}
		built[i].mark(r.to, valid)
		for _, t := range m.targets {
			one := built[i]
			one.labels = seriesLabels(t.name, m.Labels, "")
			if err := r.emit(&one); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reader) level(s *levels, m *member, p *Pane, valid int64) error {
	t := floor(p.LastTime, int64(time.Millisecond)) / int64(time.Millisecond)
	if p.LastTime == 0 || t > r.to {
		return nil
	}
	if p.LastHist == Ended {
		s.mark(t, valid)
		s.end(t)
		return r.take(1)
	}
	if !m.Native || p.LastHist == "" {
		s.add(t, p.Last, nil, valid)
		return r.take(1)
	}
	if r.service.decode == nil {
		return nil
	}
	decoded, err := r.service.decode(p.LastHist)
	if err != nil {
		return fmt.Errorf("decode histogram of %s: %w", m.Metric, err)
	}
	h := levelHistogram(decoded, m.Kind)
	s.add(t, 0, h, valid)
	return r.take((h.Size() + 8) / 16)
}
