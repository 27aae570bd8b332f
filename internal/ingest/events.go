package ingest

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/pkg/events"
)

// jsonAnswer answers POST /v1/events/…, accepted or not.
type jsonAnswer struct {
	Accepted int         `json:"accepted"`
	Rejected int         `json:"rejected"`
	Errors   []jsonError `json:"errors"`
}

// jsonError describes one refused event; Index is its position in the body, -1 for the body as a whole.
type jsonError struct {
	Index  int    `json:"index"`
	Field  string `json:"field,omitempty"`
	Reason string `json:"reason"`
	Detail string `json:"detail"`
}

func eventsProtocol(signal events.Signal) protocol {
	return protocol{signal: signal, read: readEvents, handle: handleEvents, refuse: refuseEvents}
}

func readEvents(c *call) error {
	if eventsType(c.r) == "" {
		return fail(http.StatusUnsupportedMediaType, "content_type",
			"Content-Type is %q: want application/json, application/x-ndjson or %s",
			c.r.Header.Get("Content-Type"), events.ContentTypeProtobuf)
	}
	encoding, err := contentEncoding(c.r)
	if err != nil {
		return err
	}
	return c.reader().read(c.body, c.w.ResponseWriter, c.r, encoding)
}

// eventsType is the content type of a body of events as its record has it, "" for one that is not taken.
func eventsType(r *http.Request) string {
	switch media := media(r); media {
	case "", typeJSON, "application/x-ndjson", "application/ndjson", "application/jsonl", "application/json-lines", "text/json":
		return typeJSON
	case "application/x-www-form-urlencoded": // what curl -d says of any body when it is not told better
		return typeJSON
	case events.ContentTypeProtobuf, "application/protobuf", "application/vnd.google.protobuf", typeProtobuf:
		return events.ContentTypeProtobuf
	}
	return ""
}

func media(r *http.Request) string {
	header := r.Header.Get("Content-Type")
	if header == "" {
		return ""
	}
	media, _, err := mime.ParseMediaType(header)
	if err != nil {
		return "unreadable"
	}
	return media
}

// contentEncoding takes gzip, zstd or none.
func contentEncoding(r *http.Request) (string, error) {
	switch encoding := strings.ToLower(strings.Join(r.Header.Values("Content-Encoding"), ",")); encoding {
	case "", "identity":
		return "", nil
	case "gzip", "zstd":
		return encoding, nil
	default:
		return "", fail(http.StatusUnsupportedMediaType, "content_encoding",
			"Content-Encoding is %q: want gzip, zstd or none", encoding)
	}
}

func handleEvents(c *call) error {
	batch := c.decoders.batch()
	defer c.decoders.batches.Put(batch)
	c.decode(batch, eventsType(c.r))
	if err := tooMany(batch); err != nil {
		return err
	}
	late := c.refuseTimes(batch)
	if good := accepted(batch); good > 0 {
		if err := c.admitEvents(good); err != nil {
			return err
		}
		values, contentType, release := c.eventValues(batch, late)
		if err := c.publish(contentType, values); err != nil {
			return err
		}
		release()
	}
	good := accepted(batch)
	c.metrics.outcome(c.tenant, c.signal, good, batch.Rejects)
	c.metrics.skip(c.tenant, withoutTime, batch.NoTime)
	c.metrics.skip(c.tenant, skippedStale, batch.Stale)
	status := http.StatusOK
	if good == 0 && len(batch.Rejects) > 0 {
		status = http.StatusBadRequest
	}
	c.answerEvents(status, good, batch.Rejects)
	return nil
}

// accepted is the number of events that nothing has been said against. A body that is refused as a whole has one
// reject, and no event or one.
func accepted(batch *events.Batch) int { return max(0, batch.Events-len(batch.Rejects)) }

func (c *call) decode(batch *events.Batch, contentType string) {
	body := *c.body
	if body == nil {
		body = []byte{} // an empty body is no tombstone
	}
	c.decoders.of(&c.limits).Decode(batch, events.Source{
		Signal: c.signal, ContentType: contentType, Tenant: string(c.tenant), Value: body, Timestamp: c.now.UnixNano(),
	})
}

// tooMany refuses a request whose events were not all looked at: taking a part of it and not being able to say
// which would be worse.
func tooMany(batch *events.Batch) error {
	for i := range batch.Rejects {
		if r := &batch.Rejects[i]; r.Reason == events.ReasonTooManyEvents || r.Reason == events.ReasonRecordTooLarge {
			return fail(http.StatusRequestEntityTooLarge, string(r.Reason), "nothing was accepted: %s", r.Detail)
		}
	}
	return nil
}

