package backfill

import (
	"context"
	"strconv"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/tenants"
)

// leadIn takes the events that were refused and lie less than Replace.LeadIn before the range: what they say of
// cumulative series is kept with the samples, and they count for nothing else. It leaves the dead letters of what does
// not lie there either.
func (w *worker) leadIn(s *stepper) {
	of := w.Job.cfg.Replace
	if of == nil || of.LeadIn == 0 || len(w.drained.Letters) == 0 {
		return
	}
	cfg, now := w.cfg, of.From.UnixMilli()
	cfg.MaxPast, cfg.Rollups = of.LeadIn, nil
	for i := range w.cfg.Rollups {
		if increases(&w.cfg.Rollups[i]) {
			cfg.Rollups = append(cfg.Rollups, w.cfg.Rollups[i])
		}
	}
	task := pipeline.NewTask(pipeline.TaskConfig{
		Partition: s.chunk.Partition, Signal: s.chunk.Signal, Config: cfg, Decoder: w.decoder, Scratch: w.scratch,
		Increases: s.samples.add, Limits: tenants.Unlimited,
	})
	chunk := pipeline.Chunk{Partition: s.chunk.Partition, Signal: s.chunk.Signal}
	for i := range w.drained.Letters {
		chunk.Records = append(chunk.Records, w.refused(&w.drained.Letters[i]))
	}
	task.Step(&chunk, now)
	before := pipeline.NewOutputs(&cfg)
	task.Drain(before, now)
	w.drained.Letters = before.Letters
	w.Job.before.Add(before.Tally.Events)
}

// refused is the record of a dead letter, of which it stands for the refused events only.
func (w *worker) refused(letter *pipeline.Message) pipeline.Record {
	r := pipeline.Record{Key: w.key, Headers: asJSON, Value: letter.Value}
	for _, h := range letter.Headers {
		switch {
		case h.Key == pipeline.HeaderDLQOffset:
			r.Offset, _ = strconv.ParseInt(string(h.Value), 10, 64)
		case h.Key == pipeline.HeaderDLQEvents && len(h.Value) > 0:
			r.Headers = []pipeline.Header{asJSON[0], {Key: pipeline.HeaderOnly, Value: h.Value}}
		}
	}
	return r
}

// leads says whether a sample lies before what is replaced: it counts for nothing but what comes after it.
func (j *Job) leads(at int64) bool {
	return j.cfg.Replace != nil && at < j.cfg.Replace.From.UnixNano()
}

// arrive drops what samples of the lead-in counted; what they say of their series stays. The series are announced: they
// are not again with the next rows.
func (f *filling) arrive(ctx context.Context) error {
	if err := takeWindows(f.task)(func(_, _ []byte) error { return nil }); err != nil {
		return err
	}
	f.drained.Reset()
	f.task.Drain(f.drained, f.now)
	f.drained.Rollups = nil
	if f.set.rollup.Window == nil {
		f.led++
		if err := f.insert(ctx, -f.led); err != nil {
			return err
		}
	}
	f.task.Committed(false)
	f.n = 0
	return nil
}

// maxLeadIn is after which a series begins anew anyway.
const maxLeadIn = increaseIdle

func (r *Replace) validLeadIn() bool {
	return r.LeadIn >= 0 && r.LeadIn <= maxLeadIn && r.LeadIn%time.Second == 0
}
