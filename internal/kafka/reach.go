package kafka

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// maxSights bounds what a partition far behind its end remembers: at most this many ends not yet passed.
const maxSights = 64

// reach knows how far each partition has been polled. The observer asks the brokers for the ends of the logs: an
// end seen by a request sent at time t holds everything appended before t, so once that end has been polled,
// everything appended before t has. Answers to fetches cannot say this for a partition without traffic (they
// leave it out), nor where a transaction is open (they stop at the last stable offset).
type reach struct {
	mu         sync.Mutex
	partitions map[pipeline.Partition]*progress
}

// progress of one partition; offsets are -1 until known.
type progress struct {
	next    int64 // behind the last record polled
	start   int64 // where polling begins, while nothing has been polled
	through int64
	stable  int64 // last stable offset, -1 until known
	sights  []sight
}

// sight says that at time millis the log ended at end.
type sight struct{ millis, end int64 }

func newReach() *reach { return &reach{partitions: map[pipeline.Partition]*progress{}} }

func (r *reach) at(partition pipeline.Partition) *progress {
	p := r.partitions[partition]
	if p == nil {
		p = &progress{next: -1, start: -1, stable: -1}
		r.partitions[partition] = p
	}
	return p
}

// polled notes that everything before next has been returned by Poll, from an answer that had this last stable offset.
func (r *reach) polled(partition pipeline.Partition, next, stable int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.at(partition)
	p.advance(next)
	p.stable = max(p.stable, stable)
}

// forget starts a partition over: it is newly assigned.
func (r *reach) forget(partition pipeline.Partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.partitions, partition)
}

// rewind forgets everything: polling goes on from the committed offsets.
func (r *reach) rewind() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.partitions)
}

func (r *reach) of(partition pipeline.Partition) (lag, through, next int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.at(partition)
	if from := max(p.next, p.start); from >= 0 {
		lag = max(0, p.stable-from)
	}
	return lag, p.through, max(p.next, 0)
}

func (p *progress) advance(next int64) {
	p.next = max(p.next, next)
	passed := 0
	for passed < len(p.sights) && p.sights[passed].end <= p.next {
		p.through = max(p.through, p.sights[passed].millis)
		passed++
	}
	p.sights = slices.Delete(p.sights, 0, passed)
}

func (p *progress) see(seen sight) {
	if last := len(p.sights) - 1; last >= 0 && p.sights[last].end == seen.end {
		p.sights[last].millis = seen.millis
	} else if len(p.sights) < maxSights {
		p.sights = append(p.sights, seen)
	} else {
		p.sights[last] = seen
	}
	p.advance(p.next)
}

// every calls look again and again, until ctx ends.
func every(ctx context.Context, interval time.Duration, look func(context.Context)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			look(ctx)
		}
	}
}

// look asks for the ends. One that does not succeed leaves the reach where it is.
func (s *Session) look(ctx context.Context) {
	partitions := s.assignment.list()
	if len(partitions) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client := s.group.Client()
	at := time.Now().UnixMilli()
	high := askLeaders(ctx, client, partitions, offsetLatest, readUncommitted)
	stable := askLeaders(ctx, client, partitions, offsetLatest, readCommitted)
	var low ends
	if unread := s.reach.unread(partitions); len(unread) > 0 {
		low = askLeaders(ctx, client, unread, offsetEarliest, readUncommitted)
	}
	s.reach.seen(at, high, stable, low, client.CommittedOffsets())
}

// unread are the partitions from which nothing has been polled since they were assigned or rewound.
func (r *reach) unread(partitions []pipeline.Partition) (out []pipeline.Partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, partition := range partitions {
		if r.at(partition).next < 0 {
			out = append(out, partition)
		}
	}
	return out
}

// seen takes in what one look found. Where nothing has been polled yet, polling begins at the committed offset
// or, without one or when it has been deleted, at the start of the log.
func (r *reach) seen(at int64, high, stable, low ends, committed map[string]map[int32]kgo.EpochOffset) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for partition, end := range high {
		p := r.at(partition)
		if offset, ok := stable[partition]; ok {
			p.stable = offset
		}
		if p.next >= 0 {
			p.see(sight{millis: at, end: end})
			continue
		}
		if start, ok := low[partition]; ok {
			p.start = max(start, committed[partition.Topic][partition.Partition].Offset)
		}
		if p.start >= end {
			p.through = max(p.through, at)
		}
	}
}
