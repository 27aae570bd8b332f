package simulation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// brokerFault is something the brokers do.
type brokerFault struct {
	what    string // error, move, fence, trim, cut, compact, renew
	request kmsg.Key
	code    *kerr.Error
	times   int
	topic   string // a key of topicsOf, or "": any, of produces that of results
	moved   string // coordinators or leaders
	process string

	merger    bool // is fenced
	partition int  // that is cut, or whose merger is fenced
}

func parseBrokerFault(s *statement) Step {
	f := brokerFault{what: s.oneOf("what", "error", "move", "fence", "trim", "cut", "compact", "renew")}
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
		if topic, ok := s.field("topic"); ok {
			if f.topic = topic; !slices.Contains(topicsOf[f.request], topic) {
				s.fail("topic %q of %s: want one of %s", topic, f.request.Name(), strings.Join(topicsOf[f.request], ", "))
			}
		}
	case "move":
		f.moved = s.oneOf("what moves", "coordinators", "leaders")
	case "cut":
		f.partition = s.numberField("shard", 0, 0, 63)
	case "fence":
		if f.merger = s.next("merger"); f.merger {
			f.partition = s.numberField("shard", 0, 0, 63)
			break
		}
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
		return "fault broker error " + f.request.Name() + " " + f.code.Message +
			add(add(nil, "times", f.times, 1), "topic", f.topic, "").String()
	case "move":
		return "fault broker move " + f.moved
	case "cut":
		return "fault broker cut" + add(nil, "shard", f.partition, 0).String()
	case "fence":
		if f.merger {
			return "fault broker fence merger" + add(nil, "shard", f.partition, 0).String()
		}
		return "fault broker fence " + f.process
	}
	return "fault broker " + f.what
}

func (f brokerFault) run(w *World) error {
	switch f.what {
	case "error":
		w.faults = append(w.faults, armed{errorKind(f.request), w.cluster.Fault(w.selected(f))})
	case "move":
		if f.moved == "coordinators" {
			w.moveCoordinators()
			return nil
		}
		w.hits.add("broker move leaders", 1)
		w.cluster.ShufflePartitionLeaders()
	case "cut":
		return w.cutUnread(int32(f.partition) % w.shape.Partitions)
	case "fence":
		if f.merger {
			w.hits.add("broker fence merger", 1)
			return w.fence(w.mergerID(int32(f.partition) % w.cfg.Topics.Results.Partitions))
		}
		w.hits.add("broker fence", 1)
		return w.fence(w.transactionalID(f.process))
	case "renew":
		return w.renewResults()
	case "trim":
		return w.trim()
	case "compact":
		w.hits.add("broker compact", 1)
		w.cluster.Compact()
	}
	return nil
}

// armed is a fault that brokers wait with.
type armed struct {
	kind string
	*kfake.FaultHandle
}

// topicsOf are the topics whose requests of a kind can fail alone.
var topicsOf = map[kmsg.Key][]string{
	kmsg.Produce:     {"results", "state", "letters", "coarse", "positions"},
	kmsg.Fetch:       {"metrics", "state", "results", "coarse", "positions"},
	kmsg.ListOffsets: {"metrics", "state", "results", "positions"},
}

// selected keeps the faults of the kinds of requests that the producers outside make, too, from hitting them.
func (w *World) selected(f brokerFault) kfake.Fault {
	topics := &w.cfg.Topics
	names := map[string]string{
		"metrics": topics.Metrics.Name, "state": topics.StateMetrics.Name, "results": topics.Results.Name,
		"letters": topics.DLQ.Name, "coarse": topics.Coarse.Name, "positions": topics.StateCoarse.Name,
	}
	out := kfake.Fault{Keys: []kmsg.Key{f.request}, Topic: names[f.topic], Err: f.code, Count: f.times}
	if f.request == kmsg.Produce && f.topic == "" {
		out.Topic = topics.Results.Name
	}
	return out
}

