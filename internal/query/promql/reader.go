package promql

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/vigie-io/vigie/pkg/series"
)

// reader gathers the series of one selector.
type reader struct {
	service  *Service
	plan     *plan
	hints    *storage.SelectHints
	tier     Tier
	smoothed bool
	fold     *fold
	steps    *stepper // nil: series are handed on as they are read
	held     int      // samples of the series at hand
	from, to int64    // samples from..to are wanted, Unix ms, inclusive; to is not after the watermark
	bounds   []le
	items    []*labels.Matcher // on topLabel
	list     []storage.Series
	trace    *tracedSelector
}

// results are the series read, or what was made of them.
func (r *reader) results(c *catalog, matchers []*labels.Matcher) ([]storage.Series, annotations.Annotations) {
	if r.steps != nil {
		list := unique(r.steps.results())
		r.trace.Groups = len(list)
		switch {
		case r.trace.Pushdown == "":
			r.trace.Pushdown = r.steps.part.String()
		case r.quantiles():
			r.trace.Pushdown = r.steps.part.quantile.Func.Name + " of " + r.trace.Pushdown
		}
		return list, r.steps.warnings
	}
	list := unique(r.list)
	var warnings annotations.Annotations
	if dropped := len(r.list) - len(list); dropped > 0 {
		warnings.Add(fmt.Errorf("%w: %d series of %s were left out because others of another kind have the same labels; "+
			"give metrics of different kinds different names", annotations.PromQLWarning, dropped, c.describe(matchers)))
	}
	return list, warnings
}

// emit takes series that were read.
func (r *reader) emit(list ...storage.Series) error {
	if r.steps == nil {
		r.list = append(r.list, list...)
		return nil
	}
	for _, one := range list {
		if err := r.steps.add(one); err != nil {
			return err
		}
	}
	return nil
}

// quantiles tells whether the series are wanted for quantiles of them only.
func (r *reader) quantiles() bool { return r.steps != nil && r.steps.quantiles != nil }

func (r *reader) read(ctx context.Context, members []member) error {
	if r.from > r.to {
		return nil
	}
	for _, list := range together(members) {
		kind := list[0].kinds()
		read := r.windows
		switch {
		case kind == kindLevel:
			read = r.levels
		case kind&kindClosed != 0:
			read = r.closed
		}
		if r.steps != nil {
			read = r.inTurns(read)
		}
		if err := read(ctx, kind, list); err != nil {
			return err
		}
	}
	return nil
}

func compareIDs(a, b series.ID) int {
	return cmp.Or(cmp.Compare(a.Hi, b.Hi), cmp.Compare(a.Lo, b.Lo))
}

// grid lays windows of the tier over the wanted samples, from extra before them on. What the tier cannot give
// because its last window is not complete comes from finer tiers; start timestamps make the seam invisible.
func (r *reader) grid(extra int64) *grid {
	width := r.tier.millis()
	unit := max(width, Tier1m.millis())
	g := &grid{smoothed: r.smoothed}
	at := floor(r.from-1, unit) - ceil(extra, unit)
	add := func(tier Tier, to int64) {
		if to = floor(to, tier.millis()); to > at {
			g.segments = append(g.segments, segment{tier, at, to})
			at = to
		}
	}
	// A window that ends after the last wanted sample is needed to interpolate inside it.
	add(r.tier, min(ceil(r.to, width), r.plan.clamp))
	for _, finer := range []Tier{Tier1m, Tier10s} {
		if finer < r.tier && at < r.to && r.service.keeps(finer, at, r.plan.now) {
			add(finer, r.to)
		}
	}
	return g
}

// finer is where a segment is read of finer tiers than its own: where that may not have all rows yet, as far as the finer
// ones are kept. The panes are the same wherever this begins.
func (r *reader) finer(s segment) (list []Stretch) {
	if s.tier == Tier10s {
		return nil
	}
	now, width := r.plan.now, s.tier.millis()
	minutes := max(r.plan.coarse, ceil(r.service.keptSince(Tier10s, now), Tier1m.millis()))
	at := max(s.from, floor(minutes, width))
	if s.tier == Tier1h {
		at = max(at, ceil(r.service.keptSince(Tier1m, now), width))
		if at < min(minutes, s.to) {
			list = append(list, Stretch{Tier1m, at})
			at = minutes
		}
	}
	if at < s.to {
		list = append(list, Stretch{Tier10s, at})
	}
	if len(list) > 0 && s.tier == r.tier {
		r.trace.madeOfFiner(list[0].From)
	}
	return list
}

