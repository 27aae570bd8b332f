package verify

import (
	"context"
	"maps"
	"slices"
	"time"
)

// panesPerRead is how many panes of each series one read asks for.
const panesPerRead = 360

// compare compares a pass with the store and reports the differences that stay.
func (v *verifier) compare(ctx context.Context, p *pass) error {
	found, rows, err := p.difference(ctx, nil)
	if err != nil {
		return err
	}
	v.sum.Rows += rows
	end := v.span.To
	for round := 0; len(found) > 0 && len(found) < maxDifferences && round < maxRounds; round++ {
		// Records that came after the end may be late for these panes, and be stored already.
		after, err := v.source.Span(ctx, time.Time{})
		if err != nil {
			return err
		}
		if resting(end, after.To) {
			break
		}
		if err := p.follow(ctx, end, after.To, found); err != nil {
			return err
		}
		if found, _, err = p.difference(ctx, p.only); err != nil {
			return err
		}
		end = after.To
	}
	v.sum.Differences += len(found)
	v.sum.Partial = len(found) >= maxDifferences
	for _, key := range slices.SortedFunc(maps.Keys(found), Key.compare) {
		v.report(Difference{key, found[key]})
	}
	return nil
}

// reportLost reports the events that were neither taken nor put into a dead letter, and the reverse.
func (v *verifier) reportLost(of *reading) {
	v.sum.Differences += len(of.lost)
	for _, d := range of.lost {
		v.report(d)
	}
	of.lost = nil
	of.rates.note(&v.sum)
}

// follow counts the records between two ends, as far as they concern keys.
func (p *pass) follow(ctx context.Context, from, to Offsets, keys map[Key]string) error {
	if err := p.v.source.Settle(ctx, to); err != nil {
		return err
	}
	var err error
	if p.v.letters, err = readLetters(ctx, p.v.source, time.Time{}); err != nil {
		return err
	}
	p.first, p.only = false, make(map[Key]bool, len(keys))
	for key := range keys {
		p.only[key] = true
	}
	return p.v.source.Records(ctx, from, to, p.record)
}

// difference compares the cells, or those of the keys given, with the store.
func (p *pass) difference(ctx context.Context, asked map[Key]bool) (found map[Key]string, rows int, err error) {
	d := paneDifference{pass: p, asked: asked, found: map[Key]string{}, seen: make(map[Key]bool, len(p.cells))}
	if asked == nil {
		defer func() { p.v.sum.Incomparable += d.incomparable }()
	}
	q := Query{Table: p.v.cfg.Table, Tenant: p.v.cfg.Tenant}
	q.Metrics, q.Except = p.v.metrics()
	from, to := p.reach()
	if err := d.read(ctx, q, from, to); err != nil {
		return nil, d.rows, err
	}
	for key, c := range p.cells {
		if !d.seen[key] && !p.skips(&key) && (asked == nil || asked[key]) {
			d.found[key] = c.missing()
		}
	}
	return d.found, d.rows, nil
}

// paneDifference is one comparison of a pass with the store.
type paneDifference struct {
	*pass
	asked map[Key]bool // nil: all
	found map[Key]string
	seen  map[Key]bool // cells that have a row

	rows, incomparable int
}

// read compares the rows of a span of panes, a stretch at a time. Of all that a table may keep, most is empty where an
// installation is young: what is empty is passed at once.
func (d *paneDifference) read(ctx context.Context, q Query, from, to int64) error {
	some := false // rows in the stretch before
	for ; from < to && len(d.found) < maxDifferences; from = q.To {
		if q.From, q.To = from, to; !some {
			start, found, err := d.v.store.Next(ctx, q)
			if err != nil || !found {
				return err
			}
			q.From = start
		}
		q.To, some = min(q.From+panesPerRead*q.Table.Width, to), false
		err := d.v.store.Rows(ctx, q, func(r *Row) error {
			some = true
			return d.row(r)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// row compares one row.
func (d *paneDifference) row(r *Row) error {
	if d.asked != nil && !d.asked[r.Key] {
		return nil
	}
	c := d.cells[r.Key]
	switch below := d.v.below(r); {
	case d.skips(&r.Key), below && c == nil:
		d.incomparable++
	case below:
		d.atLeast(r, c)
	case c == nil:
		d.rows++
		if len(d.found) < maxDifferences {
			d.found[r.Key.clone()] = "stored, and no event counts for it"
		}
	default:
		d.rows++
		d.note(r, c.differs(r))
	}
	return nil
}

// atLeast compares a row that may hold more than what is counted.
func (d *paneDifference) atLeast(r *Row, c *Cell) {
	less := c.exceeds(r)
	d.note(r, less)
	switch {
	case less != "":
	case c.differs(r) == "":
		d.rows++
	default:
		d.incomparable++
	}
}

// note notes that a cell has a row, and what is wrong with it, if anything.
func (d *paneDifference) note(r *Row, wrong string) {
	key := r.Key.clone()
	d.seen[key] = true
	if wrong != "" {
		d.found[key] = wrong
	}
}

// below says whether a row may hold more than what is counted: something of it was added by others, or is not there to
// be counted.
func (v *verifier) below(row *Row) bool {
	return row.Start < v.sure || v.cfg.Added != nil && v.cfg.Added(row.Tenant, row.Metric, row.Start)
}

// skips says whether nobody can tell what the pane should hold.
func (p *pass) skips(key *Key) bool {
	return p.unsure[*key] || p.v.cfg.Replaced != nil && p.v.cfg.Replaced(key.Tenant, key.Metric, key.Start)
}

// reach is the span of panes to read. Without an end it ends behind the last pane that any event can have.
func (p *pass) reach() (from, to int64) {
	from, to = p.from, p.to
	if to == 0 {
		to = floor(p.v.cfg.Now.Add(time.Hour+p.v.cfg.MaxFuture).Unix(), p.v.cfg.Table.Width) + p.v.cfg.Table.Width
	}
	for key := range p.cells {
		to = max(to, key.Start+p.v.cfg.Table.Width)
	}
	return from, to
}
