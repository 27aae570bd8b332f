package ingest

import (
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/vigie-io/vigie/internal/tenants"
)

// Bodies are read into pooled buffers that grow with what has really arrived, so neither a false
// Content-Length nor a bomb makes more memory be taken than the limits allow.
const (
	firstBuffer  = 32 << 10
	largestKept  = 4 << 20 // larger buffers are left to the garbage collector
	maxZstWindow = 8 << 20 // RFC 8878 asks decoders to support at least this
)

var (
	bufferPool = sync.Pool{New: func() any { return new([]byte) }}
	gzipPool   = sync.Pool{New: func() any { return new(gzip.Reader) }}
	zstdPool   = sync.Pool{New: func() any {
		// One stream at a time and no goroutine: requests are the concurrency.
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxZstWindow))
		if err != nil {
			panic("BUG: zstd options: " + err.Error())
		}
		return d
	}}
)

func getBuffer() *[]byte {
	b := bufferPool.Get().(*[]byte)
	*b = (*b)[:0]
	return b
}

func putBuffer(b *[]byte) {
	if cap(*b) <= largestKept {
		bufferPool.Put(b)
	}
}

// bodyReader reads one request's body within the tenant's limits.
type bodyReader struct {
	limits *tenants.Limits
	lease  *lease
	retry  *failure // the answer when the server's memory is taken
}

// read appends the body to *dst, decompressed by its Content-Encoding (gzip, zstd or none).
func (b *bodyReader) read(dst *[]byte, w http.ResponseWriter, r *http.Request, encoding string) error {
	if r.ContentLength > int64(b.limits.MaxBody) {
		return b.tooLarge()
	}
	wire := http.MaxBytesReader(w, r.Body, int64(b.limits.MaxBody))
	switch encoding {
	case "gzip":
		z := gzipPool.Get().(*gzip.Reader)
		defer gzipPool.Put(z)
		if err := z.Reset(wire); err != nil {
			return b.readError(err)
		}
		return b.fill(dst, z, int(b.limits.MaxDecompressed))
	case "zstd":
		z := zstdPool.Get().(*zstd.Decoder)
		defer zstdPool.Put(z)
		if err := z.Reset(wire); err != nil {
			return b.readError(err)
		}
		defer func() { _ = z.Reset(nil) }()
		return b.fill(dst, z, int(b.limits.MaxDecompressed))
	}
	return b.fill(dst, wire, min(int(b.limits.MaxBody), int(b.limits.MaxDecompressed)))
}

// readSnappy appends the body to *dst, decompressed from snappy's block format (as remote write has it).
func (b *bodyReader) readSnappy(dst *[]byte, w http.ResponseWriter, r *http.Request) error {
	packed := getBuffer()
	defer putBuffer(packed)
	if err := b.read(packed, w, r, ""); err != nil {
		return err
	}
	size, err := s2.DecodedLen(*packed)
	if err != nil {
		return notSnappy(err)
	}
	if size > int(b.limits.MaxDecompressed) {
		return b.bomb()
	}
	if cap(*dst) < size {
		if !b.lease.grow(size) {
			return b.retry
		}
		*dst = make([]byte, size)
	}
	out, err := s2.Decode((*dst)[:cap(*dst)], *packed)
	if err != nil {
		return notSnappy(err)
	}
	*dst = out
	return nil
}

func notSnappy(cause error) error {
	f := fail(http.StatusBadRequest, "body_unreadable",
		"the body is not in snappy's block format, in which remote write is sent, or ended early")
	f.cause = cause
	return f
}

// fill reads src to its end into *dst, at most limit bytes.
func (b *bodyReader) fill(dst *[]byte, src io.Reader, limit int) error {
	buf := (*dst)[:0]
	defer func() { *dst = buf }()
	if !b.lease.grow(cap(buf)) {
		return b.retry
	}
	for {
		if len(buf) == cap(buf) {
			larger := min(max(2*cap(buf), firstBuffer), max(limit+1, len(buf)+1))
			if !b.lease.grow(larger - cap(buf)) {
				return b.retry
			}
			buf = append(make([]byte, 0, larger), buf...)
		}
		n, err := src.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if len(buf) > limit {
			return b.bomb()
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return b.readError(err)
		}
	}
}

func (b *bodyReader) readError(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return b.tooLarge()
	}
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return fail(http.StatusRequestEntityTooLarge, "zstd_window",
			"the zstd window is larger than 8 MiB: compress without --long")
	}
	f := fail(http.StatusBadRequest, "body_unreadable", "the body ended early or is not compressed as Content-Encoding says")
	f.cause = err
	return f
}

func (b *bodyReader) tooLarge() error {
	return fail(http.StatusRequestEntityTooLarge, "body_too_large",
		"the body is larger than max_body (%s): send fewer events per request", b.limits.MaxBody)
}

func (b *bodyReader) bomb() error {
	return fail(http.StatusRequestEntityTooLarge, "decompressed_too_large",
		"the body is larger than max_decompressed (%s) after decompression: send fewer events per request", b.limits.MaxDecompressed)
}
