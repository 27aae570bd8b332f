package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/pkg/events"
)

var _ verify.Source = (*SourceTopic)(nil)

// ErrBehind says that results were not stored within the time given.
var ErrBehind = errors.New("results are behind")

// ErrDeleted says that retention deleted records while they were being read.
var ErrDeleted = errors.New("records were deleted while they were being read")

// SourceTopic reads a source topic and follows its records to where they are stored. Its methods open their own
// connections.
type SourceTopic struct {
	cfg    Config
	topic  string
	wait   time.Duration
	log    *slog.Logger
	merged bool
}

// NewSourceTopic returns access to a topic of cfg's installation. Settle waits at most so long.
func NewSourceTopic(cfg Config, topic string, wait time.Duration, log *slog.Logger) *SourceTopic {
	return &SourceTopic{cfg: cfg, topic: topic, wait: wait, log: log}
}

// AwaitMerged has Settle wait for the tiers of a minute and an hour, too. These take up to stream.coarse.interval.
func (s *SourceTopic) AwaitMerged() { s.merged = true }

func (s *SourceTopic) offsets(ctx context.Context, topic string, list lister) (map[int32]int64, error) {
	return offsetsOf(ctx, &s.cfg, topic, s.log, list)
}

// Span implements verify.Source.
func (s *SourceTopic) Span(ctx context.Context, since time.Time) (verify.Span, error) {
	starts, err := s.offsets(ctx, s.topic, listStarts)
	if err != nil {
		return verify.Span{}, err
	}
	ends, err := s.offsets(ctx, s.topic, listStableEnds)
	if err != nil {
		return verify.Span{}, err
	}
	span := verify.Span{From: starts, To: ends, Cut: map[int32]time.Time{}}
	for partition, start := range starts {
		if start > 0 {
			span.Cut[partition] = time.Time{}
		}
	}
	if !since.IsZero() {
		after, err := s.offsets(ctx, s.topic, firstAt(since))
		if err != nil {
			return verify.Span{}, err
		}
		for partition, first := range after {
			if first > starts[partition] {
				span.From[partition] = first
				delete(span.Cut, partition) // what was deleted was before since
			}
		}
	}
	return span, s.setTimes(ctx, span.Cut)
}

// setTimes sets the times of the first records of partitions, where there are any.
func (s *SourceTopic) setTimes(ctx context.Context, of map[int32]time.Time) error {
	if len(of) == 0 {
		return nil
	}
	admin, err := s.cfg.reader(s.log)
	if err != nil {
		return err
	}
	defer admin.Close()
	firsts, err := listing(ctx, admin, s.topic, firstAt(time.UnixMilli(0)))
	if err != nil {
		return err
	}
	firsts.Each(func(o kadm.ListedOffset) {
		if _, asked := of[o.Partition]; asked && o.Timestamp >= 0 {
			of[o.Partition] = time.UnixMilli(o.Timestamp)
		}
	})
	return nil
}

// Settle implements verify.Source. Offsets say it, not clocks: the workers' group has nothing left to read before end,
// and then the sink's group nothing of the results that were there at that moment; with AwaitMerged, the mergers have
// nothing left of them either, and then the sink of what is merged nothing of what was there when they had not.
func (s *SourceTopic) Settle(ctx context.Context, end verify.Offsets) error {
	waiting, cancel := context.WithTimeout(ctx, s.wait)
	defer cancel()
	if err := s.await(waiting, s.cfg.Group, s.topic, end); err != nil {
		return err
	}
	results, letters := s.cfg.Topics.Results.Name, s.cfg.Topics.DLQ.Name
	stored, err := s.offsets(ctx, results, listEnds)
	if err != nil {
		return err
	}
	lettered, err := s.offsets(ctx, letters, listEnds)
	if err != nil {
		return err
	}
	if err := s.await(waiting, s.cfg.groupOf(sinkRole), results, stored); err != nil {
		return err
	}
	if s.merged {
		if err := s.awaitMerged(waiting, stored); err != nil {
			return err
		}
	}
	return s.awaitStable(waiting, letters, lettered)
}

