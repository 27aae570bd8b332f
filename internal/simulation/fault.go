package simulation

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// requests are the kinds that the runtime makes, each with errors that brokers answer it with.
var requests = map[kmsg.Key][]*kerr.Error{
	kmsg.ApiVersions:     nil,
	kmsg.Metadata:        {kerr.LeaderNotAvailable, kerr.UnknownTopicOrPartition},
	kmsg.FindCoordinator: {kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress},
	kmsg.InitProducerID:  {kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.ConcurrentTransactions},
	kmsg.JoinGroup:       {kerr.NotCoordinator, kerr.CoordinatorLoadInProgress, kerr.UnknownMemberID},
	kmsg.SyncGroup:       {kerr.RebalanceInProgress, kerr.UnknownMemberID, kerr.NotCoordinator},
	kmsg.Heartbeat:       {kerr.RebalanceInProgress, kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.NotCoordinator},
	kmsg.ConsumerGroupHeartbeat: {kerr.UnknownMemberID, kerr.FencedMemberEpoch, kerr.NotCoordinator,
		kerr.CoordinatorLoadInProgress},
	kmsg.OffsetFetch: {kerr.UnstableOffsetCommit, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator},
	kmsg.ListOffsets: {kerr.NotLeaderForPartition, kerr.UnknownServerError},
	kmsg.Fetch:       {kerr.NotLeaderForPartition, kerr.UnknownLeaderEpoch, kerr.KafkaStorageError},
	kmsg.Produce: {kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.RequestTimedOut,
		kerr.UnknownProducerID, kerr.InvalidProducerEpoch, kerr.NotEnoughReplicasAfterAppend, kerr.TopicAuthorizationFailed},
	kmsg.AddPartitionsToTxn: {kerr.ConcurrentTransactions, kerr.NotCoordinator, kerr.CoordinatorLoadInProgress,
		kerr.InvalidProducerIDMapping, kerr.ProducerFenced},
	kmsg.AddOffsetsToTxn: {kerr.ConcurrentTransactions, kerr.NotCoordinator, kerr.CoordinatorNotAvailable,
		kerr.InvalidProducerIDMapping, kerr.InvalidProducerEpoch},
	kmsg.TxnOffsetCommit: {kerr.NotCoordinator, kerr.CoordinatorLoadInProgress, kerr.IllegalGeneration, kerr.UnknownMemberID,
		kerr.FencedInstanceID, kerr.RequestTimedOut},
	kmsg.EndTxn: {kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.ConcurrentTransactions,
		kerr.InvalidProducerIDMapping, kerr.InvalidTxnState, kerr.ProducerFenced},
	kmsg.OffsetCommit: {kerr.RebalanceInProgress, kerr.NotCoordinator, kerr.RequestTimedOut,
		kerr.UnknownMemberID, kerr.IllegalGeneration},
}

// rare are the kinds that the client makes of some brokers only: before 4.0 a produce, and offsets, do not join a
// transaction by themselves.
var rare = map[kmsg.Key]func(*Shape) bool{
	kmsg.AddPartitionsToTxn:     func(s *Shape) bool { return s.Transactions == 1 },
	kmsg.AddOffsetsToTxn:        func(s *Shape) bool { return s.Transactions == 1 },
	kmsg.ConsumerGroupHeartbeat: func(s *Shape) bool { return s.Protocol == 2 },
}

func parseFault(s *statement) Step {
	switch where := s.oneOf("where", "broker", "network", "sink"); where {
	case "broker":
		return parseBrokerFault(s)
	case "network":
		return parseNetworkFault(s)
	default:
		return parseSinkFault(s)
	}
}
