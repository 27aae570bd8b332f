package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/pipeline"
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
	kmsg.OffsetFetch:     {kerr.UnstableOffsetCommit, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator},
	kmsg.ListOffsets:     {kerr.NotLeaderForPartition, kerr.UnknownServerError},
	kmsg.Fetch:           {kerr.NotLeaderForPartition, kerr.UnknownLeaderEpoch, kerr.KafkaStorageError},
	kmsg.Produce:         {kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.RequestTimedOut, kerr.UnknownProducerID, kerr.InvalidProducerEpoch, kerr.NotEnoughReplicasAfterAppend},
	kmsg.AddPartitionsToTxn: {kerr.ConcurrentTransactions, kerr.NotCoordinator, kerr.CoordinatorLoadInProgress,
		kerr.InvalidProducerIDMapping, kerr.ProducerFenced},
	kmsg.AddOffsetsToTxn: {kerr.ConcurrentTransactions, kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.InvalidProducerIDMapping, kerr.InvalidProducerEpoch},
	kmsg.TxnOffsetCommit: {kerr.NotCoordinator, kerr.CoordinatorLoadInProgress, kerr.IllegalGeneration, kerr.UnknownMemberID, kerr.FencedInstanceID, kerr.RequestTimedOut},
	kmsg.EndTxn:          {kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.ConcurrentTransactions, kerr.InvalidProducerIDMapping, kerr.InvalidTxnState, kerr.ProducerFenced},
	kmsg.OffsetCommit:    {kerr.RebalanceInProgress, kerr.NotCoordinator, kerr.RequestTimedOut, kerr.UnknownMemberID, kerr.IllegalGeneration},
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

// brokerFault is something the brokers do.
type brokerFault struct {
	what    string // error, move, fence
	request kmsg.Key
	code    *kerr.Error
	times   int
	moved   string // coordinators or leaders
	process string
}

func parseBrokerFault(s *statement) Step {
	f := brokerFault{what: s.oneOf("what", "error", "move", "fence")}
	switch f.what {
	case "error":
		f.request = s.request()
		name := s.word("error")
		for code := int16(1); code < 200 && s.err == nil; code++ {
			if e, ok := kerr.ErrorForCode(code).(*kerr.Error); ok && e.Message == name {
				f.code = e
			}
		}
		if f.code == nil {
			s.fail("error %q: want the name of a Kafka error, as NOT_COORDINATOR", name)
		}
		f.times = s.numberField("times", 1, 1, 1000)
	case "move":
		f.moved = s.oneOf("what moves", "coordinators", "leaders")
	case "fence":
		f.process = s.process()
		if s.err == nil && f.process[0] != 'w' {
			s.fail("%s has no transactions: want a worker", f.process)
		}
	}
	return f
}

func (f brokerFault) String() string {
	switch f.what {
	case "error":
		return "fault broker error " + f.request.Name() + " " + f.code.Message + add(nil, "times", f.times, 1).String()
	case "move":
		return "fault broker move " + f.moved
	}
	return "fault broker fence " + f.process
}

func (f brokerFault) run(w *World) error {
	switch f.what {
	case "error":
		w.faults = append(w.faults, armed{errorKind(f.request), w.cluster.Fault(w.selected(f))})
	case "move":
		w.hits.add("broker move "+f.moved, 1)
		if f.moved == "coordinators" {
			w.cluster.RehashCoordinators()
		} else {
			w.cluster.ShufflePartitionLeaders()
		}
	case "fence":
		w.hits.add("broker fence", 1)
		return w.fence(f.process)
	}
	return nil
}

// armed is a fault that brokers wait with.
type armed struct {
	kind string
	*kfake.FaultHandle
}

// selected keeps the faults of the kinds of requests that the producers outside make, too, from hitting them.
func (w *World) selected(f brokerFault) kfake.Fault {
	out := kfake.Fault{Keys: []kmsg.Key{f.request}, Err: f.code, Count: f.times}
	if f.request == kmsg.Produce {
		out.Topic = w.cfg.Topics.Results.Name
	}
	return out
}

