package sketches_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/pkg/sketches"
)

func ExampleDistinct() {
	var monday, tuesday sketches.Distinct
	for _, user := range []string{"ann", "bob", "ann"} {
		monday.Add([]byte(user))
	}
	for _, user := range []string{"bob", "cid"} {
		tuesday.Add([]byte(user))
	}
	monday.Merge(&tuesday)
	fmt.Println(monday.Estimate())
	// Output: 3
}

// numbered adds the numbers from, from+1, … below to, as decimal text: what ClickHouse's toString(number) gives.
func numbered(from, to int) *sketches.Distinct {
	d := new(sketches.Distinct)
	for i := from; i < to; i++ {
		d.Add(strconv.AppendInt(nil, int64(i), 10))
	}
	return d
}

// Whatever is added, how often, in what order and cut into what parts: the same set is the same state.
func TestDistinctIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		numbers := rapid.SliceOfN(rapid.IntRange(0, 1500), 0, 2000).Draw(t, "numbers")
		if rapid.Bool().Draw(t, "many") { // across the limit of the list
			for i := range rapid.IntRange(400, 900).Draw(t, "n") {
				numbers = append(numbers, i)
			}
		}
		parts := make([]sketches.Distinct, rapid.IntRange(1, 4).Draw(t, "parts"))
		set := map[int]bool{}
		for i, n := range numbers {
			parts[i%len(parts)].Add(strconv.AppendInt(nil, int64(n), 10))
			set[n] = true
		}
		var want, forth, back sketches.Distinct
		for _, n := range slices.Sorted(maps.Keys(set)) {
			want.Add(strconv.AppendInt(nil, int64(n), 10))
		}
		for i := range parts {
			forth.Merge(&parts[i])
			back.Merge(&parts[len(parts)-1-i])
		}
		back.Merge(&back)
		back.Merge(&forth)
		for name, got := range map[string]*sketches.Distinct{"merged": &forth, "merged backwards and again": &back} {
			if !bytes.Equal(got.AppendState(nil), want.AppendState(nil)) {
				t.Fatalf("%s: got another state than adding %d items once each", name, len(set))
			}
		}
		if len(set) <= sketches.DistinctExact && want.Estimate() != float64(len(set)) {
			t.Fatalf("got %v of %d items, want it exactly", want.Estimate(), len(set))
		}
	})
}

// Within four standard errors all the way to 10^6: looks at four streams, ever further apart.
func TestDistinctError(t *testing.T) {
	var square float64
	looks := 0
	for stream := range 4 {
		var d sketches.Distinct
		var item []byte
		next := 10
		for i := range 1_000_000 {
			item = strconv.AppendInt(append(strconv.AppendInt(item[:0], int64(stream), 10), '-'), int64(i), 10)
			d.Add(item)
			if i+1 != next {
				continue
			}
			next += max(next/4, 1)
			off := d.Estimate()/float64(i+1) - 1
			if math.Abs(off) > 4*sketches.DistinctError {
				t.Errorf("stream %d: got %.0f of %d, %+.2f %%", stream, d.Estimate(), i+1, 100*off)
			}
			if i > 4*sketches.DistinctExact {
				square += off * off
				looks++
			}
		}
	}
	if rms := math.Sqrt(square / float64(looks)); rms > 1.3*sketches.DistinctError {
		t.Errorf("got a standard error of %.3f %% over %d looks, want %.3f %%", 100*rms, looks, 100*sketches.DistinctError)
	}
}

func distinctGoldens() []string {
	var lines []string
	for _, n := range []int{0, 1, 3, 16, 17, 20, 513} {
		lines = append(lines, fmt.Sprintf("%d: %x", n, numbered(0, n).AppendState(nil)))
	}
	return lines
}

