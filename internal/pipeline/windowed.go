package pipeline

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/windows"
)

var _ Operator = (*windowed)(nil)

// windowed are the open windows of a task's windowed rollups, as an Operator. Under a rule's id it keeps the rule's
// definition, how far the windows of each tenant are, and what is open of each tenant and series; so a rule that
// configuration no longer has finishes its windows all the same, and is then forgotten.
//
// committed is what the log holds. Stores are made from it when they are first needed, and again after an aborted epoch.
type windowed struct {
	current   []windowRule
	committed map[string][]byte
	size      int64             // bytes of committed
	pending   map[string][]byte // of the last Changes; nil values are gone
	stores    []*windowStore    // ascending in id
	loaded    bool
	touched   bool // since the last committed epoch

	diverted diverted // of the epoch
	limits   *tenants.Config

	at     *measurement // what update takes
	more   *particular
	update func(*windowValue)
}

type windowStore struct {
	openWindows
	id         uint64
	definition []byte
	shape      string // of its windows, for readers of results
	current    bool
	tenants    map[string]bool // that it knows
	keep       *Keep           // nil: nothing more than all windows hold
	// kept are where the slices and sessions begin that have records of their own in the log: those of rules with a Keep,
	// whose contents are too large to be written all together whenever one changes.
	kept map[keptKey][]int64
}

type keptKey struct{ tenant, name string }

const windowedVersion = 1

// What a key is about, after the rule's id.
const (
	windowDefinition = 'd'
	windowProgress   = 'p'
	windowContents   = 'k' // slices
	windowSessions   = 's'
	windowKept       = 'v' // one slice or session of a rule with a Keep
)

func newWindowed(rollups []*rollup, limits *tenants.Config) *windowed {
	w := &windowed{limits: limits, committed: map[string][]byte{}, pending: map[string][]byte{}}
	w.update = func(v *windowValue) { v.add(w.at, w.more) }
	for _, r := range rollups {
		if r.window != nil {
			w.current = append(w.current, *r.window)
		}
	}
	return w
}

// windowValue is what a series has in a window.
type windowValue struct {
	pane
	begun bool
	clean bool       // as the log has it
	more  *keptValue // of rules with a Keep
}

func (v *windowValue) begin() {
	if !v.begun {
		v.begun = true
		v.reset(0)
	}
}

func (v *windowValue) add(m *measurement, p *particular) {
	v.begin()
	v.clean = false
	m.into(&v.pane)
	if p.keep != nil {
		if v.more == nil {
			v.more = new(keptValue)
		}
		v.more.add(p, m.value)
	}
}

func (v *windowValue) mergeFrom(from *windowValue) {
	v.begin()
	v.clean = false
	v.merge(&from.pane)
	if from.more != nil {
		if v.more == nil {
			v.more = new(keptValue)
		}
		v.more.merge(from.more)
	}
}

// bytes is an estimate, of what the count says: it is asked for at each event, and after a restore it has to be the same.
// 1024 buckets hold values up to 65,536 times the least.
func (v *windowValue) bytes() int {
	n := int(unsafe.Sizeof(*v)) + 8*int(min(v.count, 1024))
	if v.more != nil {
		n += v.more.bytes()
	}
	return n
}

func (w *windowed) idle() bool { return len(w.current) == 0 && len(w.committed) == 0 }

// load makes the stores from what the log holds.
func (w *windowed) load() {
	if w.loaded {
		return
	}
	w.loaded, w.stores = true, nil
	for i := range w.current {
		definition, id := w.current[i].definition()
		w.open(id, definition, true)
	}
	for _, kind := range []byte{windowDefinition, windowProgress, windowContents, windowSessions} {
		for key, value := range w.committed {
			if key[8] == kind {
				w.take(key, value)
			}
		}
	}
	w.loadKept()
}

// open makes the store of a rule, unless there is one.
func (w *windowed) open(id uint64, definition []byte, current bool) {
	if w.store(id) != nil {
		return
	}
	s, err := openDefinition(definition)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	s.id, s.current = id, current
	w.stores = append(w.stores, s)
	slices.SortFunc(w.stores, func(a, b *windowStore) int { return cmp.Compare(a.id, b.id) })
}

