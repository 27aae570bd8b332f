package ingest

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/vigie-io/vigie/internal/tenants"
)

// rates holds the two token buckets of every tenant seen. Tenants come from known credentials, so their
// number is bounded by configuration.
type rates struct {
	mu      sync.Mutex
	tenants map[tenants.ID]*tenantRates
}

type tenantRates struct {
	bytes, events bucket
}

func (r *rates) of(id tenants.ID, limits *tenants.Limits, now time.Time) *tenantRates {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tenants[id]
	if t == nil {
		t = &tenantRates{
			bytes:  newBucket(int(limits.BytesPerSecond), limits.Burst),
			events: newBucket(limits.EventsPerSecond, limits.Burst),
		}
		r.tenants[id] = t
	}
	t.bytes.resize(now, int(limits.BytesPerSecond), limits.Burst)
	t.events.resize(now, limits.EventsPerSecond, limits.Burst)
	return t
}

// bucket is a token bucket that also lets through a request larger than itself, when it is full: otherwise
// such a request could never be sent. The excess is paid off before anything else passes.
type bucket struct {
	mu      sync.Mutex
	limiter *rate.Limiter
}

func newBucket(perSecond int, burst time.Duration) bucket {
	return bucket{limiter: rate.NewLimiter(rate.Limit(perSecond), bucketSize(perSecond, burst))}
}

func bucketSize(perSecond int, burst time.Duration) int {
	return max(int(float64(perSecond)*burst.Seconds()), 1)
}

// resize follows a changed limit. What has been taken stays taken.
func (b *bucket) resize(now time.Time, perSecond int, burst time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	size := bucketSize(perSecond, burst)
	if b.limiter.Limit() == rate.Limit(perSecond) && b.limiter.Burst() == size {
		return
	}
	b.limiter.SetLimitAt(now, rate.Limit(perSecond))
	b.limiter.SetBurstAt(now, size)
}

// take charges n tokens, or returns how long to wait before asking again and charges nothing.
func (b *bucket) take(now time.Time, n int) (wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	size := b.limiter.Burst()
	first := min(n, size)
	reservation := b.limiter.ReserveN(now, first)
	if wait := reservation.DelayFrom(now); wait > 0 {
		reservation.CancelAt(now)
		return wait
	}
	for n -= first; n > 0; n -= size {
		b.limiter.ReserveN(now, min(n, size))
	}
	return 0
}
