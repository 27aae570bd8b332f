package promql

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// member is a stored series and the names under which a selector sees it.
type member struct {
	Series
	targets []named
}

// members lists the stored series that a selector matches, by what it may mean and its other matchers, at most limit+1.
func (s *Service) members(ctx context.Context, tenant tenants.ID, found []named, rest []*labels.Matcher, since int64, limit int) ([]member, error) {
	if len(found) == 0 {
		return nil, nil
	}
	// The le of derived buckets and the item of tops are ours: the database knows nothing of them.
	list := []struct {
		targets  []named
		matchers []*labels.Matcher
	}{{found, rest}}
	for _, label := range []string{labels.BucketLabel, topLabel} {
		without := slices.DeleteFunc(slices.Clone(rest), func(m *labels.Matcher) bool { return m.Name == label })
		if len(without) == len(rest) {
			continue
		}
		one := list[0]
		list[0].targets, one.targets = split(list[0].targets, func(t named) bool { return t.facet.own() != label })
		one.matchers = without
		list = append(list, one)
	}
	var members []member
	for _, one := range list {
		more, err := s.membersOf(ctx, tenant, one.targets, one.matchers, since, limit)
		if err != nil {
			return nil, err
		}
		members = join(members, more)
	}
	return members, nil
}

// join makes one member of the same series seen twice.
func join(a, b []member) []member {
	type key struct {
		id     series.ID
		closed bool
	}
	of := func(m *member) key { return key{m.ID, m.Shape != ""} }
	at := make(map[key]int, len(a))
	for i := range a {
		at[of(&a[i])] = i
	}
	for _, m := range b {
		if i, both := at[of(&m)]; both {
			a[i].targets = append(a[i].targets, m.targets...)
		} else {
			a = append(a, m)
		}
	}
	return a
}

func split(list []named, first func(named) bool) (yes, no []named) {
	for _, t := range list {
		if first(t) {
			yes = append(yes, t)
		} else {
			no = append(no, t)
		}
	}
	return yes, no
}

func (s *Service) membersOf(ctx context.Context, tenant tenants.ID, found []named, matchers []*labels.Matcher, since int64, limit int) ([]member, error) {
	if len(found) == 0 {
		return nil, nil
	}
	targets := make(map[string][]named)
	var metrics []string
	for _, t := range found {
		if targets[t.metric] == nil {
			metrics = append(metrics, t.metric)
		}
		targets[t.metric] = append(targets[t.metric], t)
	}
	list, err := s.store.Series(ctx, tenant, metrics, toStore(matchers), since, limit+1)
	if err != nil {
		return nil, s.storeError(ctx, tenant, "series", err)
	}
	members := make([]member, 0, len(list))
	for _, one := range list {
		var seen []named
		for _, t := range targets[one.Metric] {
			if t.kinds&one.kinds() != 0 {
				seen = append(seen, t)
			}
		}
		if len(seen) > 0 {
			members = append(members, member{one, seen})
		}
	}
	return members, nil
}

func toStore(matchers []*labels.Matcher) []Matcher {
	list := make([]Matcher, len(matchers))
	for i, m := range matchers {
		list[i] = Matcher{Name: m.Name, Op: m.Type.String(), Value: m.Value}
	}
	return list
}

// matchersOf are the matchers on a label.
func matchersOf(matchers []*labels.Matcher, label string) []*labels.Matcher {
	return slices.DeleteFunc(slices.Clone(matchers), func(m *labels.Matcher) bool { return m.Name != label })
}

