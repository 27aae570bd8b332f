package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// ErrUnresolved means that rows are missing which no set of whole blocks explains, or more than one does.
var ErrUnresolved = errors.New("what is missing is not a set of whole blocks")

// Block is one result record.
type Block struct {
	Partition int32
	Offset    int64
	Ingest    string // table that it is inserted into
	Token     string // that it is inserted under
	Rows      int    // of all grains
	Bytes     []byte
}

// Results is what a topic has for some ingest tables, and how far it has been stored.
type Results interface {
	// Span is that of Source.
	Span(ctx context.Context, since time.Time) (Span, error)
	// Settle returns once every record before end is stored.
	Settle(ctx context.Context, end Offsets) error
	// Blocks calls fn for the committed blocks from ≤ offset < to, by partition in order. A block is valid during the
	// call.
	Blocks(ctx context.Context, from, to Offsets, fn func(*Block) error) error
}

// Filled is a table and all that fills it.
type Filled struct {
	Table
	Results []Results
	// Delay is how long after its end the last rows of a pane are in Results, while they flow.
	Delay time.Duration
}

// AuditConfig says what to audit.
type AuditConfig struct {
	Table Filled
	Since time.Time // of panes; at least the last one that is over is looked at
	// After, when it is not nil, leaves out panes that no record of the first of the table's Results at or behind these
	// offsets brought anything for, and with it whole partitions that it does not name.
	After Offsets
	Now   time.Time
	// Most is how many parts of blocks Repair puts back; when more are missing it was no crash that lost them. 0 is any
	// number.
	Most int
	// Replaced is that of Config: what the stream wrote there is not read any more, and may be gone. Nil is nothing.
	Replaced func(tenant, metric string, start int64) bool
	// MaxFuture is that which the results were made with.
	MaxFuture time.Duration
	// Decode reads which rows a block of results has, and their counts and sums. It need not read more.
	Decode func(block []byte) (*pipeline.Rollups, error)
}

// Missing is the part of a block that a table has not: ClickHouse stores the rows of one block and one partition of the
// table together or not at all.
type Missing struct {
	Block
	Table Table
	Group string // the table's partition, as ClickHouse's partition ids are
	Rows  int
	Count uint64
}

func (m Missing) String() string {
	if m.Group == "" {
		return fmt.Sprintf("%s: %d rows of record %d/%d for %s are missing", m.Table.Name, m.Rows, m.Partition, m.Offset, m.Ingest)
	}
	return fmt.Sprintf("%s: %d rows (count %d) of record %d/%d for %s are missing in partition %s", m.Table.Name, m.Rows, m.Count,
		m.Partition, m.Offset, m.Ingest, m.Group)
}

// Audited is what an audit found.
type Audited struct {
	Blocks, Rows int // read, compared
	Missing      []Missing
	Repaired     int // of Missing, the first ones: put back by Repair
	Surplus      int // rows that hold more than the records say
	From, To     int64
}

// Audit adds the records that fill a table up, row by row, and compares count and sum with what it holds. What is
// missing is traced to the blocks whose rows are all short by what the block brought. It returns an error that wraps
// ErrUnresolved when that does not come out even.
//
// It needs no account of its own beside the tables: an account in another table would be another part, and could be
// lost, or kept, on its own.
func Audit(ctx context.Context, cfg AuditConfig, store Store) (Audited, error) {
	a := &auditor{cfg: cfg, store: store}
	var err error
	for range auditRounds { // blocks that are stored while we read look like too much
		if err = a.run(ctx); !errors.Is(err, ErrUnresolved) {
			break
		}
	}
	return a.out, err
}

const (
	auditRounds = 3
	// flowMargin is how long after the watermark a pane is taken to be stored.
	flowMargin = 10 * time.Second
)

type auditor struct {
	cfg   AuditConfig
	store Store
	out   Audited
	spans []Span // of the table's results
	flows bool   // blocks came while it was looked
}

// amount is what is said of a row, or is missing in it.
type amount struct {
	count          uint64
	sum, magnitude float64
}

