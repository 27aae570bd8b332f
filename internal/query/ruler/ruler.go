package ruler

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
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

	"github.com/vigie-io/vigie/internal/tenants"
)

const (
	// tick is how often the watermarks are looked at.
	tick = time.Second
	// overlayKept is how far back what was recorded is laid over the database: as long as a sample of a gauge is valid, and as
	// it takes to come back.
	overlayKept = 10 * time.Minute
	// forgetAfter is how long the state of a group that is in no file any more is kept.
	forgetAfter = 24 * time.Hour
)

// Source answers queries; *promql.Service does. The context has the tenant.
type Source interface {
	QueryEngine() promql.QueryEngine
	Queryable() storage.SampleAndChunkQueryable
	// Complete is the time up to which all windows of the tenant are complete.
	Complete(ctx context.Context) (time.Time, error)
}

// Shard is one part of the tenants: those whose names fall on its partition. Whoever has it is alone with it.
type Shard interface {
	Partition() (number, of int32)
	// Restore returns the last committed states, by key.
	Restore(ctx context.Context) (map[string][]byte, error)
	// Commit appends events of tenants and states, all or nothing. A nil state is forgotten. After an error the shard has to be
	// given up: nobody knows whether it was committed.
	Commit(ctx context.Context, events map[tenants.ID][][]byte, states map[string][]byte) error
}

// Alert is an alert as the Alertmanager takes it.
type Alert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"` // in the past: it has ended
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

// Options are a Ruler's surroundings.
type Options struct {
	// Source answers the rules' queries. Required.
	Source Source
	// Send takes alerts of a tenant: those that fire and those that ended, again and again. It must not block. Nil drops them.
	Send func(tenants.ID, []Alert)
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
	send     func(tenants.ID, []Alert)
	metrics  *metrics
	upstream *rules.Metrics
	log      *slog.Logger
	now      func() time.Time
	files    atomic.Pointer[Files]

	mu     sync.Mutex
	shards map[*shardRun]bool
}

// New makes a Ruler of loaded files.
func New(files *Files, o Options) *Ruler {
	r := &Ruler{
		source: o.Source, send: o.Send, metrics: newMetrics(o.Registerer), upstream: rules.NewGroupMetrics(nil), log: o.Log, now: o.Now,
		shards: map[*shardRun]bool{},
	}
	if r.log == nil {
		r.log = slog.Default()
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.send == nil {
		r.send = func(tenants.ID, []Alert) {}
	}
	r.files.Store(files)
	return r
}

// Replace puts other files in force, within a second. Groups and alerts that stay keep their state.
func (r *Ruler) Replace(files *Files) { r.files.Store(files) }

// RuleGroups lists the groups of a tenant that this process evaluates.
func (r *Ruler) RuleGroups(tenant tenants.ID) (list []*rules.Group) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.shards {
		for _, g := range s.shown {
			if g.file.tenant == tenant {
				list = append(list, g.rules)
			}
		}
	}
	slices.SortFunc(list, func(a, b *rules.Group) int {
		return strings.Compare(rules.GroupKey(a.File(), a.Name()), rules.GroupKey(b.File(), b.Name()))
	})
	return list
}

// RunShard evaluates the groups of a shard until ctx ends or something is wrong with the shard, which then has to be opened
// anew: what was not committed is evaluated again.
func (r *Ruler) RunShard(ctx context.Context, shard Shard) error {
	s, err := r.open(ctx, shard)
	if err != nil {
		return err
	}
	defer s.close()
	wait := time.NewTicker(tick)
	defer wait.Stop()
	for {
		more, err := s.step(ctx)
		if err != nil {
			return err
		}
		if more {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wait.C:
		}
	}
}

func (r *Ruler) open(ctx context.Context, shard Shard) (*shardRun, error) {
	states, err := shard.Restore(ctx)
	if err != nil {
		return nil, err
	}
	s := &shardRun{ruler: r, shard: shard, states: states, overlays: map[tenants.ID]*overlay{}, told: map[string]time.Time{}}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shards[s] = true
	return s, nil
}

func (s *shardRun) close() {
	r := s.ruler
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.shards, s)
	r.metrics.groups.Sub(float64(len(s.shown)))
}

// shardRun is a shard that is being evaluated.
type shardRun struct {
	ruler    *Ruler
	shard    Shard
	files    *Files            // those that groups are of
	states   map[string][]byte // of groups that are not running
	groups   []*group
	overlays map[tenants.ID]*overlay
	told     map[string]time.Time // by key, when a failure was last logged

	shown []*group // groups, for readers; under the Ruler's lock
}

