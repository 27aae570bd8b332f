package clickhouse

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/klauspost/compress/zstd"
)

// decompressed is the body as it was before the server compressed it. release frees what that took.
func decompressed(response *http.Response) (body io.Reader, release func(), err error) {
	switch encoding := response.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
		return response.Body, func() {}, nil
	case "zstd":
		decoder, err := zstd.NewReader(response.Body, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, nil, fmt.Errorf("start decompression: %w", err)
		}
		return decoder, decoder.Close, nil
	default:
		return nil, nil, fmt.Errorf("read ClickHouse's answer: encoding %q: want none or zstd", encoding)
	}
}

// readBlocks reads native blocks until the body ends. An error of yield is returned as it is.
func readBlocks(body io.Reader, results proto.Results, yield func(rows int) error) error {
	tail := &tailReader{reader: body}
	reader := proto.NewReader(tail)
	for {
		var block proto.Block
		err := block.DecodeRawBlock(reader, protocol, results)
		switch {
		case errors.Is(err, io.EOF) && block.Columns == 0 && !tail.broken():
			return nil
		case err != nil:
			return tail.cause(err)
		}
		if block.Rows == 0 {
			continue
		}
		if err := yield(block.Rows); err != nil {
			return err
		}
	}
}

// tailReader remembers the end of what was read: an exception in the middle of an answer, whose status has been sent,
// is text between the blocks.
type tailReader struct {
	reader io.Reader
	tail   []byte
	err    error
}

const tailSize = 16 << 10

func (t *tailReader) Read(p []byte) (int, error) {
	n, err := t.reader.Read(p)
	if keep := p[max(0, n-tailSize):n]; len(keep) > 0 {
		t.tail = append(t.tail, keep...)
		if over := len(t.tail) - tailSize; over > 0 {
			t.tail = append(t.tail[:0], t.tail[over:]...)
		}
	}
	if err != nil {
		t.err = err
	}
	return n, err
}

// broken says whether the connection ended before the answer did.
func (t *tailReader) broken() bool { return t.err != nil && !errors.Is(t.err, io.EOF) }

var exceptionText = regexp.MustCompile(`Code: [1-9][0-9]*\. DB::Exception: `)

// cause is the exception that ended the answer, or else the error of reading it.
func (t *tailReader) cause(err error) error {
	_, _ = io.Copy(io.Discard, io.LimitReader(readerFunc(t.Read), 1<<20)) // the rest of the exception
	if found := exceptionText.FindAllIndex(t.tail, -1); len(found) > 0 {
		message := string(t.tail[found[len(found)-1][0]:]) // the last: rows may hold such text, too
		return &Error{Status: http.StatusOK, Code: codeIn(message), Message: cleanMessage(message)}
	}
	if t.broken() {
		err = t.err
	}
	return fmt.Errorf("read ClickHouse's answer: %w", err)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
