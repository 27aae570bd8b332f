package sink

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Headers of a result record (docs/format/results.md). They are the pipeline's, which writes them.
const (
	HeaderTable  = "vigie-table"
	HeaderFormat = "vigie-format"
	HeaderRows   = "vigie-rows"
	// HeaderNewest is optional: the newest event time in the block, decimal Unix milliseconds.
	HeaderNewest = "vigie-newest"
)

// FormatNative is the only value of HeaderFormat this version reads: one ClickHouse Native block.
const FormatNative = "native/1"

// ErrMalformed says that a record is not a result record of a known format. Such a record is parked.
var ErrMalformed = errors.New("malformed result record")

// Header is one record header.
type Header struct {
	Key   string
	Value []byte
}

// Record is one record of the results topic.
type Record struct {
	Topic     string
	TopicID   [16]byte // differs when a topic of the same name was deleted and created again
	Partition int32
	Offset    int64
	Time      time.Time // the record's timestamp: when its epoch was produced
	Key       []byte
	Value     []byte
	Headers   []Header
	// Marker says that the record is no result, but ends a transaction: there is nothing to store.
	Marker bool
	// Free, if it is not nil, takes the memory of Key, Value and Headers back. It is called at most once, when the
	// record is stored or parked.
	Free func()
}

// Token is the record's deduplication token: topic id/partition/offset/table, the id as Kafka's tools print it.
// Two different records never share a token, also not across a deleted and recreated topic.
func (r *Record) Token(table string) string {
	return r.topic() + "/" +
		strconv.FormatInt(int64(r.Partition), 10) + "/" + strconv.FormatInt(r.Offset, 10) + "/" + table
}

func (r *Record) topic() string { return base64.RawURLEncoding.EncodeToString(r.TopicID[:]) }

func (r *Record) header(key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// block is what a record asks for.
type block struct {
	table  string
	token  string
	rows   int
	newest time.Time // event time if the record says it, else zero
}

// parse reads the headers. Its errors are ErrMalformed.
func (r *Record) parse() (block, error) {
	b := block{table: r.header(HeaderTable)}
	if !validTable(b.table) {
		return b, fmt.Errorf("%w: header %s %q: want a table name of [a-z0-9_]", ErrMalformed, HeaderTable, b.table)
	}
	if format := r.header(HeaderFormat); format != FormatNative {
		return b, fmt.Errorf("%w: header %s %q: this version reads %q", ErrMalformed, HeaderFormat, format, FormatNative)
	}
	rows, err := strconv.Atoi(r.header(HeaderRows))
	if err != nil || rows < 0 {
		return b, fmt.Errorf("%w: header %s %q: want a whole number", ErrMalformed, HeaderRows, r.header(HeaderRows))
	}
	if len(r.Value) == 0 && rows > 0 {
		return b, fmt.Errorf("%w: no value for %d rows", ErrMalformed, rows)
	}
	if millis, err := strconv.ParseInt(r.header(HeaderNewest), 10, 64); err == nil {
		b.newest = time.UnixMilli(millis)
	}
	b.rows, b.token = rows, r.Token(b.table)
	return b, nil
}

// validTable keeps anything but a plain name out of a statement.
func validTable(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
