package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/pause"
)

// ErrRevoked ends a session of the consumer protocol when partitions were taken away. The client tells the first
// revocation of an epoch only, and nothing else tells of the next; a new session knows what it is given.
var ErrRevoked = errors.New("the brokers took partitions away: a new session takes up what is left")

func memberID(instance string, slot int) string { return fmt.Sprintf("%s-%d", instance, slot) }

// protocol is how the session shares partitions with others and learns what it is given.
func (s *Session) protocol() []kgo.Opt {
	if s.cfg.GroupProtocol == protocolClassic {
		return []kgo.Opt{kgo.Balancers(s.assignment.watch(kgo.CooperativeStickyBalancer(), s.standingPlan))}
	}
	return []kgo.Opt{
		kgo.ServerSideBalancer(),
		kgo.Balancers(kgo.StickyBalancer()), // the brokers' uniform assignor
		// It runs before the client fetches from what is new.
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, added map[string][]int32) { s.assignment.add(added) }),
	}
}

// noteRevoked notes that partitions were taken away.
func (s *Session) noteRevoked() {
	s.revoked.Add(1)
	s.over.Store(s.cfg.GroupProtocol == protocolConsumer)
}

// takeOver makes the static member of the slot leave for a while, as the predecessor would have done had it been
// closed. The brokers otherwise refuse the successor of a killed process until the session times out
// (UNRELEASED_INSTANCE_ID). The predecessor has been fenced by now: whatever it does, none of it shows.
func (s *Session) takeOver(ctx context.Context, instance string, slot int) error {
	if s.cfg.GroupProtocol == protocolClassic {
		return nil
	}
	members, err := consumerMembers(ctx, kadm.NewClient(s.restorer), s.cfg.Group)
	for kerr.IsRetriable(err) && pause.For(ctx, restoreWait) == nil { // the topic of groups may be new
		members, err = consumerMembers(ctx, kadm.NewClient(s.restorer), s.cfg.Group)
	}
	if err != nil {
		return fmt.Errorf("kafka.group_protocol consumer: look up group %s: %w", s.cfg.Group, err)
	}
	for _, member := range members {
		if member.InstanceID == nil || *member.InstanceID != memberID(instance, slot) || member.MemberEpoch < 0 {
			continue
		}
		request := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		request.Group, request.MemberID, request.InstanceID = s.cfg.Group, member.MemberID, member.InstanceID
		request.MemberEpoch = -2 // a static member that will be back
		response, err := request.RequestWith(ctx, s.restorer)
		if err == nil {
			err = kerr.ErrorForCode(response.ErrorCode)
		}
		switch {
		case errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.GroupIDNotFound):
		case err != nil:
			return fmt.Errorf("take over member %s of group %s: %w", *member.InstanceID, s.cfg.Group, err)
		}
	}
	return nil
}

// consumerMembers lists the members of a group of the consumer protocol: none when it does not exist or is still of the
// classic one.
func consumerMembers(ctx context.Context, admin *kadm.Client, group string) ([]kadm.ConsumerGroupMember, error) {
	groups, err := admin.DescribeConsumerGroups(ctx, group)
	if err != nil {
		return nil, err
	}
	if err := groups[group].Err; err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, err
	}
	return groups[group].Members, nil
}
