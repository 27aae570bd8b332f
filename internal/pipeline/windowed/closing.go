package windowed

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/windows"
)

// Take calls emit for what the windows hold, series by series and ascending in key, and empties them, so that none of
// them closes: for input that has an end, whose windows are closed when all of it has been taken. Values of one key, of
// any number of tasks, are added up by Join; Closing makes rows of them.
func (w *Windows) Take(emit func(key, value []byte)) {
	parts := map[string][]byte{}
	for _, s := range w.stores {
		s.changes(func(string, windows.Progress, windows.Progress) {}, func(tenant, name string, _, is *keptWindows) {
			if !is.empty() {
				parts[stateKey(s.id, kindSlices, tenant, name)] = appendParts(nil, is.parts)
			}
		})
		s.settle(false)
	}
	w.touched = false
	for _, key := range slices.Sorted(maps.Keys(parts)) {
		emit([]byte(key), parts[key])
	}
}

// Join appends what values of one key hold together. Slices of the same bounds become one, and so do sessions that
// overlap, as they do where one event touches both.
func Join(dst []byte, values ...[]byte) ([]byte, error) {
	var all []keptPart
	for _, value := range values {
		parts, err := decodeParts(value)
		if err != nil {
			return nil, err
		}
		all = append(all, parts...)
	}
	slices.SortStableFunc(all, func(a, b keptPart) int { return cmp.Compare(a.window.Start, b.window.Start) })
	joined := all[:0]
	for _, p := range all {
		if n := len(joined); n > 0 && p.window.Start < joined[n-1].window.End {
			last := &joined[n-1]
			last.window.End = max(last.window.End, p.window.End)
			last.value.mergeFrom(p.value)
			continue
		}
		joined = append(joined, p)
	}
	return appendParts(dst, joined), nil
}

// appendParts writes slices, or sessions, each behind its length.
func appendParts(dst []byte, parts []keptPart) []byte {
	var one []byte
	for i := range parts {
		one = parts[i].append(one[:0])
		dst = append(binary.AppendUvarint(dst, uint64(len(one))), one...)
	}
	return dst
}

func decodeParts(src []byte) (parts []keptPart, err error) {
	for len(src) > 0 {
		size, n := binary.Uvarint(src)
		if n <= 0 || size > uint64(len(src)-n) {
			return nil, errKept
		}
		p, err := decodeKept(src[n : n+int(size)])
		if err != nil {
			return nil, err
		}
		if last := len(parts) - 1; last >= 0 && parts[last].window.End > p.window.Start {
			return nil, errKept
		}
		parts, src = append(parts, p), src[n+int(size):]
	}
	return parts, nil
}

// Closing makes rows of windows of which nothing more comes, by the stores of the stream: a window is emitted once,
// whole. One goroutine uses it.
type Closing struct {
	stores map[uint64]*store
	part   func(rule uint64) string
	wants  func(rule uint64, metric string, start, end int64) bool
	blocks Blocks
}

// NewClosing closes windows of rules. part is what their rows have as their part. Windows (Unix seconds) that wants
// refuses become no rows; nil takes all. Blocks keep to so many rows, and bytes.
func NewClosing(list []*Rule, maxRows, maxBytes int, part func(rule uint64) string,
	wants func(rule uint64, metric string, start, end int64) bool) *Closing {
	c := &Closing{stores: map[uint64]*store{}, part: part, wants: wants, blocks: NewBlocks(maxRows, maxBytes)}
	for _, r := range list {
		definition, id := r.Definition()
		s, err := openDefinition(definition)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		s.id = id
		c.stores[id] = s
	}
	return c
}

// allTime is a watermark behind the end of all windows.
const allTime = math.MaxInt64 - 1

// Close closes the windows of a key, and calls full for each block that is full. The keys of a rule come one after the
// other.
func (c *Closing) Close(key, value []byte, full func(*Rows) error) error {
	id, kind, tenant, name := cutKey(string(key))
	s := c.stores[id]
	if kind == 0 || s == nil {
		return fmt.Errorf("close windows of key %x: there is no such rule", key)
	}
	parts, err := decodeParts(value)
	if err != nil {
		return fmt.Errorf("close windows of rule %016x, tenant %s: %w", id, tenant, err)
	}
	_, metric, _, err := series.ParseKey([]byte(name))
	if err != nil {
		return fmt.Errorf("close windows of rule %016x, tenant %s: %w", id, tenant, err)
	}
	emit := func(e *windows.Emission[contents]) {
		if c.wants == nil || c.wants(id, metric, e.Window.Start/int64(time.Second), e.Window.End/int64(time.Second)) {
			c.blocks.Add(c.part(id), s.closed(e))
		}
	}
	for i := range parts {
		// What ends before the next slice begins is complete. It goes, so that few slices are looked at for each
		// window.
		s.Advance(tenant, parts[i].window.Start, emit)
		s.put(tenant, name, &parts[i])
	}
	s.Advance(tenant, allTime, emit)
	s.Reset()
	for len(c.blocks.Blocks) > 1 {
		if err := full(c.blocks.Blocks[0]); err != nil {
			return err
		}
		c.blocks.Blocks = slices.Delete(c.blocks.Blocks, 0, 1)
	}
	return nil
}

// Rest calls last for the rows that no block has been full of.
func (c *Closing) Rest(last func(*Rows) error) error {
	for _, b := range c.blocks.Blocks {
		if err := last(b); err != nil {
			return err
		}
	}
	c.blocks.Reset()
	return nil
}
