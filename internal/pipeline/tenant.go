package pipeline

import (
	"cmp"
	"math/rand/v2"

	"github.com/vigie-io/vigie/internal/pipeline/alerting"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// tenant is what a task keeps of one tenant. Its name and all strings below are copies, never a Batch's.
type tenant struct {
	name        string
	limit       int   // active series
	limitBytes  int64 // of what they are called
	openWindows int   // its limit of them
	windowBytes int64
	decoder     *events.Decoder
	table       series.Table[entry]
	bytes       int64 // of what the series in table are called
	// repeats knows events of series in table by their bytes; its numbers are the table's.
	repeats *events.Repeats
	// filter has the series in table, once events of others are dropped often; decoded are those that were decoded for it,
	// since the filter was made.
	filter  *events.Filter
	decoded int
	groups  map[groupKey]*group
	classes series.Table[class]
	alerts  *alerting.Tenant // nil until alerts take an event of it
	dirty   []*group         // with changes since the last drain
	marked  bool             // in Task.dirty
	limited int64            // processing time at which its use of limits was last reported, Unix ms; 0: report it now
	seen    int64            // processing time of the last event, Unix ms
	late    uint64           // events older than the watermark, since the last drain
	beyond  beyond           // events beyond its limits of series, since the last drain

	// Event times in Unix ns: the newest taken, the newest of committed epochs, the newest in published progress.
	newest, committed, published int64
}

// bound puts limits in force. Events that were known under other limits of labels are not known any more: what is known
// is not looked at.
func (tn *tenant) bound(limits *tenants.Config, decoders *decoders) {
	of := limits.For(tenants.ID(tn.name))
	if tn.repeats != nil && (of.ActiveSeries > tn.limit || int64(of.SeriesBytes) > tn.limitBytes) {
		tn.repeats.ForgetBeyond()
	}
	tn.limit, tn.limitBytes = of.ActiveSeries, int64(of.SeriesBytes)
	tn.openWindows, tn.windowBytes = of.OpenWindows, int64(of.WindowBytes)
	if decoder := decoders.with(&of); decoder != tn.decoder {
		tn.decoder = decoder
		tn.repeats = events.NewRepeats(rand.Uint64(), 2*min(tn.limit, maxKnown))
	}
}

// full says whether the tenant has as many series as it may have.
func (tn *tenant) full() bool { return tn.table.Len() >= tn.limit }

// groupKey names the series that merge into one service row.
type groupKey struct {
	metric, service string
	kind            events.Kind
}

type group struct {
	groupKey
	size  int       // series
	dirty []uint32  // series with changes since the last drain
	few   [4]uint32 // where dirty begins: most groups have no more
}

// distribution says whether series of the kind merge across series.
func (k *groupKey) distribution() bool {
	return k.kind == events.Observation || k.kind == events.Delta
}

func (k *groupKey) compare(other *groupKey) int {
	return cmp.Or(cmp.Compare(k.metric, other.metric), cmp.Compare(k.service, other.service), cmp.Compare(k.kind, other.kind))
}

// entry is one active series: two cache lines without pointers. Its name and labels are its key in the tenant's table,
// what it shares with others is its class. Nearly all events of an epoch fall into one pane; the one that was used last
// is in place, others are with the task until the next drain.
type entry struct {
	touched int64  // processing time of the last event, Unix ms
	seen    uint32 // newest event time, Unix s
	class   uint32 // number in the tenant's classes, plus one; 0: there is no such series any more
	cell    cell   // unused while the series has no changes
	high    uint64 // of its id, the lower half of which is its note in the table

	announced       uint32 // processing time of the last committed announcement, Unix s; 0 = never
	native          bool   // has brought a histogram as a sample
	announcedNative bool   // the value of native that was announced
}

// class is what many series have in common. What tells it from others is its key in the tenant's table of classes.
type class struct {
	group *group
	about about
	size  int // series
}

// about describes series.
type about struct{ unit, help string }

// appendClassKey appends what tells the classes of a tenant apart.
func appendClassKey(dst []byte, s *identity) []byte {
	return series.AppendKey(dst, byte(s.kind), s.metric, series.Labels{
		{Name: "help", Value: s.help}, {Name: "service", Value: s.labels.Get("service")}, {Name: "unit", Value: s.unit},
	})
}

// beyond are events that were dropped because their tenant has its full number of series, or these have their full
// size.
type beyond struct{ number, bytes uint64 }

// namesBytes is what a new series adds to its tenant's bytes.
func namesBytes(key []byte, a about) int64 { return int64(len(key) + len(a.unit) + len(a.help)) }

// class is that of a series.
func (tn *tenant) class(e *entry) *class { return tn.classes.At(e.class - 1) }

// id is that of the series.
func (tn *tenant) id(ref uint32) series.ID {
	return series.ID{Hi: tn.table.At(ref).high, Lo: tn.table.Note(ref)}
}
