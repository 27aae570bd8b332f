package sketches_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/sketches"
)

func ExampleTopK() {
	routes := sketches.NewTopK(100)
	for _, route := range []string{"/pay", "/cart", "/pay", "/pay", "/cart", "/help"} {
		routes.Add([]byte(route), 1)
	}
	for _, c := range routes.Top(2) {
		fmt.Println(c.Item, c.Count, c.Error)
	}
	// Output:
	// /pay 3 0
	// /cart 2 0
}

// counts is the exact answer.
type counts map[string]uint64

// holds checks every promise of TopK against the exact counts.
func (exact counts) holds(t *rapid.T, top *sketches.TopK) {
	var total uint64
	for _, n := range exact {
		total += n
	}
	if top.Total() != total {
		t.Fatalf("got a total of %d, want %d", top.Total(), total)
	}
	most := total / uint64(top.Capacity())
	if top.Floor() > most {
		t.Fatalf("got a floor of %d, want at most %d of %d", top.Floor(), most, total)
	}
	kept := map[string]bool{}
	all := top.Top(top.Capacity())
	for i, c := range all {
		kept[c.Item] = true
		if n := exact[c.Item]; n > c.Count || n < c.Count-c.Error || c.Count-n > most {
			t.Fatalf("item %s: got %d with error %d, want %d to be within, and at most %d less",
				c.Item, c.Count, c.Error, n, most)
		}
		if i > 0 && (all[i-1].Count < c.Count || all[i-1].Count == c.Count && all[i-1].Item >= c.Item) {
			t.Fatalf("got %v before %v", all[i-1], c)
		}
	}
	for item, n := range exact {
		if !kept[item] && n > top.Floor() {
			t.Fatalf("item %s came %d times and is not kept, with a floor of %d", item, n, top.Floor())
		}
	}
}

func TestTopKBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.IntRange(1, 12).Draw(t, "capacity")
		parts := make([]*sketches.TopK, rapid.IntRange(1, 4).Draw(t, "parts"))
		for i := range parts {
			parts[i] = sketches.NewTopK(capacity)
		}
		exact, seen := counts{}, make([]counts, len(parts))
		for range rapid.IntRange(0, 300).Draw(t, "events") {
			// Low numbers come more often.
			item := fmt.Sprint(min(rapid.IntRange(0, 30).Draw(t, "a"), rapid.IntRange(0, 30).Draw(t, "b")))
			n := uint64(rapid.IntRange(0, 3).Draw(t, "n"))
			at := rapid.IntRange(0, len(parts)-1).Draw(t, "part")
			if seen[at] == nil {
				seen[at] = counts{}
			}
			parts[at].Add([]byte(item), n)
			seen[at][item] += n
			exact[item] += n
			if rapid.IntRange(0, 9).Draw(t, "save") == 0 {
				parts[at] = restored(t, parts[at])
			}
		}
		for i, part := range parts {
			seen[i].holds(t, part)
		}
		all := parts[0]
		for _, part := range parts[1:] {
			all.Merge(part)
		}
		exact.holds(t, all)
		// Merging is not the end: what is added afterwards keeps the bounds, too.
		for range rapid.IntRange(0, 30).Draw(t, "more") {
			item := fmt.Sprint(rapid.IntRange(0, 40).Draw(t, "item"))
			all.Add([]byte(item), 1)
			exact[item]++
		}
		exact.holds(t, all)
		all.Merge(all)
		for item := range exact {
			exact[item] *= 2
		}
		exact.holds(t, all)
	})
}

// restored goes through bytes, and must behave as if it had not.
func restored(t *rapid.T, top *sketches.TopK) *sketches.TopK {
	state, _ := top.AppendBinary(nil)
	again := new(sketches.TopK)
	if err := again.UnmarshalBinary(state); err != nil {
		t.Fatal(err)
	}
	for _, each := range []*sketches.TopK{top, again} {
		for i := range 5 {
			each.Add(fmt.Appendf(nil, "new %d", i%3), 1)
		}
	}
	a, _ := top.AppendBinary(nil)
	b, _ := again.AppendBinary(nil)
	if !bytes.Equal(a, b) {
		t.Fatalf("after reading it went on as %x, want %x", b, a)
	}
	if err := again.UnmarshalBinary(state); err != nil {
		t.Fatal(err)
	}
	return again
}

