package kafka

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// Selection says which dead letters to replay: those at At, or when it is empty all that Filter matches.
type Selection struct {
	At     []Position
	Filter Filter
	DryRun bool // count only
}

// Replayed counts what a replay did.
type Replayed struct {
	Matched      int // dead letters selected
	Replayed     int // produced to their source topic by this run, or what would be, of a dry one
	Already      int // replayed by an earlier run
	Unreplayable int // without their original, or from a topic that is not one of this installation's
}

const (
	replayBatch = 256     // dead letters per transaction
	replayBytes = 4 << 20 // and their bytes, about
	fenceKey    = "fence"
)

// Replay produces the selected dead letters to the partitions they came from, with the header vigie-only when only
// some of their events were refused. It is safe to run twice, also after it was killed: a transaction holds the
// records together with a marker for each in the dlq_replayed topic, and all runs share one transactional id, so a
// run aborts what its predecessor left open before it reads the markers. A second run at the same time ends the
// first with ErrFenced.
func (l *DeadLetters) Replay(ctx context.Context, selection Selection) (Replayed, error) {
	var done Replayed
	r, err := l.newReplayer(ctx)
	if err != nil {
		return done, err
	}
	defer r.close()
	r.done, r.dry = &done, selection.DryRun

	if len(selection.At) == 0 {
		err = l.scan(ctx, &selection.Filter, func(d DeadLetter) error { return r.add(ctx, d) })
	} else {
		err = l.readPositions(ctx, selection.At, func(d DeadLetter) error { return r.add(ctx, d) })
	}
	if err == nil {
		err = r.flush(ctx)
	}
	if err != nil {
		err = fmt.Errorf("replay dead letters: %w", explain(err))
	}
	return done, err
}

// readPositions reads single dead letters; one that is not there is an error before anything is replayed.
func (l *DeadLetters) readPositions(ctx context.Context, at []Position, fn func(DeadLetter) error) error {
	at = slices.Clone(at)
	slices.SortFunc(at, comparePositions)
	at = slices.Compact(at)
	letters := make([]DeadLetter, 0, len(at))
	for _, position := range at {
		letter, err := l.Show(ctx, position)
		if err != nil {
			return err
		}
		letters = append(letters, letter)
	}
	for _, letter := range letters {
		if err := fn(letter); err != nil {
			return err
		}
	}
	return nil
}

// replayer is one run.
type replayer struct {
	cfg      *Config
	producer *transactor
	markers  map[string]bool
	sources  map[string]int // source topic → partitions
	done     *Replayed
	dry      bool

	batch []DeadLetter
	bytes int
}

func (l *DeadLetters) newReplayer(ctx context.Context) (*replayer, error) {
	topics := &l.cfg.Topics
	sources := []string{topics.Metrics.Name, topics.Spans.Name, topics.Logs.Name}
	producer, err := newTransactor(ctx, &l.cfg, "dlq", append(sources, topics.DLQReplayed.Name), l.log,
		kgo.TransactionalID(l.cfg.TransactionalIDPrefix+"-dlq-replay"))
	if err != nil {
		return nil, fmt.Errorf("start replay: %w", err)
	}
	r := &replayer{cfg: &l.cfg, producer: producer, sources: map[string]int{}, markers: map[string]bool{}}
	for _, topic := range sources {
		r.sources[topic] = producer.partitions[topic]
	}
	if err := r.start(ctx, l); err != nil {
		r.close()
		return nil, fmt.Errorf("start replay: %w", explain(err))
	}
	return r, nil
}

func (r *replayer) close() { closeReader(r.producer.client, r.cfg.Topics.DLQReplayed.Name, 0) }

func (r *replayer) start(ctx context.Context, l *DeadLetters) error {
	fence, err := r.fence(ctx)
	if err != nil {
		return err
	}
	return r.loadMarkers(ctx, fence, l)
}

// fence commits a record behind every marker there is, and returns its offset. Its transaction is the first under
// the common id, so an earlier run can commit nothing any more; and where the log of a compacted topic ends
// cannot be known otherwise, because its last records may have been compacted away.
func (r *replayer) fence(ctx context.Context) (int64, error) {
	records := []kgo.Record{r.marker(fenceKey)}
	if err := r.producer.transact(ctx, records); err != nil {
		return 0, err
	}
	return records[0].Offset, r.producer.last.wait(ctx)
}

func (r *replayer) marker(key string) kgo.Record {
	return kgo.Record{Topic: r.cfg.Topics.DLQReplayed.Name, Partition: 0, Key: []byte(key),
		Value: strconv.AppendInt(nil, time.Now().UnixMilli(), 10)}
}

func (r *replayer) loadMarkers(ctx context.Context, fence int64, l *DeadLetters) error {
	topic := r.cfg.Topics.DLQReplayed.Name
	r.producer.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}})
	for next := int64(0); next <= fence; {
		fetches, err := pollFor(ctx, r.producer.client, 2*time.Second, l.log)
		if err != nil {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			r.markers[string(record.Key)] = record.Value != nil
			next = record.Offset + 1
		})
	}
	r.producer.client.PauseFetchTopics(topic)
	return nil
}

func (r *replayer) add(ctx context.Context, d DeadLetter) error {
	r.done.Matched++
	switch {
	case r.sources[d.SourceTopic] == 0 || d.Omitted > 0:
		r.done.Unreplayable++
		return nil
	case r.markers[d.marker()]:
		r.done.Already++
		return nil
	}
	r.batch = append(r.batch, d)
	r.bytes += len(d.Value)
	if len(r.batch) >= replayBatch || r.bytes >= replayBytes {
		return r.flush(ctx)
	}
	return nil
}

// flush replays the batch in one transaction.
func (r *replayer) flush(ctx context.Context) error {
	if !r.dry && len(r.batch) > 0 {
		records := make([]kgo.Record, 0, 2*len(r.batch))
		for i := range r.batch {
			records = append(records, r.original(&r.batch[i]), r.marker(r.batch[i].marker()))
		}
		if err := r.producer.transact(ctx, records); err != nil {
			first := r.batch[0].Position
			return fmt.Errorf("%d dead letters from %d/%d: %w", len(r.batch), first.Partition, first.Offset, err)
		}
	}
	r.done.Replayed += len(r.batch)
	r.batch, r.bytes = r.batch[:0], 0
	return nil
}

// original is the record as it was, to its own partition, so that the order of a key holds among the replayed.
func (r *replayer) original(d *DeadLetter) kgo.Record {
	record := kgo.Record{Topic: d.SourceTopic, Partition: d.SourcePartition, Key: d.Key, Value: d.Value, Timestamp: d.timestamp}
	if d.SourcePartition < 0 || int(d.SourcePartition) >= r.sources[d.SourceTopic] {
		record.Partition = byKey
	}
	for _, h := range d.Headers {
		if !strings.EqualFold(h.Key, pipeline.HeaderOnly) {
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
	}
	if d.Events != "" {
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: pipeline.HeaderOnly, Value: []byte(d.Events)})
	}
	return record
}
