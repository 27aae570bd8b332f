package ingest

import (
	"fmt"
	"net/http"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/vigie-io/vigie/pkg/events"
)

// OTLP/HTTP, opentelemetry.io/docs/specs/otlp: protobuf and JSON in, forwarded as protobuf.

const (
	typeProtobuf = "application/x-protobuf"
	typeJSON     = "application/json"
)

func otlpProtocol(signal events.Signal) protocol {
	return protocol{signal: signal, read: readOTLP, handle: handleOTLP, refuse: refuseOTLP}
}

func readOTLP(c *call) error {
	if m := media(c.r); m != typeProtobuf && m != typeJSON {
		return fail(http.StatusUnsupportedMediaType, "content_type",
			"Content-Type is %q: want %s or %s", c.r.Header.Get("Content-Type"), typeProtobuf, typeJSON)
	}
	encoding, err := contentEncoding(c.r)
	if err != nil {
		return err
	}
	return c.reader().read(c.body, c.w.ResponseWriter, c.r, encoding)
}

func handleOTLP(c *call) error {
	contentType := media(c.r)
	if len(*c.body) == 0 || contentType == typeJSON && string(*c.body) == "{}" {
		c.answerOTLP(nil) // an export of nothing is an empty message, and not an error
		return nil
	}
	batch := c.decoders.batch()
	defer c.decoders.batches.Put(batch)
	c.decode(batch, contentType)
	if err := tooMany(batch); err != nil {
		return err
	}
	for i := range batch.Rejects {
		if r := &batch.Rejects[i]; r.Index < 0 {
			c.metrics.outcome(c.tenant, c.signal, 0, batch.Rejects)
			return fail(http.StatusBadRequest, string(r.Reason), "%s", r.Detail)
		}
	}
	c.refuseTimes(batch)
	good := accepted(batch)
	if good == 0 && len(batch.Rejects) > 0 {
		c.metrics.outcome(c.tenant, c.signal, 0, batch.Rejects)
		return fail(http.StatusBadRequest, "all_rejected", "all %d refused: %s", len(batch.Rejects), describe(batch.Rejects))
	}
	if err := c.admitEvents(good); err != nil {
		return err
	}
	values, err := c.otlpValues(batch, contentType)
	if err != nil {
		return err
	}
	if err := c.publish(typeProtobuf, values); err != nil {
		return err
	}
	c.metrics.outcome(c.tenant, c.signal, good, batch.Rejects)
	c.metrics.skip(c.tenant, skippedStale, batch.Stale)
	c.answerOTLP(batch.Rejects)
	return nil
}

// otlpValues returns the records to write: the body as it came when it is protobuf, wholly good and fits one
// record, else the good points in as many exports as it takes.
func (c *call) otlpValues(batch *events.Batch, contentType string) ([]keyedValue, error) {
	asItCame := contentType == typeProtobuf && len(batch.Rejects) == 0 && c.limits.Shards <= 1
	if asItCame && len(*c.body) <= int(c.config.RecordMax) && fanOut(batch) <= maxRecordEvents {
		return []keyedValue{{0, *c.body}}, nil
	}
	all, err := parseExport(c.signal, *c.body, contentType)
	if err != nil {
		return nil, fail(http.StatusBadRequest, string(events.ReasonBadOTLP), "decode OTLP: %v", err)
	}
	if all.points() != batch.Events {
		// Vigie's own JSON, or several requests in one body: good events, but not an export request.
		return nil, fail(http.StatusBadRequest, string(events.ReasonBadOTLP),
			"the body is not one OTLP export request: events of Vigie's own JSON go to /v1/events/%s", c.signal)
	}
	refused := make(map[int]bool, len(batch.Rejects))
	for i := range batch.Rejects {
		refused[batch.Rejects[i].Index] = true
	}
	if len(refused) > 0 {
		all = all.keep(func(i int) bool { return !refused[i] })
	}
	var values []keyedValue
	for shard := range max(c.limits.Shards, 1) {
		part := all
		if c.limits.Shards > 1 {
			part = all.shard(shard, c.limits.Shards)
		}
		pointLimit := max(1, all.points()*maxRecordEvents/max(fanOut(batch), 1))
		err := split(part, int(c.config.RecordMax), pointLimit, func(value []byte) {
			values = append(values, keyedValue{shard, value})
		})
		if err != nil {
			return nil, err
		}
	}
	return values, nil
}