// follow takes other files over.
func (s *shardRun) follow(ctx context.Context) error {
	files := s.ruler.files.Load()
	if files == s.files {
		return nil
	}
	running := map[string]*group{}
	for _, g := range s.groups {
		running[g.file.key()] = g
	}
	var next []*group
	for _, file := range files.groups {
		if !s.mine(file.tenant) {
			continue
		}
		if s.overlays[file.tenant] == nil {
			s.overlays[file.tenant] = newOverlay(overlayKept.Milliseconds())
		}
		g, err := newGroup(ctx, s.ruler, file, files, s.overlays[file.tenant])
		if err != nil {
			return fmt.Errorf("rule group %s of %s in %s: %w", file.group.Name, file.tenant, file.path, err)
		}
		was, state := running[file.key()], s.states[file.key()]
		if was != nil {
			state = was.state(was.evaluated)
			delete(running, file.key())
		}
		if state != nil {
			if err := g.restore(state); err != nil {
				return fmt.Errorf("rule group %s of %s: %w", file.group.Name, file.tenant, err)
			}
		}
		if was != nil {
			g.rules.CopyState(was.rules) // which series there were
		}
		delete(s.states, file.key())
		next = append(next, g)
	}
	for key, g := range running {
		s.states[key] = g.state(g.evaluated)
	}
	s.ruler.metrics.groups.Add(float64(len(next) - len(s.groups)))
	s.groups, s.files = next, files
	s.ruler.mu.Lock()
	s.shown = next
	s.ruler.mu.Unlock()
	return nil
}

// mine says whether the tenant is of this shard. All groups of a tenant are, so that those that build on others find what they
// recorded a moment ago.
func (s *shardRun) mine(tenant tenants.ID) bool {
	number, of := s.shard.Partition()
	h := fnv.New32a()
	h.Write([]byte(tenant))
	return int32(h.Sum32()%uint32(of)) == number
}

// step takes new files over, evaluates what is due, commits, and tells of alerts. more says that there may be more to do at once.
func (s *shardRun) step(ctx context.Context) (more bool, err error) {
	if err := s.follow(ctx); err != nil {
		return false, err
	}
	records, states := map[tenants.ID][][]byte{}, s.forgotten()
	var done []*group
	samples := 0
	for _, g := range s.due(ctx, states) {
		if err := g.evaluate(g.at); err != nil {
			s.failed(ctx, g, err)
			continue
		}
		records[g.file.tenant] = append(records[g.file.tenant], g.out.take()...)
		states[g.file.key()] = g.state(g.at)
		samples += g.out.samples
		done = append(done, g)
	}
	if len(states) > 0 {
		if err := s.shard.Commit(ctx, records, states); err != nil {
			s.ruler.metrics.failures.WithLabelValues(failedCommit).Inc()
			return false, err
		}
	}
	for _, g := range done {
		g.evaluated = g.at
		s.ruler.metrics.missed.Add(float64(g.missed))
		s.ruler.metrics.evaluations.Inc()
	}
	s.ruler.metrics.samples.Add(float64(samples))
	for _, g := range s.groups {
		g.tell(s.ruler.now(), s.files.cfg.ResendDelay)
	}
	return len(done) > 0, ctx.Err()
}

// due lists the groups to evaluate now: of each tenant those whose time is the earliest. When there is something to catch up with,
// a group is not ahead of others that it builds on.
func (s *shardRun) due(ctx context.Context, states map[string][]byte) (list []*group) {
	earliest := map[tenants.ID]int64{}
	oldest := s.ruler.now()
	for _, g := range s.groups {
		g.at = 0
		complete, err := s.ruler.source.Complete(g.ctx)
		if err != nil {
			s.failed(ctx, g, err)
			continue
		}
		if g.evaluated == 0 { // it is new: from here on nothing is to be missed
			g.evaluated = complete.UnixMilli()
			states[g.file.key()] = g.state(g.evaluated)
		}
		if was := moment(g.evaluated); was.Before(oldest) {
			oldest = was
		}
		if g.at, g.missed = g.next(complete.UnixMilli(), s.files.cfg.Backfill.Milliseconds()); g.at == 0 {
			continue
		}
		if first, others := earliest[g.file.tenant]; !others || g.at < first {
			earliest[g.file.tenant] = g.at
		}
	}
	if len(s.groups) > 0 {
		s.ruler.metrics.lag.Set(s.ruler.now().Sub(oldest).Seconds())
	}
	for _, g := range s.groups {
		if g.at != 0 && g.at == earliest[g.file.tenant] {
			list = append(list, g)
		}
	}
	return list
}

// forgotten are the states to drop: of groups that have long been in no file.
func (s *shardRun) forgotten() map[string][]byte {
	out := map[string][]byte{}
	for key, bytes := range s.states {
		state, err := parseState(bytes)
		if err == nil && s.ruler.now().Sub(moment(state.Evaluated)) > forgetAfter {
			out[key] = nil
			delete(s.states, key)
		}
	}
	return out
}

// failed counts an evaluation that is tried again, and says so now and then.
func (s *shardRun) failed(ctx context.Context, g *group, err error) {
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return
	}
	s.ruler.metrics.failures.WithLabelValues(failedDatabase).Inc()
	if now := s.ruler.now(); now.Sub(s.told[g.file.key()]) > time.Minute {
		s.told[g.file.key()] = now
		s.ruler.log.Warn("rules wait: an evaluation is tried again until it can be made", "tenant", g.file.tenant, "group", g.file.group.Name, "err", err)
	}
}
