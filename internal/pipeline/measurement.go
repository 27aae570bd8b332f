package pipeline

import "github.com/vigie-io/vigie/pkg/events"

// measurement is what one event gives a rollup or an alert. Its histogram is the event's.
type measurement struct {
	kind      events.Kind // Observation or Delta; Cumulative until it has been made a Delta
	value     float64
	histogram *events.Histogram // instead of value
	unit      string
}
