package promql

import (
	"context"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
)

// cache keeps one value per tenant for a while, so that the twenty panels of a dashboard ask the database once.
// Errors are not kept. Safe for concurrent use.
type cache[V any] struct {
	ttl  time.Duration
	now  func() time.Time
	load func(context.Context, tenants.ID) (V, error)

	mu      sync.Mutex
	entries map[tenants.ID]*entry[V]
}

type entry[V any] struct {
	sync.Mutex // held while loading: the others wait for the same answer
	until      time.Time
	value      V
}

// maxEntries bounds the memory; the tenants are authenticated, so more than this means a busy house.
const maxEntries = 4096

func newCache[V any](ttl time.Duration, now func() time.Time, load func(context.Context, tenants.ID) (V, error)) *cache[V] {
	return &cache[V]{ttl: ttl, now: now, load: load, entries: make(map[tenants.ID]*entry[V])}
}

func (c *cache[V]) get(ctx context.Context, tenant tenants.ID) (V, error) {
	e := c.entry(tenant)
	e.Lock()
	defer e.Unlock()
	if c.now().Before(e.until) {
		return e.value, nil
	}
	value, err := c.load(ctx, tenant)
	if err != nil {
		var zero V
		return zero, err
	}
	e.value, e.until = value, c.now().Add(c.ttl)
	return value, nil
}

// put keeps a value that was read anyway, unless another is being read.
func (c *cache[V]) put(tenant tenants.ID, value V) {
	e := c.entry(tenant)
	if !e.TryLock() {
		return
	}
	defer e.Unlock()
	e.value, e.until = value, c.now().Add(c.ttl)
}

func (c *cache[V]) entry(tenant tenants.ID) *entry[V] {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[tenant]
	if e == nil {
		if len(c.entries) >= maxEntries {
			clear(c.entries)
		}
		e = &entry[V]{}
		c.entries[tenant] = e
	}
	return e
}
