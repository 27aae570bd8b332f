package slots

import (
	"context"
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
)

const (
	// gone is how long a tenant must have held nothing not to be there any more: longer than between two turns of a
	// dashboard.
	gone = 30 * time.Second
	// slack is how many times its share a tenant may hold before its queries give way, so that tenants who ask about
	// as much as one another stay equals.
	slack = 1.25
)

// holding is how many places a tenant holds, and since when.
type holding struct {
	places  int
	changed time.Time
}

// shares are the holdings of each tenant that is there. Its caller holds a lock.
type shares map[tenants.ID]holding

func (s shares) change(tenant tenants.ID, now time.Time, by int) {
	s[tenant] = holding{s[tenant].places + by, now}
}

// exceeds tells whether a tenant holds more than one place, and more than its share of what all hold that are there.
// O(tenants that are there).
func (s shares) exceeds(tenant tenants.ID, now time.Time) bool {
	all := 0
	for t, h := range s {
		if h.places == 0 && now.Sub(h.changed) > gone {
			delete(s, t)
			continue
		}
		all += h.places
	}
	return float64(s[tenant].places) > max(1, slack*float64(all)/float64(len(s)))
}

type givesWayKey struct{}

// GivesWay tells whether the query that ctx belongs to is of a tenant that has more than its share, so that the database
// should run it behind those of others.
func GivesWay(ctx context.Context) bool { return ctx.Value(givesWayKey{}) != nil }
