// Package topology shows an operator what a stream process does: its workers and their epochs, tasks, watermarks of
// tenants, and the sink, as a page for people and as JSON for programs. It decides nothing and keeps nothing: Handler
// draws the Topology that it is given at each request.
package topology

import (
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/sink"
)

// Topology is a picture of one stream process, its parts at most about a second old.
type Topology struct {
	Instance string               `json:"instance"`
	Version  string               `json:"version"`
	At       time.Time            `json:"at"`
	NotReady string               `json:"not_ready,omitempty"` // what /-/ready says when it is not
	Workers  []*pipeline.Topology `json:"workers"`
	Sink     Sink                 `json:"sink"`
	Merged   Sink                 `json:"merged_sink"` // of what is merged of the results, for the wider tiers
}

// Sink is what moves results to ClickHouse.
type Sink struct {
	// State is "off" (stream.sink is false), "starting", "running", "waiting" (to start anew after Error) or "stopped".
	State        string              `json:"state"`
	Error        string              `json:"error,omitempty"`
	Since        time.Time           `json:"since"`               // when State began
	Deduplicated uint64              `json:"deduplicated_blocks"` // vigie_sink_deduplicated_blocks_total, all servers
	Lanes        []sink.LaneTopology `json:"lanes"`
}
