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
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// runs are what is kept of chunks and files until all are read, in files of a folder: keys with values, ascending. A
// run that is there is whole. One that is missing is made again from the rows, so that the folder may be lost.
type runs struct {
	dir, suffix string
	// join appends the value of a key that several runs have.
	join func(dst []byte, values ...[]byte) ([]byte, error)
}

// mostRuns is how many runs are read at once.
const mostRuns = 64

func (r *runs) path(name string) string { return filepath.Join(r.dir, name+r.suffix) }

func (r *runs) has(name string) bool {
	_, err := os.Stat(r.path(name))
	return err == nil
}

// put appends a record to a run.
type put func(key, value []byte) error

// write makes a run. Nobody sees it before it is on disk.
func (r *runs) write(name string, fill func(put) error) error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return fmt.Errorf("keep what is read: %w", err)
	}
	out, err := os.CreateTemp(r.dir, "unfinished-*")
	if err != nil {
		return fmt.Errorf("keep what is read: %w", err)
	}
	defer os.Remove(out.Name())
	err = errors.Join(pack(out, fill), out.Sync(), out.Close())
	if err == nil {
		err = os.Rename(out.Name(), r.path(name))
	}
	if err != nil {
		return fmt.Errorf("keep what is read in %s: %w", r.dir, err)
	}
	return nil
}

func pack(out io.Writer, fill func(put) error) error {
	packed, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(1<<18))
	if err != nil {
		return err
	}
	text := bufio.NewWriter(packed)
	var head [2 * binary.MaxVarintLen64]byte
	err = fill(func(key, value []byte) error {
		sizes := binary.AppendUvarint(binary.AppendUvarint(head[:0], uint64(len(key))), uint64(len(value)))
		for _, b := range [][]byte{sizes, key, value} {
			if _, err := text.Write(b); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, text.Flush(), packed.Close())
}

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

func (r *runs) mergeFew(names []string, fn put) error {
	var next readers
	defer func() {
		for _, in := range next {
			in.close()
		}
	}()
	for i, name := range names {
		in, err := openRun(r.path(name), i)
		if err != nil {
			return err
		}
		next = append(next, in)
		if err := in.read(); errors.Is(err, io.EOF) {
			in.close()
			next = next[:len(next)-1]
		} else if err != nil {
			return err
		}
	}
	heap.Init(&next)
	var (
		key, joined []byte
		values      [][]byte
	)
	for len(next) > 0 {
		key, values = append(key[:0], next[0].key...), values[:0]
		for len(next) > 0 && bytes.Equal(next[0].key, key) {
			in := next[0]
			values = append(values, bytes.Clone(in.value))
			switch err := in.read(); {
			case err == nil:
				heap.Fix(&next, 0)
			case errors.Is(err, io.EOF):
				in.close()
				heap.Pop(&next)
			default:
				return err
			}
		}
		value := values[0]
		if len(values) > 1 {
			var err error
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

// fold makes one run of those of a file's chunks, unless it is there, and drops these.
func (r *runs) fold(name string) error {
	chunks, err := r.chunks(name)
	if err != nil {
		return err
	}
	if !r.has(name) {
		if err := r.write(name, func(put put) error { return r.merge(chunks, put) }); err != nil {
			return err
		}
	}
	for _, chunk := range chunks {
		if err := os.Remove(r.path(chunk)); err != nil {
			return fmt.Errorf("drop what was kept: %w", err)
		}
	}
	return nil
}

func chunkRun(name string, index int64) string { return fmt.Sprintf("%s-%09d", name, index) }

// chunks are the names of the runs of a file's chunks, in order.
func (r *runs) chunks(name string) (names []string, err error) {
	paths, err := filepath.Glob(r.path(name + "-*"))
	for _, path := range paths {
		names = append(names, strings.TrimSuffix(filepath.Base(path), r.suffix))
	}
	return names, err
}

// remove drops everything.
func (r *runs) remove() error { return os.RemoveAll(r.dir) }

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

func (r readers) Len() int { return len(r) }
func (r readers) Less(i, j int) bool {
	if c := bytes.Compare(r[i].key, r[j].key); c != 0 {
		return c < 0
	}
	return r[i].order < r[j].order
}
func (r readers) Swap(i, j int) { r[i], r[j] = r[j], r[i] }
func (r *readers) Push(x any)   { *r = append(*r, x.(*reader)) }
func (r *readers) Pop() any {
	last := (*r)[len(*r)-1]
	*r = (*r)[:len(*r)-1]
	return last
}
