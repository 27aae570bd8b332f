package pipeline

import "github.com/vigie-io/vigie/internal/pipeline/aggregate"

// paneSeconds is the width of a pane. It is part of the storage format.
const paneSeconds = 10

// paneOf returns the start of the pane that a second falls into, both Unix seconds.
func paneOf(second uint32) uint32 { return second - second%paneSeconds }

// pane accumulates what several series got in ten seconds of event time.
type pane struct {
	start uint32
	aggregate.Distribution
}

// begin empties the pane for a new start; the sketch keeps its memory.
func (p *pane) begin(start uint32) {
	p.start = start
	p.Reset()
}
