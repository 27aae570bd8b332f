package ruler

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"

	"github.com/vigie-io/vigie/internal/alertapi"
	"github.com/vigie-io/vigie/internal/tenants"
)

const (
	// tick is how often the watermarks are looked at.
	tick = time.Second
	// overlayKept is how far back what was recorded is laid over the database: as long as a sample of a gauge is valid,
	// and as it takes to come back.
	overlayKept = 10 * time.Minute
	// clocksApart is by how much the clocks of this host and of the stream's may differ.
	clocksApart = 2 * time.Second
	// forgetAfter is how long the state of a group that is in no file any more is kept.
	forgetAfter = 24 * time.Hour
)

// Source answers queries; *promql.Service does. The context of a query has the tenant.
type Source interface {
	QueryEngine() promql.QueryEngine
	Queryable() storage.SampleAndChunkQueryable
	// Complete is, for each of the tenants, the time up to which all of its windows are complete; nil beside an error.
	// Queries find all that was committed to Kafka before stored.
	Complete(ctx context.Context, of []tenants.ID) (complete map[tenants.ID]time.Time, stored time.Time, err error)
}

// Shard is one part of the tenants: those whose names fall on its partition. Whoever has it is alone with it.
type Shard interface {
	Partition() (number, of int32)
	// Restore returns the last committed states, by key.
	Restore(ctx context.Context) (map[string][]byte, error)
	// Commit appends events of tenants and states, all or nothing. A nil state is forgotten. After an error the shard
	// has to be given up: nobody knows whether it was committed.
	Commit(ctx context.Context, events map[tenants.ID][][]byte, states map[string][]byte) error
}

// Options are a Ruler's surroundings.
type Options struct {
	// Source answers the rules' queries. Required.
	Source Source
	// Send takes alerts of a tenant: those that fire and those that ended, again and again. It must not block. Nil
	// drops them.
	Send func(tenants.ID, []alertapi.Alert)
	// Registerer takes the metrics; nil leaves them out.
	Registerer prometheus.Registerer
	// Log is slog.Default when nil.
	Log *slog.Logger
	// Now is the clock of resending; nil is time.Now. Evaluations follow the watermark alone.
	Now func() time.Time
}

// Ruler evaluates rule groups. Safe for concurrent use.
type Ruler struct {
	source   Source
	send     func(tenants.ID, []alertapi.Alert)
	metrics  *metrics
	upstream *rules.Metrics
	log      *slog.Logger
	now      func() time.Time
	files    atomic.Pointer[Files]
	mirror   *mirror

	mu     sync.Mutex
	shards map[*shardRun]time.Duration // how far each is behind
}

// New makes a Ruler of loaded files.
func New(files *Files, o Options) *Ruler {
	r := &Ruler{
		source: o.Source, send: o.Send, metrics: newMetrics(o.Registerer), upstream: rules.NewGroupMetrics(nil), log: o.Log, now: o.Now,
		mirror: newMirror(), shards: map[*shardRun]time.Duration{},
	}
	if r.log == nil {
		r.log = slog.Default()
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.send == nil {
		r.send = func(tenants.ID, []alertapi.Alert) {}
	}
	r.Replace(files)
	return r
}

// Replace puts other files in force, within a second. Groups and alerts that stay keep their state.
func (r *Ruler) Replace(files *Files) {
	r.files.Store(files)
	r.metrics.configured.Set(float64(len(files.groups)))
}

// RuleGroups lists all groups of a tenant: those of this process as they are, those of others as Observe has heard of
// them.
func (r *Ruler) RuleGroups(tenant tenants.ID) (list []*rules.Group) {
	files, live := r.files.Load(), r.live(tenant)
	for _, file := range files.groups {
		if file.tenant != tenant {
			continue
		}
		if g := live[file.key()]; g != nil {
			list = append(list, g.rules)
		} else if g := r.mirror.group(r, file, files); g != nil {
			list = append(list, g)
		}
	}
	slices.SortFunc(list, func(a, b *rules.Group) int {
		return strings.Compare(rules.GroupKey(a.File(), a.Name()), rules.GroupKey(b.File(), b.Name()))
	})
	return list
}

// live are the groups of a tenant that this process evaluates, by key.
func (r *Ruler) live(tenant tenants.ID) map[string]*group {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]*group{}
	for s := range r.shards {
		for _, g := range s.shown {
			if g.file.tenant == tenant {
				out[g.file.key()] = g
			}
		}
	}
	return out
}

// behind notes how far a shard is behind, and shows the most of all.
func (r *Ruler) behind(s *shardRun, by time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shards[s] = by
	r.showLag()
}

// showLag is called under the lock.
func (r *Ruler) showLag() {
	most := time.Duration(0)
	for _, by := range r.shards {
		most = max(most, by)
	}
	r.metrics.lag.Set(most.Seconds())
}

// Observe takes a committed state of a group, whoever evaluates it, nil when it is forgotten. It does not keep the
// bytes.
func (r *Ruler) Observe(key string, state []byte) { r.mirror.observe(key, state) }