func (w *windowed) store(id uint64) *windowStore {
	for _, s := range w.stores {
		if s.id == id {
			return s
		}
	}
	return nil
}

// take fills a record of the log into its store. Restore has checked it.
func (w *windowed) take(key string, value []byte) {
	id, kind, tenant, name := cutWindowKey(key)
	if kind == windowDefinition {
		w.open(id, value, false)
		return
	}
	s := w.store(id)
	if s == nil {
		return // its definition is gone: nothing says how long its windows are
	}
	w.know(s, tenant)
	if kind == windowProgress {
		s.RestoreProgress(tenant, windows.Progress{
			Fired: int64(binary.LittleEndian.Uint64(value)), Floor: int64(binary.LittleEndian.Uint64(value[8:])),
		})
		return
	}
	if kind == s.contents() && s.keep == nil {
		s.restore(tenant, name, s.decode(value))
	}
}

// add puts an event into the windows of a rule. key is a series', as series.AppendKey writes it; it is not retained.
func (w *windowed) add(id uint64, tenant string, key []byte, time int64, m *measurement, p *particular) windows.Verdict {
	w.load()
	s := w.store(id)
	if !s.tenants[tenant] {
		w.know(s, strings.Clone(tenant))
	}
	w.touched, w.at, w.more = true, m, p
	return s.Add(tenant, unsafe.String(unsafe.SliceData(key), len(key)), time, w.update)
}

// know notes a tenant of a store.
func (w *windowed) know(s *windowStore, tenant string) {
	s.tenants[tenant] = true
	limits := w.limits.For(tenants.ID(tenant))
	s.Bound(tenant, limits.OpenWindows, int64(limits.WindowBytes))
}

// bound puts limits in force.
func (w *windowed) bound(limits *tenants.Config) {
	w.limits = limits
	for _, s := range w.stores {
		for tenant := range s.tenants {
			w.know(s, tenant)
		}
	}
}

// missed calls each for the windows that an event of a rule misses because they have been emitted.
func (w *windowed) missed(id uint64, tenant string, time int64, verdict windows.Verdict, each func(w windows.Window, tooLate bool)) {
	w.store(id).missed(tenant, time, verdict, each)
}

// advance closes what a tenant's watermark has passed.
func (w *windowed) advance(tenant string, watermark int64, emit func(s *windowStore, e *windows.Emission[windowValue])) {
	w.load()
	for _, s := range w.stores {
		if s.tenants[tenant] {
			w.touched = true
			s.Advance(tenant, watermark, func(e *windows.Emission[windowValue]) { emit(s, e) })
		}
	}
}

// close closes what a silent tenant's clock has passed, and nothing else: times at which no window is open stay as they are, for
// the clock is a guess.
func (w *windowed) close(tenant string, watermark int64, emit func(s *windowStore, e *windows.Emission[windowValue])) {
	w.load()
	for _, s := range w.stores {
		if !s.tenants[tenant] {
			continue
		}
		for next := s.Next(tenant); next <= watermark; next = s.Next(tenant) {
			w.touched = true
			s.Advance(tenant, next, func(e *windows.Emission[windowValue]) { emit(s, e) })
		}
	}
}

// next is the least watermark at which something of a tenant's windows is to be emitted or dropped.
func (w *windowed) next(tenant string) int64 {
	w.load()
	next := int64(math.MaxInt64)
	for _, s := range w.stores {
		if s.tenants[tenant] {
			next = min(next, s.Next(tenant))
		}
	}
	return next
}

// Changes implements Operator.
func (w *windowed) Changes(emit func(key, value []byte)) {
	if !w.touched {
		return
	}
	clear(w.pending)
	for _, s := range w.stores {
		w.changes(s)
	}
	for _, key := range slices.Sorted(maps.Keys(w.pending)) {
		value := w.pending[key]
		if _, known := w.committed[key]; value == nil && !known {
			delete(w.pending, key)
			continue
		}
		emit([]byte(key), value)
	}
}

