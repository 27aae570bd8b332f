package backfill

import (
	"bufio"
	"bytes"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// mostRuns is how many runs are read at once.
const mostRuns = 64

// merge calls fn for the records of runs, ascending in key and each key once: values of a key are joined, in the order
// of names.
func (r *runs) merge(names []string, fn put) error {
	names = slices.Clone(names)
	for round := 0; len(names) > mostRuns; round++ {
		for i := 0; i*mostRuns < len(names); i++ { // the first of each group takes the place of all
			group := names[i*mostRuns : min((i+1)*mostRuns, len(names))]
			joined := fmt.Sprintf("merge-%d-%d", round, i)
			if err := r.write(joined, func(put put) error { return r.mergeFew(group, put) }); err != nil {
				return err
			}
			defer os.Remove(r.path(joined))
			names[i] = joined
		}
		names = names[:(len(names)+mostRuns-1)/mostRuns]
	}
	return r.mergeFew(names, fn)
}

// mergeFew is merge of so few runs that all are read at once.
func (r *runs) mergeFew(names []string, fn put) error {
	next, err := r.open(names)
	defer func() { next.close() }()
	if err != nil {
		return err
	}
	var (
		key, joined []byte
		values      [][]byte
	)
	for len(next) > 0 {
		key = append(key[:0], next[0].key...)
		if values, err = next.take(key, values[:0]); err != nil {
			return err
		}
		value := values[0]
		if len(values) > 1 {
			if joined, err = r.join(joined[:0], values...); err != nil {
				return err
			}
			value = joined
		}
		if err := fn(key, value); err != nil {
			return err
		}
	}
	return nil
}

// open opens runs at their first records, but for those that are empty. What it returns is to be closed, also beside an
// error.
func (r *runs) open(names []string) (next readers, err error) {
	for i, name := range names {
		in, err := openRun(r.path(name), i)
		if err != nil {
			return next, err
		}
		switch err := in.read(); {
		case err == nil:
			next = append(next, in)
		case errors.Is(err, io.EOF):
			in.close()
		default:
			in.close()
			return next, err
		}
	}
	heap.Init(&next)
	return next, nil
}

// reader reads a run.
type reader struct {
	path       string
	order      int // among runs that have the same key
	file       *os.File
	packed     *zstd.Decoder
	text       *bufio.Reader
	key, value []byte
}

func openRun(path string, order int) (*reader, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read what was kept: %w", err)
	}
	packed, err := zstd.NewReader(file, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("read what was kept in %s: %w", path, errors.Join(err, file.Close()))
	}
	return &reader{path: path, order: order, file: file, packed: packed, text: bufio.NewReader(packed)}, nil
}

// read goes on to the next record; io.EOF says that there is none.
func (r *reader) read() error {
	size, err := binary.ReadUvarint(r.text)
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	var value uint64
	if err == nil {
		value, err = binary.ReadUvarint(r.text)
	}
	for _, part := range []struct {
		into *[]byte
		size uint64
	}{{&r.key, size}, {&r.value, value}} {
		if err == nil {
			*part.into = slices.Grow((*part.into)[:0], int(part.size))[:part.size]
			_, err = io.ReadFull(r.text, *part.into)
		}
	}
	if err != nil {
		return fmt.Errorf("read what was kept in %s: %w; drop the folder, and what is missing is made again", r.path, noEnd(err))
	}
	return nil
}

// noEnd keeps an end in the middle of a record from being taken for the end of a run.
func noEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (r *reader) close() {
	r.packed.Close()
	_ = r.file.Close()
}

// readers is a heap of runs by their key.
type readers []*reader

// take appends the values of the least key, which is key, and goes on to the next. Runs that are at their end are
// closed.
func (r *readers) take(key []byte, values [][]byte) ([][]byte, error) {
	for len(*r) > 0 && bytes.Equal((*r)[0].key, key) {
		in := (*r)[0]
		values = append(values, bytes.Clone(in.value))
		switch err := in.read(); {
		case err == nil:
			heap.Fix(r, 0)
		case errors.Is(err, io.EOF):
			in.close()
			heap.Pop(r)
		default:
			return values, err
		}
	}
	return values, nil
}

func (r readers) close() {
	for _, in := range r {
		in.close()
	}
}

func (r readers) Len() int { return len(r) }

func (r readers) Less(i, j int) bool {
	if c := bytes.Compare(r[i].key, r[j].key); c != 0 {
		return c < 0
	}
	return r[i].order < r[j].order
}

func (r readers) Swap(i, j int) { r[i], r[j] = r[j], r[i] }

func (r *readers) Push(x any) { *r = append(*r, x.(*reader)) }

func (r *readers) Pop() any {
	last := (*r)[len(*r)-1]
	*r = (*r)[:len(*r)-1]
	return last
}
