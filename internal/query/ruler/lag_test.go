package ruler

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// The lag is of the shard that is most behind, whichever looked last, and of no shard that has gone.
func TestLagIsOfTheSlowestShard(t *testing.T) {
	r := New(&Files{}, Options{})
	slow, fast := &shardRun{ruler: r}, &shardRun{ruler: r}
	want := func(seconds float64) {
		t.Helper()
		if got := testutil.ToFloat64(r.metrics.lag); got != seconds {
			t.Errorf("got a lag of %g s, want %g", got, seconds)
		}
	}
	r.behind(slow, time.Minute)
	r.behind(fast, time.Second)
	want(60)
	r.behind(slow, 30*time.Second)
	want(30)
	slow.close()
	want(1)
	r.behind(fast, 0)
	want(0)
}