func (w *windowed) changes(s *windowStore) {
	if definition := windowKey(s.id, windowDefinition, "", ""); w.committed[definition] == nil && len(s.tenants) > 0 {
		w.pending[definition] = s.definition
	}
	s.changes(func(tenant string, p windows.Progress) {
		value := binary.LittleEndian.AppendUint64(nil, uint64(p.Fired))
		w.pending[windowKey(s.id, windowProgress, tenant, "")] = binary.LittleEndian.AppendUint64(value, uint64(p.Floor))
	}, func(tenant, name string, k *keptWindows) {
		key := windowKey(s.id, s.contents(), tenant, name)
		switch {
		case s.keep != nil:
			w.keepParts(s, key, tenant, name, k)
		case k == nil:
			w.pending[key] = nil
		default:
			w.pending[key] = s.encode(k)
		}
	})
	if s.current {
		return
	}
	for tenant := range s.tenants {
		if keys, _, _ := s.Usage(tenant); keys > 0 {
			return
		}
	}
	for tenant := range s.tenants {
		w.pending[windowKey(s.id, windowProgress, tenant, "")] = nil
	}
	w.pending[windowKey(s.id, windowDefinition, "", "")] = nil
}

// Settle implements Operator.
func (w *windowed) Settle(committed bool) {
	if !committed && w.touched {
		w.loaded, w.stores = false, nil
	}
	if committed {
		for key, value := range w.pending {
			w.keep(key, value)
			if value != nil {
				continue
			}
			if key[8] == windowDefinition {
				id := ruleOf(key)
				w.stores = slices.DeleteFunc(w.stores, func(s *windowStore) bool { return s.id == id })
			}
		}
	}
	clear(w.pending)
	w.touched = false
	w.diverted.forget()
}

// Restore implements Operator.
func (w *windowed) Restore(key, value []byte) error {
	id, kind, tenant, name := cutWindowKey(string(key))
	if kind == 0 {
		return fmt.Errorf("window key %x: want a rule, what it is about, and a tenant", key)
	}
	w.loaded, w.stores = false, nil
	if value == nil {
		w.keep(string(key), nil)
		return nil
	}
	if kind != windowDefinition {
		if err := tenants.Validate(tenants.ID(tenant)); err != nil {
			return fmt.Errorf("windows of rule %016x: %w", id, err)
		}
	}
	var err error
	switch kind {
	case windowDefinition:
		_, err = openDefinition(value)
	case windowProgress:
		if len(value) != 16 {
			err = fmt.Errorf("progress: got %d bytes, want 16", len(value))
		}
	default:
		err = checkContents(kind, name, value)
	}
	if err != nil {
		return fmt.Errorf("windows of rule %016x, tenant %q: %w", id, tenant, err)
	}
	w.keep(string(key), bytes.Clone(value))
	return nil
}

// keep notes what the log holds of a key now; nil is nothing.
func (w *windowed) keep(key string, value []byte) {
	if old, known := w.committed[key]; known {
		w.size -= int64(len(key) + len(old))
	}
	if value == nil {
		delete(w.committed, key)
		return
	}
	w.size += int64(len(key) + len(value))
	w.committed[key] = value
}

// Len implements Operator.
func (w *windowed) Len() int { return len(w.committed) }

// Bytes implements Operator.
func (w *windowed) Bytes() int64 { return w.size }

func windowKey(id uint64, kind byte, tenant, name string) string {
	if kind == windowDefinition {
		return string(append(binary.LittleEndian.AppendUint64(nil, id), kind))
	}
	return string(append(appendRuleKey(nil, id, kind, tenant), name...))
}

// cutWindowKey takes a key apart; kind is 0 when it is none.
func cutWindowKey(key string) (id uint64, kind byte, tenant, name string) {
	if len(key) == 9 && key[8] == windowDefinition {
		return ruleOf(key), windowDefinition, "", ""
	}
	kind, tenant, name = cutRuleKey(key)
	switch kind {
	case windowContents, windowSessions:
	case windowKept:
		if len(name) < startBytes {
			return 0, 0, "", ""
		}
	case windowProgress:
		if name != "" {
			return 0, 0, "", ""
		}
	default:
		return 0, 0, "", ""
	}
	return ruleOf(key), kind, tenant, name
}

