package ruler

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
)

// RunShard evaluates the groups of a shard until ctx ends or something is wrong with the shard, which then has to be
// opened anew: what was not committed is evaluated again. Tenants do not wait for each other; the groups of one do.
func (r *Ruler) RunShard(ctx context.Context, shard Shard) error {
	s, err := r.open(ctx, shard)
	if err != nil {
		return err
	}
	defer s.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // before close, which waits for what is being evaluated
	wait := time.NewTicker(tick)
	defer wait.Stop()
	for s.wake(); ; {
		if err := s.begin(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wait.C:
			s.wake()
		case done := <-s.done:
			if err := s.finish(ctx, append([]*outcome{done}, s.others()...)); err != nil {
				return err
			}
		}
	}
}

func (r *Ruler) open(ctx context.Context, shard Shard) (*shardRun, error) {
	opened := r.now()
	states, err := shard.Restore(ctx)
	if err != nil {
		return nil, err
	}
	if states == nil { // there are none
		states = map[string][]byte{}
	}
	concurrency := r.files.Load().cfg.Concurrency
	s := &shardRun{
		ruler: r, shard: shard, opened: opened, states: states, tenants: map[tenants.ID]*tenantRun{}, logged: map[string]time.Time{},
		concurrency: concurrency, done: make(chan *outcome, concurrency),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shards[s] = 0
	return s, nil
}

func (s *shardRun) close() {
	s.evaluating.Wait()
	r := s.ruler
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.shards, s)
	r.showLag()
	r.metrics.groups.Sub(float64(len(s.shown)))
}

// shardRun is a shard that is being evaluated. One goroutine uses it; those that evaluate have a tenant each, and give
// it back with its outcome.
type shardRun struct {
	ruler       *Ruler
	shard       Shard
	opened      time.Time         // nobody else has committed since
	states      map[string][]byte // of groups that are not running
	tenants     map[tenants.ID]*tenantRun
	order       []*tenantRun             // whose turn comes next is in front
	logged      map[string]time.Time     // by key, when a failure was last logged
	concurrency int                      // most tenants at the same time
	running     int                      // tenants now
	looked      bool                     // at the watermarks, since wake
	complete    map[tenants.ID]time.Time // watermarks at the last look; nil when it failed
	stored      time.Time                // what was committed before it can be read; zero when the look failed
	done        chan *outcome            // has room for all of them
	evaluating  sync.WaitGroup

	shown []*group // groups, for readers; under the Ruler's lock
}

// outcome is an evaluation of some groups of a tenant.
type outcome struct {
	of     *tenantRun
	groups []*group
	errs   []error // by group, nil for those that were evaluated
}

// wake has the watermarks looked at again, and sends the alerts that are due.
func (s *shardRun) wake() {
	s.looked = false
	oldest := s.ruler.now()
	for _, t := range s.order {
		t.resting = false
		if !t.running {
			t.notify(s.ruler.now())
		}
		for _, g := range t.groups {
			if was := moment(g.evaluated); g.evaluated != 0 && was.Before(oldest) {
				oldest = was
			}
		}
	}
	s.ruler.behind(s, s.ruler.now().Sub(oldest))
}

// begin takes new files over and starts to evaluate what is due, as far as there is room.
func (s *shardRun) begin(ctx context.Context) error {
	files := s.ruler.files.Load()
	for _, file := range files.groups {
		if s.mine(file.tenant) && s.tenants[file.tenant] == nil {
			t := &tenantRun{id: file.tenant, overlay: newOverlay(overlayKept.Milliseconds()), whole: !s.inherits(file.tenant)}
			s.tenants[file.tenant], s.order = t, append(s.order, t)
		}
	}
	if !s.looked {
		s.look(ctx)
	}
	records, states := s.removed(files)
	for _, t := range slices.Clone(s.order) {
		if t.running {
			continue // new files wait, too
		}
		if t.files != files {
			if err := s.follow(ctx, t, files); err != nil {
				return err
			}
			t.notify(s.ruler.now()) // of what a former owner may not have come to tell
		}
		if t.resting || s.running == s.concurrency {
			continue
		}
		if t.resting = !s.finds(t); t.resting {
			continue
		}
		due := t.due(states)
		if t.resting = len(due) == 0; t.resting {
			continue
		}
		s.start(t, due)
	}
	if len(states) == 0 {
		return nil
	}
	return s.commit(ctx, records, states)
}

// look asks how far the windows of all tenants are complete.
func (s *shardRun) look(ctx context.Context) {
	var list []tenants.ID
	for _, t := range s.order {
		list = append(list, t.id)
	}
	for key := range s.states {
		if tenant := tenantOf(key); s.tenants[tenant] == nil && !slices.Contains(list, tenant) {
			list = append(list, tenant)
		}
	}
	complete, stored, err := s.ruler.source.Complete(ctx, list)
	s.looked, s.complete, s.stored = true, complete, stored
	for _, t := range s.order {
		t.complete = complete[t.id]
		if err == nil || t.running {
			continue
		}
		for _, g := range t.groups {
			s.failed(ctx, g, err)
		}
	}
}

// inherits tells whether a tenant's groups were evaluated before, and not from this overlay.
func (s *shardRun) inherits(tenant tenants.ID) bool {
	for key := range s.states {
		if tenantOf(key) == tenant {
			return true
		}
	}
	return false
}