// trim deletes the records of events, of results and of what is merged that all have read who read them, as retention
// does.
func (w *World) trim() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	merged, err := w.merged(ctx)
	if err != nil {
		return nil // a fault hit this request
	}
	for _, group := range []string{w.cfg.Group, w.groups()[1], w.groups()[2]} {
		committed, err := w.admin.FetchOffsets(ctx, group)
		if errors.Is(err, kerr.GroupIDNotFound) || kerr.IsRetriable(err) {
			continue // nobody has read anything, or a fault hit this request
		}
		if err != nil {
			return fmt.Errorf("fetch the offsets of %s: %w", group, err)
		}
		for _, o := range committed.Sorted() {
			if o.Topic == w.cfg.Topics.Results.Name && !w.earlier {
				o.At = min(o.At, merged[o.Partition])
			}
			if o.At <= 0 {
				continue
			}
			err := w.cluster.DeleteRecords(o.Topic, o.Partition, o.At)
			if errors.Is(err, kerr.OffsetOutOfRange) {
				continue // more has been deleted already
			}
			if err != nil {
				return fmt.Errorf("delete records of %s/%d before %d: %w", o.Topic, o.Partition, o.At, err)
			}
			w.hits.add("broker trim", 1)
		}
	}
	return nil
}

// restWithin is how long moveCoordinators waits for the groups.
const restWithin = 10 * time.Second

// moveCoordinators gives groups and transactional ids other coordinators, and waits until no group is giving partitions
// out: kfake may never answer a join that waits while its coordinator moves. Where a group does not come to rest
// nothing moves.
func (w *World) moveCoordinators() {
	groups := w.groups()
	for waited := time.Duration(0); !w.rest(groups); waited += 100 * time.Millisecond {
		if waited >= restWithin {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	var transactions []string
	for _, name := range sortedKeys(w.processes) {
		if w.processes[name].role() == "worker" {
			transactions = append(transactions, w.transactionalID(name))
		}
	}
	for partition := range w.cfg.Topics.Results.Partitions {
		transactions = append(transactions, w.mergerID(partition))
	}
	before := w.coordinators(groups, transactions)
	w.cluster.RehashCoordinators()
	after := w.coordinators(groups, transactions)
	for i := range before {
		switch {
		case before[i] == after[i]:
		case i < len(groups):
			w.hits.add(hitGroups, 1)
		default:
			w.hits.add(hitTransactions, 1)
		}
	}
}

func (w *World) coordinators(groups, transactions []string) (nodes []int32) {
	for _, name := range slices.Concat(groups, transactions) {
		nodes = append(nodes, w.cluster.CoordinatorFor(name))
	}
	return nodes
}

// rest says whether no group is being shared out.
func (w *World) rest(groups []string) bool {
	return !slices.ContainsFunc(groups, func(name string) bool {
		group := w.cluster.GroupInfo(name)
		return group != nil && group.State != "Stable" && group.State != "Empty"
	})
}

// unread is how many records cutUnread deletes.
const unread = 5

// cutUnread deletes records of a partition of metrics that nobody has read, as retention does when workers are away for
// too long. Which they are has to be known: all that was published before is processed, and no worker runs. They count
// for nothing.
func (w *World) cutUnread(partition int32) error {
	launch, err := w.pause()
	if err != nil {
		return err
	}
	topic := w.cfg.Topics.Metrics.Name
	value := []byte(`{"name":"latency","value":1}`)
	if _, err := w.publish(w.client, topic, partition, "acme", value, unread); err != nil {
		return err
	}
	if err := w.cluster.DeleteRecords(topic, partition, -1); err != nil {
		return fmt.Errorf("delete records of %s/%d: %w", topic, partition, err)
	}
	w.hits.add(hitCut, 1)
	launch()
	return nil
}

// fence initialises a transactional id, as a second process that has it would.
func (w *World) fence(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(w.cfg.Brokers...), kgo.Dialer(w.cfg.Dial), kgo.DisableClientMetrics(),
		kgo.TransactionalID(id))
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	defer client.Close()
	if _, _, err := client.ProducerID(ctx); err != nil {
		return fmt.Errorf("fence %s: %w", id, err)
	}
	return nil
}

func (w *World) transactionalID(worker string) string {
	return w.cfg.TransactionalIDPrefix + "-" + instance(worker) + "-0"
}

func (w *World) mergerID(partition int32) string {
	return fmt.Sprintf("%s-coarse-%d", w.cfg.TransactionalIDPrefix, partition)
}

// groups are those of the workers, the sinks, the sinks of what is merged, and the mergers.
func (w *World) groups() []string {
	group := w.cfg.Group
	return []string{group, group + "-sink", group + "-sink-coarse", group + "-coarse"}
}