// appendWindows appends what is kept of a key: docs/format/state.md.
func appendWindows(dst []byte, k *keptWindows) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(k.emitted)))
	for _, m := range k.emitted {
		dst = appendWindow(dst, m.Window)
		dst = binary.AppendUvarint(dst, uint64(m.Version))
	}
	dst = binary.AppendUvarint(dst, uint64(len(k.parts)))
	for i := range k.parts {
		dst = appendWindow(dst, k.parts[i].window)
		dst = k.parts[i].value.append(dst)
	}
	return dst
}

func appendWindow(dst []byte, w windows.Window) []byte {
	return binary.AppendVarint(binary.AppendVarint(dst, w.Start), w.End-w.Start)
}

// append writes the value; nil, which no window needs any more, is one without events.
func (v *windowValue) append(dst []byte) []byte {
	if v == nil {
		v = new(windowValue)
	}
	v.begin()
	dst = binary.AppendUvarint(dst, v.count)
	dst = appendFloat(appendFloat(appendFloat(dst, v.sum), v.min), v.max)
	return v.sketch.AppendDD(dst)
}

var errWindows = errors.New("contents of windows end early, or go on")

// decodeWindows reads what appendWindows wrote.
func decodeWindows(src []byte) (*keptWindows, error) {
	r, k := windowReader{src: src}, new(keptWindows)
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		k.emitted = append(k.emitted, windows.Emitted{Window: r.window(), Version: uint32(r.uvarint())})
	}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		k.parts = append(k.parts, keptPart{window: r.window(), value: r.value()})
	}
	if r.bad || len(r.src) > 0 {
		return nil, errWindows
	}
	return k, nil
}

type windowReader struct {
	src []byte
	bad bool
}

func (r *windowReader) skip(n int) {
	if n <= 0 || n > len(r.src) {
		r.bad, r.src = true, nil
		return
	}
	r.src = r.src[n:]
}

func (r *windowReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.src)
	r.skip(n)
	return v
}

func (r *windowReader) varint() int64 {
	v, n := binary.Varint(r.src)
	r.skip(n)
	return v
}

func (r *windowReader) float() float64 {
	if len(r.src) < 8 {
		r.bad, r.src = true, nil
		return 0
	}
	v := readFloat(r.src)
	r.src = r.src[8:]
	return v
}

func (r *windowReader) byte() byte {
	if len(r.src) < 1 {
		r.bad = true
		return 0
	}
	b := r.src[0]
	r.src = r.src[1:]
	return b
}

func (r *windowReader) window() windows.Window {
	start, size := r.varint(), r.varint()
	r.bad = r.bad || size <= 0
	return windows.Window{Start: start, End: start + size}
}

func (r *windowReader) value() *windowValue {
	v := new(windowValue)
	v.begin()
	v.count = r.uvarint()
	v.sum, v.min, v.max = r.float(), r.float(), r.float()
	n, err := v.sketch.DecodeDD(r.src)
	if err != nil {
		n = 0
	}
	r.skip(n)
	return v
}

// Reasons for which an event is not in a window of a declared rollup.
const (
	// ReasonTooLate: the window has closed and its allowed lateness has passed.
	ReasonTooLate events.Reason = "too_late"
	// ReasonWindowLimit: the tenant has as many windows open in the rollup as it may.
	ReasonWindowLimit events.Reason = "window_limit"
	// ReasonNoSession: the event lacks a field that says whose session it is of.
	ReasonNoSession events.Reason = "no_session"
)

