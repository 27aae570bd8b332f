package rollup

// SpanMetric is the distribution of span durations in seconds, from which rate, errors and latency follow.
const SpanMetric = "span_duration_seconds"

// LogMetric counts log records.
const LogMetric = "log_records_total"

// StatusClass is "4xx" for 404, and "" for what is no HTTP status.
func StatusClass(code int) string {
	classes := [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}
	if class := code/100 - 1; code > 0 && class >= 0 && class < len(classes) {
		return classes[class]
	}
	return ""
}
