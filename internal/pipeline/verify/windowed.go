package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/series"
)

// Windows is the table of closed windows.
func Windows() Table { return Table{Name: "windows", Width: 1, Keep: 400 * day} }

// WindowQuery selects rows of windows.
type WindowQuery struct {
	Parts    string     // how their parts begin
	Tenant   tenants.ID // "" is all
	From, To int64      // From ≤ Start < To, Unix seconds
}

// WindowStore is the table of windows.
type WindowStore interface {
	// WindowRows calls yield for each key, what is stored of it merged and what is retracted left out. The row is valid
	// during the call.
	WindowRows(ctx context.Context, q WindowQuery, yield func(*WindowRow) error) error
}

// RunWindows compares the closed windows of declared rollups that a topic and files have made, as Run does panes.
// Config's table does not matter. Each is exact by itself, since their rows are of other parts; without a source the
// files are counted alone.
//
// The plain loop knows from the order of a partition's records how far its tenants' clocks had come, but for where
// epochs end and how long a silence was taken for. What turns on that is not comparable: windows with events that may
// have been too late are held to the least and the most that they can have.
func RunWindows(ctx context.Context, cfg Config, source Source, store WindowStore, report func(Difference)) (Summary, error) {
	cfg.Table = Windows()
	if source == nil {
		source = noTopic{}
	}
	v := newVerifier(cfg, source, report)
	err := v.runWindows(ctx, store)
	return v.sum, err
}

func (v *verifier) runWindows(ctx context.Context, store WindowStore) error {
	if err := v.begin(ctx, time.Time{}); err != nil {
		return err
	}
	flows, err := v.boundWindows(ctx)
	if err != nil {
		return err
	}
	for shares := []share{{0, 1}}; len(shares) > 0; {
		of := shares[len(shares)-1]
		shares = shares[:len(shares)-1]
		w, err := v.countWindows(ctx, of)
		if errors.Is(err, errTooMany) && of.of < maxShares {
			shares = append(shares, share{of.number + of.of, 2 * of.of}, share{of.number, 2 * of.of})
			continue
		}
		if err != nil {
			return err
		}
		w.flows, w.store = flows, store
		if w.first {
			v.reportLost(&w.reading)
		}
		v.sum.Passes++
		if err := w.compare(ctx); err != nil || v.sum.Partial {
			return err
		}
	}
	v.sum.From, v.sum.To = v.from, v.to
	if v.together > 0 {
		v.sum.Notes = append(v.sum.Notes,
			fmt.Sprintf("%d windows have events that may have been late: they are compared together with what is beside them",
				v.together))
	}
	v.limits.note(&v.sum, &v.cfg)
	return nil
}

const (
	maxShares       = 1024
	windowCellBytes = 500
)

// errTooMany means that a share of the windows does not fit into Config.Memory.
var errTooMany = fmt.Errorf("%w: count windows: give -memory, or one tenant", ErrTooSmall)

// share is one of so many parts of the windows, by series.
type share struct{ number, of uint64 }

// boundWindows finds the windows that can be compared, and says whether records go on coming.
func (v *verifier) boundWindows(ctx context.Context) (flows bool, err error) {
	v.from = max(v.cfg.Now.Add(time.Hour-v.cfg.Table.Keep).Unix(), v.cfg.Since.Unix(), 0)
	if !v.cfg.Until.IsZero() {
		v.to = v.cfg.Until.Unix()
	}
	after, err := v.source.Span(ctx, time.Time{})
	if err != nil {
		return false, err
	}
	return !resting(v.span.To, after.To), v.boundByRetention(ctx)
}

// covers says whether a window can be compared. All events of one that files made are there.
func (v *verifier) covers(key *WindowKey) bool {
	return key.Start >= v.from && (v.to == 0 || key.End <= v.to) && (key.Start >= v.sure || v.ofFile(key))
}

