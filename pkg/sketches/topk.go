package sketches

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// ErrTopKState means that bytes are no state of a TopK: cut short, of another version, or impossible.
var ErrTopKState = errors.New("decode top-k state")

// MaxTopKCapacity is the greatest capacity of a TopK.
const MaxTopKCapacity = 10_000

const topKVersion = 1

// Counted is an item of a TopK. It came at most Count times and at least Count−Error times.
type Counted struct {
	Item         string
	Count, Error uint64
}

// TopK finds the items that come most often, with a bounded number of counters: space-saving. Of N that came, with
// capacity m:
//
//   - an item's Count is at least what it came, and at most N/m more; Error is how much more it may be;
//   - an item that is not kept came at most Floor times, and Floor ≤ N/m: whatever came more often is kept.
//
// Merging keeps both bounds with N the sum of all. What is kept besides depends on the order of what came; the same
// calls give the same state, and of equal counts the lesser item ranks first. Not safe for concurrent use.
//
// Metwally, Agrawal, El Abbadi: Efficient computation of frequent and top-k elements in data streams, ICDT 2005;
// Agarwal, Cormode, Huang, Phillips, Wei, Yi: Mergeable summaries, PODS 2012, §3.
type TopK struct {
	capacity int
	total    uint64
	heap     []*counter // the item to give up first is the first
	byItem   map[string]*counter
	bytes    int
}

type counter struct {
	Counted
	at int // in the heap
}

// before says whether c ranks below d: it is given up first.
func (c *counter) before(d *counter) bool {
	return c.Count < d.Count || c.Count == d.Count && c.Item > d.Item
}

// NewTopK returns an empty TopK of that many counters, 1 to MaxTopKCapacity; other numbers are brought within. To find
// k items, take several times k: two items whose counts differ by less than N/m may change places.
func NewTopK(capacity int) *TopK {
	return &TopK{capacity: min(max(capacity, 1), MaxTopKCapacity), byItem: map[string]*counter{}}
}

// Add counts n more of an item. It copies item when that was not kept before. O(log m).
func (t *TopK) Add(item []byte, n uint64) {
	if n == 0 {
		return
	}
	t.total = plus(t.total, n)
	if c := t.byItem[string(item)]; c != nil {
		c.Count = plus(c.Count, n)
		t.down(c.at)
		return
	}
	if len(t.heap) < t.capacity {
		t.insert(Counted{string(item), n, 0})
		return
	}
	least := t.heap[0]
	delete(t.byItem, least.Item)
	t.bytes += len(item) - len(least.Item)
	least.Counted = Counted{string(item), plus(least.Count, n), least.Count}
	t.byItem[least.Item] = least
	t.down(0)
}

// Merge adds what other counted. other stays as it is, and may be t itself. With other capacities the bound is the sum
// of both. O(m log m).
func (t *TopK) Merge(other *TopK) {
	ours, theirs := t.Floor(), other.Floor()
	all := make([]Counted, 0, len(t.heap)+len(other.heap))
	for _, c := range t.heap {
		sum := c.Counted
		if o := other.byItem[c.Item]; o != nil {
			sum.Count, sum.Error = plus(sum.Count, o.Count), plus(sum.Error, o.Error)
		} else {
			sum.Count, sum.Error = plus(sum.Count, theirs), plus(sum.Error, theirs)
		}
		all = append(all, sum)
	}
	for _, o := range other.heap {
		if t.byItem[o.Item] == nil {
			all = append(all, Counted{o.Item, plus(o.Count, ours), plus(o.Error, ours)})
		}
	}
	slices.SortFunc(all, rank)
	t.total = plus(t.total, other.total)
	t.fill(all[:min(len(all), t.capacity)])
}

// plus stays at the greatest number instead of beginning again.
func plus(a, b uint64) uint64 {
	if sum := a + b; sum >= a {
		return sum
	}
	return math.MaxUint64
}

// rank puts the greatest count first, and of equal ones the lesser item.
func rank(a, b Counted) int {
	return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Item, b.Item))
}

// Top returns the k items with the greatest counts, or all there are, the greatest first.
func (t *TopK) Top(k int) []Counted {
	all := make([]Counted, len(t.heap))
	for i, c := range t.heap {
		all[i] = c.Counted
	}
	slices.SortFunc(all, rank)
	return all[:min(max(k, 0), len(all))]
}

