package topology

import (
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/sink"
)

// shown bounds the tenants in a table of the page; the JSON has those of each task.
const shown = 20

// view is what the template reads.
type view struct {
	*Topology
	Refresh int
	Style   template.CSS

	Trouble []trouble
	Tasks   []taskView
	Lagging []tenantView
	Largest []tenantView
	Limits  []limitView // of which a tenant has used a good part
	States  map[string]int
	Running int // workers
	Lag     int64
	Letters uint64
	SinkLag int64
	MaxLag  time.Duration // the longest lag of a watermark
}

type taskView struct {
	pipeline.TaskTopology
	Worker int
}

type tenantView struct {
	pipeline.TenantTopology
	Topic     string
	Partition int32
}

type limitView struct {
	pipeline.LimitTopology
	Topic     string
	Partition int32
}

// worthShowing is the part of a limit from which on its use is on the page.
const worthShowing = 0.1

func (l *limitView) ratio() float64 { return float64(l.Used) / float64(max(l.Most, 1)) }

// Percent is how much of the limit is used.
func (l limitView) Percent() string { return strconv.Itoa(int(100*l.ratio())) + " %" }

// Full says whether events may be lost.
func (l limitView) Full() bool { return l.Used >= l.Most }

// Amount writes a number of the limit's.
func (l limitView) Amount(n uint64) string {
	if strings.Contains(l.Limit, "bytes") {
		return formatBytes(int64(n))
	}
	return formatCount(n)
}

// stalledAfter is how long a worker that has tasks may be without a commit. An idle one commits every second; the longest
// epoch of a backlog is some 20 s.
const stalledAfter = 30 * time.Second

// trouble is something that does not heal by waiting a moment.
type trouble struct{ Where, What string }

func newView(t *Topology, refresh int) *view {
	v := &view{Topology: t, Refresh: refresh, Style: template.CSS(style), States: map[string]int{
		pipeline.TaskRunning: 0, pipeline.TaskRestoring: 0, pipeline.TaskStopped: 0,
	}}
	if t.NotReady != "" {
		v.Trouble = append(v.Trouble, trouble{"not ready", t.NotReady})
	}
	for _, w := range t.Workers {
		v.addWorker(w)
	}
	slices.SortFunc(v.Tasks, func(a, b taskView) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	slices.SortStableFunc(v.Lagging, func(a, b tenantView) int { return cmp.Compare(b.TenantTopology.Lag, a.TenantTopology.Lag) })
	slices.SortStableFunc(v.Largest, func(a, b tenantView) int { return cmp.Compare(b.Series, a.Series) })
	slices.SortStableFunc(v.Limits, func(a, b limitView) int { return cmp.Compare(b.ratio(), a.ratio()) })
	v.Limits = v.Limits[:min(shown, len(v.Limits))]
	if len(v.Lagging) > 0 {
		v.MaxLag = v.Lagging[0].TenantTopology.Lag
	}
	v.Lagging, v.Largest = v.Lagging[:min(shown, len(v.Lagging))], v.Largest[:min(shown, len(v.Largest))]
	v.addSink("sink, results partition ", &t.Sink)
	v.addSink("sink, merged partition ", &t.Merged)
	return v
}

func (v *view) addWorker(w *pipeline.Topology) {
	if w.State == "running" {
		v.Running++
	}
	if w.Error != "" {
		v.Trouble = append(v.Trouble, trouble{"worker " + strconv.Itoa(w.Slot), w.Error})
	}
	if since := later(w.Committed, w.Since); v.stalled(w, since) {
		v.Trouble = append(v.Trouble, trouble{"worker " + strconv.Itoa(w.Slot),
			"no commit for " + formatDuration(v.At.Sub(since)) + ": Kafka does not answer, or the epoch takes long"})
	}
	for _, task := range w.Tasks {
		v.Tasks = append(v.Tasks, taskView{task, w.Slot})
		v.States[task.State]++
		v.Lag += task.Lag
		v.Letters += task.Letters
		if task.Error != "" {
			v.Trouble = append(v.Trouble, trouble{fmt.Sprintf("task %s/%d", task.Topic, task.Partition), task.Error})
		}
		for _, tenant := range task.Lagging {
			v.Lagging = append(v.Lagging, tenantView{tenant, task.Topic, task.Partition})
		}
		for _, limit := range task.Limits {
			if of := (limitView{limit, task.Topic, task.Partition}); of.ratio() >= worthShowing {
				v.Limits = append(v.Limits, of)
			}
		}
		for _, tenant := range task.Top {
			v.Largest = append(v.Largest, tenantView{tenant, task.Topic, task.Partition})
		}
	}
}

// stalled says whether a worker that last committed, or began, at since should have committed again.
func (v *view) stalled(w *pipeline.Topology, since time.Time) bool {
	return w.State == "running" && len(w.Tasks) > 0 && v.At.Sub(since) > max(stalledAfter, 2*w.EpochTarget)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// addSink adds what is wrong with a sink; lanes begins the names of its lanes.
func (v *view) addSink(lanes string, s *Sink) {
	if s.Error != "" {
		v.Trouble = append(v.Trouble, trouble{"sink", s.Error})
	}
	for i := range s.Lanes {
		lane := &s.Lanes[i]
		where := lanes + strconv.Itoa(int(lane.Partition))
		v.SinkLag += lane.Lag
		if lane.Error != "" {
			v.Trouble = append(v.Trouble, trouble{where, lane.Error})
		}
		if lane.Parked > 0 {
			v.Trouble = append(v.Trouble, trouble{where, parkedText(lane)})
		}
	}
}

// laneView is a lane on the page.
type laneView struct {
	sink.LaneTopology
	Of   string
	Last string // when it last inserted
}

// Lane is a lane of what is in a topic.
func (v *view) Lane(of string, lane sink.LaneTopology) laneView {
	return laneView{lane, of, v.Ago(lane.LastInsert)}
}

func parkedText(lane *sink.LaneTopology) string {
	return fmt.Sprintf("%d blocks parked: their rows are missing in ClickHouse", lane.Parked)
}

// Ago is how long before the picture t was.
func (v *view) Ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	if d := v.At.Sub(t); d > 0 {
		return formatDuration(d) + " ago"
	}
	return "now"
}

// SinkFor is how long the sink has been in its state.
func (v *view) SinkFor() string { return formatDuration(max(v.At.Sub(v.Sink.Since), 0)) }

// tenantTable is a table of tenants with what it says above.
type tenantTable struct {
	Rows    []tenantView
	Caption string
}

// TenantTable puts a table together for the template.
func (v *view) TenantTable(rows []tenantView, caption string) tenantTable {
	return tenantTable{rows, caption}
}

// AgoMillis is Ago for Unix milliseconds; 0 is unknown.
func (v *view) AgoMillis(ms int64) string {
	if ms == 0 {
		return "unknown"
	}
	return v.Ago(time.UnixMilli(ms))
}