// awaitStable returns when all before end can be read.
func (s *SourceTopic) awaitStable(ctx context.Context, topic string, end map[int32]int64) error {
	for {
		stable, err := s.offsets(ctx, topic, listStableEnds)
		if err != nil {
			return err
		}
		open := false
		for partition, to := range end {
			open = open || stable[partition] < to
		}
		if !open {
			return nil
		}
		if pause.For(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("wait for topic %s: a transaction is open: %w: give it time with -wait", topic, ErrBehind)
		}
	}
}

// await returns when the group has nothing left to read before end.
func (s *SourceTopic) await(ctx context.Context, group, topic string, end map[int32]int64) error {
	return s.awaitReader(ctx, &topicReader{
		name: "group " + group, topic: topic, every: 200 * time.Millisecond,
		passed: func(ctx context.Context) (map[int32]int64, error) { return s.committed(ctx, group, topic) },
		reads:  func(*kgo.Record) bool { return true },
	}, end)
}

// awaitMerged returns when the rows before end, of the results topic, are in the tiers of a minute and an hour.
func (s *SourceTopic) awaitMerged(ctx context.Context, end map[int32]int64) error {
	err := s.awaitReader(ctx, &topicReader{
		name: "mergers", topic: s.cfg.Topics.Results.Name, every: time.Second, passed: s.mergedUpTo,
		reads: func(r *kgo.Record) bool { return tableOf(r) == pipeline.TablePanes },
	}, end)
	if err != nil {
		return err
	}
	topic := s.cfg.Topics.Coarse.Name
	merged, err := s.offsets(ctx, topic, listEnds)
	if err != nil {
		return err
	}
	return s.await(ctx, s.cfg.groupOf(sinkCoarseRole), topic, merged)
}

// mergedUpTo is how far the mergers say they are with the results topic that is there.
func (s *SourceTopic) mergedUpTo(ctx context.Context) (map[int32]int64, error) {
	topic, states := s.cfg.Topics.Results.Name, s.cfg.Topics.StateCoarse.Name
	admin, err := s.cfg.reader(s.log)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	id, err := topicID(ctx, admin, topic)
	if err != nil {
		return nil, err
	}
	ends, err := listed(ctx, admin, states, listStableEnds)
	if err != nil {
		return nil, err
	}
	positions, err := readPositions(ctx, &s.cfg, admin, ends, s.log)
	if err != nil {
		return nil, fmt.Errorf("read how far mergers are from %s: %w", states, err)
	}
	out := map[int32]int64{}
	for partition, at := range positions {
		if at.Topic == id {
			out[partition] = at.Next
		}
	}
	return out, nil
}

// topicReader reads a topic, and says how far it is.
type topicReader struct {
	name, topic string
	every       time.Duration // between two looks at it
	passed      func(context.Context) (map[int32]int64, error)
	reads       func(*kgo.Record) bool // the record matters to it
}

// awaitReader returns when the reader has nothing left to read before end.
func (s *SourceTopic) awaitReader(ctx context.Context, of *topicReader, end map[int32]int64) error {
	last := "the brokers have not said how far it is"
	for {
		behind, err := s.behind(ctx, of, end)
		switch {
		case err == nil && behind == "":
			return nil
		case err == nil:
			last = behind
		case ctx.Err() == nil:
			return err
		}
		if pause.For(ctx, of.every) != nil {
			return fmt.Errorf("wait for %s on topic %s (%s): %w: is stream running? give it time with -wait",
				of.name, of.topic, last, ErrBehind)
		}
	}
}

