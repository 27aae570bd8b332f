package pipeline

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/pipeline/state"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// RateWindows is how many windows of records' timestamps a meter tells apart: producers may be behind each other by as
// many bursts, less one, and each record still counts in its own window.
const RateWindows = 4

// meterKey is a tenant, or one of its shards: the limits are divided by Limits.Shards, as its keys are.
type meterKey struct {
	tenant string
	shard  int
}

func (k meterKey) compare(other meterKey) int {
	return cmp.Or(cmp.Compare(k.tenant, other.tenant), cmp.Compare(k.shard, other.shard))
}

// meter holds a tenant to its rates: in every window of the records' own timestamps, as long as Limits.Burst, so many
// events and bytes. Only what is in the log decides, so that records which are processed again are judged again alike,
// and a backlog is taken as fast as it can be read.
type meter struct {
	key           meterKey
	length        int64  // of a window, nanoseconds
	events, bytes uint64 // most in a window
	now, before   [RateWindows]rateWindow
	last          int   // of now, that was used last
	dirty         bool  // now is not before
	touched       int64 // processing time of the last record, Unix ms; 0 after a restore
}

type rateWindow struct {
	start         int64 // Unix nanoseconds, a multiple of the length
	events, bytes uint64
}

// limit follows the limits in force. What was taken stays taken, but for windows that are none any more because their
// length is another. Nothing is dirty when it is called.
func (m *meter) limit(l *tenants.Limits) {
	if m.length != int64(l.Burst) {
		m.length = int64(l.Burst)
		m.put(m.now[:])
	}
	m.events = RatePerWindow(int64(l.StreamEventsPerSecond), l)
	m.bytes = RatePerWindow(int64(l.StreamBytesPerSecond), l)
}

// put makes windows the meter's own.
func (m *meter) put(windows []rateWindow) {
	var kept [RateWindows]rateWindow
	for _, w := range windows {
		if w.start%m.length == 0 {
			kept[w.start/m.length%RateWindows] = w
		}
	}
	m.now, m.before = kept, kept
}

// RatePerWindow is what one shard of a tenant may use in one window of a rate.
func RatePerWindow(perSecond int64, l *tenants.Limits) uint64 {
	most := float64(perSecond) * l.Burst.Seconds() / float64(l.Shards)
	if most >= math.MaxInt64 {
		return math.MaxInt64
	}
	return uint64(most)
}

// take charges a record, or says why it is over the limit. The first record of a window is always taken: one that is
// larger than a window could never be sent otherwise.
func (m *meter) take(at int64, n, size uint64) events.Reason {
	w := &m.now[m.last]
	if at < w.start || at-w.start >= m.length {
		w = m.window(max(at, 0))
	}
	switch {
	case w.events == 0:
	case w.events+n > m.events:
		return ReasonRateEvents
	case w.bytes+size > m.bytes:
		return ReasonRateBytes
	}
	w.events, w.bytes = w.events+n, w.bytes+size
	return ""
}

// window finds the window of a time, which takes the place of an older or a newer one.
func (m *meter) window(at int64) *rateWindow {
	start := at - at%m.length
	m.last = int(start / m.length % RateWindows)
	w := &m.now[m.last]
	if w.start != start {
		*w = rateWindow{start: start}
	}
	return w
}

var _ state.Operator = (*rates)(nil)

// rates are the meters of a task, as an Operator: key is tenant or tenant#shard, value the windows.
type rates struct {
	limits  *tenants.Config // in force
	most    int
	meters  map[meterKey]*meter
	dirty   []*meter
	gone    []meterKey // to be removed in the log
	changes uint64     // of meters: what was found before may be none any more
}

const ratesVersion = 1

func newRates(limits *tenants.Config, maxTenants int) *rates {
	return &rates{limits: limits, most: 2 * maxTenants, meters: make(map[meterKey]*meter)}
}

// of finds the meter for records of tenant whose key is key; nil when there are too many.
func (r *rates) of(tenant string, key []byte) *meter { return r.meter(meterKey{tenant, shardOf(key)}) }

// use notes that a record is charged to a meter at a processing time.
func (r *rates) use(m *meter, now int64) {
	if !m.dirty {
		m.dirty = true
		r.dirty = append(r.dirty, m)
	}
	m.touched = now
}

// shardOf reads the shard in a record's key; what is no shard of ours counts as the first.
func shardOf(key []byte) int {
	_, text, found := bytes.Cut(key, []byte{'#'})
	if !found || len(text) > 4 {
		return 0
	}
	n := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0
		}
		n = 10*n + int(c-'0')
	}
	return n
}