// load reads what one selector of a query sees.
func (s *Service) load(ctx context.Context, hints *storage.SelectHints, matchers []*labels.Matcher) ([]storage.Series, annotations.Annotations, error) {
	p, planned := planOf(ctx)
	if !planned { // not through the engine wrapper
		var err error
		if p, err = s.newPlan(ctx); err != nil {
			return nil, nil, err
		}
	}
	c, err := s.catalog(ctx, p.tenant)
	if err != nil {
		return nil, nil, err
	}
	r := &reader{service: s, plan: p, hints: hints, bounds: s.bounds(leMatchers(matchers)), items: matchersOf(matchers, topLabel)}
	var chosen choice
	if len(matchers) > 0 {
		chosen = p.choices[matchers[0]]
	}
	if chosen.steps != nil {
		hints = chosen.steps.hints()
		r.hints, r.steps = hints, newStepper(chosen.steps, &p.budget)
	}
	r.from = max(hints.Start, p.now-s.cfg.Retention1h.Milliseconds())
	r.to = min(hints.End, p.clamp)
	r.tier = s.kept(r.from, p.now)
	if chosen.tier != 0 {
		r.tier, r.smoothed, r.fold = chosen.tier, chosen.smoothed, chosen.fold
		r.from = max(r.from, hints.Start+chosen.trim)
	}
	r.trace = TraceOf(ctx).selector(r, matchers)
	r.trace.Why = chosen.why
	if of, ok := r.fold.byService(c, matchers); ok {
		if done, err := r.services(ctx, of, matchers); err != nil {
			return nil, nil, err
		} else if done {
			list, warnings := r.results(c, matchers)
			return list, warnings, nil
		}
	}
	found, rest := c.match(matchers)
	members, err := s.members(ctx, p.tenant, found, rest, s.announced(r.from-s.cfg.ActivityHorizon.Milliseconds()), p.limits.QuerySeries)
	if err != nil {
		return nil, nil, err
	}
	if len(members) > p.limits.QuerySeries {
		return nil, nil, seriesLimit(p.limits.QuerySeries)
	}
	s.metrics.series.Add(float64(len(members)))
	r.trace.Series, r.trace.Groups = len(members), len(members)
	if err := r.read(ctx, members); err != nil {
		return nil, nil, s.storeError(ctx, p.tenant, "windows", err)
	}
	list, warnings := r.results(c, matchers)
	if wantsTotals(ctx) {
		totals(list)
	}
	return list, warnings, nil
}