// With a hundred counters for ten items the ten of a Zipf distribution are found, in order.
func TestTopKOfZipf(t *testing.T) {
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.3, 1, 100_000)
	top, exact := sketches.NewTopK(100), counts{}
	for range 200_000 {
		item := fmt.Sprint(zipf.Uint64())
		top.Add([]byte(item), 1)
		exact[item]++
	}
	first := top.Top(10)
	if len(first) != 10 {
		t.Fatalf("got the first %d, want ten", len(first))
	}
	for i, c := range first {
		if c.Item != fmt.Sprint(i) {
			t.Errorf("rank %d: got item %s (%d, really %d), want %d", i, c.Item, c.Count, exact[c.Item], i)
		}
	}
}

func topKGoldens() (names []string, states [][]byte) {
	f := func(name string, capacity int, items ...string) {
		top := sketches.NewTopK(capacity)
		for _, item := range items {
			top.Add([]byte(item), 1)
		}
		state, _ := top.AppendBinary(nil)
		names, states = append(names, name), append(states, state)
	}
	f("empty", 100)
	f("one", 100, "a")
	f("ties", 100, "b", "a", "c", "c")
	f("full", 2, "a", "a", "a", "b", "c", "d")
	return names, states
}

func TestTopKGolden(t *testing.T) {
	var b strings.Builder
	names, states := topKGoldens()
	for i, name := range names {
		fmt.Fprintf(&b, "%s: %x\n", name, states[i])
	}
	golden(t, "testdata/topk.txt", b.String())
}

func TestTopKRefusesState(t *testing.T) {
	f := func(name, state string) {
		t.Helper()
		raw, err := hex.DecodeString(strings.ReplaceAll(state, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		top := sketches.NewTopK(3)
		top.Add([]byte("kept"), 1)
		if err := top.UnmarshalBinary(raw); !errors.Is(err, sketches.ErrTopKState) {
			t.Errorf("%s: got %v, want ErrTopKState", name, err)
		}
		if top.Total() != 1 || len(top.Top(3)) != 1 {
			t.Errorf("%s: it changed all the same", name)
		}
	}
	f("nothing", "")
	f("another version", "02 64 00 00")
	f("no capacity", "01 00 00 00")
	f("a capacity beyond all", "01 ffff7f 00 00")
	f("more items than capacity", "01 01 02 02 0161 01 00 0162 01 00")
	f("cut short", "01 64 01 01 0161 01")
	f("an item longer than the state", "01 64 01 01 ff7f 61 01 00")
	f("bytes behind", "01 64 00 00 00")
	f("error as large as the count", "01 64 01 01 0161 01 01")
	f("out of order", "01 64 03 02 0161 01 00 0162 02 00")
	f("ties out of order", "01 64 02 02 0162 01 00 0161 01 00")
	f("an item twice", "01 64 03 02 0161 02 00 0161 01 00")
}

func FuzzTopKState(f *testing.F) {
	_, states := topKGoldens()
	for _, state := range states {
		f.Add(state)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var top, again sketches.TopK
		if top.UnmarshalBinary(raw) != nil {
			return
		}
		state, _ := top.AppendBinary(nil)
		if err := again.UnmarshalBinary(state); err != nil {
			t.Fatalf("own state %x refused: %v", state, err)
		}
		if second, _ := again.AppendBinary(nil); !bytes.Equal(second, state) {
			t.Fatalf("got %x, want %x", second, state)
		}
	})
}

func BenchmarkTopK(b *testing.B) {
	for _, s := range []float64{1.05, 1.5} { // even and steep
		zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), s, 1, 1<<20)
		items := make([][]byte, 1<<14)
		for i := range items {
			items[i] = fmt.Appendf(nil, "/route/%d", zipf.Uint64())
		}
		for _, capacity := range []int{100, 1000} {
			b.Run(fmt.Sprintf("add/zipf=%v/m=%d", s, capacity), func(b *testing.B) {
				top := sketches.NewTopK(capacity)
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					top.Add(items[i%len(items)], 1)
					i++
				}
				state, _ := top.AppendBinary(nil)
				b.ReportMetric(float64(len(state)), "state-bytes")
				b.ReportMetric(float64(top.Bytes()), "held-bytes")
			})
		}
	}
	b.Run("merge/m=100", func(b *testing.B) {
		one, two := sketches.NewTopK(100), sketches.NewTopK(100)
		for i := range 10_000 {
			one.Add(fmt.Appendf(nil, "/route/%d", i%300), 1)
			two.Add(fmt.Appendf(nil, "/route/%d", i%310), 1)
		}
		b.ReportAllocs()
		for b.Loop() {
			one.Merge(two)
		}
	})
}
