package simulation

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Hits count the faults that met something, by kind: one that is arranged and meets no request or insert proves
// nothing. The zero value is ready, nil counts nothing. Safe for concurrent use.
type Hits struct {
	mu sync.Mutex
	of map[string]int
}

func (h *Hits) add(kind string, n int) {
	if h == nil || n == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of == nil {
		h.of = map[string]int{}
	}
	h.of[kind] += n
}

// String lists the kinds with their counts, a line each.
func (h *Hits) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var b strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(h.of)) {
		fmt.Fprintf(&b, "%7d %s\n", h.of[kind], kind)
	}
	return b.String()
}

// Missing are the kinds that Generate draws from and that met nothing.
func (h *Hits) Missing() (kinds []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, kind := range drawn() {
		if h.of[kind] == 0 {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// drawn are all kinds of faults that Generate draws from.
func drawn() (kinds []string) {
	for key, codes := range requests {
		if len(codes) > 0 {
			kinds = append(kinds, errorKind(key))
		}
	}
	kinds = append(kinds, "broker move leaders", "broker fence", "broker trim", "broker compact",
		hitGroups, hitTransactions, hitCut, hitRules, hitShards, hitRate, hitSeries,
		hitUpdate, hitAll, hitRenew, hitMoved, hitTwo, hitFenced, hitWaits, "broker fence merger", stallKind(true), "sink away",
		mergerKind("before"), mergerKind("after"))
	for _, what := range []string{"cut", "lose", "delay", "hold", "silence", "silence at a moment"} {
		kinds = append(kinds, "network "+what)
	}
	for _, what := range []string{faultBefore, faultDuring, faultAfter, faultSlow, faultHang, faultRefuse, "readonly", "stall"} {
		kinds = append(kinds, "sink "+what)
	}
	for _, moment := range workerMoments {
		kinds = append(kinds, crashKind("worker", moment))
	}
	for _, moment := range sinkMoments {
		kinds = append(kinds, crashKind("sink", moment))
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

const (
	hitRules  = "windowed rollups changed"
	hitShards = "shards changed"
	hitRate   = "rate reached"
	hitSeries = "series limit reached"
	hitCut    = "broker cut"
	hitUpdate = "rows of an earlier version not stored at the update"
	hitAll    = "rows for all tiers beside those that are merged"
	hitRenew  = "results made anew"
	hitMoved  = "merger: partition came from another process"
	hitTwo    = "merger: two of a partition"
	hitFenced = "merger: fenced by another"
	hitWaits  = "merger: ClickHouse away while progress waits"
	// Coordinators of groups, and of transactions.
	hitGroups       = "broker move group coordinators"
	hitTransactions = "broker move transaction coordinators"
)

func crashKind(role, moment string) string {
	switch moment {
	case "":
		moment = "at any time"
	case "before", "after":
		moment += " a request"
	}
	return "crash " + role + " " + moment
}

// mergerKind is a crash before or after the end of a merger's transaction.
func mergerKind(when string) string { return "crash merger " + when + " its transaction is decided" }

func stallKind(coarse bool) string {
	if coarse {
		return "sink stall of what is merged"
	}
	return "sink stall"
}

func errorKind(key kmsg.Key) string { return "broker error " + key.Name() }

// Moments and requests at which Generate lets a process crash.
var (
	workerMoments = []string{"", "before", "after", "after", momentPolled, momentCommitting, momentCommitted}
	workerEnds    = []kmsg.Key{kmsg.Produce, kmsg.TxnOffsetCommit, kmsg.EndTxn}
	sinkMoments   = []string{"", "before", "after", momentInserting, momentInserted, momentMerging, momentMerged}
	sinkEnds      = []kmsg.Key{kmsg.OffsetCommit, kmsg.Fetch, kmsg.Produce, kmsg.EndTxn, kmsg.EndTxn, kmsg.InitProducerID}
)
