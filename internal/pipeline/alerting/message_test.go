package alerting

import (
	"math"
	"testing"
	"time"
)

// Somebody reads it on a telephone at night.
func TestMeasuresInTexts(t *testing.T) {
	f := func(measure string, v float64, want string) {
		t.Helper()
		if got := forPeople(measure, v); got != want {
			t.Errorf("%s %v: got %q, want %q", measure, v, got, want)
		}
	}
	f("share", 1, "100 %")
	f("share", 0.0733333, "7.333 %")
	f("share", 0.08, "8 %")
	f("change.count", 1, "+100 %")
	f("change.sum", 29.123456, "+2912 %")
	f("change.sum", 290.123456, "+29012 %")
	f("change.p99", -0.5, "-50 %")
	f("change.p99", 0, "0 %")
	f("count", 212, "212")
	f("sum", 123456789.4, "123456789")
	f("sum", -123456, "-123456")
	f("sum", 1e15, "1e+15")
	f("p99", 0.497292, "0.4973")
	f("mean", 9999.99, "10000")
	f("mean", 999.96, "1000")
	f("rate", 0.00001234, "1.234e-05")
	f("max", math.Inf(1), "+Inf")
}

func TestSpokenDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{
		10 * time.Second: "10s", 90 * time.Second: "1m30s", 5 * time.Minute: "5m", 10 * time.Minute: "10m", time.Hour: "1h", 90 * time.Minute: "1h30m",
		24 * time.Hour: "24h",
	} {
		if got := spoken(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}
