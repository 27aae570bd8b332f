package backfill

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/vigie-io/vigie/internal/pipeline/rollup"
)

// source is where the bytes of a file are. They are read twice: for the hash, and to be loaded.
type source interface {
	// open returns the bytes for reads at any place, and in parallel. Reads end with ctx.
	open(ctx context.Context) (bytesAt, error)
	// unchanged is nil when the bytes are, as far as can be told, those that open gave before.
	unchanged() error
}

type bytesAt interface {
	io.ReaderAt
	io.Closer
}

// file is one file to load.
type file struct {
	path string
	size int64
	hash string // SHA-256 of the bytes as they are stored, hexadecimal
	from source
	read atomic.Int64 // bytes read for loading

	awaiting []rollup.Declared // that its events are kept for
	run      string            // name of what is kept
}

// find lists the files of patterns by name: of paths as filepath.Glob takes them, and s3://bucket/key with the same
// signs in the key. A pattern without a file is an error.
func find(ctx context.Context, patterns []string, s3 *S3Config) ([]*file, error) {
	var files []*file
	for _, pattern := range patterns {
		matches, err := filesOf(ctx, pattern, s3)
		if err != nil {
			return nil, fmt.Errorf("find files %q: %w", pattern, err)
		}
		if len(matches) == 0 {
			return nil, fmt.Errorf("find files %q: there are none; quote the pattern so that the shell leaves it alone", pattern)
		}
		for _, f := range matches {
			if _, err := formatOf(f.path); err != nil {
				return nil, err
			}
		}
		files = append(files, matches...)
	}
	slices.SortFunc(files, func(a, b *file) int { return strings.Compare(a.path, b.path) })
	return slices.CompactFunc(files, func(a, b *file) bool { return a.path == b.path }), nil
}

func filesOf(ctx context.Context, pattern string, s3 *S3Config) (files []*file, err error) {
	if strings.HasPrefix(pattern, s3Scheme) {
		return objects(ctx, pattern, s3)
	}
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("load %s: want a regular file: it is read twice", path)
		}
		files = append(files, &file{path: path, size: info.Size(), from: &local{path, info}})
	}
	return files, nil
}

// local is a file of this machine.
type local struct {
	path string
	info os.FileInfo
}

func (l *local) open(context.Context) (bytesAt, error) { return os.Open(l.path) }

func (l *local) unchanged() error {
	info, err := os.Stat(l.path)
	if err != nil {
		return fmt.Errorf("check file: %w", err)
	}
	if info.Size() != l.info.Size() || !info.ModTime().Equal(l.info.ModTime()) {
		return fmt.Errorf("load %s: %w", l.path, errChanged)
	}
	return nil
}

var errChanged = errors.New("it was changed while it was read; load files that nobody writes to")

// digest reads the file once and notes its hash.
func (f *file) digest(ctx context.Context) error {
	if f.hash != "" {
		return nil
	}
	in, err := f.from.open(ctx)
	if err != nil {
		return fmt.Errorf("hash %s: %w", f.path, err)
	}
	defer in.Close()
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, &whole{io.NewSectionReader(in, 0, f.size)}, make([]byte, readSize)); err != nil {
		return fmt.Errorf("hash %s: %w", f.path, err)
	}
	f.hash = hex.EncodeToString(sum.Sum(nil))
	return nil
}

// readSize is how much of a file is read at once: from other machines a request has its price.
const readSize = 4 << 20

// whole hides everything but Read, so that io.Copy uses the buffer that it is given.
type whole struct{ io.Reader }

// format is how a file is read.
type format struct {
	name        string // "ndjson", "csv", "parquet"
	compression string // "", "gz", "zst"
}

func formatOf(path string) (format, error) {
	name := strings.ToLower(filepath.Base(path))
	var f format
	for _, suffix := range []string{"gz", "zst"} {
		if rest, ok := strings.CutSuffix(name, "."+suffix); ok {
			name, f.compression = rest, suffix
		}
	}
	switch filepath.Ext(name) {
	case ".ndjson", ".jsonl", ".json":
		f.name = "ndjson"
	case ".csv":
		f.name = "csv"
	case ".parquet":
		if f.name = "parquet"; f.compression != "" {
			return f, fmt.Errorf("load %s: Parquet compresses its own pages; unpack the file first", path)
		}
	default:
		return f, fmt.Errorf("load %s: want a name that ends in .ndjson, .jsonl, .json or .csv (also with .gz or .zst) "+
			"or .parquet", path)
	}
	return f, nil
}

// open returns the text in the file, and how to close it.
func (f *file) open(ctx context.Context, compression string) (*bufio.Reader, func(), error) {
	in, err := f.from.open(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", f.path, err)
	}
	raw := bufio.NewReaderSize(&counted{io.NewSectionReader(in, 0, f.size), &f.read}, readSize)
	var text io.Reader = raw
	end := func() { _ = in.Close() }
	switch compression {
	case "gz":
		unpacked, err := gzip.NewReader(raw)
		if err != nil {
			end()
			return nil, nil, fmt.Errorf("unpack %s: %w", f.path, err)
		}
		text = unpacked
	case "zst":
		unpacked, err := zstd.NewReader(raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<30))
		if err != nil {
			end()
			return nil, nil, fmt.Errorf("unpack %s: %w", f.path, err)
		}
		text, end = unpacked, func() { unpacked.Close(); _ = in.Close() }
	}
	if compression == "" {
		return raw, end, nil
	}
	return bufio.NewReaderSize(text, 1<<20), end, nil
}

// counted counts what is read.
type counted struct {
	io.Reader
	n *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}
