package events

import (
	"bytes"
	"fmt"
	"strings"
)

// Decoder turns records into batches. It is immutable after NewDecoder and safe for concurrent use; each
// goroutine needs its own Batch.
type Decoder struct {
	opts Options
}

// NewDecoder returns a Decoder with the limits of opts, where a zero field means its default.
func NewDecoder(opts Options) *Decoder { return &Decoder{opts: opts.withDefaults()} }

// Decode replaces what dst holds by the events of src. It never fails: whatever is refused, from one event
// to the whole record, is in dst.Rejects with its reason, and everything good beside it is in dst.
//
// The format is src.ContentType's: application/json, application/x-ndjson and +json are JSON (an object, an
// array, objects after one another, or OTLP JSON), ContentTypeProtobuf is a vigie.v1.Events, application/x-protobuf
// that or an OTLP export request of src.Signal. Without a content type the bytes decide.
//
// Strings in dst point into memory of dst, not of src, and change with the next Decode into dst. In the
// steady state decoding JSON allocates nothing.
//
// Metrics that src.Repeats knows are in dst.Repeats instead of dst.Metrics; both ascend in their index.
func (d *Decoder) Decode(dst *Batch, src Source) {
	dst.reset()
	w := work{opts: &d.opts, out: dst, s: &dst.scratch.scan, src: src}
	switch {
	case src.Value == nil:
		w.refuseRecord(ReasonTombstone, "", "the record has no value; Vigie's topics hold events, not state")
	case len(src.Value) > d.opts.MaxRecord:
		w.refuseRecord(ReasonRecordTooLarge, "", fmt.Sprintf("the record has %d bytes, the limit is %d; send smaller batches",
			len(src.Value), d.opts.MaxRecord))
	case !w.authority():
	default:
		if src.Signal != Metrics || w.tenant == "" {
			w.src.Repeats = nil
		}
		w.record()
	}
}

// work is one Decode under way.
type work struct {
	opts   *Options
	out    *Batch
	s      *scanner
	src    Source
	tenant string // the record's tenant, "" until known

	found []Repeat // of all data points of an OTLP request of which some are known
}

// authority takes the tenant of the record from the credential or header, else from the key.
func (w *work) authority() bool {
	field, tenant := "tenant", w.src.Tenant
	if tenant == "" && len(w.src.Key) > 0 {
		field = "key"
		key, _, _ := bytes.Cut(w.src.Key, []byte{'#'})
		c := &w.out.scratch
		c.text = append(c.text, key...)
		tenant = view(c.text)
		if tenant == "" {
			w.refuseRecord(ReasonTenantInvalid, field, "the key begins with '#'; want tenant or tenant#shard")
			return false
		}
	}
	if tenant != "" && !validTenant(tenant) {
		w.refuseRecord(ReasonTenantInvalid, field, tenantRule(tenant))
		return false
	}
	w.tenant = tenant
	return true
}

func (w *work) record() {
	switch format, ok := formatOf(w.src.ContentType, w.src.Value); {
	case !ok:
		w.refuseRecord(ReasonContentType, "content-type",
			fmt.Sprintf("content type %s is neither application/json nor %s nor application/x-protobuf",
				quoted([]byte(w.src.ContentType)), ContentTypeProtobuf))
	case blank(w.src.Value):
		w.refuseRecord(ReasonEmpty, "", "the record is empty")
	case format == formatOTLP:
		w.otlp()
	case format == formatProtobuf:
		w.protobuf()
	default:
		w.json()
	}
}

// ContentTypeProtobuf is the content type of a vigie.v1.Events.
const ContentTypeProtobuf = "application/vnd.vigie.v1+protobuf"

// IsJSON says whether a record's value is read as JSON.
func IsJSON(contentType string, value []byte) bool {
	f, ok := formatOf(contentType, value)
	return ok && (f == formatJSON || f == formatUnknown)
}

type format uint8

const (
	formatUnknown format = iota
	formatJSON
	formatProtobuf
	formatOTLP      // in protobuf
	formatOneOfBoth // formatProtobuf or formatOTLP
)

// formatOf is the format of a value that is not blank.
func formatOf(contentType string, value []byte) (f format, ok bool) {
	f, ok = formatNamed(contentType)
	switch f {
	case formatUnknown:
		switch {
		case isEvents(value):
			f = formatProtobuf
		case looksLikeOTLP(value):
			f = formatOTLP
		}
	case formatOneOfBoth:
		f = formatOTLP
		if startsEvents(value) {
			f = formatProtobuf
		}
	}
	return f, ok
}

func formatNamed(contentType string) (f format, ok bool) {
	switch contentType {
	case "":
		return formatUnknown, true
	case ContentTypeProtobuf:
		return formatProtobuf, true
	}
	media, _, _ := strings.Cut(contentType, ";")
	switch strings.ToLower(strings.TrimSpace(media)) {
	case "application/json", "application/x-ndjson", "application/ndjson", "application/jsonl",
		"application/json-lines", "text/json":
		return formatJSON, true
	case ContentTypeProtobuf:
		return formatProtobuf, true
	case "application/x-protobuf", "application/protobuf", "application/vnd.google.protobuf":
		return formatOneOfBoth, true
	case "application/octet-stream":
		return formatUnknown, true
	}
	return formatUnknown, false
}

func blank(b []byte) bool {
	for _, c := range b {
		if c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return false
		}
	}
	return true
}

// looksLikeOTLP says whether b is framed as an OTLP export request: field 1, length-delimited, again
// and again to the last byte. Its first byte is a line feed, with which JSON may begin too: where the
// framing happens to fit and the text begins like JSON, a byte no JSON text holds decides.
func looksLikeOTLP(b []byte) bool {
	const tag = 1<<3 | 2
	for rest := b; len(rest) > 0; {
		if rest[0] != tag {
			return false
		}
		size, n := uvarint(rest[1:])
		if n == 0 || size > uint64(len(rest)-1-n) {
			return false
		}
		rest = rest[1+n+int(size):]
	}
	if first := bytes.TrimLeft(b, " \t\r\n"); len(first) == 0 || first[0] != '{' && first[0] != '[' {
		return true
	}
	return bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == '\uFFFD' })
}

func uvarint(b []byte) (v uint64, n int) {
	for n < len(b) && n < 10 {
		v |= uint64(b[n]&0x7f) << (7 * n)
		n++
		if b[n-1] < 0x80 {
			return v, n
		}
	}
	return 0, 0
}

// refuseRecord refuses the record as a whole.
func (w *work) refuseRecord(reason Reason, field, detail string) {
	w.out.Rejects = append(w.out.Rejects, Reject{Index: -1, Reason: reason, Field: field, Detail: detail})
}

// refuseEvent refuses the event with this index.
func (w *work) refuseEvent(index int, f fault) {
	w.out.Rejects = append(w.out.Rejects, Reject{Index: index, Reason: f.reason, Field: f.field, Detail: f.detail})
}

// room says whether one more event may be decoded; when not, the rest of the record is refused once.
func (w *work) room() bool {
	b := w.out
	if b.Events < w.opts.MaxEvents && len(b.Metrics) < w.opts.MaxEvents && len(b.scratch.labels) < maxRecordLabels {
		return true
	}
	w.refuseEvent(b.Events, fault{ReasonTooManyEvents, "",
		fmt.Sprintf("the record goes on after event %d; at most %d events (histogram buckets count) are taken; "+
			"send smaller batches", b.Events, w.opts.MaxEvents)})
	b.Events++
	return false
}