// Floor is the most that an item came which is not kept: 0 while there is room.
func (t *TopK) Floor() uint64 {
	if len(t.heap) < t.capacity {
		return 0
	}
	return t.heap[0].Count
}

// Total is N, all that was counted.
func (t *TopK) Total() uint64 { return t.total }

// Capacity is m, the number of counters.
func (t *TopK) Capacity() int { return t.capacity }

// Bytes is about the memory that t holds.
func (t *TopK) Bytes() int { return t.bytes + counterBytes*len(t.heap) }

// counterBytes is what a counter takes beside the bytes of its item: itself, two pointers and a key of the map.
const counterBytes = 88

// Reset empties t.
func (t *TopK) Reset() {
	t.total = 0
	t.fill(nil)
}

// fill replaces what is kept; items come with the greatest first.
func (t *TopK) fill(items []Counted) {
	clear(t.byItem)
	clear(t.heap)
	t.heap, t.bytes = t.heap[:0], 0
	for _, c := range slices.Backward(items) { // in this order nothing has to move
		t.insert(c)
	}
}

func (t *TopK) insert(counted Counted) {
	c := &counter{counted, len(t.heap)}
	t.heap = append(t.heap, c)
	t.byItem[c.Item] = c
	t.bytes += len(c.Item)
	for c.at > 0 {
		parent := (c.at - 1) / 2
		if t.heap[parent].before(c) {
			return
		}
		t.swap(c.at, parent)
	}
}

// down moves a counter that grew to where it belongs.
func (t *TopK) down(at int) {
	for {
		child := 2*at + 1
		if child >= len(t.heap) {
			return
		}
		if child+1 < len(t.heap) && t.heap[child+1].before(t.heap[child]) {
			child++
		}
		if t.heap[at].before(t.heap[child]) {
			return
		}
		t.swap(at, child)
		at = child
	}
}

func (t *TopK) swap(i, j int) {
	t.heap[i], t.heap[j] = t.heap[j], t.heap[i]
	t.heap[i].at, t.heap[j].at = i, j
}

// AppendBinary appends the state (docs/format/topk.md). The error is always nil.
func (t *TopK) AppendBinary(dst []byte) ([]byte, error) {
	dst = append(dst, topKVersion)
	dst = binary.AppendUvarint(dst, uint64(t.capacity))
	dst = binary.AppendUvarint(dst, t.total)
	dst = binary.AppendUvarint(dst, uint64(len(t.heap)))
	for _, c := range t.Top(len(t.heap)) {
		dst = binary.AppendUvarint(dst, uint64(len(c.Item)))
		dst = append(dst, c.Item...)
		dst = binary.AppendUvarint(dst, c.Count)
		dst = binary.AppendUvarint(dst, c.Error)
	}
	return dst, nil
}

// UnmarshalBinary reads a state that fills src; t stays as it is on error (ErrTopKState). src is not retained.
func (t *TopK) UnmarshalBinary(src []byte) error {
	if len(src) == 0 || src[0] != topKVersion {
		return fmt.Errorf("%w: version % .1x, want %d", ErrTopKState, src[:min(1, len(src))], topKVersion)
	}
	d := decoder{rest: src[1:], is: ErrTopKState}
	capacity, total, n := d.uvarint(), d.uvarint(), d.uvarint()
	if capacity < 1 || capacity > MaxTopKCapacity || n > capacity {
		d.fail("got %d items with a capacity of %d, want at most %d", n, capacity, MaxTopKCapacity)
	}
	var items []Counted
	known := map[string]*counter{}
	for range n {
		if d.err != nil {
			break
		}
		item := string(d.bytes(d.uvarint()))
		c := Counted{item, d.uvarint(), d.uvarint()}
		switch {
		case c.Count <= c.Error:
			d.fail("item %q: got count %d with error %d, want less", item, c.Count, c.Error)
		case len(items) > 0 && rank(items[len(items)-1], c) >= 0 || known[item] != nil:
			d.fail("item %q: out of order, or there already", item)
		}
		items, known[item] = append(items, c), &counter{}
	}
	if d.err == nil && len(d.rest) > 0 {
		d.fail("%d bytes behind the last item", len(d.rest))
	}
	if d.err != nil {
		return d.err
	}
	*t = TopK{capacity: int(capacity), total: total, byItem: map[string]*counter{}}
	t.fill(items)
	return nil
}