func (v *verifier) ofFile(key *WindowKey) bool {
	return v.cfg.FileParts != "" && strings.HasPrefix(key.Part, v.cfg.FileParts)
}

// replaced says whether another window is read in the place of the one that the topic makes.
func (v *verifier) replaced(key *WindowKey) bool {
	return v.cfg.ReplacedWindow != nil && v.cfg.ReplacedWindow(key.Tenant, key.Metric, key.Start, key.End)
}

// windowRecount is the count of a share of the windows.
type windowRecount struct {
	reading
	names
	store    WindowStore
	share    share
	rules    map[uint64]*windowRule
	tides    map[tideKey]*tide
	parts    map[string]int32 // partitions by the names they have in rows
	cells    map[WindowKey]*windowCell
	sessions map[WindowKey]*sessionList // without their bounds
	bytes    int64
	flows    bool
}

type tideKey struct {
	partition int32
	tenant    string
}

func (v *verifier) countWindows(ctx context.Context, of share) (*windowRecount, error) {
	w := &windowRecount{
		names: names{}, share: of, rules: map[uint64]*windowRule{}, tides: map[tideKey]*tide{}, parts: map[string]int32{},
		cells: map[WindowKey]*windowCell{}, sessions: map[WindowKey]*sessionList{},
	}
	w.reading = v.read(v.sum.Passes == 0, w.event)
	list, err := v.rulesOf(true)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		rule, err := newWindowRule(c)
		if err != nil {
			return nil, err
		}
		w.rules[rule.id] = rule
		if rule.increases() {
			take := func(e *event, d *derived, part string) { w.derived(e, rule, d, w.name(part), math.MinInt64) }
			w.grown.rules = append(w.grown.rules, fileIncrease{c, rule.id, take})
		}
	}
	for partition := range v.span.To {
		w.parts[fmt.Sprintf("%s/%d", v.cfg.Topic, partition)] = partition
	}
	if w.first {
		v.sum.Records, v.sum.Events, v.sum.Refused = 0, 0, 0
	}
	if err := v.source.Records(ctx, v.span.From, v.span.To, w.record); err != nil {
		return nil, err
	}
	return w, w.files(ctx, w.fits)
}

func (w *windowRecount) record(partition int32, r *pipeline.Record) error {
	w.reading.record(partition, r)
	return w.fits()
}

func (w *windowRecount) fits() error {
	if w.bytes > int64(w.v.cfg.Memory) {
		return errTooMany
	}
	return nil
}

// event counts an event in the windows that it lies in.
func (w *windowRecount) event(e *event) {
	if e.file != nil {
		w.fileEvent(e)
		return
	}
	t := w.tide(e.partition, e.metric.Tenant)
	t.silent(e.timestamp, w.v.cfg.IdleAfter)
	passed := t.most - int64(w.v.cfg.WatermarkDelay)
	for _, id := range slices.Sorted(maps.Keys(w.rules)) {
		rule := w.rules[id]
		part := w.name(fmt.Sprintf("%s/%d", w.v.cfg.Topic, e.partition))
		rule.derive(e, func(d derived) { w.derived(e, rule, &d, part, passed) })
	}
	if w.first && !e.unknown {
		w.v.limits.see(e.partition, &e.metric, series.AppendKey(nil, byte(e.metric.Kind), e.metric.Name, e.metric.Labels))
	}
	t.take(e)
}

// fileEvent counts an event of a file: nothing of files is late, but what is stored may have had it put beside a window
// that was to stay.
func (w *windowRecount) fileEvent(e *event) {
	for _, id := range slices.Sorted(maps.Keys(w.rules)) {
		rule, part := w.rules[id], e.file.Parts[id]
		if part == "" || rule.increases() {
			continue
		}
		rule.derive(e, func(d derived) { w.derived(e, rule, &d, w.name(part), math.MinInt64) })
	}
}