// fence initialises the transactional id of a worker, as a second process of the same name would.
func (w *World) fence(process string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(w.cfg.Brokers...), kgo.Dialer(w.cfg.Dial), kgo.DisableClientMetrics(),
		kgo.TransactionalID(w.cfg.TransactionalIDPrefix+"-"+instance(process)+"-0"))
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	defer client.Close()
	if _, _, err := client.ProducerID(ctx); err != nil {
		return fmt.Errorf("fence %s: %w", process, err)
	}
	return nil
}

// networkFault is something between a process and the brokers.
type networkFault struct {
	process string
	what    string // cut, lose, delay, silence
	request kmsg.Key
	by      time.Duration
	times   int
}

func parseNetworkFault(s *statement) Step {
	f := networkFault{process: s.process(), what: s.oneOf("what", "cut", "lose", "delay", "silence")}
	if f.what != "silence" {
		f.request = s.request()
	}
	if f.what == "delay" || f.what == "silence" {
		f.by = s.duration("how long")
	}
	if f.what != "silence" {
		f.times = s.numberField("times", 1, 1, 1000)
	}
	return f
}

func (f networkFault) String() string {
	text := "fault network " + f.process + " " + f.what
	if f.what != "silence" {
		text += " " + f.request.Name()
	}
	if f.what == "delay" || f.what == "silence" {
		text += " " + f.by.String()
	}
	if f.what == "silence" {
		return text
	}
	return text + add(nil, "times", f.times, 1).String()
}

func (f networkFault) run(w *World) error {
	p := w.processes[f.process]
	if p == nil {
		return nil
	}
	h := &hook{key: int16(f.request), left: f.times, do: func() { w.hits.add("network "+f.what, 1) }}
	switch f.what {
	case "silence":
		w.hits.add("network silence", 1)
		p.wire.silence(f.by)
		return nil
	case "cut":
		h.cut = true
	case "lose":
		h.cut, h.after = true, true
	case "delay":
		h.delay = f.by
	}
	p.wire.add(h)
	return nil
}

// sinkFault is something ClickHouse does.
type sinkFault struct {
	what    string // a kind of insertFault, or readonly
	table   string
	parts   int
	times   int
	by      time.Duration
	process string // whose results stall
}

func parseSinkFault(s *statement) Step {
	f := sinkFault{what: s.oneOf("what", faultBefore, faultDuring, faultAfter, faultSlow, faultHang, faultRefuse, "readonly", "stall"), parts: 1, times: 1}
	if f.what == "stall" {
		if f.process = s.process(); s.err == nil && f.process[0] != 'w' {
			s.fail("%s has no results: want a worker", f.process)
		}
	}
	if f.timed() {
		f.by = s.duration("how long")
	}
	if f.what == "readonly" || f.what == "stall" {
		return f
	}
	f.times = s.numberField("times", 1, 1, 1000)
	if f.what == faultDuring {
		f.parts = s.numberField("parts", 1, 0, 16)
	}
	if table, ok := s.field("table"); ok {
		f.table = table
		if table != pipeline.TableRollups && table != pipeline.TableSeries && table != pipeline.TableProgress {
			s.fail("table %q: want %s, %s or %s", table, pipeline.TableRollups, pipeline.TableSeries, pipeline.TableProgress)
		}
	}
	return f
}

// timed says whether the fault has a duration.
func (f sinkFault) timed() bool {
	return f.what == faultSlow || f.what == faultHang || f.what == "readonly" || f.what == "stall"
}

func (f sinkFault) String() string {
	text := "fault sink " + f.what
	if f.process != "" {
		text += " " + f.process
	}
	if f.timed() {
		text += " " + f.by.String()
	}
	var list fields
	list = add(list, "times", f.times, 1)
	list = add(list, "parts", f.parts, 1)
	list = add(list, "table", f.table, "")
	return text + list.String()
}

func (f sinkFault) run(w *World) error {
	if f.what == "readonly" {
		w.Server.setReadOnly(time.Now().Add(f.by))
		return nil
	}
	if f.what == "stall" {
		if partition, known := w.lanes.get(f.process); known {
			w.Server.stall(partition, time.Now().Add(f.by))
		}
		return nil
	}
	fault := insertFault{kind: f.what, table: f.table, left: f.times, parts: f.parts}
	switch f.what {
	case faultSlow:
		fault.delay = f.by
	case faultHang:
		fault.silence = f.by
	}
	w.Server.addFault(fault)
	return nil
}
