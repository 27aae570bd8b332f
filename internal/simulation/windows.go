package simulation

import (
	"cmp"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// windowTable is the name under which Contents hold closed windows, with what came late to them.
const windowTable = "windows"

// lateness is longer than any event of a schedule is late.
const lateness = 48 * time.Hour

// declared are the sets of windowed rollups that a World may have: Shape.Windows is how many of a set it has. The
// first set has one of each kind, the second gives all of them another size, and the third has none. Windows are
// short, so that all are closed soon after the last event.
var declared = [...][]declaredRollup{
	{
		{windowedRollup("tumbling_w", windowed.Window{Tumbling: 5 * time.Second, AllowedLateness: lateness}), aligned(5, 5), 0},
		{windowedRollup("sessions_w",
			windowed.Window{Session: &windowed.Session{Gap: 3 * time.Second}, AllowedLateness: lateness}), nil, 3},
		{windowedRollup("hopping_w", windowed.Window{
			Hopping: &windowed.Hopping{Size: 6 * time.Second, Every: 2 * time.Second}, AllowedLateness: lateness,
			Late: "merge"}), aligned(6, 2), 0},
		{windowedRollup("diverted_w", windowed.Window{Tumbling: 4 * time.Second, Late: "divert"}), aligned(4, 4), 0},
	},
	{
		{windowedRollup("tumbling_w", windowed.Window{Tumbling: 7 * time.Second, AllowedLateness: lateness}), aligned(7, 7), 0},
		{windowedRollup("sessions_w",
			windowed.Window{Session: &windowed.Session{Gap: 2 * time.Second}, AllowedLateness: lateness}), nil, 2},
		{windowedRollup("hopping_w", windowed.Window{
			Hopping: &windowed.Hopping{Size: 9 * time.Second, Every: 3 * time.Second}, AllowedLateness: lateness,
			Late: "merge"}), aligned(9, 3), 0},
		{windowedRollup("diverted_w", windowed.Window{Tumbling: 3 * time.Second, Late: "divert"}), aligned(3, 3), 0},
	},
	{},
}

type declaredRollup struct {
	rollup.Declared
	windows func(t int64) []span // that an event lies in; nil: sessions
	gap     uint32               // of sessions, seconds
}

// rollups are the first n of a set, or all there are.
func rollups(set, n int) []declaredRollup {
	all := declared[set-1]
	return all[:min(n, len(all))]
}

func windowedRollup(name string, w windowed.Window) rollup.Declared {
	return rollup.Declared{Name: name, From: events.Metrics, By: []string{"service"}, Window: &w}
}

// span is [Start, End) in Unix seconds.
type span struct{ start, end int64 }

// aligned are the windows of a size that begin every so many seconds.
func aligned(size, every int64) func(t int64) []span {
	return func(t int64) (list []span) {
		for start := t - t%every; start > t-size; start -= every {
			list = append(list, span{start, start + size})
		}
		return list
	}
}

// recountWindows counts events of a source partition window by window. What is late counts with the rest, wherever it
// is kept.
type recountWindows struct {
	count int // of a set of declared
	set   int // in force
	Contents
	sessions map[sessionsOf][]*events.Metric
}

// sessionsOf is whose sessions they are.
type sessionsOf struct {
	gap uint32 // seconds
	key Key    // without bounds
}

func (r *recountWindows) metric(m *events.Metric, part string) {
	if m.Kind != events.Observation && m.Kind != events.Delta {
		return // levels have no sum over series
	}
	for _, d := range rollups(r.set, r.count) {
		of := *m
		of.Name, of.Labels = d.Name, nil
		service := m.Labels.Get("service")
		if service != "" {
			of.Labels = series.Labels{{Name: "service", Value: service}}
		}
		key := Key{Table: windowTable, Tenant: m.Tenant, Metric: d.Name, Service: service, Series: identify(&of), Part: part}
		if d.windows == nil {
			r.sessions[sessionsOf{d.gap, key}] = append(r.sessions[sessionsOf{d.gap, key}], &of)
			continue
		}
		for _, s := range d.windows(m.Time / 1e9) {
			key.Start, key.End = uint32(s.start), uint32(s.end)
			r.at(key).add(&of)
		}
	}
}

// contents are those of the aligned windows, and of the sessions that the events make, whatever order they came in.
func (r *recountWindows) contents() Contents {
	out := Contents{}
	for key, cell := range r.Contents {
		out.at(key).merge(cell)
	}
	for of, list := range r.sessions {
		slices.SortStableFunc(list, func(a, b *events.Metric) int { return cmp.Compare(a.Time, b.Time) })
		key, cell := of.key, newCell()
		for i, m := range list {
			t := uint32(m.Time / 1e9)
			if i == 0 || t >= key.End {
				key.Start, cell = t, newCell()
			}
			key.End = t + of.gap
			cell.add(m)
			if i+1 == len(list) || uint32(list[i+1].Time/1e9) >= key.End {
				out.at(key).merge(cell)
			}
		}
	}
	return out
}

// windowKey is what ClickHouse replaces a row of windows by.
type windowKey struct {
	Key
	rule, delta uint64
}

type windowRow struct {
	version uint32
	kind    windowed.Kind
	cell    Cell
}

// applyWindows puts rows in the places of those with lesser versions. A part holds the windows that begin in one month.
func (s *Server) applyWindows(token string, b *windowed.Rows, limit int) error {
	cells, err := windowCells(b)
	if err != nil {
		return corrupted(err)
	}
	rows := map[string][]int{}
	for i, start := range b.Start {
		partition := time.Unix(start, 0).UTC().Format("200601")
		rows[partition] = append(rows[partition], i)
	}
	for _, partition := range sortedKeys(rows) {
		if limit == 0 {
			return nil
		}
		limit--
		if !s.put(&s.others, "windows"+partition, token) {
			continue
		}
		for _, i := range rows[partition] {
			key := windowKey{Key{
				Table: windowTable, Tenant: b.Tenant[i], Metric: b.Metric[i], Service: b.Service[i], Series: b.Series[i],
				Start: uint32(b.Start[i]), End: uint32(b.End[i]), Part: b.Part[i],
			}, b.Rule[i], b.Delta[i]}
			if old, known := s.windows[key]; !known || b.Version[i] >= old.version {
				s.windows[key] = windowRow{b.Version[i], b.Kind[i], cells[i]}
			}
		}
	}
	return nil
}

func windowCells(b *windowed.Rows) ([]Cell, error) {
	cells, states := make([]Cell, len(b.Tenant)), b.Sketch
	for i := range cells {
		cells[i] = Cell{Count: b.Count[i], Sum: b.Sum[i], Min: b.Min[i], Max: b.Max[i]}
		n, err := cells[i].Sketch.DecodeDD(states)
		if err != nil {
			return nil, err
		}
		states = states[n:]
	}
	return cells, nil
}

// closedWindows adds what readers see of windows to out, and beside it what came late: each event is in one of them.
func (s *Server) closedWindows(out Contents) {
	for key, row := range s.windows {
		if row.kind != windowed.Retracted {
			out.at(key.Key).merge(&row.cell)
		}
	}
}
