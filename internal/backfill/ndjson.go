package backfill

import (
	"context"
	"fmt"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// ndjson cuts a file of which every line is what a record of the stream may be: an event, an array of them, OTLP JSON.
func (j *Job) ndjson(ctx context.Context, f *file, compression string, want func(int64) bool, yield func(*chunk) bool) error {
	in, end, err := f.open(ctx, compression)
	if err != nil {
		return err
	}
	defer end()
	err = cut(in, 1, line, want, func(index int64, t *text) bool {
		return t == nil || yield(&chunk{index, t.first, t.last, func() ([]pipeline.Record, []Reject, error) {
			records := make([]pipeline.Record, 0, len(t.ends))
			t.each(func(row int64, line []byte) {
				records = append(records, pipeline.Record{Offset: row, Key: j.key, Headers: asJSON, Value: line})
			})
			return records, nil, nil
		}})
	})
	if err != nil {
		return fmt.Errorf("load %s: %w", f.path, err)
	}
	return nil
}

var asJSON = []pipeline.Header{{Key: pipeline.HeaderContentType, Value: []byte("application/json")}}
