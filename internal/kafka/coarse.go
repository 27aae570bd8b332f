package kafka

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
)

var _ coarse.Shard = (*CoarseShard)(nil)

// coarseMemory is what a merger keeps at most to unpack results into, in bytes: a block or two.
const coarseMemory = 16 << 20

// coarseFetch is what a merger's reader asks for at once, in bytes: each has its own, which holds an answer and asks for
// the next. A longer record comes alone, whatever is asked for.
const coarseFetch = 1 << 20

// positionKey is the key of the one state that a merger keeps.
const positionKey = "position"

// RunCoarseShards joins the group of those that merge results (kafka.group with "-coarse") and runs each partition of
// the results topic that it is given, as RunRuleShards does.
func RunCoarseShards(ctx context.Context, cfg Config, log *slog.Logger, run func(context.Context, *CoarseShard) error) error {
	group := &shardGroup{cfg: cfg, role: coarseRole, topic: cfg.Topics.Results.Name, log: log}
	return runShards(ctx, group, openCoarseShard, run)
}

// CoarseShard is one partition of the results topic and the only producer of what is merged of it: its transactional id
// is that of the partition, so that opening it fences whoever had it before and ends his transaction. One goroutine
// uses it.
type CoarseShard struct {
	cfg      Config
	log      *slog.Logger
	producer *transactor
	reader   *kgo.Client
	at       coarse.Position
	lost     int64

	polled kgo.Fetches // by the last Poll, recycled by the next
	end    int64
}

func openCoarseShard(ctx context.Context, cfg Config, partition int32, log *slog.Logger) (*CoarseShard, error) {
	producer, err := newShardProducer(ctx, &cfg, coarseRole, partition, log, cfg.Topics.Coarse.Name, cfg.Topics.StateCoarse.Name)
	if err != nil {
		return nil, err
	}
	s := &CoarseShard{cfg: cfg, log: log, producer: producer, at: coarse.Position{Partition: partition}}
	if err := s.begin(ctx); err != nil {
		producer.client.Close()
		return nil, err
	}
	return s, nil
}

func (s *CoarseShard) close() {
	closeReader(s.reader, s.cfg.Topics.Results.Name, s.at.Partition)
	s.producer.client.Close()
}

