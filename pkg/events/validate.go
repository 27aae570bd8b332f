package events

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// agree checks a payload's tenant ("" when it names none) against the record's and returns the latter. A
// record nobody spoke for belongs to the first tenant its payload names.
func (w *work) agree(payload string) string {
	s := w.s
	switch {
	case payload == w.tenant && payload != "":
	case payload == "" && w.tenant == "":
		s.field = "tenant"
		s.refuse(ReasonTenantMissing, "no tenant: set the Kafka key (or the credential), or the field tenant")
	case payload == "":
	case w.tenant == "":
		if !validTenant(payload) {
			s.field = "tenant"
			s.refuse(ReasonTenantInvalid, tenantRule(payload))
			break
		}
		w.tenant = payload
	default:
		// Before every other fault of the event, whose details may quote what is another tenant's.
		s.fault = fault{ReasonTenantMismatch, "tenant",
			fmt.Sprintf("the payload says tenant %s, the record is tenant %q's", quoted([]byte(payload)), w.tenant)}
	}
	return w.tenant
}

// validTenant repeats the rule of internal/tenants, which a pure package cannot import.
func validTenant(t string) bool {
	if len(t) == 0 || len(t) > 64 || t[0] == '.' || t[0] == '_' {
		return false
	}
	for i := range len(t) {
		c := t[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func tenantRule(t string) string {
	return "want 1 to 64 bytes of A-Z a-z 0-9 . _ -, not beginning with . or _; got " + quoted([]byte(t))
}

// eventTime gives an event without a time the record's.
func (w *work) eventTime(t *int64) {
	if w.s.has(fieldTime) {
		return
	}
	*t = w.src.Timestamp
	if w.src.Timestamp <= 0 {
		w.s.field = "time"
		w.s.refuse(ReasonMissing, "the event has no time, and neither has the record")
	}
}

func (w *work) required(field, text string) {
	if text == "" {
		w.s.field = field
		w.s.refuse(ReasonMissing, "the field is required and not empty")
	}
}

func (w *work) bounded(field, text string, limit int) {
	if len(text) > limit {
		w.s.field = field
		w.s.refuse(ReasonTooLong, fmt.Sprintf("the text has %d bytes, the limit is %d", len(text), limit))
	}
}

func (w *work) boundedIDs(trace, span, parent string) {
	w.bounded("trace_id", trace, w.opts.MaxName)
	w.bounded("span_id", span, w.opts.MaxName)
	w.bounded("parent_id", parent, w.opts.MaxName)
}

const kindList = "observation, delta, gauge or cumulative"

func kindOf(text []byte) (Kind, bool) {
	switch string(text) {
	case "observation":
		return Observation, true
	case "delta":
		return Delta, true
	case "gauge":
		return Gauge, true
	case "cumulative":
		return Cumulative, true
	}
	return 0, false
}

// String is the word of the contract.
func (k Kind) String() string {
	switch k {
	case Observation:
		return "observation"
	case Delta:
		return "delta"
	case Gauge:
		return "gauge"
	case Cumulative:
		return "cumulative"
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// lowered turns text to lower case and takes an OTLP enum's prefix off. Longer texts than any word are no word.
func lowered(buf *[32]byte, text []byte, prefix string) []byte {
	if len(text) > len(buf) {
		return nil
	}
	for i, c := range text {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		buf[i] = c
	}
	return bytes.TrimPrefix(buf[:len(text)], []byte(prefix))
}

// spanKind is the contract's word for a kind, "" when unknown.
func spanKind(text []byte) string {
	var buf [32]byte
	switch string(lowered(&buf, text, "span_kind_")) {
	case "server":
		return "server"
	case "client":
		return "client"
	case "internal", "unspecified":
		return "internal"
	case "producer":
		return "producer"
	case "consumer":
		return "consumer"
	}
	return ""
}

// spanStatus is the contract's word for a status, "" when unknown.
func spanStatus(text []byte) string {
	var buf [32]byte
	switch string(lowered(&buf, text, "status_code_")) {
	case "ok":
		return "ok"
	case "error":
		return "error"
	case "unset":
		return "unset"
	}
	return ""
}

// severityOf reads the names that logging libraries, syslog and OpenTelemetry use. Severities are free text
// in the wild, so that another word is no fault: it is "unknown".
func severityOf(text string) string {
	if len(text) > 16 {
		return "unknown"
	}
	var buf [32]byte
	for i := range len(text) {
		buf[i] = text[i]
		if c := text[i]; c >= 'A' && c <= 'Z' {
			buf[i] = c | 0x20
		}
	}
	// OpenTelemetry writes INFO2, WARN4 for the finer steps.
	word := bytes.TrimRight(buf[:len(text)], "234")
	switch string(word) {
	case "trace", "verbose", "finest", "finer":
		return "trace"
	case "debug", "fine":
		return "debug"
	case "info", "information", "informational", "notice":
		return "info"
	case "warn", "warning":
		return "warn"
	case "error", "err", "severe":
		return "error"
	case "fatal", "critical", "crit", "alert", "emerg", "emergency", "panic":
		return "fatal"
	}
	return "unknown"
}

// derive fills what a span's attributes say under OpenTelemetry's names and its fields do not.
func (p *Span) derive() {
	if p.Kind == "" {
		p.Kind = "internal"
	}
	if p.Status == "" {
		p.Status = "unset"
	}
	if len(p.Attributes) == 0 {
		return
	}
	if p.Service == "" {
		p.Service = p.Attributes.Get("service.name")
	}
	if p.Route == "" {
		p.Route = p.Attributes.Get("http.route")
	}
	if p.StatusCode == 0 {
		p.StatusCode = statusCodeOf(p.Attributes.Get("http.response.status_code"), p.Attributes.Get("http.status_code"))
	}
	if p.Peer == "" {
		p.Peer = p.Attributes.Get("peer.service")
	}
	if p.Peer == "" && (p.Kind == "client" || p.Kind == "producer") {
		if p.Peer = p.Attributes.Get("server.address"); p.Peer == "" {
			p.Peer = p.Attributes.Get("net.peer.name")
		}
	}
}

// statusCodeOf reads the first text that is an HTTP status.
func statusCodeOf(texts ...string) int {
	for _, text := range texts {
		if len(text) == 3 && text[0] >= '1' && text[0] <= '5' && text[1]-'0' <= 9 && text[2]-'0' <= 9 {
			return int(text[0]-'0')*100 + int(text[1]-'0')*10 + int(text[2]-'0')
		}
	}
	return 0
}

// derive fills the service a log names only among its attributes.
func (l *Log) derive() {
	if l.Service == "" && len(l.Attributes) > 0 {
		l.Service = l.Attributes.Get("service.name")
	}
}

// quoted shows the beginning of bytes that may be anything, in quotes and printable.
func quoted(b []byte) string {
	const most = 64
	if len(b) > most {
		return strconv.QuoteToASCII(strings.ToValidUTF8(string(b[:most]), "\uFFFD")) + "…"
	}
	return strconv.QuoteToASCII(string(b))
}

// asJSON shows the beginning of a JSON value as it was written, printable: 200 without quotes, a text in its own.
func asJSON(b []byte) string {
	text := quoted(b)
	end := strings.LastIndexByte(text, '"')
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(text[1:end]) + text[end+1:]
}
