package pipeline

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vigie-io/vigie/pkg/events"
)

// Late events and rows of windows are counted by tenant, signal and what became of them.
func TestWindowMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	var tally, epoch Tally
	tally.missed("acme", "merge")
	tally.window("acme", "closed")
	tally.window("acme", "closed")
	epoch.add(&tally)
	NewMetrics(reg).count(events.Spans, &epoch)
	const want = `
# HELP vigie_pipeline_window_late_events_total Events that came after a window of a rollup had closed, by what became of them: recompute, merge, divert (the rollup's policy), or too_late (past allowed lateness: not in the window).
# TYPE vigie_pipeline_window_late_events_total counter
vigie_pipeline_window_late_events_total{policy="merge",signal="spans",tenant="acme"} 1
# HELP vigie_pipeline_windows_total Rows of closed windows: closed, corrected (written again whole), merged (late events, to be added), retracted (a session that has become part of another), diverted (late events beside their window).
# TYPE vigie_pipeline_windows_total counter
vigie_pipeline_windows_total{outcome="closed",signal="spans",tenant="acme"} 2
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "vigie_pipeline_window_late_events_total",
		"vigie_pipeline_windows_total"); err != nil {
		t.Error(err)
	}
}