// finds tells whether the rules of a tenant find all that was recorded before this process had them. Until then they would
// miss the last evaluations of the former owner: those are committed, and may be on their way to the database. It does
// not wait for so long that evaluations would be skipped.
func (s *shardRun) finds(t *tenantRun) bool {
	if t.whole || t.complete.IsZero() {
		return t.whole
	}
	if t.taken.IsZero() {
		t.taken = t.complete
	}
	if s.stored.Before(s.opened.Add(clocksApart)) {
		if t.complete.Sub(t.taken) <= t.files.cfg.Backfill {
			return false
		}
		s.ruler.metrics.unsettled.Inc()
		s.ruler.log.Warn("rules are evaluated though what they recorded elsewhere may not be stored yet: the stream is behind",
			"tenant", t.id, "stored", s.stored, "opened", s.opened)
	}
	t.whole = true
	return true
}

// start evaluates groups of a tenant, one after the other. The tenant goes to the end of the line.
func (s *shardRun) start(t *tenantRun, groups []*group) {
	s.order = append(slices.DeleteFunc(s.order, func(o *tenantRun) bool { return o == t }), t)
	t.running = true
	s.running++
	s.evaluating.Go(func() {
		out := &outcome{of: t, groups: groups, errs: make([]error, len(groups))}
		for i, g := range groups {
			out.errs[i] = g.evaluate(g.at)
		}
		s.done <- out
	})
}

// others are the outcomes that are there besides.
func (s *shardRun) others() (list []*outcome) {
	for {
		select {
		case o := <-s.done:
			list = append(list, o)
		default:
			return list
		}
	}
}

// finish commits outcomes, and sends their alerts.
func (s *shardRun) finish(ctx context.Context, list []*outcome) error {
	records, states := map[tenants.ID][][]byte{}, map[string][]byte{}
	var done []*group
	samples := 0
	for _, o := range list {
		o.of.running = false
		s.running--
		for i, g := range o.groups {
			if err := o.errs[i]; err != nil {
				o.of.resting = true
				s.failed(ctx, g, err)
				continue
			}
			records[o.of.id] = append(records[o.of.id], g.out.take()...)
			states[g.file.key()] = g.state(g.at)
			samples += g.out.samples
			done = append(done, g)
		}
	}
	if len(done) > 0 {
		if err := s.commit(ctx, records, states); err != nil {
			return err
		}
	}
	for _, g := range done {
		g.evaluated = g.at
		s.ruler.metrics.missed.Add(float64(g.missed))
		s.ruler.metrics.evaluations.Inc()
	}
	s.ruler.metrics.samples.Add(float64(samples))
	for _, o := range list {
		o.of.notify(s.ruler.now())
	}
	return nil
}

func (s *shardRun) commit(ctx context.Context, records map[tenants.ID][][]byte, states map[string][]byte) error {
	if err := s.shard.Commit(ctx, records, states); err != nil {
		s.ruler.metrics.failures.WithLabelValues(failedCommit).Inc()
		return err
	}
	return nil
}

// follow takes other files over for a tenant.
func (s *shardRun) follow(ctx context.Context, t *tenantRun, files *Files) error {
	running := map[string]*group{}
	for _, g := range t.groups {
		running[g.file.key()] = g
	}
	var next []*group
	for _, file := range files.groups {
		if file.tenant != t.id {
			continue
		}
		g, err := newGroup(ctx, s.ruler, file, files, t.overlay)
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
			g.rules.CopyState(was.rules) // alerts with labels that came of queries, which restore cannot make
		}
		delete(s.states, file.key())
		next = append(next, g)
	}
	for key, g := range running {
		s.states[key] = g.state(g.evaluated)
	}
	s.ruler.metrics.groups.Add(float64(len(next) - len(t.groups)))
	t.groups, t.files, t.resting = next, files, false
	if len(next) == 0 {
		delete(s.tenants, t.id)
		s.order = slices.DeleteFunc(s.order, func(o *tenantRun) bool { return o == t })
	}
	s.show()
	return nil
}

// show lists the groups for readers.
func (s *shardRun) show() {
	var all []*group
	for _, t := range s.order {
		all = append(all, t.groups...)
	}
	s.ruler.mu.Lock()
	defer s.ruler.mu.Unlock()
	s.shown = all
}

// mine says whether the tenant is of this shard. All groups of a tenant are, so that those that build on others find
// what they recorded a moment ago.
func (s *shardRun) mine(tenant tenants.ID) bool {
	number, of := s.shard.Partition()
	h := fnv.New32a()
	h.Write([]byte(tenant))
	return int32(h.Sum32()%uint32(of)) == number
}

// failed counts an evaluation that is tried again, and says so now and then.
func (s *shardRun) failed(ctx context.Context, g *group, err error) {
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return
	}
	s.ruler.metrics.failures.WithLabelValues(failedDatabase).Inc()
	if now := s.ruler.now(); now.Sub(s.logged[g.file.key()]) > time.Minute {
		s.logged[g.file.key()] = now
		s.ruler.log.Warn("rules wait: an evaluation is tried again until it can be made",
			"tenant", g.file.tenant, "group", g.file.group.Name, "err", err)
	}
}
