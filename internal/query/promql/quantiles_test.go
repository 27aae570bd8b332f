package promql_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/events"
)

// A quantile that is evaluated while windows are read is the engine's, to the last digit where counts are whole
// numbers: of both signs and zeros, where series begin, pause and end, over seams of tiers, however far ranges overlap.
func TestQuantilesEqualPlain(t *testing.T) {
	short := func(s *server) { s.cfg.Retention10s, s.cfg.Retention1m = 40*time.Minute, 80*time.Minute }
	pushing := newServer(t, short)
	plain := newServer(t, short, func(p *server) { p.cfg.Pushdown, p.store = false, pushing.store })
	pushed := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		pushing.store.empty()
		pushing.service.Forget()
		plain.service.Forget()
		ranks := []float64{0.9013}
		if pushing.store.weight = rapid.SampledFrom([]float64{1, 1, 0.7}).Draw(rt, "weight"); pushing.store.weight == 1 {
			ranks = []float64{0, 0.25, 0.5, 0.9013, 1}
		}
		for _, service := range []string{"", "x", "y"} {
			for _, a := range []string{"1", "2"} {
				list := draw(rt, pushing.now)
				shift := rapid.SampledFrom([]float64{0, 0, 20, 100}).Draw(rt, "shift")
				for i := range list {
					list[i].value -= shift
				}
				ls := map[string]string{"a": a, "le": "own"}
				if service != "" {
					ls["service"] = service
				}
				pushing.store.add(t, "acme", events.Observation, "lat_seconds", ls, list...)
			}
		}
		for range 10 {
			query := fmt.Sprintf("histogram_quantile(%v, sum %s (%s(lat_seconds%s[%s]%s)))", rapid.SampledFrom(ranks).Draw(rt, "rank"),
				rapid.SampledFrom([]string{"", "by (service)", "by (a)", "by (a, le)", "without (a)", "by (a, service, le)"}).Draw(rt, "by"),
				rapid.SampledFrom([]string{"rate", "increase", "sum_over_time"}).Draw(rt, "function"),
				rapid.SampledFrom([]string{"", `{service="x"}`, `{a="1"}`}).Draw(rt, "selector"),
				rapid.SampledFrom([]string{"10s", "1m", "5m", "1h"}).Draw(rt, "range"),
				rapid.SampledFrom([]string{"", "", " offset 1m", " offset 20m"}).Draw(rt, "offset"))
			at := epoch.Add(time.Duration(rapid.IntRange(0, 720).Draw(rt, "at")) * 10 * time.Second)
			step := time.Duration(rapid.SampledFrom([]int{10, 20, 60, 120, 600}).Draw(rt, "step")) * time.Second
			got, want := pushing.points(query, at, step), plain.points(query, at, step)
			for _, how := range []string{"histogram_quantile of sum", "of tiers by service"} {
				if strings.Contains(pushing.pushdown, how) {
					pushed[how]++
				}
			}
			if !strings.Contains(pushing.pushdown, "histogram_quantile") {
				continue // a rank between two buckets may turn either way there
			}
			compare(rt, query, got, want)
			for key, text := range got {
				if pushing.store.weight == 1 && text != want[key] {
					rt.Fatalf("%s: %s: got %s, want %s", query, key, text, want[key])
				}
			}
		}
	})
	pushing.store.weight = 0
	if pushed["histogram_quantile of sum"] == 0 || pushed["of tiers by service"] == 0 {
		t.Errorf("got %v, want some of each", pushed)
	}
}
