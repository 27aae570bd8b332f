package ruler

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Files that a reload puts in force are counted at once, also when there are none any more.
func TestConfiguredGroups(t *testing.T) {
	d := newDatabase(t, shopSeries)
	r := newRuler(t, d, chained, nil, nil)
	want := func(configured, evaluated float64) {
		t.Helper()
		if got := testutil.ToFloat64(r.metrics.configured); got != configured {
			t.Errorf("got %g groups configured, want %g", got, configured)
		}
		if got := testutil.ToFloat64(r.metrics.groups); got != evaluated {
			t.Errorf("got %g groups evaluated, want %g", got, evaluated)
		}
	}
	want(2, 0)
	s, err := r.open(t.Context(), &log{database: d})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	step := func() {
		t.Helper()
		if _, err := s.step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	step()
	want(2, 2)
	r.Replace(&Files{cfg: r.files.Load().cfg})
	want(0, 2)
	step()
	want(0, 0)
}

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
