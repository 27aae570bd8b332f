package aggregate

import "github.com/vigie-io/vigie/pkg/events"

// Measurement is what one event gives a rollup or an alert. Its histogram is the event's.
type Measurement struct {
	Kind      events.Kind // Observation or Delta; Cumulative until it has been made a Delta
	Value     float64
	Histogram *events.Histogram // instead of Value
	Unit      string
}
