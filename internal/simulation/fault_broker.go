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
	what    string // error, move, fence, trim, compact
	request kmsg.Key
	code    *kerr.Error
	times   int
	topic   string // a key of topicsOf, or "": any, of produces that of results
	moved   string // coordinators or leaders
	process string
}

func parseBrokerFault(s *statement) Step {
	f := brokerFault{what: s.oneOf("what", "error", "move", "fence", "trim", "compact")}
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
		return "fault broker error " + f.request.Name() + " " + f.code.Message + add(add(nil, "times", f.times, 1), "topic", f.topic, "").String()
	case "move":
		return "fault broker move " + f.moved
	case "fence":
		return "fault broker fence " + f.process
	}
	return "fault broker " + f.what
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
	kmsg.Produce:     {"results", "state", "letters"},
	kmsg.Fetch:       {"metrics", "state", "results"},
	kmsg.ListOffsets: {"metrics", "state"},
}

// selected keeps the faults of the kinds of requests that the producers outside make, too, from hitting them.
func (w *World) selected(f brokerFault) kfake.Fault {
	topics := &w.cfg.Topics
	names := map[string]string{"metrics": topics.Metrics.Name, "state": topics.StateMetrics.Name, "results": topics.Results.Name, "letters": topics.DLQ.Name}
	out := kfake.Fault{Keys: []kmsg.Key{f.request}, Topic: names[f.topic], Err: f.code, Count: f.times}
	if f.request == kmsg.Produce && f.topic == "" {
		out.Topic = topics.Results.Name
	}
	return out
}

// trim deletes the records of events and results that their groups have read, as retention does.
func (w *World) trim() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, group := range []string{w.cfg.Group, w.cfg.Group + "-sink"} {
		committed, err := w.admin.FetchOffsets(ctx, group)
		if errors.Is(err, kerr.GroupIDNotFound) || kerr.IsRetriable(err) {
			continue // nobody has read anything, or a fault hit this request
		}
		if err != nil {
			return fmt.Errorf("fetch the offsets of %s: %w", group, err)
		}
		for _, o := range committed.Sorted() {
			if o.At <= 0 {
				continue
			}
			if err := w.cluster.DeleteRecords(o.Topic, o.Partition, o.At); err != nil {
				return fmt.Errorf("delete records of %s/%d before %d: %w", o.Topic, o.Partition, o.At, err)
			}
			w.hits.add("broker trim", 1)
		}
	}
	return nil
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