// fanOut is the number of events that a stream worker will count: the parts of a histogram one by one.
func fanOut(batch *events.Batch) int {
	return max(batch.Events, len(batch.Metrics)+len(batch.Spans)+len(batch.Logs))
}

// split hands out e as messages of at most limit bytes and points points, halving it as often as needed.
func split(e export, limit, points int, out func([]byte)) error {
	n := e.points()
	if n == 0 {
		return nil
	}
	value, err := e.marshal()
	if err != nil {
		return fmt.Errorf("encode OTLP: %w", err)
	}
	if len(value) <= limit && n <= points {
		out(value)
		return nil
	}
	if n == 1 {
		return fail(http.StatusRequestEntityTooLarge, string(events.ReasonRecordTooLarge),
			"nothing was accepted: one point, with its resource, has %d bytes; a record may have %d", len(value), limit)
	}
	if err := split(e.keep(func(i int) bool { return i < n/2 }), limit, points, out); err != nil {
		return err
	}
	return split(e.keep(func(i int) bool { return i >= n/2 }), limit, points, out)
}

func describe(rejects []events.Reject) string {
	text := ""
	for i := range rejects[:min(len(rejects), shownErrors)] {
		r := &rejects[i]
		if i > 0 {
			text += "; "
		}
		text += fmt.Sprintf("%d: %s: %s", r.Index, r.Reason, r.Detail)
	}
	return text
}

var rejectedField = map[events.Signal]string{
	events.Metrics: "rejectedDataPoints", events.Spans: "rejectedSpans", events.Logs: "rejectedLogRecords",
}

// answerOTLP writes an Export…ServiceResponse. The three of them are the same but for a name in JSON:
// field 1 is the partial success, with 1 = how many were rejected and 2 = why.
func (c *call) answerOTLP(rejects []events.Reject) {
	c.w.Header().Set("Content-Type", responseType(c.r))
	if responseType(c.r) == typeJSON {
		c.answerOTLPJSON(rejects)
		return
	}
	c.w.WriteHeader(http.StatusOK)
	if len(rejects) == 0 {
		return
	}
	partial := protowire.AppendTag(nil, 1, protowire.VarintType)
	partial = protowire.AppendVarint(partial, uint64(len(rejects)))
	partial = protowire.AppendTag(partial, 2, protowire.BytesType)
	partial = protowire.AppendString(partial, describe(rejects))
	body := protowire.AppendTag(nil, 1, protowire.BytesType)
	_, _ = c.w.Write(protowire.AppendBytes(body, partial)) // the client has gone: nobody to tell
}

func (c *call) answerOTLPJSON(rejects []events.Reject) {
	if len(rejects) == 0 {
		writeJSON(c.w, http.StatusOK, struct{}{})
		return
	}
	writeJSON(c.w, http.StatusOK, map[string]any{"partialSuccess": map[string]any{
		rejectedField[c.signal]: strconv.Itoa(len(rejects)), // proto3 JSON writes 64 bits as text
		"errorMessage":          describe(rejects),
	}})
}

func responseType(r *http.Request) string {
	if media(r) == typeJSON {
		return typeJSON
	}
	return typeProtobuf
}

// refuseOTLP writes a google.rpc.Status in the request's encoding.
func refuseOTLP(c *call, f *failure) {
	c.w.Header().Set("Content-Type", responseType(c.r))
	if responseType(c.r) == typeJSON {
		writeJSON(c.w, f.status, map[string]any{"code": rpcCode(f.status), "message": f.message})
		return
	}
	c.w.WriteHeader(f.status)
	body := protowire.AppendTag(nil, 1, protowire.VarintType)
	body = protowire.AppendVarint(body, uint64(rpcCode(f.status)))
	body = protowire.AppendTag(body, 2, protowire.BytesType)
	_, _ = c.w.Write(protowire.AppendString(body, f.message)) // the client has gone: nobody to tell
}

// rpcCode is the google.rpc.Code of an HTTP status.
func rpcCode(status int) int {
	switch status {
	case http.StatusUnauthorized:
		return 16 // UNAUTHENTICATED
	case http.StatusForbidden:
		return 7 // PERMISSION_DENIED
	case http.StatusTooManyRequests:
		return 8 // RESOURCE_EXHAUSTED
	case http.StatusServiceUnavailable:
		return 14 // UNAVAILABLE
	case http.StatusInternalServerError:
		return 13 // INTERNAL
	}
	return 3 // INVALID_ARGUMENT
}
