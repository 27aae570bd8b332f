package events

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
)

// Every number reads as the standard library reads it, bit for bit.
func TestFloatEqualsStrconv(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	texts := []string{
		"9007199254740993", "9007199254740992.5", "9007199254740993.5", "18446744073709551615", "1e40",
		"1e-40", "9999999999999999999e40",
		"1152921504606846977", "72057594037927945", "0.000000000000000000000000000000000000001",
		"4503599627370496.5", "4503599627370497.5",
		"1.7976931348623157e308", "5e-324", "0", "-0", "-1.5", "100000000000000000000000",
		"123456789012345678e22", "1e23", "8.5e22",
	}
	for range 300_000 {
		texts = append(texts, strconv.FormatFloat(math.Float64frombits(r.Uint64()>>1), 'g', 1+r.IntN(19), 64))
		texts = append(texts, strconv.FormatFloat(r.ExpFloat64(), 'f', -1, 64))
		texts = append(texts, strconv.FormatUint(r.Uint64()>>r.IntN(60), 10)+"e"+strconv.Itoa(r.IntN(100)-50))
		// Half way between two floats, and one digit beside it.
		half := (r.Uint64()>>11|1<<52)<<1 | 1
		texts = append(texts, strconv.FormatUint(half+uint64(r.IntN(3))-1, 10), strconv.FormatUint(half*5, 10)+"e-1")
	}
	decided := 0
	for _, text := range texts {
		want, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(want) || math.IsInf(want, 0) {
			continue
		}
		s := new(scanner)
		s.load([]byte(text))
		var n decimal
		if !s.number(&n) {
			t.Fatalf("%s is no number", text)
		}
		got, ok := n.float()
		if !ok || math.Float64bits(got) != math.Float64bits(want) {
			t.Fatalf("%s: got %v (%x), want %v (%x)", text, got, math.Float64bits(got), want, math.Float64bits(want))
		}
		if n.exact && n.mant != 0 {
			if _, ok := eiselLemire(n.mant, n.exp); ok {
				decided++
			}
		}
	}
	if decided < len(texts)/2 {
		t.Errorf("only %d of %d were decided without the standard library", decided, len(texts))
	}
}