// results are the series read, or what was made of them.
func (r *reader) results(c *catalog, matchers []*labels.Matcher) ([]storage.Series, annotations.Annotations) {
	if r.steps != nil {
		list := unique(r.steps.results())
		r.trace.Groups = len(list)
		if r.trace.Pushdown == "" {
			r.trace.Pushdown = r.steps.part.String()
		}
		return list, r.steps.warnings
	}
	list := unique(r.list)
	var warnings annotations.Annotations
	if dropped := len(r.list) - len(list); dropped > 0 {
		warnings.Add(fmt.Errorf("%w: %d series of %s were left out because others of another kind have the same labels; give metrics of different kinds different names",
			annotations.PromQLWarning, dropped, c.describe(matchers)))
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

func (c *catalog) describe(matchers []*labels.Matcher) string {
	for _, m := range matchers {
		if m.Name == model.MetricNameLabel {
			return m.Value
		}
	}
	return "the selector"
}

// unique sorts series by labels and leaves one of each: the first kind in the order observation, delta, gauge,
// cumulative. The engine refuses a vector with two equal label sets.
func unique(list []storage.Series) []storage.Series {
	slices.SortStableFunc(list, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	return slices.CompactFunc(slices.Clone(list), func(a, b storage.Series) bool { return labels.Equal(a.Labels(), b.Labels()) })
}

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

// group is what one read of the database can bring: series of one metric that need the same columns.
type group struct {
	metric string
	kind   kinds
}

func (r *reader) read(ctx context.Context, members []member) error {
	if r.from > r.to {
		return nil
	}
	groups := make(map[group][]member)
	var order []group
	for _, m := range members {
		g := group{m.Metric, m.kinds()}
		if groups[g] == nil {
			order = append(order, g)
		}
		groups[g] = append(groups[g], m)
	}
	slices.SortFunc(order, func(a, b group) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.metric, b.metric)) })
	for _, g := range order {
		list := groups[g]
		slices.SortFunc(list, func(a, b member) int { return compareIDs(a.ID, b.ID) })
		read := r.windows
		switch {
		case g.kind == kindLevel:
			read = r.levels
		case g.kind&kindClosed != 0:
			read = r.closed
		}
		if r.steps != nil {
			read = r.inTurns(read)
		}
		if err := read(ctx, g, list); err != nil {
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

// windows reads delta series: sketches or sums.
func (r *reader) windows(ctx context.Context, g group, members []member) error {
	from := source{metric: g.metric, members: members}
	if r.fold != nil {
		if groups, of, ok := r.fold.groups(members); ok {
			from = source{metric: g.metric, members: groups, ids: idsOf(members), groups: of}
			r.trace.Pushdown = r.fold.String()
			r.trace.Groups += len(groups) - len(members)
		}
	}
	return r.windowsOf(ctx, g.kind, from)
}

func (r *reader) windowsOf(ctx context.Context, kind kinds, from source) error {
	width := r.tier.millis()
	horizon := max(r.service.cfg.ActivityHorizon.Milliseconds(), 2*width)
	// Was a series active shortly before the range, it reads as zero from the start. At 10 s, a minute's
	// resolution is enough to know; wider windows are few enough to read along.
	probe, extra := r.tier == Tier10s && r.hints.Range < horizon, int64(0)
	if r.tier > Tier10s && r.hints.Range < horizon {
		extra = horizon
	}
	grid := r.grid(extra)
	if len(grid.segments) == 0 {
		return nil
	}
	grid.fill = max(horizon, r.hints.Range)

	b := newWindowBuilder(r, grid, kind, from.members)
	read := r.panes
	if r.steps != nil && from.ids == nil && from.services == nil {
		read = r.paneColumns
	}
	for _, s := range grid.segments {
		if err := read(ctx, from, s, b.query, b.add); err != nil {
			return err
		}
	}
	if probe {
		if err := r.probe(ctx, b, from, horizon); err != nil {
			return err
		}
	}
	return r.emit(b.build()...)
}

// probe looks before the grid, for the members whose activity does not begin with it.
func (r *reader) probe(ctx context.Context, b *windowBuilder, from source, horizon int64) error {
	start := b.grid.from()
	late := from.those(func(i int) bool { return len(b.starts[i]) == 0 || b.starts[i][0] != start })
	if len(late.members) == 0 {
		return nil
	}
	at := cursor{members: from.members}
	return r.panes(ctx, late, segment{Tier1m, start - ceil(horizon, Tier1m.millis()), start}, PaneQuery{}, func(i int, p *Pane) error {
		of, err := at.find(late.members[i].ID)
		b.prior[of] = p.Start + Tier1m.millis()
		return err
	})
}

// source is what panes are read of: series, or groups of them.
type source struct {
	metric  string
	members []member
	ids     []series.ID // of groups: their series
	groups  []uint32    // and which each belongs to

	services []string // of services: their names
	apart    bool     // each for itself
}

// those is the source of the members that keep keeps. Of services it is all, or none: there are few of them.
func (s source) those(keep func(i int) bool) source {
	kept := source{metric: s.metric, services: s.services, apart: s.apart}
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
	q.Metric, q.Tier, q.From, q.To = of.metric, s.tier, s.from, s.to
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
			return fmt.Errorf("read panes of %s: %w", of.metric, err)
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

// windowBuilder turns panes into the series of every facet asked for.
type windowBuilder struct {
	reader  *reader
	grid    *grid
	kind    kinds
	members []member
	prior   []int64
	starts  [][]int64
	facets  [][]column // by member, as its targets
	windows int        // about how many there are at most
	query   PaneQuery  // what they need of a pane
	scratch sketches.Sketch
	counts  []float64
}

// column is the values of one facet of one series; buckets has one list per bound.
type column struct {
	values  []float64
	hists   []*histogram.FloatHistogram
	buckets [][]float64
}

func newWindowBuilder(r *reader, grid *grid, kind kinds, members []member) *windowBuilder {
	b := &windowBuilder{
		reader: r, grid: grid, kind: kind, members: members,
		prior:  make([]int64, len(members)),
		starts: make([][]int64, len(members)),
		facets: make([][]column, len(members)),

		windows: int((grid.to()-grid.from())/grid.width(grid.from())) + 1,
	}
	for i, m := range members {
		b.prior[i] = never
		b.facets[i] = make([]column, len(m.targets))
		for j, t := range m.targets {
			if t.facet == bucket {
				b.facets[i][j].buckets = make([][]float64, len(r.bounds))
			}
			sketched := kind == kindSketch && (t.facet == whole || t.facet == bucket)
			b.query.Sketch = b.query.Sketch || sketched
			b.query.Count = b.query.Count || t.facet == count
			b.query.Sum = b.query.Sum || t.facet == sum || t.facet == whole
		}
	}
	return b
}

func (b *windowBuilder) add(i int, p *Pane) error {
	if b.query.Sketch {
		if err := decodeSketch(&b.scratch, p.Sketch); err != nil {
			return err
		}
	}
	weight := 0
	if b.starts[i] == nil && b.reader.steps != nil { // as many as inTurns counts on
		b.starts[i] = make([]int64, 0, b.windows)
		for j := range b.facets[i] {
			b.facets[i][j].values = make([]float64, 0, b.windows)
		}
	}
	for j, t := range b.members[i].targets {
		c := &b.facets[i][j]
		switch {
		case t.facet == bucket:
			b.addBuckets(c, p)
			weight += len(c.buckets)
		case t.facet == count:
			c.values = append(c.values, float64(p.Count))
			weight++
		case t.facet == sum || b.kind == kindDelta:
			c.values = append(c.values, p.Sum)
			weight++
		default:
			h := windowHistogram(&b.scratch, p.Sum)
			c.hists = append(c.hists, h)
			weight += (h.Size() + 8) / 16
		}
	}
	b.starts[i] = append(b.starts[i], p.Start)
	return b.reader.take(weight)
}

func (b *windowBuilder) addBuckets(c *column, p *Pane) {
	b.counts = cumulate(b.counts[:0], &b.scratch, bounds(b.reader.bounds))
	for k, n := range b.counts {
		c.buckets[k] = append(c.buckets[k], n)
	}
}

// build leaves out what reads as nothing in the whole grid.
func (b *windowBuilder) build() (list []storage.Series) {
	for i, m := range b.members {
		alive := b.prior[i] != never && b.grid.from() < b.prior[i]+b.grid.fill
		if len(b.starts[i]) == 0 && !alive {
			continue
		}
		for j, t := range m.targets {
			c := b.facets[i][j]
			one := deltas{grid: b.grid, prior: b.prior[i], starts: b.starts[i], values: c.values, hists: c.hists}
			if t.facet == bucket {
				for k, le := range b.reader.bounds {
					each := one
					each.labels, each.values = seriesLabels(t.name, m.Labels, le.le), c.buckets[k]
					list = append(list, &each)
				}
				continue
			}
			if t.facet == whole && b.kind == kindSketch && one.hists == nil {
				one.hists = []*histogram.FloatHistogram{}
			}
			one.labels = seriesLabels(t.name, m.Labels, "")
			list = append(list, &one)
		}
	}
	return list
}

// levels reads gauges and cumulative totals.
func (r *reader) levels(ctx context.Context, g group, members []member) error {
	built := make([]levels, len(members))
	for i, m := range members {
		if m.Native {
			built[i].hists = []*histogram.FloatHistogram{}
		}
	}
	grid := r.grid(0)
	// The pane that begins at the last wanted sample may hold it.
	if n := len(grid.segments); n > 0 && grid.segments[n-1].tier == Tier10s {
		grid.segments[n-1].to += Tier10s.millis()
	}
	for _, s := range grid.segments {
		valid := max(r.plan.valid, 2*s.tier.millis())
		read := r.panes
		if r.steps != nil {
			read = r.paneColumns
		}
		err := read(ctx, source{metric: g.metric, members: members}, s, PaneQuery{Last: true}, func(i int, p *Pane) error {
			return r.level(&built[i], &members[i], p, valid)
		})
		if err != nil {
			return err
		}
	}
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
