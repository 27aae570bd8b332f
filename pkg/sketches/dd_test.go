package sketches_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/sketches"
)

var update = flag.Bool("update", false, "rewrite golden files")

// goldens are the sketches whose bytes docs/format/sketch.md and testdata/states.txt show.
func goldens() (names []string, byName map[string]*sketches.Sketch) {
	byName = map[string]*sketches.Sketch{}
	f := func(name string, build func(s *sketches.Sketch)) {
		s := new(sketches.Sketch)
		build(s)
		names, byName[name] = append(names, name), s
	}
	f("empty", func(*sketches.Sketch) {})
	f("one", func(s *sketches.Sketch) { s.Add(1) })
	f("sparse", func(s *sketches.Sketch) { s.Add(0.123); s.Add(0.123); s.Add(40) })
	f("contiguous", func(s *sketches.Sketch) { s.Add(2); s.Add(2.02); s.Add(2.04) })
	f("signs and zeros", func(s *sketches.Sketch) { s.Add(-3); s.AddN(0, 2); s.Add(3) })
	f("fraction", func(s *sketches.Sketch) { s.AddN(1, 0.5) })
	f("ends of the range", func(s *sketches.Sketch) { s.Add(1e-12); s.Add(1e18) })
	return names, byName
}

// The bytes are in every stored row: a difference here is a change of format.
func TestStateGolden(t *testing.T) {
	var b strings.Builder
	names, byName := goldens()
	for _, name := range names {
		fmt.Fprintf(&b, "%s: %x\n", name, byName[name].AppendDD(nil))
	}
	golden(t, "testdata/states.txt", b.String())
}

// golden compares with a file, which -update writes anew.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Fatalf("got\n%s, want\n%s", got, want)
	}
}

// A state is read to its end and no further, into a sketch equal to the one written.
func TestStateRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s, again sketches.Sketch
		for range rapid.IntRange(0, 80).Draw(t, "length") {
			s.AddN(drawValue(t), drawWeight(t))
		}
		again.Add(7) // decoding replaces
		state := s.AppendDD([]byte("before"))[len("before"):]
		n, err := again.DecodeDD(append(state[:len(state):len(state)], "after"...))
		if err != nil || n != len(state) {
			t.Fatalf("got %d, %v, want %d bytes read", n, err, len(state))
		}
		same(t, "round trip", &again, &s)
		for cut := range state {
			if n, err := again.DecodeDD(state[:cut]); !errors.Is(err, sketches.ErrState) || n != 0 || again.Count() != 0 {
				t.Fatalf("cut at %d of %d: got %d, %v, count %v, want ErrState and an empty sketch",
					cut, len(state), n, err, again.Count())
			}
		}
	})
}

// Pieces of states, as in docs/format/sketch.md.
const (
	mapping    = "026180773e9a2cf03f0000000000000000"
	emptyStore = "0400"
	// What ClickHouse writes for a store without counts: contiguous, no buckets, the greatest int as the first.
	emptyStoreOfClickHouse = "0c00feffffff0f02"
	one                    = "000000000000f03f"
	noZeros                = "040000000000000000"
)

func TestDecodeForms(t *testing.T) {
	f := func(name, state string, wantCount float64, wantErr error) {
		t.Helper()
		raw, err := hex.DecodeString(state)
		if err != nil {
			t.Fatal(err)
		}
		var s sketches.Sketch
		_, err = s.DecodeDD(raw)
		if !errors.Is(err, wantErr) || s.Count() != wantCount {
			t.Fatalf("%s: got count %v error %v, want %v and %v", name, s.Count(), err, wantCount, wantErr)
		}
	}
	whole := func(positive, negative string) string { return mapping + "01" + positive + "03" + negative + noZeros }

	f("empty", whole(emptyStore, emptyStore), 0, nil)
	f("empty as ClickHouse writes it", whole(emptyStoreOfClickHouse, emptyStoreOfClickHouse), 0, nil)
	f("contiguous with a gap", whole("0c037e02"+one+"0000000000000000"+one, emptyStore), 2, nil)
	f("sparse with a zero count", whole("0402"+"7e"+one+"02"+"0000000000000000", emptyStore), 1, nil)
	f("least and greatest bucket", whole("0402"+"ef27"+one+"d463"+one, emptyStore), 2, nil)

	bad := func(name, state string) { t.Helper(); f(name, state, 0, sketches.ErrState) }
	bad("nothing", "")
	bad("below the least bucket", whole("0401"+"f127"+one, emptyStore))
	bad("above the greatest bucket", whole("0401"+"e63b"+one, emptyStore))
	bad("far away by steps", whole("0402"+"d03b"+one+"d03b"+one, emptyStore))
	bad("step of two", whole("0c027e04"+one+one, emptyStore))
	bad("negative count", whole("0401"+"7e"+"000000000000f0bf", emptyStore))
	bad("infinite count", whole("0401"+"7e"+"000000000000f07f", emptyStore))
	bad("count not a number", whole("0401"+"7e"+"000000000000f87f", emptyStore))
	bad("more buckets than bytes", whole("04ffffffffffffffff7f", emptyStore))
	bad("unknown store encoding", whole("08", emptyStore))
	bad("negative store first", mapping+"03"+emptyStore+"01"+emptyStore+noZeros)
	bad("no zero count", mapping+"01"+emptyStore+"03"+emptyStore)
	// α = 1 %: its buckets are others, and no re-bucketing is exact.
	bad("another γ", "02"+"fd4a815abf52f03f"+"0000000000000000"+"01"+emptyStore+"03"+emptyStore+noZeros)
	bad("another offset", "02"+"6180773e9a2cf03f"+one+"01"+emptyStore+"03"+emptyStore+noZeros)
	bad("negative zero count", mapping+"01"+emptyStore+"03"+emptyStore+"04"+"000000000000f0bf")
}

func FuzzDecodeDD(f *testing.F) {
	names, byName := goldens()
	for _, name := range names {
		f.Add(byName[name].AppendDD(nil))
	}
	for _, state := range []string{
		mapping + "01" + emptyStoreOfClickHouse + "03" + emptyStoreOfClickHouse + noZeros,
		mapping + "0104ffffffffffffffff7f",
		mapping + "010cffffffffffffffff7f7e02",
	} {
		raw, _ := hex.DecodeString(state)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		var s, again sketches.Sketch
		n, err := s.DecodeDD(src)
		if measured, measureErr := sketches.MeasureDD(src); measured != n || (measureErr == nil) != (err == nil) {
			t.Fatalf("MeasureDD: got %d, %v; DecodeDD says %d, %v", measured, measureErr, n, err)
		}
		if err != nil {
			if !errors.Is(err, sketches.ErrState) || s.Count() != 0 {
				t.Fatalf("got error %v count %v, want ErrState and an empty sketch", err, s.Count())
			}
			return
		}
		if n > len(src) {
			t.Fatalf("got %d bytes read, want at most %d", n, len(src))
		}
		// What is accepted is understood: written again it reads as the same.
		state := s.AppendDD(nil)
		if _, err := again.DecodeDD(state); err != nil || !bytes.Equal(again.AppendDD(nil), state) {
			t.Fatalf("got %x, %v, want %x", again.AppendDD(nil), err, state)
		}
	})
}
