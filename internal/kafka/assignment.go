package kafka

import (
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// assignment is what the group gave this member. The client's callbacks cannot tell it: the transaction session
// passes on only the first revocation of an epoch. The balancer sees every assignment whole.
//
// A partition that is given to the member is held until it is released: nothing is fetched from it before its state
// has been read. Its number tells one time that it is given from the next: it may go and come back within an epoch,
// and in between another member may have changed its state.
type assignment struct {
	hold, resume func(map[string][]int32) // fetching; set before the member joins

	mu      sync.Mutex
	current map[pipeline.Partition]*grant
	visible []owned // what Poll shows, sorted
	changed bool
	wake    func() // ends the Poll under way
	last    uint64 // number given
}

// owned is a partition and the number under which it was given.
type owned struct {
	pipeline.Partition
	number uint64
}

type grant struct {
	number   uint64
	released bool
}

func newAssignment() *assignment {
	return &assignment{current: map[pipeline.Partition]*grant{}, wake: func() {}}
}

// wakes has wake called when the assignment is not what Poll showed last: nothing comes from partitions that nobody
// knows of and that are therefore held.
func (a *assignment) wakes(wake func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.wake = wake; a.changed {
		wake()
	}
}

// watch has the assignment told of what the balancer gives. standing tells of the group's plan while the group rests.
func (a *assignment) watch(b kgo.GroupBalancer, standing func() standingPlan) kgo.GroupBalancer {
	return watchedBalancer{b, a, standing}
}

type watchedBalancer struct {
	kgo.GroupBalancer
	assignment *assignment
	standing   func() standingPlan
}

// MemberBalancer runs in the group's leader.
func (w watchedBalancer) MemberBalancer(members []kmsg.JoinGroupResponseMember) (
	kgo.GroupMemberBalancer, map[string]struct{}, error) {
	balancer, topics, err := w.GroupBalancer.MemberBalancer(members)
	if err != nil {
		return nil, nil, err
	}
	if plan := w.standing(); plan.of(members) {
		return keepingBalancer{balancer, plan}, topics, nil
	}
	return balancer, topics, nil
}

// ParseSyncAssignment runs before the client fetches from what is new.
func (w watchedBalancer) ParseSyncAssignment(encoded []byte) (map[string][]int32, error) {
	topics, err := w.GroupBalancer.ParseSyncAssignment(encoded)
	if err == nil {
		w.assignment.set(topics)
	}
	return topics, err
}

func (a *assignment) set(topics map[string][]int32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before, held := a.current, map[string][]int32{}
	a.current, a.changed = map[pipeline.Partition]*grant{}, true
	for topic, partitions := range topics {
		for _, partition := range partitions {
			at := pipeline.Partition{Topic: topic, Partition: partition}
			if a.current[at] = before[at]; a.current[at] == nil {
				a.last++
				a.current[at] = &grant{number: a.last}
				held[topic] = append(held[topic], partition)
			}
		}
	}
	if len(held) > 0 {
		a.hold(held)
	}
	a.wake()
}

// add is set for a protocol that tells only what is new.
func (a *assignment) add(topics map[string][]int32) {
	a.mu.Lock()
	all := map[string][]int32{}
	for at := range a.current {
		all[at.Topic] = append(all[at.Topic], at.Partition)
	}
	a.mu.Unlock()
	for topic, partitions := range topics {
		all[topic] = append(all[topic], partitions...)
	}
	a.set(all)
}

func (a *assignment) lose() { a.set(nil) }

// release ends the holding of partitions, but not of those that have been taken away since they were given under that
// number. All at once, for the first that is fetched from makes later ones wait while nothing comes.
func (a *assignment) release(list []owned) {
	a.mu.Lock()
	defer a.mu.Unlock()
	topics := map[string][]int32{}
	for _, p := range list {
		if g := a.current[p.Partition]; g != nil && g.number == p.number && !g.released {
			g.released = true
			topics[p.Topic] = append(topics[p.Topic], p.Partition.Partition)
		}
	}
	if len(topics) > 0 {
		a.resume(topics)
	}
}

func (a *assignment) released(partition pipeline.Partition) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.current[partition]
	return g != nil && g.released
}

// grow adds what is new to the visible list, calls added for it, and returns the list. A partition that has come back
// keeps its old number until the list shrinks: the epoch under way is of its old task.
func (a *assignment) grow(added func(pipeline.Partition)) []owned {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.changed {
		return a.visible
	}
	a.changed = false
	a.visible = slices.Clone(a.visible) // the observer may be reading the old one
	for partition, g := range a.current {
		if !slices.ContainsFunc(a.visible, func(p owned) bool { return p.Partition == partition }) {
			a.visible = append(a.visible, owned{partition, g.number})
			added(partition)
		}
	}
	slices.SortFunc(a.visible, func(a, b owned) int { return a.Partition.Compare(b.Partition) })
	return a.visible
}

// settle makes the visible list the current one, at the only time when it may shrink.
func (a *assignment) settle() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.visible, a.changed = nil, true
}

func (a *assignment) list() []pipeline.Partition {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]pipeline.Partition, len(a.visible))
	for i, p := range a.visible {
		out[i] = p.Partition
	}
	return out
}