// behind describes the first partition whose records before end the reader has not all passed; "" when there is none.
func (s *SourceTopic) behind(ctx context.Context, of *topicReader, end map[int32]int64) (string, error) {
	topic := of.topic
	passed, err := of.passed(ctx)
	if err != nil {
		return "", err
	}
	stable, err := s.offsets(ctx, topic, listStableEnds)
	if err != nil {
		return "", err
	}
	starts, err := s.offsets(ctx, topic, listStarts)
	if err != nil {
		return "", err
	}
	for partition, to := range end {
		from := max(passed[partition], starts[partition])
		if stable[partition] < to {
			return fmt.Sprintf("partition %d has an open transaction at %d", partition, stable[partition]), nil
		}
		if from >= to {
			continue
		}
		// Only markers may be left, which nobody need commit, or what does not matter.
		left := int64(-1)
		note := func(offset int64) error {
			left = offset
			return errEnough
		}
		err := s.read(ctx, topic, map[int32]int64{partition: from}, map[int32]int64{partition: to},
			func(_ int32, batch refusedBatch) error { return note(batch.Offset) },
			func(_ [16]byte, r *kgo.Record) error {
				if !of.reads(r) {
					return nil
				}
				return note(r.Offset)
			})
		if err != nil && !errors.Is(err, errEnough) {
			return "", err
		}
		if left >= 0 {
			return fmt.Sprintf("partition %d is at %d of %d", partition, left, to), nil
		}
	}
	return "", nil
}

var errEnough = errors.New("enough")

func (s *SourceTopic) committed(ctx context.Context, group, topic string) (map[int32]int64, error) {
	admin, err := s.cfg.reader(s.log)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	answer, err := admin.FetchOffsetsForTopics(ctx, group, topic)
	if err == nil {
		err = answer.Error()
	}
	if errors.Is(err, kerr.GroupIDNotFound) {
		return map[int32]int64{}, nil // nobody has read anything yet
	}
	if err != nil {
		return nil, fmt.Errorf("read offsets of group %s: %w", group, err)
	}
	out := map[int32]int64{}
	answer.Each(func(o kadm.OffsetResponse) {
		if o.Topic == topic {
			out[o.Partition] = o.At
		}
	})
	return out, nil
}

// read is readRange with batches unpacked as workers do.
func (s *SourceTopic) read(ctx context.Context, topic string, from, to map[int32]int64,
	refused func(int32, refusedBatch) error, fn func([16]byte, *kgo.Record) error) error {
	asker, err := s.cfg.asker(s.log)
	if err != nil {
		return err
	}
	defer asker.Close()
	how := unpacking{memory: newMemory(4 * int64(s.cfg.FetchBuffer)), most: int(s.cfg.MaxUnpacked),
		asker: asker, refused: refused}
	return readRangeInto(ctx, &s.cfg, topic, from, to, how, s.log, fn)
}

// Records implements verify.Source. Its error is ErrDeleted, wrapped, when retention was faster.
func (s *SourceTopic) Records(ctx context.Context, from, to verify.Offsets, fn func(int32, *pipeline.Record) error) error {
	var (
		record  pipeline.Record
		headers []pipeline.Header
	)
	refused := func(partition int32, batch refusedBatch) error { return fn(partition, &batch.Record) }
	err := s.read(ctx, s.topic, from, to, refused, func(_ [16]byte, r *kgo.Record) error {
		record, headers = single(r, headers[:0])
		return fn(r.Partition, &record)
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", s.topic, explain(err))
	}
	starts, err := s.offsets(ctx, s.topic, listStarts)
	if err != nil {
		return err
	}
	for partition := range to {
		if first, asked := from[partition]; asked && starts[partition] > first && first < to[partition] {
			return fmt.Errorf("read %s/%d from %d: it begins at %d now: %w: run again", s.topic, partition, first,
				starts[partition], ErrDeleted)
		}
	}
	return nil
}

// Refusals implements verify.Source.
func (s *SourceTopic) Refusals(ctx context.Context, since time.Time, fn func(verify.Refusal) error) error {
	letters := NewDeadLetters(s.cfg, s.log)
	return letters.scan(ctx, &Filter{Topic: s.topic, Since: since}, func(d DeadLetter) error {
		r := verify.Refusal{
			Partition: d.SourcePartition, Offset: d.SourceOffset, Timestamp: d.timestamp.UnixMilli(), At: d.Time.UnixMilli(),
			Reason: events.Reason(d.Reason), Unknown: d.Omitted > 0,
		}
		for part := range strings.SplitSeq(d.Events, ",") {
			if n, err := strconv.Atoi(part); err == nil {
				r.Events = append(r.Events, n)
			}
		}
		slices.Sort(r.Events)
		return fn(r)
	})
}
