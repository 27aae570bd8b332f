package notify

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// remember is how long an alert is sent after its end, so that an Alertmanager that was away hears of it, too.
const remember = 15 * time.Minute

// book is what is known of the alerts of this process's partitions. Safe for concurrent use.
type book struct {
	mu         sync.Mutex
	partitions map[int32]*page
	changed    map[chan<- struct{}]bool // signalled, without waiting, when there is something to send
}

// page is one partition's part.
type page struct {
	ready  bool              // read to its end: what it says is not history
	alerts map[string]*alert // by fingerprint; a later record is another alert
}

func newBook() *book {
	return &book{partitions: map[int32]*page{}, changed: map[chan<- struct{}]bool{}}
}

// watch has changes signalled on a channel of capacity 1.
func (b *book) watch(changed chan<- struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changed[changed] = true
}

// lose forgets a partition.
func (b *book) lose(partition int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.partitions, partition)
}

// take puts an alert in the place of what was known of it.
func (b *book) take(partition int32, a *alert) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.partitions[partition]
	if p == nil {
		p = &page{alerts: map[string]*alert{}}
		b.partitions[partition] = p
	}
	p.alerts[a.Fingerprint] = a
}

// ready lets a partition's alerts be sent.
func (b *book) ready(partition int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.partitions[partition]; p != nil {
		p.ready = true
	}
	for changed := range b.changed {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}

// current lists what may be sent, in the order of fingerprints, and forgets what has been said long ago to have ended.
func (b *book) current(now time.Time) (list []*alert) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.partitions {
		maps.DeleteFunc(p.alerts, func(_ string, e *alert) bool {
			return e.State == stateResolved && now.Sub(e.written) > remember
		})
		if p.ready {
			list = slices.AppendSeq(list, maps.Values(p.alerts))
		}
	}
	slices.SortFunc(list, func(x, y *alert) int { return strings.Compare(x.Fingerprint, y.Fingerprint) })
	return list
}

// firing counts the alerts that fire.
func (b *book) firing() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.partitions {
		for _, e := range p.alerts {
			if e.State == stateFiring {
				n++
			}
		}
	}
	return n
}
