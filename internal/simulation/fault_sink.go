package simulation

import (
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// sinkFault is something ClickHouse does.
type sinkFault struct {
	what    string // a kind of insertFault, or readonly
	table   string
	parts   int
	times   int
	by      time.Duration
	process string // whose results stall
}

func parseSinkFault(s *statement) Step {
	f := sinkFault{what: s.oneOf("what", faultBefore, faultDuring, faultAfter, faultSlow, faultHang, faultRefuse, "readonly",
		"stall"), parts: 1, times: 1}
	if f.what == "stall" {
		if f.process = s.process(); s.err == nil && f.process[0] != 'w' {
			s.fail("%s has no results: want a worker", f.process)
		}
	}
	if f.timed() {
		f.by = s.duration("how long")
	}
	if f.what == "readonly" || f.what == "stall" {
		return f
	}
	f.times = s.numberField("times", 1, 1, 1000)
	if f.what == faultDuring {
		f.parts = s.numberField("parts", 1, 0, 16)
	}
	if table, ok := s.field("table"); ok {
		f.table = table
		if table != pipeline.TableRollups && table != pipeline.TableSeries && table != pipeline.TableProgress {
			s.fail("table %q: want %s, %s or %s", table, pipeline.TableRollups, pipeline.TableSeries, pipeline.TableProgress)
		}
	}
	return f
}

// timed says whether the fault has a duration.
func (f sinkFault) timed() bool {
	return f.what == faultSlow || f.what == faultHang || f.what == "readonly" || f.what == "stall"
}

func (f sinkFault) String() string {
	text := "fault sink " + f.what
	if f.process != "" {
		text += " " + f.process
	}
	if f.timed() {
		text += " " + f.by.String()
	}
	var list fields
	list = add(list, "times", f.times, 1)
	list = add(list, "parts", f.parts, 1)
	list = add(list, "table", f.table, "")
	return text + list.String()
}

func (f sinkFault) run(w *World) error {
	if f.what == "readonly" {
		w.Server.setReadOnly(time.Now().Add(f.by))
		return nil
	}
	if f.what == "stall" {
		if partition, known := w.lanes.get(f.process); known {
			w.Server.stall(partition, time.Now().Add(f.by))
		}
		return nil
	}
	fault := insertFault{kind: f.what, table: f.table, left: f.times, parts: f.parts}
	switch f.what {
	case faultSlow:
		fault.delay = f.by
	case faultHang:
		fault.silence = f.by
	}
	w.Server.addFault(fault)
	return nil
}
