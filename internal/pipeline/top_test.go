package pipeline

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTopOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := make([]TenantTopology, rapid.IntRange(0, 100).Draw(t, "tenants"))
		for i := range rows {
			rows[i] = TenantTopology{Tenant: fmt.Sprint(i), Series: rapid.IntRange(0, 5).Draw(t, "series"),
				Lag: time.Duration(rapid.IntRange(0, 5).Draw(t, "lag"))}
		}
		for name, compare := range map[string]func(a, b TenantTopology) int{"series": compareTenants, "lag": compareLags} {
			want := slices.SortedFunc(slices.Values(rows), compare)
			if got := topOf(rows, compare); !slices.Equal(got, want[:min(len(want), topTenants)]) {
				t.Fatalf("by %s: got %v, want the first of %v", name, got, want)
			}
		}
	})
}

func BenchmarkTopOf(b *testing.B) {
	rows := make([]TenantTopology, 10_000)
	for i := range rows {
		rows[i] = TenantTopology{Tenant: fmt.Sprint("tenant-", i), Series: i * 7919 % 10_007,
			Lag: time.Duration(i * 104_729 % 10_007)}
	}
	slices.SortFunc(rows, func(a, b TenantTopology) int { return cmp.Compare(a.Tenant, b.Tenant) })
	b.ReportAllocs()
	for b.Loop() {
		topOf(rows, compareLags)
	}
}
