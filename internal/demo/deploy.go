package demo

import (
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	rollout  = 30 * time.Second // between two instances taking the new version
	rollback = 10 * time.Second // between two instances going back
)

// deploy is one release of one service, instance after instance. A bad one makes what it touches slow and failing until
// somebody notices and goes back to the version before.
type deploy struct {
	service    int
	from, to   string
	start, end int64   // Unix nanoseconds; at end it is done, or every instance is back
	back       int64   // when a bad one starts to be taken back; 0 for a good one
	slower     float64 // factor on the instance's own work
	failing    float64 // share of requests that fail in addition
}

// has says whether an instance runs the new version at a time between start and end.
func (d *deploy) has(instance int, at int64) bool {
	if at < d.start+int64(instance)*int64(rollout) {
		return false
	}
	return d.back == 0 || at < d.back+int64(instance)*int64(rollback)
}

// deploys plans the releases of one shop, one at a time, from a source of chance of its own: how busy the shop is does
// not move them.
type deploys struct {
	random   *rand.Rand
	current  *deploy // nil before the first
	versions [services]string
	releases [services]int // number of the newest release, also a bad one's
}

func newDeploys(random *rand.Rand) *deploys {
	d := &deploys{random: random}
	for i := range d.versions {
		d.releases[i] = 20 + random.IntN(60)
		d.versions[i] = version(d.releases[i])
	}
	return d
}

func version(release int) string { return fmt.Sprintf("1.%d.0", release) }

// advance finishes what is over at a time and plans what comes next. The first deploy comes soon, so that whoever
// starts the demo sees one.
func (d *deploys) advance(at int64) {
	if d.current == nil {
		d.plan(at + d.between(2*time.Minute, 5*time.Minute))
		return
	}
	if at < d.current.end {
		return
	}
	if d.current.back == 0 {
		d.versions[d.current.service] = d.current.to
	}
	d.plan(at + d.between(6*time.Minute, 20*time.Minute))
}

func (d *deploys) plan(start int64) {
	service := d.random.IntN(services)
	d.releases[service]++
	next := &deploy{
		service: service, from: d.versions[service], to: version(d.releases[service]),
		start: start, end: start + instances*int64(rollout), slower: 1,
	}
	if d.random.Float64() < 0.4 {
		next.slower = 3 + 5*d.random.Float64()
		next.failing = 0.1 + 0.25*d.random.Float64()
		next.back = start + d.between(4*time.Minute, 7*time.Minute)
		next.end = next.back + instances*int64(rollback)
	}
	d.current = next
}

func (d *deploys) between(least, most time.Duration) int64 {
	return int64(least) + d.random.Int64N(int64(most-least))
}

// state is how an instance of a service does at a time.
type state struct {
	version string
	slower  float64
	failing float64
}

func (d *deploys) state(service, instance int, at int64) state {
	if c := d.current; c != nil && c.service == service && c.has(instance, at) {
		return state{version: c.to, slower: c.slower, failing: c.failing}
	}
	return state{version: d.versions[service], slower: 1}
}