func (w *windowRecount) tide(partition int32, tenant string) *tide {
	at := tideKey{partition, tenant}
	if w.tides[at] == nil {
		at.tenant = w.name(tenant)
		w.tides[at] = &tide{}
	}
	return w.tides[at]
}

// derived counts what an event adds to a metric. passed is a time that no clock had passed before it.
func (w *windowRecount) derived(e *event, rule *windowRule, d *derived, part string, passed int64) {
	id := series.Hash(series.AppendKey(nil, byte(d.Kind), d.Name, d.Labels))
	if id.Lo%w.share.of != w.share.number {
		return
	}
	key := WindowKey{
		Key:  Key{Tenant: w.name(d.Tenant), Metric: w.name(d.Name), Service: w.name(d.Labels.Get("service")), ID: id},
		Rule: rule.id, Part: part,
	}
	stays := rule.lateness
	if rule.diverts() {
		stays = 0
	}
	closed := func(end int64) bool { return end*1e9+stays <= passed }
	beside := e.file != nil && rule.diverts()
	if rule.sessions() {
		list := w.sessions[key]
		if list == nil {
			list = new(sessionList)
			w.sessions[key] = list
		}
		before := len(*list)
		list.take(rule.around(floor(d.Time/1e9, 1))[0], closed, d.unsure || e.unknown,
			func(c *windowCell, late bool) { w.bytes += c.take(d, e, w.names, late || beside) })
		w.bytes += int64(len(*list)-before) * windowCellBytes
		return
	}
	for _, s := range rule.around(d.Time / 1e9) {
		key.Start, key.End = s.start, s.end
		if !w.v.covers(&key) {
			continue
		}
		c := w.cells[key]
		if c == nil {
			c = newWindowCell()
			w.cells[key] = c
			w.bytes += windowCellBytes
		}
		w.bytes += c.take(d, e, w.names, closed(s.end) || beside)
	}
}

// compare compares the share with the store and reports the differences that stay.
func (w *windowRecount) compare(ctx context.Context) error {
	found, err := w.difference(ctx, nil)
	if err != nil {
		return err
	}
	end := w.v.span.To
	for round := 0; len(found) > 0 && len(found) < maxDifferences && round < maxRounds; round++ {
		// Records that came after the end may be late for these windows, and be stored already.
		after, err := w.v.source.Span(ctx, time.Time{})
		if err != nil {
			return err
		}
		if resting(end, after.To) {
			break
		}
		if err := w.follow(ctx, end, after.To); err != nil {
			return err
		}
		if found, err = w.difference(ctx, found); err != nil {
			return err
		}
		end = after.To
	}
	w.v.sum.Differences += len(found)
	w.v.sum.Partial = len(found) >= maxDifferences
	for _, key := range slices.SortedFunc(maps.Keys(found), WindowKey.compare) {
		w.v.report(Difference{key.Key, fmt.Sprintf("window until %s, %s: %s", clock(key.End), key.Part, found[key])})
	}
	return nil
}

// follow counts the records between two ends.
func (w *windowRecount) follow(ctx context.Context, from, to Offsets) error {
	if err := w.v.source.Settle(ctx, to); err != nil {
		return err
	}
	var err error
	if w.v.letters, err = readLetters(ctx, w.v.source, time.Time{}); err != nil {
		return err
	}
	w.first = false
	return w.v.source.Records(ctx, from, to, w.record)
}

