package series_test

import (
	"fmt"
	"testing"
	"unsafe"

	"github.com/vigie-io/vigie/pkg/series"
)

func TestInternerShares(t *testing.T) {
	in := series.NewInterner(4)
	buffer := []byte("checkout")
	a := in.Bytes(buffer)
	copy(buffer, "XXXXXXXX")
	b := in.Bytes([]byte("checkout"))
	if a != "checkout" || unsafe.StringData(a) != unsafe.StringData(b) {
		t.Fatalf("got %q and %q, want one shared string", a, b)
	}
}

// What is used in every generation survives; what is not is forgotten, so memory is bounded.
func TestInternerBound(t *testing.T) {
	const limit = 10
	in := series.NewInterner(limit)
	hot := in.Bytes([]byte("hot"))
	for i := range 1000 {
		in.Bytes(fmt.Appendf(nil, "cold-%d", i))
		if got := in.Bytes([]byte("hot")); unsafe.StringData(got) != unsafe.StringData(hot) {
			t.Fatalf("after %d strings: got a new copy of a string in use, want the old one", i)
		}
		if in.Len() > 2*limit {
			t.Fatalf("got %d strings, want at most %d", in.Len(), 2*limit)
		}
	}
}

func BenchmarkInterner(b *testing.B) {
	in := series.NewInterner(100)
	word := []byte("http_request_duration_seconds")
	b.ReportAllocs()
	for b.Loop() {
		in.Bytes(word)
	}
}