func TestDistinctGolden(t *testing.T) {
	const file = "testdata/distinct.txt"
	if *update {
		if err := os.WriteFile(file, []byte(strings.Join(distinctGoldens(), "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(text)), "\n")
	for i, got := range distinctGoldens() {
		if got != want[i] {
			t.Errorf("got %.80s…, want %.80s…", got, want[i])
		}
		number, state, _ := strings.Cut(want[i], ": ")
		raw, err := hex.DecodeString(state)
		if err != nil {
			t.Fatal(err)
		}
		var d sketches.Distinct
		if n, err := d.DecodeState(append(raw, 0xff)); err != nil || n != len(raw) {
			t.Errorf("%s items: read %d bytes, %v, want %d", number, n, err, len(raw))
		}
		if !bytes.Equal(d.AppendState(nil), raw) {
			t.Errorf("%s items: another state after reading", number)
		}
	}
}

func TestDistinctRefusesState(t *testing.T) {
	f := func(name string, raw []byte) {
		t.Helper()
		d := numbered(0, 3)
		if n, err := d.DecodeState(raw); !errors.Is(err, sketches.ErrDistinctState) || n != 0 {
			t.Errorf("%s: got %d, %v, want ErrDistinctState", name, n, err)
		}
		if d.Estimate() != 0 {
			t.Errorf("%s: not empty after the error", name)
		}
	}
	dense := numbered(0, 1000).AppendState(nil)
	broken := func(at int, by byte) []byte {
		raw := bytes.Clone(dense)
		raw[at] += by
		return raw
	}
	f("nothing", nil)
	f("kind 0", []byte{0, 0})
	f("kind 4", []byte{4, 0})
	f("no length", []byte{1})
	f("17 in a small list", append([]byte{1, 17}, make([]byte, 17*8)...))
	f("513 in a list", append([]byte{2, 0x81, 4}, make([]byte, 513*8)...))
	f("a length beyond all", []byte{2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f("an item missing", []byte{1, 1, 0, 0, 0})
	f("an item twice", append([]byte{1, 2}, make([]byte, 16)...))
	f("a register missing", dense[:len(dense)-1])
	f("a register changed", broken(1, 1))
	f("a count changed", broken(1+12288, 1))
	f("empty registers changed", broken(len(dense)-1, 1))
	f("a rank above 51", append([]byte{3}, bytes.Repeat([]byte{0xff}, len(dense)-1)...))
}

func FuzzDistinctState(f *testing.F) {
	for _, n := range []int{0, 1, 17, 600} {
		f.Add(numbered(0, n).AppendState(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var d, again sketches.Distinct
		n, err := d.DecodeState(raw)
		if err != nil {
			return
		}
		state := d.AppendState(nil)
		if m, err := again.DecodeState(state); err != nil || m != len(state) {
			t.Fatalf("own state of % x refused: %d, %v", raw[:n], m, err)
		}
		if e := d.Estimate(); math.IsNaN(e) || e < 0 {
			t.Fatalf("got an estimate of %v", e)
		}
		again.Merge(&d)
		if !bytes.Equal(again.AppendState(nil), state) {
			t.Fatalf("merged with itself it is another")
		}
	})
}

// ClickHouse's states of the same strings are ours, it merges the two alike, and both read what the other made.
func testClickHouseDistinct(t *testing.T, server *testkit.Server) {
	t.Helper()
	const kind = "AggregateFunction(uniqCombined64(14), String)"
	read := func(sql string) *sketches.Distinct {
		t.Helper()
		answer := ask(t, server, sql)
		raw, err := hex.DecodeString(answer)
		if err != nil {
			t.Fatalf("%v in %.200s", err, answer)
		}
		d := new(sketches.Distinct)
		if n, err := d.DecodeState(raw); err != nil || n != len(raw) {
			t.Fatalf("%.200s: read %d of %d bytes, %v", sql, n, len(raw), err)
		}
		return d
	}
	states := map[[2]int]*sketches.Distinct{}
	for _, span := range [][2]int{{0, 0}, {0, 1}, {5, 21}, {10, 27}, {100, 611}, {0, 513}, {500, 3000},
		{0, 60000}, {50000, 200000}} {
		d := numbered(span[0], span[1])
		states[span] = d
		same := read(fmt.Sprintf("SELECT hex(uniqCombined64State(14)(toString(number))) FROM numbers(%d, %d)", span[0],
			span[1]-span[0]))
		if !bytes.Equal(same.AppendState(nil), d.AppendState(nil)) {
			t.Errorf("%v: ClickHouse's state of the same strings is another", span)
		}
		back := read(fmt.Sprintf("SELECT hex(CAST(unhex('%x'), '%s'))", d.AppendState(nil), kind))
		if !bytes.Equal(back.AppendState(nil), d.AppendState(nil)) {
			t.Errorf("%v: ClickHouse gives another state back", span)
		}
	}
	for ours, mine := range states {
		for theirs, other := range states {
			if theirs[1] > 60000 && ours[1] > 60000 {
				continue // one such pair says as much
			}
			got := read(fmt.Sprintf(`SELECT hex(uniqCombined64MergeState(14)(s)) FROM (
				SELECT CAST(unhex('%x'), '%s') AS s UNION ALL SELECT uniqCombined64State(14)(toString(number)) FROM numbers(%d, %d))`,
				mine.AppendState(nil), kind, theirs[0], theirs[1]-theirs[0]))
			want := new(sketches.Distinct)
			want.Merge(mine)
			want.Merge(other)
			if !bytes.Equal(got.AppendState(nil), want.AppendState(nil)) {
				t.Errorf("%v of Go and %v of ClickHouse: merged there it is another state than here", ours, theirs)
			}
		}
	}
}

func BenchmarkDistinct(b *testing.B) {
	for _, n := range []int{10, 500, 1_000_000} {
		items := make([][]byte, min(n, 1<<16))
		for i := range items {
			items[i] = fmt.Appendf(nil, "user-%d", i)
		}
		d := numbered(0, n)
		for _, item := range items {
			d.Add(item)
		}
		b.Run(fmt.Sprintf("add/%d", n), func(b *testing.B) {
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				d.Add(items[i%len(items)])
				i++
			}
			b.ReportMetric(float64(len(numbered(0, n).AppendState(nil))), "state-bytes")
		})
	}
	b.Run("merge", func(b *testing.B) {
		d, other := numbered(0, 10_000), numbered(5_000, 15_000)
		b.ReportAllocs()
		for b.Loop() {
			d.Merge(other)
		}
	})
	b.Run("estimate", func(b *testing.B) {
		d := numbered(0, 10_000)
		b.ReportAllocs()
		for b.Loop() {
			_ = d.Estimate()
		}
	})
}