// begin finds out where to go on, and begins to read there.
func (s *CoarseShard) begin(ctx context.Context) error {
	committed, err := s.restore(ctx)
	if err != nil {
		return err
	}
	if err := s.place(ctx, committed); err != nil {
		return err
	}
	options, err := s.cfg.options(coarseRole, s.log)
	if err != nil {
		return err
	}
	unpack, err := newMemory(coarseMemory).options(unbounded)
	if err != nil {
		return err
	}
	topics := &s.cfg.Topics
	s.reader, err = kgo.NewClient(append(append(options, unpack...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topics.Results.Name: {s.at.Partition: kgo.NewOffset().At(s.at.Next)}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // what is gone is counted when the shard is opened again
		kgo.FetchMaxBytes(coarseFetch),
		kgo.FetchMaxPartitionBytes(coarseFetch),
		// Markers of transactions are returned: the position says of a partition that all before its end is merged.
		kgo.KeepControlRecords(),
	)...)
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	return nil
}

// restore returns the last committed position. No transaction is open since the shard was: what lies before the end of
// the log is all there is.
func (s *CoarseShard) restore(ctx context.Context) (at coarse.Position, err error) {
	topic := s.cfg.Topics.StateCoarse.Name
	admin := kadm.NewClient(s.producer.client)
	ends, err := listed(ctx, admin, topic, listEnds)
	if err != nil {
		return at, err
	}
	own := map[int32]int64{s.at.Partition: ends[s.at.Partition]}
	positions, err := readPositions(ctx, &s.cfg, admin, own, s.log)
	if err != nil {
		return at, fmt.Errorf("restore the position of %s/%d from %s: %w", s.cfg.Topics.Results.Name, s.at.Partition, topic, err)
	}
	return positions[s.at.Partition], nil
}

// readPositions returns the last positions before ends in the mergers' state, of the partitions that have one.
func readPositions(ctx context.Context, cfg *Config, admin *kadm.Client, ends map[int32]int64,
	log *slog.Logger) (map[int32]coarse.Position, error) {
	topic := cfg.Topics.StateCoarse.Name
	starts, err := listed(ctx, admin, topic, listStarts)
	if err != nil {
		return nil, err
	}
	positions := map[int32]coarse.Position{}
	err = readRange(ctx, cfg, topic, starts, ends, log, func(_ [16]byte, r *kgo.Record) error {
		if string(r.Key) != positionKey {
			return nil
		}
		at, err := parsePosition(r.Value)
		at.Partition = r.Partition
		positions[r.Partition] = at
		return err
	})
	return positions, err
}

// place decides where to read from: where the position says, if it is one in the topic that is there.
func (s *CoarseShard) place(ctx context.Context, committed coarse.Position) error {
	topic := s.cfg.Topics.Results.Name
	admin := kadm.NewClient(s.producer.client)
	var err error
	if s.at.Topic, err = topicID(ctx, admin, topic); err != nil {
		return err
	}
	starts, err := listed(ctx, admin, topic, listStarts)
	if err != nil {
		return err
	}
	switch start, next := starts[s.at.Partition], committed.Next; {
	case committed.Topic != s.at.Topic: // there is none, or it is of a topic that is gone
		s.at.Next = start
	case next < start:
		s.at.Next, s.lost = start, start-next
		s.log.Error("results were deleted before they were merged: they are missing in the tiers of a minute and an hour",
			"topic", topic, "from", next, "to", start)
	default:
		s.at.Next = next
	}
	return nil
}

// topicID is a topic's id, as in tokens.
func topicID(ctx context.Context, admin *kadm.Client, topic string) (string, error) {
	details, err := admin.ListTopics(ctx, topic)
	if err == nil {
		err = details.Error()
	}
	if err != nil {
		return "", fmt.Errorf("look up topic %s: %w", topic, explain(err))
	}
	id := details[topic].ID
	return base64.RawURLEncoding.EncodeToString(id[:]), nil
}

// Position is where Poll begins.
func (s *CoarseShard) Position() coarse.Position { return s.at }

// Lost is how many offsets were deleted before they were merged.
func (s *CoarseShard) Lost() int64 { return s.lost }

// Poll implements coarse.Shard.
func (s *CoarseShard) Poll(ctx context.Context) (coarse.Fetch, error) {
	recycle(s.polled)
	s.polled = s.reader.PollRecords(ctx, maxResultPoll)
	out := coarse.Fetch{Next: s.at.Next, End: s.end}
	if s.polled.IsClientClosed() {
		return out, kgo.ErrClientClosed
	}
	if err := fetchErrors(s.polled, s.log); err != nil {
		return out, err
	}
	s.polled.EachPartition(func(p kgo.FetchTopicPartition) {
		s.end = max(s.end, p.LastStableOffset)
		for _, r := range p.Records {
			s.at.Next = r.Offset + 1
			if !r.Attrs.IsControl() {
				out.Records = append(out.Records, coarse.Record{Offset: r.Offset, Table: tableOf(r), Value: r.Value})
			}
		}
	})
	out.Next, out.End = s.at.Next, s.end
	return out, nil
}

func tableOf(r *kgo.Record) string {
	for _, h := range r.Headers {
		if h.Key == pipeline.HeaderTable {
			return string(h.Value)
		}
	}
	return ""
}

// Ends implements coarse.Shard.
func (s *CoarseShard) Ends(ctx context.Context) (map[int32]int64, error) {
	return listed(ctx, kadm.NewClient(s.producer.client), s.cfg.Topics.Results.Name, listStableEnds)
}

// Commit implements coarse.Shard.
func (s *CoarseShard) Commit(ctx context.Context, blocks []coarse.Block, next int64) error {
	topics := &s.cfg.Topics
	records := make([]kgo.Record, 0, len(blocks)+1)
	for _, b := range blocks {
		records = append(records, kgo.Record{Topic: topics.Coarse.Name, Partition: s.at.Partition, Value: b.Value, Headers: []kgo.RecordHeader{
			{Key: pipeline.HeaderTable, Value: []byte(b.Table)},
			{Key: pipeline.HeaderFormat, Value: []byte(pipeline.FormatNative)},
			{Key: pipeline.HeaderRows, Value: strconv.AppendInt(nil, int64(b.Rows), 10)},
		}})
	}
	if next >= 0 {
		position := coarse.Position{Topic: s.at.Topic, Partition: s.at.Partition, Next: next}
		records = append(records, kgo.Record{Topic: topics.StateCoarse.Name, Partition: s.at.Partition,
			Key: []byte(positionKey), Value: appendPosition(nil, &position)})
	}
	if err := s.producer.transact(ctx, records); err != nil {
		return fmt.Errorf("commit merged results of partition %d: %w", s.at.Partition, explain(err))
	}
	return nil
}

// appendPosition writes a position as docs/format/coarse.md says.
func appendPosition(dst []byte, p *coarse.Position) []byte {
	return strconv.AppendInt(append(append(append(dst, "1 "...), p.Topic...), ' '), p.Next, 10)
}

func parsePosition(value []byte) (p coarse.Position, err error) {
	parts := strings.Split(string(value), " ")
	if len(parts) != 3 || parts[0] != "1" {
		return p, fmt.Errorf("position %q: want \"1 <topic id> <offset>\": it is of a newer version, or damaged", value)
	}
	next, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil || next < 0 {
		return p, fmt.Errorf("position %q: want an offset at its end", value)
	}
	return coarse.Position{Topic: parts[1], Next: next}, nil
}
