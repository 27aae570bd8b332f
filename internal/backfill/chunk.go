package backfill

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// Bounds of a chunk. They are part of what a token means: other numbers need another planVersion.
const (
	chunkRows  = 1 << 18
	chunkBytes = 32 << 20
)

// chunk is a run of rows of a file.
type chunk struct {
	index int64
	// load reads the rows as records, whose offsets are the rows' numbers in the file from 1, and the rows that cannot be
	// one.
	load func() ([]pipeline.Record, []Reject, error)
}

// text is a chunk of lines as they stand in the file.
type text struct {
	data  []byte
	ends  []int // of each line in data, its line feed included
	first int64 // number of the first line
}

// lines calls yield for the chunks of a text, as long as it returns true. The texts whose chunk want refuses are nil.
func lines(in *bufio.Reader, want func(index int64) bool, yield func(index int64, t *text) bool) error {
	first := int64(1)
	for index := int64(0); ; index++ {
		wanted := want(index)
		t := &text{first: first}
		size, rows := 0, int64(0)
		var err error
		for rows < chunkRows && size < chunkBytes && err == nil {
			var n int
			n, err = t.line(in)
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read row %d: %w", first+rows, err)
			}
			if n == 0 {
				break
			}
			size += n
			rows++
			if wanted {
				t.ends = append(t.ends, len(t.data))
			} else {
				t.data = t.data[:0]
			}
		}
		if !wanted {
			t = nil
		}
		if rows > 0 && !yield(index, t) || err != nil {
			return nil
		}
		first += rows
	}
}

// line appends one line and returns its length. The last line needs no line feed.
func (t *text) line(in *bufio.Reader) (n int, err error) {
	for {
		part, err := in.ReadSlice('\n')
		t.data = append(t.data, part...)
		if n += len(part); n > chunkBytes {
			return n, fmt.Errorf("it is longer than %d MiB; is a quote or a line end missing?", chunkBytes>>20)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return n, err
		}
	}
}

// each calls fn for every line that is not blank, without its line end.
func (t *text) each(fn func(row int64, line []byte)) {
	from := 0
	for i, end := range t.ends {
		if line := bytes.TrimSpace(t.data[from:end]); len(line) > 0 {
			fn(t.first+int64(i), line)
		}
		from = end
	}
}
