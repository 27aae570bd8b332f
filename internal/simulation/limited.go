package simulation

import (
	"fmt"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// Tenants that reach a limit where the shape has one. Theirs are the same as long as the World lives: which records a
// worker takes while limits change is its own affair.
const (
	flood = "flood" // of Shape.Rate
	crowd = "crowd" // of Shape.Series
)

// rateWindow is how long the windows are in which flood's events are counted.
const rateWindow = time.Second

// binding are the limits that a shape has.
func binding(shape Shape) map[tenants.ID]tenants.Limits {
	out := map[tenants.ID]tenants.Limits{}
	if shape.Rate > 0 {
		out[flood] = tenants.Limits{StreamEventsPerSecond: shape.Rate, Burst: rateWindow}
	}
	if shape.Series > 0 {
		out[crowd] = tenants.Limits{ActiveSeries: shape.Series}
	}
	return out
}

// unbound is an error when a tenant has a limit that a statement would set, or reach in a way that is not recounted.
func (w *World) unbound(tenant string) error {
	if tenant == flood && w.shape.Rate > 0 || tenant == crowd && w.shape.Series > 0 {
		return fmt.Errorf("tenant %s reaches its limit: want another", tenant)
	}
	return nil
}

// recountRate is the plain loop over the records of a tenant that is held to a rate: of each partition and each window
// of their timestamps those are taken that fit, and the first in any case.
type recountRate struct {
	most  int // events of a window
	taken map[rateSlot]int
	lost  uint64 // events
}

type rateSlot struct {
	place
	window int64
}

func (r *recountRate) takes(record *kgo.Record, n int) bool {
	slot := rateSlot{place{record.Topic, record.Partition}, record.Timestamp.UnixMilli() / rateWindow.Milliseconds()}
	if used := r.taken[slot]; used > 0 && used+n > r.most {
		r.lost += uint64(n)
		return false
	}
	r.taken[slot] += n
	return true
}

// within says whether the n events of a record that was published are within their tenant's rate.
func (w *World) within(record *kgo.Record, tenant string, n int) bool {
	if tenant != flood || w.shape.Rate == 0 || w.Recount.rate.takes(record, n) {
		return true
	}
	w.hits.add(hitRate, 1)
	return false
}

// applyLimits adds up what tenants are told that they lost.
func (s *Server) applyLimits(b *pipeline.LimitRows) {
	for i, n := range b.Dropped {
		s.lost[pipeline.TenantReason{Tenant: b.Tenant[i], Reason: events.Reason(b.Reason[i])}] += n
		if b.Tenant[i] == crowd && n > 0 {
			s.hits.add(hitSeries, 1)
		}
	}
}

// lostFor is how many events tenants are told to have lost for a reason.
func (s *Server) lostFor(tenant string, reason events.Reason) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost[pipeline.TenantReason{Tenant: tenant, Reason: reason}]
}

// difference describes how what a server stores differs from what it has to, "" when it does not.
func (w *World) difference(server *Server, stored, want Contents) string {
	var crowdHas, crowdSent Contents
	if w.shape.Series > 0 {
		crowdHas, crowdSent = cut(stored, crowd), cut(want, crowd)
	}
	if difference := Diff(stored, want); difference != "" {
		return difference
	}
	if told := server.lostFor(flood, pipeline.ReasonRateEvents); told != w.Recount.rate.lost {
		return fmt.Sprintf("tenant %s is told of %d events over its rate, want %d", flood, told, w.Recount.rate.lost)
	}
	return crowded(crowdHas, crowdSent, server.lostFor(crowd, pipeline.ReasonSeriesLimit))
}

// cut takes the rows of a tenant away.
func cut(from Contents, tenant string) Contents {
	out := Contents{}
	for key, cell := range from {
		if key.Tenant == tenant {
			out[key] = cell
		}
	}
	maps.DeleteFunc(from, func(key Key, _ *Cell) bool { return key.Tenant == tenant })
	return out
}

// crowded compares what is stored of a tenant that may not have as many series as it sends. Which of them a task takes
// depends on when it was made, as it remembers none of another's. But each event is stored once or told to be lost,
// none is in a row that it was not sent to, and the wider tiers hold what the finest does.
func crowded(stored, sent Contents, lost uint64) string {
	tiered := Contents{}
	for key, cell := range stored {
		if key.Table == windowTable {
			continue
		}
		if most := sent[key]; most == nil || cell.Count > most.Count {
			return fmt.Sprintf("%v: got %v, want at most %v", key, cell, describe(most))
		}
		for _, grain := range []string{"rollups_", "services_"} {
			for _, t := range tiers {
				if key.Table == grain+tiers[0].name {
					wider := key
					wider.Table, wider.Start = grain+t.name, key.Start/t.width*t.width
					tiered.at(wider).merge(cell)
				}
			}
		}
	}
	maps.DeleteFunc(stored, func(key Key, _ *Cell) bool { return key.Table == windowTable })
	if difference := Diff(stored, tiered); difference != "" {
		return "tiers of " + crowd + ": " + difference
	}
	if stored.total()+lost != sent.total() {
		return fmt.Sprintf("tenant %s sent %d events: %d are stored and %d are told to be lost to its limit of series",
			crowd, sent.total(), stored.total(), lost)
	}
	return ""
}
