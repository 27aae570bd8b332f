package kafka

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// dlqPrefix begins the headers of a dead letter that are not the original's (docs/format/dlq.md).
const dlqPrefix = "vigie-dlq-"

// ErrNoDeadLetter says that there is no dead letter at a position: never was, or it has expired.
var ErrNoDeadLetter = errors.New("no dead letter there")

// Position names one dead letter.
type Position struct {
	Partition int32
	Offset    int64
}

// DeadLetter is one record of the dead-letter topic.
type DeadLetter struct {
	Position
	Time            time.Time // when it was dead-lettered
	Reason          string    // one of a bounded set
	Detail          string
	SourceTopic     string // "" when the record does not say: it cannot be replayed
	SourcePartition int32
	SourceOffset    int64
	Events          string            // "" for the whole record, else the indexes of the refused events, "3,17"
	Key, Value      []byte            // the original's
	Headers         []pipeline.Header // the original's
	// Omitted is the size of an original that was too large to keep: Value and Headers are empty, and it cannot be
	// replayed.
	Omitted   int64
	topicID   [16]byte
	timestamp time.Time // the original's, or Time
}

// Tenant is the tenant the original record names, "" when it names none.
func (d *DeadLetter) Tenant() string {
	for _, h := range d.Headers {
		if strings.EqualFold(h.Key, pipeline.HeaderTenant) {
			return string(h.Value)
		}
	}
	tenant, _, _ := strings.Cut(string(d.Key), "#")
	return tenant
}

// marker is the key under which a replay of this dead letter is remembered. It holds for one incarnation of the
// topic.
func (d *DeadLetter) marker() string {
	return base64.RawURLEncoding.EncodeToString(d.topicID[:]) + "/" + itoa(d.Partition) + "/" + itoa(d.Offset)
}

// Filter selects dead letters; empty fields select all.
type Filter struct {
	Reason, Topic, Tenant string
	Since, Until          time.Time // when it was dead-lettered: Since ≤ Time < Until
}

func (f *Filter) match(d *DeadLetter) bool {
	return (f.Reason == "" || f.Reason == d.Reason) && (f.Topic == "" || f.Topic == d.SourceTopic) &&
		(f.Tenant == "" || f.Tenant == d.Tenant()) &&
		(f.Since.IsZero() || !d.Time.Before(f.Since)) && (f.Until.IsZero() || d.Time.Before(f.Until))
}

// DeadLetters reads and replays the dead-letter topic. Its methods open their own connections.
type DeadLetters struct {
	cfg Config
	log *slog.Logger
}

// NewDeadLetters returns access to the dead letters of cfg's installation.
func NewDeadLetters(cfg Config, log *slog.Logger) *DeadLetters { return &DeadLetters{cfg, log} }

// List returns the newest matching dead letters, at most limit, oldest first. It reads the topic from
// filter.Since (or its start) to its present end.
func (l *DeadLetters) List(ctx context.Context, filter Filter, limit int) ([]DeadLetter, error) {
	var found []DeadLetter
	older := func(a, b DeadLetter) int { return a.Time.Compare(b.Time) }
	err := l.scan(ctx, &filter, func(d DeadLetter) error {
		if found = append(found, d); len(found) >= 2*limit+64 {
			slices.SortStableFunc(found, older)
			found = slices.Delete(found, 0, len(found)-limit)
		}
		return nil
	})
	slices.SortStableFunc(found, older)
	return found[max(0, len(found)-limit):], err
}

// Show returns one dead letter, or ErrNoDeadLetter.
func (l *DeadLetters) Show(ctx context.Context, at Position) (DeadLetter, error) {
	var found *DeadLetter
	from, to := map[int32]int64{at.Partition: at.Offset}, map[int32]int64{at.Partition: at.Offset + 1}
	err := l.read(ctx, from, to, func(d DeadLetter) error {
		if d.Position == at {
			found = &d
		}
		return nil
	})
	if err == nil && found == nil {
		err = ErrNoDeadLetter
	}
	if err != nil {
		return DeadLetter{}, fmt.Errorf("show dead letter %d/%d: %w", at.Partition, at.Offset, err)
	}
	return *found, nil
}

// scan calls fn for every matching dead letter that is there now, per partition in order.
func (l *DeadLetters) scan(ctx context.Context, filter *Filter, fn func(DeadLetter) error) error {
	var from map[int32]int64
	if !filter.Since.IsZero() {
		var err error
		if from, err = l.offsets(ctx, firstAt(filter.Since)); err != nil {
			return err
		}
	}
	return l.read(ctx, from, nil, func(d DeadLetter) error {
		if !filter.match(&d) {
			return nil
		}
		return fn(d)
	})
}

func (l *DeadLetters) offsets(ctx context.Context, list lister) (map[int32]int64, error) {
	return offsetsOf(ctx, &l.cfg, l.cfg.Topics.DLQ.Name, l.log, list)
}

// read calls fn for the dead letters from (or the start) up to before to (or the present end). When both are
// given, only their partitions are read.
func (l *DeadLetters) read(ctx context.Context, from, to map[int32]int64, fn func(DeadLetter) error) error {
	starts, err := l.offsets(ctx, listStarts)
	if err != nil {
		return err
	}
	ends, err := l.offsets(ctx, listStableEnds)
	if err != nil {
		return err
	}
	begin := map[int32]int64{}
	for partition, end := range ends {
		if limit, wanted := to[partition]; wanted {
			ends[partition] = min(end, limit)
		} else if to != nil {
			delete(ends, partition)
		}
		begin[partition] = max(starts[partition], from[partition])
	}
	err = readRange(ctx, &l.cfg, l.cfg.Topics.DLQ.Name, begin, ends, l.log, func(id [16]byte, r *kgo.Record) error {
		return fn(deadLetter(id, r))
	})
	if err != nil {
		return fmt.Errorf("read dead letters: %w", err)
	}
	return nil
}

// deadLetter reads a record of the topic; headers that do not parse leave their field empty.
func deadLetter(id [16]byte, r *kgo.Record) DeadLetter {
	d := DeadLetter{
		Position: Position{r.Partition, r.Offset}, Time: r.Timestamp, timestamp: r.Timestamp,
		SourcePartition: byKey, SourceOffset: -1, Key: r.Key, Value: r.Value, topicID: id,
	}
	for _, h := range r.Headers {
		value := string(h.Value)
		switch h.Key {
		case pipeline.HeaderDLQReason:
			d.Reason = value
		case pipeline.HeaderDLQDetail:
			d.Detail = value
		case pipeline.HeaderDLQTopic:
			d.SourceTopic = value
		case pipeline.HeaderDLQEvents:
			d.Events = value
		case pipeline.HeaderDLQPartition:
			if n, err := strconv.ParseInt(value, 10, 32); err == nil {
				d.SourcePartition = int32(n)
			}
		case pipeline.HeaderDLQOffset:
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				d.SourceOffset = n
			}
		case pipeline.HeaderDLQTimestamp:
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				d.timestamp = time.UnixMilli(n)
			}
		case pipeline.HeaderDLQOmitted:
			d.Omitted, _ = strconv.ParseInt(value, 10, 64)
		default:
			if !strings.HasPrefix(h.Key, dlqPrefix) {
				d.Headers = append(d.Headers, pipeline.Header{Key: h.Key, Value: h.Value})
			}
		}
	}
	return d
}

func comparePositions(a, b Position) int {
	return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
}
