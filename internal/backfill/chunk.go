package backfill

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Bounds of a chunk. They are part of what a token means: other numbers need another planVersion.
const (
	chunkRows  = 1 << 18
	chunkBytes = 32 << 20
)

// chunk is a run of rows of a file.
type chunk struct {
	index       int64
	first, last int64 // numbers of its rows in the file, from 1
	// feed gives the rows to a stepper, under their numbers in the file.
	feed func(*stepper) error
}

// text is a chunk of lines as they stand in the file.
type text struct {
	data  []byte
	ends  []int // of each record in data, its line feed included
	first int64 // number of the first line
	last  int64
}

// taker appends the next record of in to data. It says how many lines that are, none at the end, which it calls io.EOF.
// A last line needs no line feed.
type taker func(in *bufio.Reader, data []byte) (all []byte, lines int64, err error)

// cut calls yield for the chunks of a text that begins with line first, as long as it returns true. The texts whose
// chunk want refuses are nil.
func cut(in *bufio.Reader, first int64, take taker, want func(index int64) bool, yield func(index int64, t *text) bool) error {
	grown := 0 // to what the text before came: growing there step by step costs several times its size
	for index := int64(0); ; index++ {
		wanted := want(index)
		t := &text{first: first, last: first - 1, data: make([]byte, 0, grown)}
		size := 0
		var err error
		for t.last < first-1+chunkRows && size < chunkBytes && err == nil {
			before, n := len(t.data), int64(0)
			t.data, n, err = take(in, t.data)
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read row %d: %w", t.last+1, err)
			}
			if n == 0 {
				break
			}
			size += len(t.data) - before
			t.last += n
			if wanted {
				t.ends = append(t.ends, len(t.data))
			} else {
				t.data = t.data[:0]
			}
		}
		grown = cap(t.data)
		first = t.last + 1
		rows := first - t.first
		if !wanted {
			t = nil
		}
		if rows > 0 && !yield(index, t) || err != nil {
			return nil
		}
	}
}

// line takes one line.
func line(in *bufio.Reader, data []byte) (all []byte, lines int64, err error) {
	start := len(data)
	for {
		part, err := in.ReadSlice('\n')
		data = append(data, part...)
		switch {
		case len(data)-start > chunkBytes:
			return data, 0, errTooLong
		case errors.Is(err, bufio.ErrBufferFull):
		case len(data) == start:
			return data, 0, err
		default:
			return data, 1, err
		}
	}
}

var errTooLong = fmt.Errorf("it is longer than %d MiB; is a quote or a line end missing?", chunkBytes>>20)

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