// meter finds or makes a meter. There is none when the task has its full number: the limit of tenants is then reached,
// or near. A key cannot name more shards than the tenant has.
func (r *rates) meter(k meterKey) *meter {
	m := r.meters[k]
	if m != nil {
		return m
	}
	limits := r.limits.For(tenants.ID(k.tenant))
	if k.shard %= limits.Shards; r.meters[k] != nil {
		return r.meters[k]
	}
	if len(r.meters) >= r.most {
		return nil
	}
	k.tenant = strings.Clone(k.tenant)
	m = &meter{key: k}
	m.limit(&limits)
	r.meters[k] = m
	return m
}

// replace puts other limits in force.
func (r *rates) replace(limits *tenants.Config) {
	r.limits = limits
	r.changes++ // of shards, which say whose a key is
	for _, m := range r.meters {
		limits := limits.For(tenants.ID(m.key.tenant))
		m.limit(&limits)
	}
}

// Changes implements Operator.
func (r *rates) Changes(emit func(key, value []byte)) {
	slices.SortFunc(r.dirty, func(a, b *meter) int { return a.key.compare(b.key) })
	var key, value []byte
	for _, m := range r.dirty {
		if m.now != m.before {
			key, value = m.key.append(key[:0]), appendRateWindows(value[:0], &m.now)
			emit(key, value)
		}
	}
	for _, k := range r.gone {
		if r.meters[k] == nil {
			emit(k.append(nil), nil)
		}
	}
}

// Settle implements Operator.
func (r *rates) Settle(committed bool) {
	for _, m := range r.dirty {
		if committed {
			m.before = m.now
		} else {
			m.now = m.before
		}
		m.dirty = false
	}
	clear(r.dirty)
	r.dirty = r.dirty[:0]
	if committed {
		clear(r.gone)
		r.gone = r.gone[:0]
	}
}

// sweep forgets meters that have been idle for so many milliseconds of processing time.
func (r *rates) sweep(now, idle int64) {
	for k, m := range r.meters {
		switch {
		case m.touched == 0 || m.touched > now:
			m.touched = now
		case now-m.touched >= idle:
			delete(r.meters, k)
			r.gone = append(r.gone, k)
			r.changes++
		}
	}
	slices.SortFunc(r.gone, meterKey.compare)
}

// Len implements Operator.
func (r *rates) Len() int { return len(r.meters) }

// Bytes implements Operator.
func (r *rates) Bytes() (n int64) {
	var buffer []byte
	for k, m := range r.meters {
		buffer = appendRateWindows(k.append(buffer[:0]), &m.now)
		n += int64(len(buffer))
	}
	return n
}

var errRate = errors.New("want windows of start, events and bytes")

// Restore implements Operator.
func (r *rates) Restore(key, value []byte) error {
	k, err := parseMeterKey(key)
	if err != nil {
		return fmt.Errorf("rate: %w", err)
	}
	r.changes++
	if value == nil {
		delete(r.meters, k)
		return nil
	}
	windows, err := parseRateWindows(value)
	if err != nil {
		return fmt.Errorf("rate of tenant %s: %w", key, err)
	}
	m := &meter{key: k}
	limits := r.limits.For(tenants.ID(k.tenant))
	m.limit(&limits)
	m.put(windows)
	r.meters[k] = m
	return nil
}

func (k meterKey) append(dst []byte) []byte {
	dst = append(dst, k.tenant...)
	if k.shard > 0 {
		dst = strconv.AppendInt(append(dst, '#'), int64(k.shard), 10)
	}
	return dst
}

func parseMeterKey(key []byte) (k meterKey, err error) {
	tenant, _, _ := bytes.Cut(key, []byte{'#'})
	k = meterKey{string(tenant), shardOf(key)}
	if k.tenant != "" { // records that do not say whose they are share a meter
		if err := tenants.Validate(tenants.ID(k.tenant)); err != nil {
			return k, err
		}
	}
	if !bytes.Equal(k.append(nil), key) || k.shard >= tenants.MaxShards {
		return k, fmt.Errorf("key %q: want tenant, or tenant#shard", key)
	}
	return k, nil
}

func appendRateWindows(dst []byte, windows *[RateWindows]rateWindow) []byte {
	for i := range windows {
		if w := &windows[i]; w.events > 0 {
			dst = binary.AppendUvarint(dst, uint64(w.start))
			dst = binary.AppendUvarint(dst, w.events)
			dst = binary.AppendUvarint(dst, w.bytes)
		}
	}
	return dst
}

func parseRateWindows(src []byte) (windows []rateWindow, err error) {
	for len(src) > 0 {
		var numbers [3]uint64
		for i := range numbers {
			v, n := binary.Uvarint(src)
			if n <= 0 || v > math.MaxInt64 {
				return nil, errRate
			}
			numbers[i], src = v, src[n:]
		}
		windows = append(windows, rateWindow{int64(numbers[0]), numbers[1], numbers[2]})
	}
	if len(windows) > RateWindows {
		return nil, errRate
	}
	return windows, nil
}