// difference compares with the store; only, when it is not nil, are the keys to look at.
func (w *windowRecount) difference(ctx context.Context, only map[WindowKey]string) (map[WindowKey]string, error) {
	d := windowDifference{windowRecount: w, only: only, found: map[WindowKey]string{}, seen: map[WindowKey]bool{},
		pieces: map[*session]uint64{}}
	for _, parts := range []string{w.v.cfg.Topic + "/", w.v.cfg.FileParts} {
		if len(parts) <= 1 {
			continue // there is no topic, or there are no files
		}
		q := WindowQuery{Parts: parts, Tenant: w.v.cfg.Tenant, From: w.v.from,
			To: w.v.cfg.Now.Add(w.v.cfg.MaxFuture + 24*time.Hour).Unix()}
		if err := w.store.WindowRows(ctx, q, d.row); err != nil {
			return nil, err
		}
	}
	for key, c := range w.cells {
		if !d.seen[key] {
			d.missing(key, c)
		}
	}
	for key, list := range w.sessions {
		for _, s := range *list {
			d.session(key, s)
		}
	}
	if only == nil {
		w.v.sum.Rows += d.rows
		w.v.sum.Incomparable += d.incomparable
		w.v.sum.Open += d.open
		w.v.together += d.together
	}
	return d.found, nil
}

// windowDifference is one comparison.
type windowDifference struct {
	*windowRecount
	only   map[WindowKey]string
	found  map[WindowKey]string
	seen   map[WindowKey]bool
	pieces map[*session]uint64 // events stored of sessions that are tainted

	rows, incomparable, open, together int
}

// row compares one row.
func (d *windowDifference) row(r *WindowRow) error {
	rule := d.rules[r.Rule]
	switch {
	case r.ID.Lo%d.share.of != d.share.number || !d.v.covers(&r.WindowKey):
		return nil
	case rule == nil || d.v.replaced(&r.WindowKey): // no rule of now, or about to be deleted
		d.incomparable++
		return nil
	}
	key := r.WindowKey.clone()
	d.seen[key] = true
	c := d.cells[key]
	if rule.sessions() {
		of := key
		of.Start, of.End = 0, 0
		if list := d.sessions[of]; list != nil {
			if s := list.of(stretch{r.Start, r.End}); s != nil && s.tainted {
				d.pieces[s] += r.Count
				d.incomparable++
				return nil
			} else if s != nil && s.stretch == (stretch{r.Start, r.End}) {
				c = s.windowCell
			}
		}
	}
	switch {
	case d.flows && !d.closed(&key):
		d.open++
	case c == nil:
		d.note(key, "stored, and no event counts for it")
	default:
		d.note(key, c.differs(r, rule))
		switch {
		case !c.knows(rule):
			d.incomparable++
			return nil
		case c.late > 0:
			d.together++
		}
		d.rows++
	}
	return nil
}

func (d *windowDifference) note(key WindowKey, what string) {
	if _, asked := d.only[key]; what != "" && len(d.found) < maxDifferences && (d.only == nil || asked) {
		d.found[key] = what
	}
}

// closed says whether the tenant's clock has certainly passed the window's end.
func (d *windowDifference) closed(key *WindowKey) bool {
	if d.v.ofFile(key) {
		return true
	}
	t := d.tides[tideKey{d.parts[key.Part], key.Tenant}]
	return t != nil && key.End*1e9 <= t.newest-int64(d.v.cfg.WatermarkDelay)
}

// missing notes a window that is not stored.
func (d *windowDifference) missing(key WindowKey, c *windowCell) {
	switch {
	case d.v.replaced(&key):
		d.incomparable++
	case !d.closed(&key):
		d.open++
	case c.least(d.rules[key.Rule]) > 0:
		d.note(key, c.missing())
	default: // all of it may have been too late
		d.incomparable++
	}
}

// session compares what is stored of a session: none of it, or the pieces of one that is tainted.
func (d *windowDifference) session(key WindowKey, s *session) {
	key.Start, key.End = s.start, s.end
	if !d.v.covers(&key) || s.tainted && d.v.replaced(&key) {
		return
	}
	rule, stored := d.rules[key.Rule], d.pieces[s]
	switch {
	case !s.tainted && !d.seen[key]:
		d.missing(key, s.windowCell)
	case s.tainted && (stored > s.Count || d.closed(&key) && stored < s.least(rule)):
		d.note(key, fmt.Sprintf("count: stored %d in the sessions of that time, counted %d to %d",
			stored, s.least(rule), s.Count))
	}
}
