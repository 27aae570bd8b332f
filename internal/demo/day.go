package demo

import (
	"math"
	"math/rand/v2"
	"time"
)

// busyness is the traffic at a time of day relative to the day's mean: quiet before dawn, a shoulder at noon, the
// peak in the evening, and a fifth less at weekends. Times are UTC; shift moves a shop to another longitude.
func busyness(at int64, shift time.Duration) float64 {
	local := time.Unix(0, at).UTC().Add(shift)
	hour := local.Sub(local.Truncate(24 * time.Hour)).Hours()
	wave := func(peak, period float64) float64 { return math.Cos(2 * math.Pi * (hour - peak) / period) }
	shape := 1 + 0.5*wave(17, 24) + 0.15*wave(20.5, 12) + 0.05*wave(12.5, 8)
	if day := local.Weekday(); day == time.Saturday || day == time.Sunday {
		shape *= 0.8
	}
	return shape
}

// lognormal draws a duration with the given median, at least a microsecond.
func lognormal(random *rand.Rand, median time.Duration, sigma float64) int64 {
	return max(int64(float64(median)*math.Exp(random.NormFloat64()*sigma)), int64(time.Microsecond))
}
