package series_test

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/series"
)

func TestSort(t *testing.T) {
	f := func(in []series.Label, want series.Labels, wantErr error) {
		t.Helper()
		got, err := series.Sort(in)
		if !errors.Is(err, wantErr) {
			t.Fatalf("got error %v, want %v", err, wantErr)
		}
		if !got.Equal(want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	f(nil, nil, nil)
	f(pairs("b", "2", "a", "1"), pairs("a", "1", "b", "2"), nil)
	// Byte order, not collation order.
	f(pairs("é", "3", "a", "2", "Z", "1"), pairs("Z", "1", "a", "2", "é", "3"), nil)
	// An empty value is no label.
	f(pairs("a", "", "b", "2"), pairs("b", "2"), nil)
	// So a name that comes once empty and once with a value comes once.
	f(pairs("a", "", "a", "1", "a", ""), pairs("a", "1"), nil)
	f(pairs("a", "1", "b", "2", "a", "1"), nil, series.ErrDuplicateName)
	f(pairs("a", "1", "a", "1"), nil, series.ErrDuplicateName)
	f(pairs("", "1"), nil, series.ErrEmptyName)
	f(pairs("", ""), nil, series.ErrEmptyName)
	// The sentence in a dead letter stays short whatever the producer sent.
	if _, err := series.Sort(pairs("", strings.Repeat("x", 1<<20))); len(err.Error()) > 200 {
		t.Fatalf("got an error of %d bytes, want at most 200", len(err.Error()))
	}
}

// Any order of the same labels gives the same key, and the key gives the labels back.
func TestSortPermutation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		byName := rapid.MapOf(rapid.StringN(1, 8, 16), rapid.StringN(0, 8, 16)).Draw(t, "labels")
		var labels []series.Label
		for name, value := range byName {
			labels = append(labels, series.Label{Name: name, Value: value})
		}
		labels = rapid.Permutation(labels).Draw(t, "order")
		sorted, err := series.Sort(labels)
		if err != nil {
			t.Fatalf("got error %v, want none", err)
		}
		for i := 1; i < len(sorted); i++ {
			if sorted[i-1].Name >= sorted[i].Name {
				t.Fatalf("got %q before %q, want ascending names", sorted[i-1].Name, sorted[i].Name)
			}
		}
		for name, value := range byName {
			if got := sorted.Get(name); got != value {
				t.Fatalf("Get(%q): got %q, want %q", name, got, value)
			}
		}
	})
}

func BenchmarkSort(b *testing.B) {
	source := pairs("service", "checkout", "route", "/pay", "status", "200", "region", "eu", "az", "b")
	work := make([]series.Label, len(source))
	b.ReportAllocs()
	for b.Loop() {
		copy(work, source)
		if _, err := series.Sort(work); err != nil {
			b.Fatal(err)
		}
	}
}

// pairs makes labels, in the order given, of names and values in turn.
func pairs(namesAndValues ...string) series.Labels {
	var ls series.Labels
	for i := 0; i < len(namesAndValues); i += 2 {
		ls = append(ls, series.Label{Name: namesAndValues[i], Value: namesAndValues[i+1]})
	}
	return ls
}
