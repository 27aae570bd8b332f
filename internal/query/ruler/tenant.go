package ruler

import (
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
)

// tenantRun are the groups of a tenant.
type tenantRun struct {
	id      tenants.ID
	files   *Files // those that groups are of
	groups  []*group
	overlay *overlay
	running bool // groups are another goroutine's
	resting bool // until the next look at the watermarks
	whole   bool // the overlay, above the database, shows all that the groups have recorded

	taken    time.Time // the first complete, while it is not whole
	complete time.Time // the tenant's watermark at the last look; zero when there was none, or it failed
}

// due lists the groups of a tenant to evaluate now: those whose time is the earliest. When there is something to catch
// up with, a group is not ahead of others that it builds on. states takes those of groups that are new.
func (t *tenantRun) due(states map[string][]byte) (list []*group) {
	if t.complete.IsZero() {
		return nil
	}
	earliest := int64(0)
	for _, g := range t.groups {
		if g.evaluated == 0 { // it is new: from here on nothing is to be missed
			g.evaluated = t.complete.UnixMilli()
			states[g.file.key()] = g.state(g.evaluated)
		}
		g.at, g.missed = g.next(t.complete.UnixMilli(), t.files.cfg.Backfill.Milliseconds())
		if g.at != 0 && (earliest == 0 || g.at < earliest) {
			earliest = g.at
		}
	}
	for _, g := range t.groups {
		if g.at != 0 && g.at == earliest {
			list = append(list, g)
		}
	}
	return list
}

// notify sends the alerts that are due. Nobody evaluates the groups meanwhile: what is sent was committed.
func (t *tenantRun) notify(now time.Time) {
	for _, g := range t.groups {
		g.notify(now, t.files.cfg.ResendDelay)
	}
}
