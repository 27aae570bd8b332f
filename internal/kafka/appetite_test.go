package kafka

import (
	"testing"

	"pgregory.net/rapid"
)

// Whatever records unpack to, fetches settle below the budget, and within a few use at least a quarter of it, or ask
// for all of it, or are as small as they get.
func TestAppetite(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		budget := rapid.Int64Range(1<<20, 1<<30).Draw(t, "budget")
		a := newAppetite(budget)
		for range rapid.IntRange(1, 3).Draw(t, "kinds of records") {
			ratio := rapid.Float64Range(0.5, 100).Draw(t, "unpacked per fetched byte")
			for range 30 {
				a.adapt(int64(float64(a.limit) * ratio))
			}
			got := int64(float64(a.limit) * ratio)
			if got > budget+budget/100 && a.limit > leastFetch {
				t.Fatalf("ratio %v: got fetches of %d unpacked bytes, want at most %d", ratio, got, budget)
			}
			if got < budget/4 && a.limit < budget {
				t.Fatalf("ratio %v: got fetches of %d unpacked bytes, want near %d", ratio, got, budget)
			}
			fetch, partition := a.limits()
			if int64(fetch) != a.limit || partition > fetch || partition > partitionFetch {
				t.Fatalf("got limits %d and %d for %d", fetch, partition, a.limit)
			}
		}
		before := a.limit
		if a.adapt(0) || a.limit != before {
			t.Fatalf("nothing came: got limit %d after %d", a.limit, before)
		}
	})
}