// refuseTimes adds a reject for every event outside of the accepted times, and returns their indexes, sorted.
func (c *call) refuseTimes(batch *events.Batch) (late []int) {
	check := func(index int, nanos int64) {
		reason, detail := c.tooEarlyOrLate(nanos)
		// The parts of an OTLP histogram share one index.
		if reason == "" || len(late) > 0 && late[len(late)-1] == index {
			return
		}
		late = append(late, index)
		batch.Rejects = append(batch.Rejects, events.Reject{Index: index, Reason: reason, Field: "time", Detail: detail})
	}
	for i := range batch.Metrics {
		check(batch.MetricIndex[i], batch.Metrics[i].Time)
	}
	for i := range batch.Spans {
		check(batch.SpanIndex[i], batch.Spans[i].Time)
	}
	for i := range batch.Logs {
		check(batch.LogIndex[i], batch.Logs[i].Time)
	}
	return late
}

// eventValues returns the records for the good events: the body as it came when all of it is good and fits one
// record, else the good events encoded anew, in JSON. release gives the memory back once they are published.
func (c *call) eventValues(batch *events.Batch, late []int) (values []keyedValue, contentType string, release func()) {
	if len(batch.Rejects) == 0 && c.limits.Shards <= 1 && len(*c.body) <= int(c.config.RecordMax) &&
		batch.Events <= maxRecordEvents {
		return []keyedValue{{0, *c.body}}, eventsType(c.r), func() {}
	}
	b := newBatcher(c)
	add := func(index int, fits func() bool) {
		if _, refused := slices.BinarySearch(late, index); refused || fits() {
			return
		}
		batch.Rejects = append(batch.Rejects, events.Reject{Index: index, Reason: events.ReasonRecordTooLarge,
			Detail: fmt.Sprintf("the event is larger than a record may be (%s)", c.config.RecordMax)})
	}
	for i := range batch.Metrics {
		add(batch.MetricIndex[i], func() bool { return b.addMetric(&batch.Metrics[i]) })
	}
	for i := range batch.Spans {
		add(batch.SpanIndex[i], func() bool { return b.addSpan(&batch.Spans[i]) })
	}
	for i := range batch.Logs {
		add(batch.LogIndex[i], func() bool { return b.addLog(&batch.Logs[i]) })
	}
	return b.values(), typeJSON, b.release
}

func (c *call) answerEvents(status, accepted int, rejects []events.Reject) {
	slices.SortStableFunc(rejects, func(a, b events.Reject) int { return a.Index - b.Index })
	answer := jsonAnswer{Accepted: accepted, Rejected: len(rejects), Errors: []jsonError{}}
	for i := range rejects[:min(len(rejects), c.config.MaxErrors)] {
		r := &rejects[i]
		answer.Errors = append(answer.Errors, jsonError{r.Index, r.Field, string(r.Reason), r.Detail})
	}
	writeJSON(c.w, status, answer)
}

func refuseEvents(c *call, f *failure) {
	writeJSON(c.w, f.status, jsonAnswer{Errors: []jsonError{{Index: -1, Reason: f.reason, Detail: f.message}}})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("BUG: encode answer: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client has gone: nobody to tell
}

const help = `Send events as JSON: one object, an array, or one object per line. Content-Encoding gzip or zstd. Or in protobuf:
a vigie.v1.Events, Content-Type application/vnd.vigie.v1+protobuf.
Authorization: Bearer <key>, or the key as basic auth password; the key names the tenant.

POST /v1/events/metrics  {"name":"http_request_duration_seconds","value":0.123,"labels":{"service":"checkout"}}
POST /v1/events/spans    {"service":"checkout","name":"POST /pay","kind":"server","duration":"12ms","status":"ok"}
POST /v1/events/logs     {"service":"checkout","severity":"error","body":"card declined"}

"time" is RFC 3339 or Unix s, ms, us or ns; without it, the time of receipt. "kind" of a metric is observation
(default), delta, gauge or cumulative. The answer is {"accepted":n,"rejected":n,"errors":[{"index","field","reason","detail"}]}.

OTLP/HTTP: POST /v1/metrics, /v1/traces, /v1/logs.  Prometheus remote write 1.0 and 2.0: POST /api/v1/write.
`

func discover(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, help)
}

func (s *Server) unknownSignal(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusNotFound, jsonAnswer{Errors: []jsonError{{Index: -1, Reason: "unknown_signal",
		Detail: fmt.Sprintf("no signal %q: want metrics, spans or logs", r.PathValue("signal"))}}})
}

// nothing answers addresses that are none.
func nothing(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusNotFound, jsonAnswer{Errors: []jsonError{{Index: -1, Reason: "unknown_path",
		Detail: fmt.Sprintf("there is no %s here: GET / tells what this server takes, and where", r.URL.Path)}}})
}

// notAllowed answers methods that an address does not take.
func notAllowed(allowed, instead string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allowed)
		writeJSON(w, http.StatusMethodNotAllowed,
			jsonAnswer{Errors: []jsonError{{Index: -1, Reason: "method", Detail: r.Method + " is not taken: " + instead}}})
	}
}
