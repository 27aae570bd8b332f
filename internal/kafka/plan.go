package kafka

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// planPatience bounds how long a leader waits to be told of the plan that stands, as does a third of its session.
// Without an answer it makes one.
const planPatience = 5 * time.Second

// standingPlan is what each member of a group has, by the member's id, while the group rests.
//
// A leader that restarts is given what it had, and the brokers want no plan of it (KIP-814). The client makes one all
// the same, to find out whether the old one is outdated, and has the whole group join anew if its own is another. It
// nearly always is, as the new process owns nothing: everybody then waited for the others' next heartbeat and for the
// epochs under way, for nothing.
type standingPlan map[string][]byte

// standingPlan asks for the plan of the workers' group: nil when it is being made.
func (s *Session) standingPlan() standingPlan {
	ctx, cancel := context.WithTimeout(context.Background(), min(planPatience, s.cfg.SessionTimeout/3))
	defer cancel()
	request := kmsg.NewPtrDescribeGroupsRequest()
	request.Groups = []string{s.cfg.Group}
	response, err := request.RequestWith(ctx, s.restorer)
	if err != nil || len(response.Groups) != 1 || response.Groups[0].ErrorCode != 0 || response.Groups[0].State != "Stable" {
		return nil
	}
	plan := standingPlan{}
	for _, member := range response.Groups[0].Members {
		plan[member.MemberID] = member.MemberAssignment
	}
	return plan
}

// of says whether it is a plan of exactly these members.
func (p standingPlan) of(members []kmsg.JoinGroupResponseMember) bool {
	return len(p) > 0 && len(p) == len(members) &&
		!slices.ContainsFunc(members, func(m kmsg.JoinGroupResponseMember) bool { return p[m.MemberID] == nil })
}

// whole says whether each partition of the topics has one member, no other has any, and nobody has two more than
// another.
func (p standingPlan) whole(topics map[string]int32) bool {
	type spot struct {
		topic     string
		partition int32
	}
	given, total := map[spot]bool{}, 0
	var shares []int
	for _, encoded := range p {
		var assignment kmsg.ConsumerMemberAssignment
		if assignment.ReadFrom(encoded) != nil {
			return false
		}
		share := 0
		for _, t := range assignment.Topics {
			for _, partition := range t.Partitions {
				if partition >= topics[t.Topic] {
					return false
				}
				given[spot{t.Topic, partition}] = true
				share++
			}
		}
		shares, total = append(shares, share), total+share
	}
	want := 0
	for _, n := range topics {
		want += int(n)
	}
	return total == want && len(given) == want && slices.Max(shares)-slices.Min(shares) <= 1
}

// IntoSyncAssignment implements kgo.IntoSyncAssignment.
func (p standingPlan) IntoSyncAssignment() (list []kmsg.SyncGroupRequestGroupAssignment) {
	for _, id := range slices.Sorted(maps.Keys(p)) {
		one := kmsg.NewSyncGroupRequestGroupAssignment()
		one.MemberID, one.MemberAssignment = id, p[id]
		list = append(list, one)
	}
	return list
}

// keepingBalancer keeps the plan that stands if nothing is missing from it.
type keepingBalancer struct {
	kgo.GroupMemberBalancer
	plan standingPlan
}

// BalanceOrError implements kgo.GroupMemberBalancerOrError, which the client asks for first.
func (k keepingBalancer) BalanceOrError(topics map[string]int32) (kgo.IntoSyncAssignment, error) {
	if k.plan.whole(topics) {
		return k.plan, nil
	}
	if b, ok := k.GroupMemberBalancer.(kgo.GroupMemberBalancerOrError); ok {
		return b.BalanceOrError(topics)
	}
	return k.Balance(topics), nil
}