// window puts an event into the windows of a rollup's grouping, whose labels are t.labels.
func (t *Task) window(r *rollup, g *grouping, tenant string, time int64, m *measurement) {
	tn := t.named(tenant)
	if tn == nil {
		return
	}
	// Its series may have met a limit: what the windows take moves their watermark all the same.
	tn.seen, tn.newest = t.now, max(tn.newest, time)
	t.touch(tn)
	t.key = series.AppendKey(t.key[:0], byte(m.kind), g.metric, t.labels)
	if verdict := t.windows.add(r.windowID, tn.name, t.key, time, m, &t.particular); verdict != windows.OnTime || r.late == windows.Divert {
		t.late(r, tn, unsafe.String(unsafe.SliceData(t.key), len(t.key)), time, m, verdict)
	}
}

// closeWindows writes the windows that the watermarks of changed tenants have passed, in the order of tenants, and then those of
// silent tenants, whose alerts it judges.
func (t *Task) closeWindows(out *Outputs) {
	if t.windows.idle() && t.alerts.idle() {
		return
	}
	part := fmt.Sprintf("%s/%d", t.cfg.Partition.Topic, t.cfg.Partition.Partition)
	emit := func(s *windowStore, e *windows.Emission[windowValue]) {
		what, kind, delta := outcome(e)
		t.tally.window(e.Tenant, what)
		out.addWindow(part, s, e, kind, delta)
	}
	t.clocks.watch(t.reach.Through)
	for _, tn := range t.dirty {
		t.windows.advance(tn.name, t.watermark(tn), emit)
		if t.windows.next(tn.name) < math.MaxInt64 || t.alerts.waits(tn.name) {
			t.clocks.note(tn.name, tn.newest, tn.seen)
		} else {
			t.clocks.drop(tn.name)
		}
	}
	for _, name := range t.clocks.silent() {
		t.windows.close(name, t.clocks.watermark(name), emit)
		t.silentAlerts(name, t.clocks.watermark(name))
		if t.windows.next(name) == math.MaxInt64 && !t.alerts.waits(name) {
			t.clocks.drop(name)
		}
	}
	t.windows.diverted.each(func(rule uint64, e *windows.Emission[windowValue], kind WindowKind, delta uint64) {
		t.tally.window(e.Tenant, windowDiverted)
		out.addWindow(part, t.windows.store(rule), e, kind, delta)
	})
}

func (o *Outputs) addWindow(part string, s *windowStore, e *windows.Emission[windowValue], kind WindowKind, delta uint64) {
	key := []byte(e.Key)
	measured, metric, labels, err := series.ParseKey(key)
	if err != nil {
		panic(fmt.Sprintf("BUG: series key %x: %v", key, err))
	}
	b := o.windows()
	v := e.Value
	if v == nil {
		v = new(windowValue)
	}
	v.begin()
	before := len(b.Sketch)
	b.Tenant = append(b.Tenant, e.Tenant)
	b.Metric = append(b.Metric, metric)
	b.Service = append(b.Service, labels.Get("service"))
	b.Series = append(b.Series, series.Hash(key))
	b.Labels = append(b.Labels, labels)
	b.Start = append(b.Start, e.Window.Start/int64(time.Second))
	b.End = append(b.End, e.Window.End/int64(time.Second))
	b.SeriesKind = append(b.SeriesKind, measured)
	b.Shape = append(b.Shape, s.shape)
	b.Rule = append(b.Rule, s.id)
	b.Part = append(b.Part, part)
	b.Version = append(b.Version, e.Version)
	b.Kind = append(b.Kind, kind)
	b.Delta = append(b.Delta, delta)
	b.Count = append(b.Count, v.count)
	b.Sum = append(b.Sum, v.sum)
	b.Min = append(b.Min, v.min)
	b.Max = append(b.Max, v.max)
	b.Sketch = v.sketch.AppendDD(b.Sketch)
	o.windowBytes += rollupRowBytes + len(e.Key) + len(metric) + len(part) + len(b.Sketch) - before + b.keep(s.keep, v.more)
}

// windows returns the block to append a row to.
func (o *Outputs) windows() *WindowRows {
	if n := len(o.Windows); n > 0 {
		if b := o.Windows[n-1]; len(b.Tenant) < o.maxRows && o.windowBytes < o.maxBytes {
			return b
		}
	}
	b := new(WindowRows)
	o.Windows, o.windowBytes = append(o.Windows, b), 0
	return b
}
