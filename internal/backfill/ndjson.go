package backfill

import (
	"context"
	"fmt"
)

// ndjson cuts a file of which every line is what a record of the stream may be: an event, an array of them, OTLP JSON.
func (j *Job) ndjson(ctx context.Context, f *file, compression string, want func(int64) bool, yield func(*chunk) bool) error {
	in, end, err := f.open(ctx, compression)
	if err != nil {
		return err
	}
	defer end()
	err = cut(in, 1, line, want, func(index int64, t *text) bool {
		return t == nil || yield(&chunk{index, t.first, t.last, func(s *stepper) error {
			t.each(s.record)
			return nil
		}})
	})
	if err != nil {
		return fmt.Errorf("load %s: %w", f.path, err)
	}
	return nil
}