func (a *auditor) run(ctx context.Context) error {
	a.out = Audited{}
	if err := a.begin(ctx); err != nil || a.out.From >= a.out.To {
		return err
	}
	said, err := a.add(ctx)
	if err != nil {
		return err
	}
	missing, err := a.subtract(ctx, said)
	if err != nil {
		return err
	}
	if !a.flows {
		// What was stored while the table was read hides what is missing in panes that were open.
		if err := a.watch(ctx); err != nil {
			return err
		}
		if a.flows {
			return a.run(ctx)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return a.trace(ctx, missing)
}

// begin takes the records that are there, waits until they are stored, and decides which panes are compared.
func (a *auditor) begin(ctx context.Context) (err error) {
	width := a.cfg.Table.Width
	// At least one pane that is over, however wide panes are.
	a.out.From = floor(min(a.cfg.Since.Unix(), a.cfg.Now.Unix()-2*width), width)
	if a.spans, err = a.spansFrom(ctx, a.out.From); err != nil {
		return err
	}
	a.take(a.spans)
	for i, results := range a.cfg.Table.Results {
		if err := results.Settle(ctx, a.spans[i].To); err != nil {
			return err
		}
	}
	if !a.flows {
		if err := a.watch(ctx); err != nil {
			return err
		}
	}
	a.out.To = ceil(a.cfg.Now.Add(time.Hour+a.cfg.MaxFuture).Unix(), width)
	if a.flows {
		a.out.To = floor(a.cfg.Now.Add(-a.cfg.Table.Delay-flowMargin).Unix(), width)
	}
	if a.cfg.After == nil {
		return nil
	}
	return a.narrow(ctx)
}

// take has the audit read these spans. What was deleted before them can hold panes up to MaxFuture after its time.
func (a *auditor) take(spans []Span) {
	for i := range spans {
		a.spans[i].From = spans[i].From
		for _, first := range spans[i].Cut {
			if !first.IsZero() {
				a.out.From = max(a.out.From, ceil(first.Add(a.cfg.MaxFuture).Unix(), a.cfg.Table.Width))
			}
		}
	}
}

// spansFrom are the parts of all results that can have rows of panes from a start on: an event may be in a record that
// was made MaxFuture before its time.
func (a *auditor) spansFrom(ctx context.Context, start int64) ([]Span, error) {
	var spans []Span
	for _, results := range a.cfg.Table.Results {
		span, err := results.Span(ctx, time.Unix(start, 0).Add(-a.cfg.MaxFuture))
		if err != nil {
			return nil, err
		}
		spans = append(spans, span)
	}
	return spans, nil
}

// narrow moves From to the first pane that the records behind After brought something for.
func (a *auditor) narrow(ctx context.Context) error {
	from, to := Offsets{}, a.spans[0].To
	for partition, end := range to {
		if after, named := a.cfg.After[partition]; named {
			from[partition] = max(after, a.spans[0].From[partition])
		} else {
			from[partition] = end
		}
	}
	first := a.out.To
	err := a.cfg.Table.Results[0].Blocks(ctx, from, to, func(b *Block) error {
		return a.each(b, func(key Key, _ amount) {
			if key.Start >= a.out.From {
				first = min(first, key.Start)
			}
		})
	})
	if err != nil || first == a.out.From {
		return err
	}
	a.out.From = first
	spans, err := a.spansFrom(ctx, first)
	if err != nil {
		return err
	}
	a.take(spans)
	return nil
}

// watch looks whether blocks came since the ends were taken: panes at hand are then in motion.
func (a *auditor) watch(ctx context.Context) error {
	for i, results := range a.cfg.Table.Results {
		after, err := results.Span(ctx, time.Time{})
		if err != nil {
			return err
		}
		err = results.Blocks(ctx, a.spans[i].To, after.To, func(*Block) error {
			a.flows = true
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// blocks calls fn for the blocks of all results.
func (a *auditor) blocks(ctx context.Context, fn func(*Block) error) error {
	for i, results := range a.cfg.Table.Results {
		if err := results.Blocks(ctx, a.spans[i].From, a.spans[i].To, fn); err != nil {
			return err
		}
	}
	return nil
}

// add adds the records up.
func (a *auditor) add(ctx context.Context) (map[Key]amount, error) {
	said := map[Key]amount{}
	err := a.blocks(ctx, func(b *Block) error {
		a.out.Blocks++
		return a.each(b, func(key Key, of amount) { said[key] = plus(said[key], of) })
	})
	return said, err
}

// each calls fn for the rows of a block that go into the table. Several can become one there: those of panes narrower
// than the table's.
func (a *auditor) each(b *Block, fn func(key Key, of amount)) error {
	rows, err := a.cfg.Decode(b.Bytes)
	if err != nil {
		return fmt.Errorf("read result record %d/%d: %w", b.Partition, b.Offset, err)
	}
	for i := range rows.Grain {
		if a.cfg.Table.Service != (rows.Grain[i] == pipeline.GrainService) {
			continue
		}
		key := Key{Tenant: rows.Tenant[i], Metric: rows.Metric[i], Service: rows.Service[i], ID: rows.Series[i],
			Start: floor(int64(rows.Pane[i]), a.cfg.Table.Width)}
		fn(key, amount{rows.Count[i], rows.Sum[i], max(rows.Sum[i], -rows.Sum[i])})
	}
	return nil
}

// parts calls fn for the rows of the block that go into one partition of the table, added up by key.
func (a *auditor) parts(b *Block, fn func(group string, rows map[Key]amount)) error {
	groups := map[string]map[Key]amount{}
	err := a.each(b, func(key Key, of amount) {
		group := a.cfg.Table.group(key.Start)
		if groups[group] == nil {
			groups[group] = map[Key]amount{}
		}
		groups[group][key] = plus(groups[group][key], of)
	})
	if err != nil {
		return err
	}
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		fn(group, groups[group])
	}
	return nil
}

func plus(a, b amount) amount {
	return amount{a.count + b.count, a.sum + b.sum, a.magnitude + b.magnitude}
}

// Monthly says whether a partition of the table holds a month, and not a day.
func (t Table) Monthly() bool { return t.Width >= 3600 }

// group is the id of the partition that a pane is in.
func (t Table) group(start int64) string {
	if t.Monthly() {
		return time.Unix(start, 0).UTC().Format("200601")
	}
	return time.Unix(start, 0).UTC().Format("20060102")
}

// subtract returns what the table lacks, by row. It empties said.
func (a *auditor) subtract(ctx context.Context, said map[Key]amount) (map[Key]amount, error) {
	missing := map[Key]amount{}
	q := Query{Table: a.cfg.Table.Table, Except: true, Amounts: true}
	step := panesPerRead * q.Table.Width
	for q.From = a.out.From; q.From < a.out.To; q.From += step {
		q.To = min(q.From+step, a.out.To)
		err := a.store.Rows(ctx, q, func(row *Row) error {
			a.out.Rows++
			want := said[row.Key]
			switch {
			case !a.covers(row.Key): // it was replaced
			case row.Count < want.count:
				missing[row.Key.clone()] = amount{want.count - row.Count, want.sum - row.Sum, want.magnitude}
			case row.Count > want.count:
				a.out.Surplus++
			}
			delete(said, row.Key)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for key, want := range said {
		if want.count > 0 && a.covers(key) {
			missing[key] = want
		}
	}
	return missing, nil
}

func (a *auditor) covers(key Key) bool {
	return key.Start >= a.out.From && key.Start < a.out.To &&
		(a.cfg.Replaced == nil || !a.cfg.Replaced(key.Tenant, key.Metric, key.Start))
}

// candidate is a part of a block that may be missing: every row of it is short by at least what it brought.
type candidate struct {
	Missing
	rows map[Key]amount
}

// trace finds the blocks that make up what is missing.
func (a *auditor) trace(ctx context.Context, missing map[Key]amount) error {
	var candidates []candidate
	err := a.blocks(ctx, func(b *Block) error {
		return a.parts(b, func(group string, rows map[Key]amount) {
			c := candidate{Missing: Missing{Block: *b, Table: a.cfg.Table.Table, Group: group}, rows: map[Key]amount{}}
			for key, of := range rows {
				if of.count == 0 || !a.covers(key) {
					continue
				}
				if missing[key].count < of.count {
					return
				}
				c.rows[key] = of
				c.Count += of.count
			}
			if c.Rows = len(c.rows); c.Rows > 0 {
				c.Bytes = bytes.Clone(b.Bytes)
				candidates = append(candidates, c)
			}
		})
	})
	if err != nil {
		return err
	}
	s := solver{candidates: candidates, left: missing, steps: maxSteps}
	rows := len(missing)
	taken, ok := s.only()
	if !ok {
		return fmt.Errorf("audit %s: %d rows are short, %d blocks could be missing, %d sets of them fit: %w: "+
			"compare with `vigie verify`", a.cfg.Table.Name, rows, len(candidates), len(s.solutions), ErrUnresolved)
	}
	for _, i := range taken {
		a.out.Missing = append(a.out.Missing, candidates[i].Missing)
	}
	return nil
}
