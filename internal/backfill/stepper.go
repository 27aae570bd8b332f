package backfill

import (
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/pkg/events"
)

// batchRows is how many rows are made records before they are stepped.
const batchRows = 256

// stepper takes the rows of a chunk, in their order, into a task.
type stepper struct {
	task    *pipeline.Task
	now     int64
	key     []byte // of every record
	chunk   pipeline.Chunk
	arena   []byte // JSON events of the records that wait
	samples samples
	rows    uint64
	rejects []Reject                     // rows that became no record
	each    func(*pipeline.Record) error // gets the records in the place of task, which is nil; not after an error
	err     error
}

// record takes a row that is what a record of the stream may be. value is to stay as it is until the next flush.
func (s *stepper) record(row int64, value []byte) {
	s.chunk.Records = append(s.chunk.Records, pipeline.Record{Offset: row, Key: s.key, Headers: asJSON, Value: value})
	s.rows++
	if len(s.chunk.Records) == batchRows {
		s.flush()
	}
}

// made is record with a value that write appends to the bytes before it.
func (s *stepper) made(row int64, write func(dst []byte) []byte) {
	start := len(s.arena)
	s.arena = write(s.arena)
	s.record(row, s.arena[start:len(s.arena):len(s.arena)])
}

// metric takes a row that is an event already. It returns false, and leaves the row, when the row has to come as a
// record, to be refused.
func (s *stepper) metric(m *events.Metric) bool {
	if s.each != nil {
		return false
	}
	s.flush() // what came before
	if !s.task.StepMetric(m, s.now) {
		return false
	}
	s.rows++
	return true
}

// reject notes a row that is no record.
func (s *stepper) reject(r Reject) {
	s.rejects = append(s.rejects, r)
	s.rows++
}

// flush steps the records that wait.
func (s *stepper) flush() {
	if len(s.chunk.Records) == 0 {
		return
	}
	if s.each == nil {
		s.task.Step(&s.chunk, s.now)
	}
	for i := 0; s.each != nil && s.err == nil && i < len(s.chunk.Records); i++ {
		s.err = s.each(&s.chunk.Records[i])
	}
	s.chunk.Records, s.arena = s.chunk.Records[:0], s.arena[:0]
}

var asJSON = []pipeline.Header{{Key: pipeline.HeaderContentType, Value: []byte("application/json")}}
