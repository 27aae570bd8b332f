package windows_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/windows"
)

func TestTumbling(t *testing.T) {
	f := func(size, offset time.Duration, at, start, end int64) {
		t.Helper()
		w := windows.Tumbling{Size: size, Offset: offset}
		if got, want := w.Assign(at), (windows.Window{Start: start, End: end}); got != want {
			t.Fatalf("size %d offset %d at %d: got %v, want %v", size, offset, at, got, want)
		}
	}
	f(10, 0, 0, 0, 10)
	f(10, 0, 9, 0, 10)
	// A border begins a window.
	f(10, 0, 10, 10, 20)
	// Before 1970 windows run on, they do not mirror.
	f(10, 0, -1, -10, 0)
	f(10, 0, -10, -10, 0)
	f(10, 3, 2, -7, 3)
	f(10, 3, 3, 3, 13)
	f(1, 0, 5, 5, 6)
}

// Every time lies in exactly the window it is assigned to, and windows begin at offset + n·size.
func TestTumblingHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, int64(400*24*time.Hour)).Draw(t, "size")
		offset := rapid.Int64Range(0, size-1).Draw(t, "offset")
		at := rapid.Int64Range(-1<<61, 1<<61).Draw(t, "time")
		w := windows.Tumbling{Size: time.Duration(size), Offset: time.Duration(offset)}
		got := w.Assign(at)
		if at < got.Start || at >= got.End || got.End-got.Start != size || (got.Start-offset)%size != 0 {
			t.Fatalf("got %v, want a window of %d on the grid of %d that holds %d", got, size, offset, at)
		}
		if w.Start(got.End) != got.End || w.End(got.Start) != got.End || w.Start(got.End-1) != got.Start {
			t.Fatalf("got windows beside %v that overlap or leave a gap, want neither", got)
		}
	})
}

func TestTumblingValidate(t *testing.T) {
	f := func(size, offset time.Duration, valid bool) {
		t.Helper()
		if err := (windows.Tumbling{Size: size, Offset: offset}).Validate(); (err == nil) != valid {
			t.Fatalf("size %d offset %d: got %v, want valid %v", size, offset, err, valid)
		}
	}
	f(1, 0, true)
	f(10, 9, true)
	f(0, 0, false)
	f(-1, 0, false)
	f(10, 10, false)
	f(10, -1, false)
}

func BenchmarkTumblingStart(b *testing.B) {
	w := windows.Tumbling{Size: 10 * time.Second}
	at := int64(1_795_000_000_000_000_000)
	b.ReportAllocs()
	for b.Loop() {
		at += w.Start(at) & 1
	}
}
