package promql

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
)

// lists keeps for a while what series and services selectors mean, so that the panels of a dashboard list them once.
//
// A list that was read when windows were complete up to some time has every series with events in those windows,
// because the stream announces a series no later than it stores its rows. It serves queries that read no later windows,
// for as long as a catalog is kept: only a series whose first event came late is missing meanwhile, as it was before
// that event.
//
// Safe for concurrent use. Lists are shared: nobody changes them.
type lists struct {
	store Store
	now   func() time.Time

	mu    sync.Mutex
	kept  map[listKey]*list
	held  int       // entries of all lists, and one more of each
	swept time.Time // when those that are too old were last forgotten
}

// listKey is a tenant and all that a list depends on.
type listKey struct {
	tenant tenants.ID
	query  string
}

type list struct {
	turn     chan struct{} // of capacity 1, full while it is read: the others wait for the same
	until    time.Time
	complete int64 // Unix ms, up to which windows were complete before it was read
	listing  listing
}

type listing struct {
	series   []Series
	services []string
}

func (l listing) size() int { return len(l.series) + len(l.services) }

const (
	// maxListed bounds what is kept, about half a kilobyte a series.
	maxListed = 100_000
	// listUnit is the unit of since: ranges that differ by less list the same. A series too many has no windows in the
	// range.
	listUnit = 10 * time.Minute
)

func newLists(store Store, now func() time.Time) *lists {
	return &lists{store: store, now: now, kept: make(map[listKey]*list)}
}

// series lists the series of a plan's selector.
func (l *lists) series(ctx context.Context, p *plan, q SeriesQuery) ([]Series, error) {
	q.Since = floor(q.Since, listUnit.Milliseconds())
	query := fmt.Sprintf("series %q %q %q %d %d", q.Metrics, q.Closed, q.Matchers, q.Since, q.Limit)
	f, err := l.get(ctx, p, query, func() (f listing, err error) {
		f.series, err = l.store.Series(ctx, p.tenant, q)
		return f, err
	})
	return f.series, err
}

// services lists the services of a plan's selector.
func (l *lists) services(ctx context.Context, p *plan, metric string, matchers []Matcher, since int64) ([]string, error) {
	since = floor(since, listUnit.Milliseconds())
	f, err := l.get(ctx, p, fmt.Sprintf("services %q %q %d", metric, matchers, since), func() (f listing, err error) {
		f.services, err = l.store.Services(ctx, p.tenant, metric, matchers, since)
		return f, err
	})
	return f.services, err
}

// get waits until ctx ends for another that reads the same.
func (l *lists) get(ctx context.Context, p *plan, query string, read func() (listing, error)) (listing, error) {
	key := listKey{p.tenant, query}
	one := l.entry(key)
	select {
	case one.turn <- struct{}{}:
	case <-ctx.Done():
		return listing{}, ctx.Err()
	}
	defer func() { <-one.turn }()
	now := l.now()
	if p.clamp <= one.complete && now.Before(one.until) {
		return one.listing, nil
	}
	f, err := read()
	if err != nil {
		return listing{}, err
	}
	more := f.size() - one.listing.size()
	one.listing, one.complete, one.until = f, p.clamp, now.Add(catalogTTL)
	l.hold(key, one, more)
	return f, nil
}

// entry is the list of a key, and makes it.
func (l *lists) entry(key listKey) *list {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep()
	one := l.kept[key]
	if one == nil {
		one = &list{turn: make(chan struct{}, 1), complete: never}
		l.kept[key] = one
		l.held++
	}
	return one
}

// hold counts what a list holds more, and forgets all others when it is too much.
func (l *lists) hold(key listKey, one *list, more int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept[key] != one { // forgotten meanwhile
		return
	}
	if l.held += more; l.held > maxListed {
		clear(l.kept)
		l.held = 0
	}
}

// sweep forgets lists that are too old, now and then. l.mu is held.
func (l *lists) sweep() {
	now := l.now()
	if now.Sub(l.swept) < catalogTTL {
		return
	}
	l.swept = now
	for key, one := range l.kept {
		select {
		case one.turn <- struct{}{}:
		default: // at work
			continue
		}
		if !now.Before(one.until) {
			delete(l.kept, key)
			l.held -= 1 + one.listing.size()
		}
		<-one.turn
	}
}
