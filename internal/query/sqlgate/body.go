package sqlgate

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// statement is the whole SQL of a request: the query parameter, then the body, as ClickHouse reads them.
func statement(r *http.Request, most int64) (string, error) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind == "multipart/form-data" {
		return "", refuse(notImplemented,
			"multipart bodies (external tables) are not supported: join against a subquery or use IN")
	}
	body, err := plain(r, most)
	if err != nil {
		return "", err
	}
	text := r.URL.Query().Get("query")
	if text != "" && len(body) > 0 {
		text += "\n"
	}
	if text += string(body); int64(len(text)) > most {
		return "", tooLarge(most)
	}
	return text, nil
}

func tooLarge(most int64) error {
	return refuse(queryTooLarge, "the query is longer than %d bytes (limit max_query_size)", most)
}

// plain reads the body, decompressed, at most most bytes.
func plain(r *http.Request, most int64) ([]byte, error) {
	if r.Body == nil || r.Method != http.MethodPost {
		return nil, nil
	}
	reader, err := decoder(http.MaxBytesReader(nil, r.Body, most), r.Header.Get("Content-Encoding"))
	if err != nil {
		return nil, err
	}
	if r.URL.Query().Get("decompress") == "1" {
		reader = &blocks{from: reader, most: most}
	}
	body, err := io.ReadAll(io.LimitReader(reader, most+1))
	var size *http.MaxBytesError
	switch {
	case errors.As(err, &size), int64(len(body)) > most:
		return nil, tooLarge(most)
	case err != nil:
		return nil, refuse(badArguments, "read the body: %v", err)
	}
	return body, nil
}

func decoder(r io.Reader, encoding string) (io.Reader, error) {
	var (
		out io.Reader
		err error
	)
	switch strings.ToLower(encoding) {
	case "", "identity":
		return r, nil
	case "gzip", "x-gzip":
		out, err = gzip.NewReader(r)
	case "deflate":
		out, err = zlib.NewReader(r)
	case "br":
		out = brotli.NewReader(r)
	case "lz4":
		out = lz4.NewReader(r)
	case "zstd":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20)); err == nil {
			out = z.IOReadCloser()
		}
	default:
		return nil, refuse(notImplemented,
			"Content-Encoding %s is not supported: send gzip, deflate, br, zstd, lz4 or plain text", clip(encoding))
	}
	if err != nil {
		return nil, refuse(badArguments, "Content-Encoding %s: %v", encoding, err)
	}
	return out, nil
}

// blocks reads ClickHouse's own compression (decompress=1): blocks of a 16-byte checksum, one byte of method,
// compressed size with these nine bytes, plain size. The checksum is not verified: what comes out is
// checked as SQL and nothing else is done with it.
type blocks struct {
	from io.Reader
	most int64
	left bytes.Reader
}

const (
	checksumSize = 16
	headerSize   = 9
	methodNone   = 0x02
	methodLZ4    = 0x82
	methodZSTD   = 0x90
)

func (b *blocks) Read(p []byte) (int, error) {
	for b.left.Len() == 0 {
		if err := b.block(); err != nil {
			return 0, err
		}
	}
	return b.left.Read(p)
}

func (b *blocks) block() error {
	var head [checksumSize + headerSize]byte
	if _, err := io.ReadFull(b.from, head[:]); err != nil {
		return err // io.EOF between blocks is the end
	}
	method := head[checksumSize]
	packed := int64(binary.LittleEndian.Uint32(head[checksumSize+1:])) - headerSize
	size := int64(binary.LittleEndian.Uint32(head[checksumSize+5:]))
	if packed < 0 || packed > b.most || size > b.most {
		return fmt.Errorf("compressed block of %d bytes: want at most %d", max(packed, size), b.most)
	}
	in := make([]byte, packed)
	if _, err := io.ReadFull(b.from, in); err != nil {
		return fmt.Errorf("compressed block: %w", err)
	}
	out, err := unpack(method, in, int(size))
	if err != nil {
		return err
	}
	b.left.Reset(out)
	return nil
}

func unpack(method byte, in []byte, size int) ([]byte, error) {
	switch method {
	case methodNone:
		return in, nil
	case methodLZ4:
		out := make([]byte, size)
		n, err := lz4.UncompressBlock(in, out)
		if err != nil {
			return nil, fmt.Errorf("compressed block: %w", err)
		}
		return out[:n], nil
	case methodZSTD:
		// Beyond the buffer given, memory goes to the window, which is 8 MiB at most.
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(8<<20))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		out, err := z.DecodeAll(in, make([]byte, 0, size))
		if err != nil {
			return nil, fmt.Errorf("compressed block: %w", err)
		}
		if len(out) != size {
			return nil, fmt.Errorf("compressed block: got %d bytes, want %d", len(out), size)
		}
		return out, nil
	}
	return nil, fmt.Errorf("compressed block of method %#x: want LZ4, ZSTD or none", method)
}
