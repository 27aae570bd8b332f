// Package slots bounds how many queries of one tenant run at the same time. A query beyond the bound waits;
// beyond a second bound it is turned away at once. Of the queries that run it says which should give way: those of a
// tenant that holds more than its share while others ask, too. The package knows neither queries nor HTTP.
package slots

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
)

// ErrFull is returned when as many queries of the tenant wait as may wait.
var ErrFull = errors.New("too many queries of this tenant are waiting")

// Slots hands out places per tenant. Safe for concurrent use.
type Slots struct {
	limit func(tenants.ID) (running, waiting int)

	mu      sync.Mutex
	tenants map[tenants.ID]*queue
	shares  shares
	behind  uint64
}

type queue struct {
	places chan struct{} // its capacity is how many may run; a full channel means wait
	most   int           // holders and waiters together
	users  int           // holders and waiters now; the queue is dropped at 0
}

// Place is the permission to run one query.
type Place struct {
	slots    *Slots
	tenant   tenants.ID
	queue    *queue
	givesWay bool
}

// New allows each tenant as many running queries at a time as limit says (at least one), and as many more in
// line. limit is asked when a tenant without any query begins one.
func New(limit func(tenants.ID) (running, waiting int)) *Slots {
	return &Slots{limit: limit, tenants: make(map[tenants.ID]*queue), shares: make(shares)}
}

// Acquire waits for a place until ctx ends. The place is to be released once.
// It returns ErrFull without waiting when the line is full.
func (s *Slots) Acquire(ctx context.Context, tenant tenants.ID) (*Place, error) {
	q, err := s.join(tenant)
	if err != nil {
		return nil, err
	}
	select {
	case q.places <- struct{}{}:
		return &Place{slots: s, tenant: tenant, queue: q, givesWay: s.begin(tenant)}, nil
	case <-ctx.Done():
		s.leave(tenant, q)
		return nil, ctx.Err()
	}
}

// Context is ctx for what is done in the place: GivesWay is true of it where the query should give way.
func (p *Place) Context(ctx context.Context) context.Context {
	if !p.givesWay {
		return ctx
	}
	return context.WithValue(ctx, givesWayKey{}, true)
}

// Release gives the place back.
func (p *Place) Release() {
	p.slots.end(p.tenant)
	<-p.queue.places
	p.slots.leave(p.tenant, p.queue)
}

func (s *Slots) join(tenant tenants.ID) (*queue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.tenants[tenant]
	if q == nil {
		running, waiting := s.limit(tenant)
		running = max(1, running)
		q = &queue{places: make(chan struct{}, running), most: running + max(0, waiting)}
		s.tenants[tenant] = q
	}
	if q.users >= q.most {
		return nil, ErrFull
	}
	q.users++
	return q, nil
}

func (s *Slots) leave(tenant tenants.ID, q *queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.users--; q.users == 0 {
		delete(s.tenants, tenant)
	}
}

func (s *Slots) begin(tenant tenants.ID) (givesWay bool) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shares.change(tenant, now, 1)
	if givesWay = s.shares.exceeds(tenant, now); givesWay {
		s.behind++
	}
	return givesWay
}

func (s *Slots) end(tenant tenants.ID) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shares.change(tenant, now, -1)
}

// Behind is how many places were given to queries that should give way.
func (s *Slots) Behind() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.behind
}

// Running is how many places of a tenant are held, at least one for who holds one.
func (s *Slots) Running(tenant tenants.ID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.tenants[tenant]; q != nil {
		return max(1, len(q.places))
	}
	return 1
}

// Tenants is the number of tenants that hold or wait for a place.
func (s *Slots) Tenants() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.tenants)
}