// part is a stretch of a segment that is read at once.
type part struct {
	segment
	finer []Stretch
}

// parts are those of a segment, ascending: what comes from its tier alone, which is mostly all of it, and what finer
// tiers are needed for. Together in one statement the former would take up to twice as long.
func (r *reader) parts(s segment) (list []part) {
	finer := r.finer(s)
	if finer == nil {
		return []part{{s, nil}}
	}
	if seam := finer[0].From; s.from < seam {
		list, s.from = append(list, part{segment{s.tier, s.from, seam}, nil}), seam
	}
	return append(list, part{s, finer})
}

// source is what panes are read of: series, or groups of them.
type source struct {
	metrics []string
	members []member
	ids     []series.ID // of groups: their series
	groups  []uint32    // and which each belongs to

	services []string // of services: their names
	apart    bool     // each for itself
}

// those is the source of the members that keep keeps. Of services it is all, or none: there are few of them.
func (s source) those(keep func(i int) bool) source {
	kept := source{metrics: s.metrics, services: s.services, apart: s.apart}
	kepts := make([]bool, len(s.members))
	for i, m := range s.members {
		if kepts[i] = keep(i); kepts[i] {
			kept.members = append(kept.members, m)
		}
	}
	if s.services != nil && len(kept.members) > 0 {
		kept.members = s.members
	}
	for i, group := range s.groups {
		if kepts[group] {
			kept.ids, kept.groups = append(kept.ids, s.ids[i]), append(kept.groups, group)
		}
	}
	return kept
}

func idsOf(members []member) []series.ID {
	ids := make([]series.ID, len(members))
	for i := range members {
		ids[i] = members[i].ID
	}
	return ids
}

// panes reads one segment and calls add with the position of the member that each pane belongs to.
func (r *reader) panes(ctx context.Context, of source, s segment, q PaneQuery, add func(i int, p *Pane) error) error {
	for _, p := range r.parts(s) {
		if err := r.panesOfPart(ctx, of, p, q, add); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) panesOfPart(ctx context.Context, of source, s part, q PaneQuery, add func(i int, p *Pane) error) error {
	q.Metrics, q.Tier, q.From, q.To, q.Finer = of.metrics, s.tier, s.from, s.to, s.finer
	switch {
	case of.services != nil:
		q.Services, q.Together = of.services, !of.apart
	case of.groups != nil:
		q.IDs, q.Groups = of.ids, of.groups
	default:
		q.IDs = idsOf(of.members)
	}
	at, rows := cursor{members: of.members}, 0
	err := r.service.store.Panes(ctx, r.plan.tenant, q, func(id series.ID, p *Pane) error {
		i, err := at.find(id)
		if err != nil {
			return fmt.Errorf("read panes of %q: %w", of.metrics, err)
		}
		rows++
		return add(i, p)
	})
	r.trace.Panes += rows
	r.service.metrics.panes.WithLabelValues(time.Duration(s.tier).String()).Add(float64(rows))
	return err
}

// cursor finds members by ID, in the order of IDs.
type cursor struct {
	members []member
	at      int
}

func (c *cursor) find(id series.ID) (i int, err error) {
	for c.at < len(c.members) && compareIDs(c.members[c.at].ID, id) < 0 {
		c.at++
	}
	if c.at == len(c.members) || c.members[c.at].ID != id {
		return 0, fmt.Errorf("series %x not asked for or out of order", id)
	}
	return c.at, nil
}

// seriesLabels are a stored series' labels under a PromQL name, with le in the place of its own when given.
func seriesLabels(name string, stored series.Labels, le string) labels.Labels {
	b := labels.NewScratchBuilder(len(stored) + 2)
	b.Add(model.MetricNameLabel, name)
	for _, l := range stored {
		if l.Name == model.MetricNameLabel || le != "" && l.Name == labels.BucketLabel {
			continue
		}
		b.Add(l.Name, l.Value)
	}
	if le != "" {
		b.Add(labels.BucketLabel, le)
	}
	b.Sort()
	return b.Labels()
}
