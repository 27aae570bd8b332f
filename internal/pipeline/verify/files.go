package verify

import (
	"context"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/pkg/events"
)

// LoadedFile is what became of a file's rows.
type LoadedFile struct {
	Oldest, Newest int64 // event times that were taken, bounds included, Unix nanoseconds
	// Parts are those of rows of windows and increases that they are in, by rule; without rules that the file has not
	// filled.
	Parts map[uint64]string
}

// Files are files that a backfill has loaded. What it rejected of them is in no dead letter, and no limit has dropped
// anything.
type Files interface {
	// Records calls fn for each row, as a record that is valid during the call, with what became of its file.
	Records(ctx context.Context, fn func(r *pipeline.Record, of *LoadedFile) error) error
}

// files reads the rows of files, and calls after behind each.
func (p *reading) files(ctx context.Context, after func() error) error {
	of := p.v.cfg.Files
	if of == nil {
		return nil
	}
	reader := pipeline.NewReader(p.v.cfg.Signal, p.v.cfg.FileDecoder)
	err := of.Records(ctx, func(r *pipeline.Record, of *LoadedFile) error {
		batch, standsFor := reader.Read(r)
		p.row(batch, standsFor, r.Timestamp, of)
		return after()
	})
	if err != nil {
		return err
	}
	return p.grown.release(after)
}

// row takes what a row of a file holds. batch is never nil: rows have no replay header.
func (p *reading) row(batch *events.Batch, standsFor func(int) bool, timestamp int64, of *LoadedFile) {
	if p.first {
		p.v.sum.Records++
		p.v.sum.Refused += uint64(len(batch.Rejects))
	}
	each(batch, func(index int, e *event) {
		if !standsFor(index) || p.v.cfg.Tenant != "" && e.metric.Tenant != string(p.v.cfg.Tenant) {
			return
		}
		e.timestamp, e.file = timestamp, of
		taken := e.metric.Time >= of.Oldest && e.metric.Time <= of.Newest
		switch {
		case p.first && taken:
			p.v.sum.Events++
		case p.first:
			p.v.sum.Refused++
		}
		if taken {
			p.take(e)
			p.grown.add(e)
		}
	})
}

// each calls take for the events of a batch.
func each(batch *events.Batch, take func(index int, e *event)) {
	for i := range batch.Metrics {
		take(batch.MetricIndex[i], &event{metric: batch.Metrics[i], fields: metricFields{&batch.Metrics[i]}})
	}
	for i := range batch.Spans {
		take(batch.SpanIndex[i], &event{metric: ofSpan(&batch.Spans[i]), fields: spanFields{&batch.Spans[i]}})
	}
	for i := range batch.Logs {
		take(batch.LogIndex[i], &event{metric: ofLog(&batch.Logs[i]), fields: logFields{&batch.Logs[i]}})
	}
}

// noTopic is the source of a recount of files alone.
type noTopic struct{}

var _ Source = noTopic{}

func (noTopic) Span(context.Context, time.Time) (Span, error) { return Span{}, nil }
func (noTopic) Settle(context.Context, Offsets) error         { return nil }
func (noTopic) Records(context.Context, Offsets, Offsets, func(int32, *pipeline.Record) error) error {
	return nil
}
func (noTopic) Refusals(context.Context, time.Time, func(Refusal) error) error { return nil }
