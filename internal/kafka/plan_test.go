package kafka

import (
	"maps"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A leader that restarts keeps the plan that stands, and makes another when that lacks a partition, gives one twice,
// gives what is not there, or is uneven.
func TestStandingPlanIsKeptIfWhole(t *testing.T) {
	topics := map[string]int32{"metrics": 2, "spans": 1}
	for _, c := range []struct {
		name string
		has  map[string]map[string][]int32 // by member
		kept bool
	}{
		{"whole", map[string]map[string][]int32{"a": {"metrics": {0, 1}}, "b": {"spans": {0}}}, true},
		{"a partition is missing", map[string]map[string][]int32{"a": {"metrics": {0}}, "b": {"spans": {0}}}, false},
		{"a partition is given twice", map[string]map[string][]int32{"a": {"metrics": {0, 1}}, "b": {"metrics": {1}}}, false},
		{"a partition is not there", map[string]map[string][]int32{"a": {"metrics": {0, 2}}, "b": {"spans": {0}}}, false},
		{"a topic is not there", map[string]map[string][]int32{"a": {"metrics": {0, 1}}, "b": {"logs": {0}}}, false},
		{"uneven", map[string]map[string][]int32{"a": {"metrics": {0, 1}, "spans": {0}}, "b": {}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan := standingPlan{}
			for member, has := range c.has {
				plan[member] = memberAssignment(has)
			}
			inner := kgo.CooperativeStickyBalancer()
			members := joined(inner, slices.Sorted(maps.Keys(c.has)), topics)
			if !plan.of(members) {
				t.Fatal("the plan is of other members, want of these")
			}
			balancer, _, err := watchedBalancer{inner, newAssignment(), func() standingPlan { return plan }}.MemberBalancer(members)
			if err != nil {
				t.Fatal(err)
			}
			into, err := balancer.(kgo.GroupMemberBalancerOrError).BalanceOrError(topics)
			if err != nil {
				t.Fatal(err)
			}
			made := standingPlan{}
			for _, one := range into.IntoSyncAssignment() {
				made[one.MemberID] = one.MemberAssignment
			}
			if !made.whole(topics) {
				t.Error("got a plan that is not whole")
			}
			if _, kept := into.(standingPlan); kept != c.kept {
				t.Errorf("kept: got %v, want %v", kept, c.kept)
			}
		})
	}
}

func memberAssignment(has map[string][]int32) []byte {
	var a kmsg.ConsumerMemberAssignment
	for _, topic := range slices.Sorted(maps.Keys(has)) {
		one := kmsg.NewConsumerMemberAssignmentTopic()
		one.Topic, one.Partitions = topic, has[topic]
		a.Topics = append(a.Topics, one)
	}
	return a.AppendTo(nil)
}

// joined are members that own nothing yet.
func joined(b kgo.GroupBalancer, ids []string, topics map[string]int32) (members []kmsg.JoinGroupResponseMember) {
	for _, id := range ids {
		m := kmsg.NewJoinGroupResponseMember()
		m.MemberID = id
		m.ProtocolMetadata = b.JoinGroupMetadata(slices.Sorted(maps.Keys(topics)), nil, 1)
		members = append(members, m)
	}
	return members
}
