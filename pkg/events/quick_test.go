package events

import (
	"bytes"
	stdjson "encoding/json"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/series"
)

// drawNear draws bytes of alphabet, of some length around what words of eight bytes hold.
func drawNear(t *rapid.T, alphabet string, most int) []byte {
	return rapid.SliceOfN(rapid.SampledFrom([]byte(alphabet)), 0, most).Draw(t, "bytes")
}

// Digits read eight at a time are what a loop reads.
func TestDigitsEqualLoop(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawNear(t, "0123456789012345678901234567890123456789./:\x00\xff\x80e", 24)
		want, end := uint64(7), 0
		for ; end < len(b) && b[end] >= '0' && b[end] <= '9'; end++ {
			want = want*10 + uint64(b[end]-'0')
		}
		if got, next := digits(b, 0, 7); got != want || next != end {
			t.Fatalf("%q: got %d to %d, want %d to %d", b, got, next, want, end)
		}
	})
}

// A number is taken if and only if encoding/json takes it, to the last byte, and reads as strconv reads it.
func TestNumberEqualsStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawNear(t, "00112233445566778899-+..eE", 26)
		if rapid.Bool().Draw(t, "decimal") {
			b = []byte(rapid.StringMatching(`-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?`).Draw(t, "number"))
		}
		var n decimal
		taken := n.read(b) == "" && len(n.raw) == len(b)
		if taken != stdjson.Valid(b) {
			t.Fatalf("%q: taken %v, want %v", b, taken, !taken)
		}
		if !taken {
			return
		}
		want, err := strconv.ParseFloat(string(b), 64)
		if got, ok := n.float(); ok != (err == nil) || ok && got != want {
			t.Fatalf("%q: got %v, %v; want %v, %v", b, got, ok, want, err)
		}
	})
}

// What the quick way takes for a time, rfc3339 takes, for the same time; and it takes the usual ones.
func TestQuickTimeEqualsRFC3339(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m minute
		const usual = "2026-11-23T10:00"
		if _, reason := m.rfc3339([]byte(rapid.SampledFrom([]string{usual, "1969-12-31T23:59", "2262-04-11T23:47"}).Draw(t, "minute") + ":00Z")); reason == ReasonBadTime {
			t.Fatal("the minute was not read")
		}
		b := append(bytes.Clone(m.text[:]), drawNear(t, "0123456789012345:.Z\"+", 20)...)
		if rapid.Bool().Draw(t, "usual") {
			b = append(m.text[:], rapid.StringMatching(`:[0-6][0-9](\.[0-9]{1,11})?Z"[,}]`).Draw(t, "seconds")...)
		}
		if rapid.IntRange(0, 9).Draw(t, "zero") == 0 {
			m = minute{}
			copy(b, m.text[:])
		}
		for len(b) < 40 { // the rest of the event
			b = append(b, ' ')
		}
		got, size := m.quick(b)
		if size == 0 {
			return
		}
		want, reason := m.rfc3339(b[:size])
		if reason != "" || got != want || b[size] != '"' {
			t.Fatalf("%q: got %d in %d bytes, want %d (%s) and a quote", b, got, size, want, reason)
		}
	})
	var m minute
	if _, reason := m.rfc3339([]byte("2026-11-23T10:00:00Z")); reason != "" {
		t.Fatal(reason)
	}
	for _, usual := range []string{"2026-11-23T10:00:59Z", "2026-11-23T10:00:07.5Z", "2026-11-23T10:00:07.123456789Z"} {
		b := append([]byte(usual), `","value":1,"name":"requests"}`...)
		if _, size := m.quick(b); size != len(usual) {
			t.Errorf("%s: got %d bytes taken, want %d", usual, size, len(usual))
		}
	}
}

// A set that is full moves what it knows before it forgets: up to half of all places hardly anything is lost.
func TestRepeatsKeepWhatTheyLearn(t *testing.T) {
	const n = 1 << 15
	r := NewRepeats(1, n)
	for i := range uint32(n) {
		r.Learn(digestOf(i), i)
	}
	lost := 0
	for i := range uint32(n) {
		if ref, ok := r.find(digestOf(i)); !ok {
			lost++
		} else if ref != i {
			t.Fatalf("event %d is known as %d", i, ref)
		}
	}
	if lost > n/10_000 || r.Len() != n-lost {
		t.Errorf("got %d of %d lost and %d known, want at most one in 10,000", lost, n, r.Len())
	}
}

func digestOf(i uint32) series.ID { return series.HashSeeded([]byte(strconv.Itoa(int(i))), 3) }
