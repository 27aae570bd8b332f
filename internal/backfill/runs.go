package backfill

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
