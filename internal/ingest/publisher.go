package ingest

import (
	"context"
	"errors"
)

// ErrUnavailable is returned (wrapped) by Publish when the log cannot be reached now and a later attempt may
// succeed. It becomes 503 with Retry-After.
var ErrUnavailable = errors.New("kafka is not available")

// Header is one Kafka record header.
type Header struct {
	Key   string
	Value []byte
}

// Headers of the records that ingest writes.
const (
	HeaderTenant      = "x-scope-orgid"     // the tenant, the authority over what the payload says
	HeaderContentType = "content-type"      // application/json, application/x-protobuf (OTLP) or events.ContentTypeProtobuf
	HeaderReceived    = "vigie-received-at" // decimal Unix milliseconds
)

// Record is one Kafka record to append.
type Record struct {
	Topic   string
	Key     []byte // tenant, or tenant#shard
	Value   []byte
	Headers []Header
}

// Publisher appends records to the durable log, in order per key.
type Publisher interface {
	// Publish returns nil when every record is acknowledged by all replicas, or the first error. After an error
	// some records may be in the log all the same, and the publisher may still hold records' bytes: the caller
	// neither changes nor reuses them. It is safe for concurrent use.
	Publish(ctx context.Context, records []Record) error
}
