package windows_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/windows"
)

// collect lists the windows of a slice.
func collect(w windows.Aligned, slice windows.Window) (all []windows.Window) {
	at, last := w.Span(slice)
	for ; at.Start <= last.Start; at = w.Next(at) {
		all = append(all, at)
	}
	return all
}

func TestHopping(t *testing.T) {
	f := func(size, hop, offset time.Duration, at int64, slice windows.Window, want ...windows.Window) {
		t.Helper()
		w := windows.Hopping{Size: size, Hop: hop, Offset: offset}
		if got := w.Slice(at); got != slice {
			t.Errorf("size %d every %d at %d: got slice %v, want %v", size, hop, at, got, slice)
		}
		if got := collect(w, w.Slice(at)); !slices.Equal(got, want) {
			t.Errorf("size %d every %d at %d: got %v, want %v", size, hop, at, got, want)
		}
	}
	f(10, 5, 0, 7, windows.Window{5, 10}, windows.Window{0, 10}, windows.Window{5, 15})
	f(10, 10, 0, 7, windows.Window{0, 10}, windows.Window{0, 10})
	f(10, 4, 0, 9, windows.Window{8, 10}, windows.Window{0, 10}, windows.Window{4, 14}, windows.Window{8, 18})
	f(10, 4, 0, 10, windows.Window{10, 12}, windows.Window{4, 14}, windows.Window{8, 18})
	f(10, 5, 2, 1, windows.Window{-3, 2}, windows.Window{-8, 2}, windows.Window{-3, 7})
}

// By trying every start: the windows of a slice are those that hold each of its moments.
func TestHoppingHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 60).Draw(t, "size")
		hop := rapid.Int64Range(1, size).Draw(t, "hop")
		offset := rapid.Int64Range(0, hop-1).Draw(t, "offset")
		at := rapid.Int64Range(-200, 200).Draw(t, "time")
		w := windows.Hopping{Size: time.Duration(size), Hop: time.Duration(hop), Offset: time.Duration(offset)}
		if err := w.Validate(); err != nil {
			t.Fatal(err)
		}
		slice := w.Slice(at)
		if at < slice.Start || at >= slice.End {
			t.Fatalf("got slice %v of %d, want it to hold the time", slice, at)
		}
		for moment := slice.Start; moment < slice.End; moment++ {
			var want []windows.Window
			for n := int64(-300); n <= 300; n++ {
				if start := offset + n*hop; start <= moment && moment < start+size {
					want = append(want, windows.Window{Start: start, End: start + size})
				}
			}
			if got := collect(w, slice); !slices.Equal(got, want) {
				t.Fatalf("%v at %d: got %v, want %v", w, moment, got, want)
			}
		}
	})
}

func TestHoppingValidate(t *testing.T) {
	f := func(size, hop, offset time.Duration, valid bool) {
		t.Helper()
		if err := (windows.Hopping{Size: size, Hop: hop, Offset: offset}).Validate(); (err == nil) != valid {
			t.Errorf("size %d every %d offset %d: got %v, want valid %v", size, hop, offset, err, valid)
		}
	}
	f(10, 5, 0, true)
	f(10, 3, 2, true)
	f(10, 0, 0, false)
	f(10, 11, 0, false)
	f(0, 0, 0, false)
	f(10, 5, 5, false)
	f(10, 5, -1, false)
}
