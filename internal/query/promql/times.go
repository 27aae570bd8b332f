package promql

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
)

// maxTime is how many seconds from 1970 a time may be away, either way: beyond it its milliseconds do not fit into an
// int64, and upstream wraps around.
const maxTime = math.MaxInt64 / 1000

// checkTimes refuses times of a form that upstream would take for others. What is no number is upstream's to judge.
func checkTimes(r *http.Request) error {
	for _, name := range []string{"time", "start", "end"} {
		text := r.FormValue(name)
		t, err := strconv.ParseFloat(text, 64)
		if err != nil && !math.IsInf(t, 0) {
			continue
		}
		if !(math.Abs(t) < maxTime) { // nor is NaN
			return fmt.Errorf("%s=%s: want seconds since 1970, such as 1764155863.5, or RFC 3339",
				name, text[:min(len(text), 40)])
		}
	}
	return nil
}
