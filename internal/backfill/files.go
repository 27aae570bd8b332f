package backfill

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// file is one file to load.
type file struct {
	path string
	size int64
	hash string // SHA-256 of the bytes on disk, hexadecimal
	info os.FileInfo
	read atomic.Int64 // bytes read for loading
}

// find lists the files of patterns (as filepath.Glob takes them) by name. A pattern without a file is an error.
func find(patterns []string) ([]*file, error) {
	var files []*file
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("find files %q: %w", pattern, err)
		}
		if len(paths) == 0 {
			return nil, fmt.Errorf("find files %q: there are none; quote the pattern so that the shell leaves it alone", pattern)
		}
		for _, path := range paths {
			if _, err := formatOf(path); err != nil {
				return nil, err
			}
			info, err := os.Stat(path)
			if err != nil {
				return nil, fmt.Errorf("find files: %w", err)
			}
			if !info.Mode().IsRegular() {
				return nil, fmt.Errorf("load %s: want a regular file: it is read twice", path)
			}
			files = append(files, &file{path: path, size: info.Size(), info: info})
		}
	}
	slices.SortFunc(files, func(a, b *file) int { return strings.Compare(a.path, b.path) })
	return slices.CompactFunc(files, func(a, b *file) bool { return a.path == b.path }), nil
}

// digest reads the file once and notes its hash.
func (f *file) digest() error {
	in, err := os.Open(f.path)
	if err != nil {
		return fmt.Errorf("hash file: %w", err)
	}
	defer in.Close()
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, in, make([]byte, 1<<20)); err != nil {
		return fmt.Errorf("hash file: %w", err)
	}
	f.hash = hex.EncodeToString(sum.Sum(nil))
	return nil
}

// unchanged is nil when the file is, as far as size and time tell, what was hashed.
func (f *file) unchanged() error {
	info, err := os.Stat(f.path)
	if err != nil {
		return fmt.Errorf("check file: %w", err)
	}
	if info.Size() != f.size || !info.ModTime().Equal(f.info.ModTime()) {
		return fmt.Errorf("load %s: it was changed while it was read; load files that nobody writes to", f.path)
	}
	return nil
}

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
		return f, fmt.Errorf("load %s: want a name that ends in .ndjson, .jsonl, .json or .csv (also with .gz or .zst) or .parquet", path)
	}
	return f, nil
}

// open returns the text in the file, and how to close it.
func (f *file) open(compression string) (*bufio.Reader, func(), error) {
	in, err := os.Open(f.path)
	if err != nil {
		return nil, nil, fmt.Errorf("read file: %w", err)
	}
	raw := &counted{in, &f.read}
	var text io.Reader = raw
	end := func() { _ = in.Close() }
	switch compression {
	case "gz":
		unpacked, err := gzip.NewReader(bufio.NewReaderSize(raw, 1<<20))
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
