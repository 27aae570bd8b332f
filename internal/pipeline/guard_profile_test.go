package pipeline

import (
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// watch runs the part of a measurement that counts.
type watch func(part func())

func unwatched(part func()) { part() }

// whatAllocates measures again, with every allocation recorded, and returns a line for each of the places that allocate
// the most.
func whatAllocates(again func(watch)) string {
	if again == nil {
		return ""
	}
	defer func(rate int) { runtime.MemProfileRate = rate }(runtime.MemProfileRate)
	runtime.MemProfileRate = 0
	var before, after map[place]allocations
	again(func(part func()) {
		before = allocated()
		runtime.MemProfileRate = 1
		part()
		runtime.MemProfileRate = 0
		after = allocated()
	})
	for at, was := range before {
		now := after[at]
		after[at] = allocations{now.objects - was.objects, now.bytes - was.bytes}
	}
	places := slices.SortedFunc(maps.Keys(after), func(a, b place) int { return cmp.Compare(after[b].bytes, after[a].bytes) })
	var lines strings.Builder
	for _, at := range places[:min(5, len(places))] {
		if n := after[at]; n.bytes > 0 {
			fmt.Fprintf(&lines, "\n\t%.3g allocations and %.4g bytes an event or series: %s", float64(n.objects)/costEvents,
				float64(n.bytes)/costEvents, at.text())
		}
	}
	return lines.String()
}

// place is a stack that allocates.
type place [32]uintptr

type allocations struct{ objects, bytes int64 }

// allocated is the runtime's profile of all that was allocated; two collections complete it.
func allocated() map[place]allocations {
	runtime.GC()
	runtime.GC()
	n, _ := runtime.MemProfile(nil, true)
	records := make([]runtime.MemProfileRecord, n+100)
	n, _ = runtime.MemProfile(records, true)
	sums := map[place]allocations{}
	for i := range records[:n] {
		r := &records[i] // of a stack and a size
		sum := sums[r.Stack0]
		sums[r.Stack0] = allocations{sum.objects + r.AllocObjects, sum.bytes + r.AllocBytes}
	}
	return sums
}

// text is where the stack allocates, and the two that called there; what the runtime calls says nothing.
func (at *place) text() string {
	var calls []string
	stack := at[:]
	if end := slices.Index(stack, 0); end >= 0 {
		stack = stack[:end]
	}
	frames := runtime.CallersFrames(stack)
	for more := len(stack) > 0; more && len(calls) < 3; {
		var f runtime.Frame
		f, more = frames.Next()
		if !strings.HasPrefix(f.Function, "runtime.") {
			calls = append(calls, fmt.Sprintf("%s:%d", f.Function[strings.LastIndexByte(f.Function, '/')+1:], f.Line))
		}
	}
	return strings.Join(calls, " < ")
}

// The guard names the place that a rise comes from.
func TestWhatAllocates(t *testing.T) {
	got := whatAllocates(func(w watch) {
		w(func() {
			for range costEvents {
				kept = make([]byte, 1<<10)
			}
		})
	})
	first, _, _ := strings.Cut(strings.TrimPrefix(got, "\n"), "\n")
	if want := "1 allocations and 1024 bytes an event or series: pipeline.TestWhatAllocates"; !strings.Contains(first, want) {
		t.Errorf("got %s, want first a line with %q", got, want)
	}
}

var kept []byte
