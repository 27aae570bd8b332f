package simulation

import (
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// sinkFault is something ClickHouse does.
type sinkFault struct {
	what    string // a kind of insertFault, readonly, away or stall
	table   string
	parts   int
	times   int
	by      time.Duration
	process string // whose results stall; "": what is merged does
	shard   int    // of what is merged; all are anyShard
}

func parseSinkFault(s *statement) Step {
	f := sinkFault{what: s.oneOf("what", faultBefore, faultDuring, faultAfter, faultSlow, faultHang, faultRefuse, "readonly",
		"away", "stall"), parts: 1, times: 1}
	if f.what == "stall" && !s.next("coarse") {
		if f.process = s.process(); s.err == nil && f.process[0] != 'w' {
			s.fail("%s has no results: want a worker", f.process)
		}
	}
	if f.timed() {
		f.by = s.duration("how long")
	}
	if f.coarse() {
		f.shard = s.numberField("shard", anyShard, 0, 63)
	}
	if f.lasts() {
		return f
	}
	f.times = s.numberField("times", 1, 1, 1000)
	if f.what == faultDuring {
		f.parts = s.numberField("parts", 1, 0, 16)
	}
	if table, ok := s.field("table"); ok {
		f.table = table
		if !slices.Contains(faultTables, table) {
			s.fail("table %q: want one of %s", table, strings.Join(faultTables, ", "))
		}
	}
	return f
}

// faultTables are those whose inserts can fail alone.
var faultTables = []string{pipeline.TableRollups, pipeline.TablePanes, pipeline.TableSeries, pipeline.TableProgress,
	coarse.TableMinutes, coarse.TableProgress, coarse.TableMerged}

const anyShard = -1

// timed says whether the fault has a duration.
func (f sinkFault) timed() bool { return f.what == faultSlow || f.what == faultHang || f.lasts() }

// lasts says whether the fault is of all inserts for as long.
func (f sinkFault) lasts() bool { return f.what == "readonly" || f.what == "away" || f.what == "stall" }

// coarse says whether nothing of what is merged is stored.
func (f sinkFault) coarse() bool { return f.what == "stall" && f.process == "" }

func (f sinkFault) String() string {
	text := "fault sink " + f.what
	switch {
	case f.process != "":
		text += " " + f.process
	case f.coarse():
		text += " coarse"
	}
	if f.timed() {
		text += " " + f.by.String()
	}
	var list fields
	list = add(list, "times", f.times, 1)
	list = add(list, "parts", f.parts, 1)
	list = add(list, "table", f.table, "")
	if f.coarse() {
		list = add(list, "shard", f.shard, anyShard)
	}
	return text + list.String()
}

func (f sinkFault) run(w *World) error {
	if f.lasts() {
		f.begin(w, time.Now().Add(f.by))
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

// begin has a fault last until a time.
func (f sinkFault) begin(w *World, until time.Time) {
	switch {
	case f.what == "readonly":
		w.Server.setReadOnly(until)
	case f.what == "away":
		w.Server.setAway(until)
	case f.coarse():
		partitions := int32(w.cfg.Topics.Results.Partitions)
		for partition := range partitions {
			if f.shard == anyShard || partition == int32(f.shard)%partitions {
				w.Server.stall(stalled{true, partition}, until)
			}
		}
	default:
		if partition, known := w.lanes.get(f.process); known {
			w.Server.stall(stalled{false, partition}, until)
		}
	}
}
