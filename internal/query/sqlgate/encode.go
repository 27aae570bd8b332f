package sqlgate

import (
	"encoding/binary"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/go-faster/city"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// encoder compresses an answer as it comes. Answers leave ClickHouse plain: an error at the end of one could not be
// scrubbed in what is compressed.
type encoder interface {
	io.Writer
	Flush() error // what was written can be read from here on
	Close() error
}

// reusable is an encoder that can begin anew. One has 0.3 to 3 MB of tables, which most answers are far smaller than.
type reusable interface {
	encoder
	Reset(io.Writer)
}

// encoders are the values of Accept-Encoding that are taken, the ones that cost least for what they save first
// (docs/performance.md).
var encoders = []struct {
	name string
	idle *sync.Pool // of reusable
}{
	{"zstd", idle(func() (reusable, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(1<<20))
	})},
	{"lz4", idle(func() (reusable, error) { return lz4.NewWriter(nil), nil })},
	{"gzip", idle(func() (reusable, error) { return gzip.NewWriterLevel(nil, gzip.BestSpeed) })},
	{"deflate", idle(func() (reusable, error) { return zlib.NewWriterLevel(nil, zlib.BestSpeed) })},
	{"br", idle(func() (reusable, error) { return brotli.NewWriterLevel(nil, brotli.BestSpeed), nil })},
}

func idle(make func() (reusable, error)) *sync.Pool {
	return &sync.Pool{New: func() any {
		e, err := make()
		if err != nil {
			panic("BUG: make an encoder: " + err.Error())
		}
		return e
	}}
}

// lent is given back when it is closed. One of an answer that breaks off is not.
type lent struct {
	reusable
	idle *sync.Pool
}

func (l lent) Close() error {
	err := l.reusable.Close()
	l.Reset(io.Discard)
	l.idle.Put(l.reusable)
	return err
}

// encoding is the encoding of the answer, "" for none: the cheapest that the client takes.
func encoding(asked url.Values, h http.Header) string {
	if asked.Get("enable_http_compression") == "0" || asked.Get("compress") == "1" {
		return ""
	}
	accepted := map[string]bool{}
	for value := range strings.SplitSeq(strings.Join(h.Values("Accept-Encoding"), ","), ",") {
		name, parameters, _ := strings.Cut(value, ";")
		if q := strings.ReplaceAll(parameters, " ", ""); q != "q=0" && !strings.HasPrefix(q, "q=0.000") {
			accepted[strings.ToLower(strings.TrimSpace(name))] = true
		}
	}
	for _, e := range encoders {
		if accepted[e.name] {
			return e.name
		}
	}
	return ""
}

// encoded returns the writer that compresses in the encoding, or in ClickHouse's own when framed.
func encoded(w io.Writer, encoding string, framed bool) encoder {
	if framed {
		return &frames{w: w}
	}
	for _, e := range encoders {
		if e.name == encoding {
			l := lent{e.idle.Get().(reusable), e.idle}
			l.Reset(w)
			return l
		}
	}
	return plainly{w}
}

type plainly struct{ io.Writer }

func (plainly) Flush() error { return nil }
func (plainly) Close() error { return nil }

// frames writes ClickHouse's own compression, one block a write.
type frames struct {
	w     io.Writer
	block []byte // of the last write
}

func (f *frames) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	f.block = frame(f.block, p)
	if _, err := f.w.Write(f.block); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (*frames) Flush() error { return nil }
func (*frames) Close() error { return nil }

// frame is a block of ClickHouse's own compression: LZ4 behind a checksum and two sizes. It is written over out, where
// there is room.
func frame(out, plain []byte) []byte {
	size := checksumSize + headerSize + lz4.CompressBlockBound(len(plain))
	out = slices.Grow(out[:0], size)[:size]
	n, err := lz4.CompressBlock(plain, out[checksumSize+headerSize:], nil)
	if err != nil {
		panic("BUG: LZ4 into a buffer of its bound: " + err.Error())
	}
	out = out[:checksumSize+headerSize+n]
	out[checksumSize] = methodLZ4
	binary.LittleEndian.PutUint32(out[checksumSize+1:], uint32(len(out)-checksumSize))
	binary.LittleEndian.PutUint32(out[checksumSize+5:], uint32(len(plain)))
	sum := city.CH128(out[checksumSize:])
	binary.LittleEndian.PutUint64(out, sum.Low)
	binary.LittleEndian.PutUint64(out[8:], sum.High)
	return out
}

// flushed passes every write through the encoder to its end.
type flushed struct{ encoder }

func (f flushed) Write(p []byte) (int, error) {
	n, err := f.encoder.Write(p)
	if err == nil && len(p) > 0 {
		err = f.Flush()
	}
	return n, err
}
