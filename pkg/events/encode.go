package events

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/vigie-io/vigie/pkg/series"
)

// AppendMetric appends m as one JSON event, without a line break, and returns the longer slice. Decoding it
// gives m again. Fields that are empty are left out. A value that is not finite becomes a text that the
// decoder refuses with ReasonNotFinite; texts that are not UTF-8 get U+FFFD for each wrong byte.
func AppendMetric(dst []byte, m *Metric) []byte {
	dst = appendHead(dst, m.Tenant, m.Time)
	if m.Start != 0 {
		dst = appendTime(append(dst, `,"start":`...), m.Start)
	}
	dst = appendString(append(dst, `,"name":`...), m.Name)
	if m.Kind != Observation {
		dst = appendString(append(dst, `,"kind":`...), m.Kind.String())
	}
	switch {
	case m.Stale:
		dst = append(dst, `,"stale":true`...)
	case m.Histogram != nil:
		dst = appendHistogram(append(dst, `,"histogram":`...), m.Histogram)
	default:
		dst = appendFloat(append(dst, `,"value":`...), m.Value)
	}
	dst = appendLabels(dst, `,"labels":{`, m.Labels)
	dst = appendText(dst, `,"unit":`, m.Unit)
	dst = appendText(dst, `,"help":`, m.Help)
	return append(dst, '}')
}

// AppendSpan appends p as one JSON event, as AppendMetric does.
func AppendSpan(dst []byte, p *Span) []byte {
	dst = appendHead(dst, p.Tenant, p.Time)
	dst = appendString(append(dst, `,"service":`...), p.Service)
	dst = appendString(append(dst, `,"name":`...), p.Name)
	dst = appendSeconds(append(dst, `,"duration":`...), p.Duration)
	dst = appendText(dst, `,"kind":`, p.Kind)
	dst = appendText(dst, `,"status":`, p.Status)
	if p.StatusCode != 0 {
		dst = strconv.AppendInt(append(dst, `,"status_code":`...), int64(p.StatusCode), 10)
	}
	dst = appendText(dst, `,"route":`, p.Route)
	dst = appendText(dst, `,"peer":`, p.Peer)
	dst = appendText(dst, `,"trace_id":`, p.TraceID)
	dst = appendText(dst, `,"span_id":`, p.SpanID)
	dst = appendText(dst, `,"parent_id":`, p.ParentID)
	dst = appendLabels(dst, `,"attributes":{`, p.Attributes)
	return append(dst, '}')
}

// AppendLog appends l as one JSON event, as AppendMetric does.
func AppendLog(dst []byte, l *Log) []byte {
	dst = appendHead(dst, l.Tenant, l.Time)
	dst = appendText(dst, `,"service":`, l.Service)
	dst = appendText(dst, `,"severity":`, l.Severity)
	dst = appendString(append(dst, `,"body":`...), l.Body)
	dst = appendText(dst, `,"trace_id":`, l.TraceID)
	dst = appendText(dst, `,"span_id":`, l.SpanID)
	dst = appendLabels(dst, `,"attributes":{`, l.Attributes)
	return append(dst, '}')
}

func appendHead(dst []byte, tenant string, t int64) []byte {
	dst = append(dst, '{')
	if tenant != "" {
		dst = append(appendString(append(dst, `"tenant":`...), tenant), ',')
	}
	return appendTime(append(dst, `"time":`...), t)
}

func appendTime(dst []byte, ns int64) []byte {
	dst = append(dst, '"')
	dst = time.Unix(0, ns).UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, '"')
}

// appendSeconds writes nanoseconds as exact decimal seconds.
func appendSeconds(dst []byte, ns int64) []byte {
	whole, rest := ns/1e9, ns%1e9
	if ns < 0 {
		dst = append(dst, '-')
		whole, rest = -whole, -rest
	}
	dst = strconv.AppendInt(dst, whole, 10)
	if rest == 0 {
		return dst
	}
	dst = append(dst, '.')
	for unit := int64(100_000_000); rest > 0; unit /= 10 {
		dst = append(dst, byte('0'+rest/unit))
		rest %= unit
	}
	return dst
}

func appendFloat(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		dst = strconv.AppendFloat(append(dst, '"'), f, 'g', -1, 64)
		return append(dst, '"')
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}

func appendHistogram(dst []byte, h *Histogram) []byte {
	dst = strconv.AppendInt(append(dst, `{"scale":`...), int64(h.Scale), 10)
	if h.ZeroThreshold != 0 {
		dst = appendFloat(append(dst, `,"zero_threshold":`...), h.ZeroThreshold)
	}
	if h.ZeroCount != 0 {
		dst = appendFloat(append(dst, `,"zero_count":`...), h.ZeroCount)
	}
	dst = appendFloat(append(dst, `,"count":`...), h.Count)
	dst = appendFloat(append(dst, `,"sum":`...), h.Sum)
	if !math.IsNaN(h.Min) {
		dst = appendFloat(append(dst, `,"min":`...), h.Min)
	}
	if !math.IsNaN(h.Max) {
		dst = appendFloat(append(dst, `,"max":`...), h.Max)
	}
	dst = appendBuckets(dst, `,"positive":`, h.Positive)
	dst = appendBuckets(dst, `,"negative":`, h.Negative)
	if len(h.Bounds) > 0 {
		dst = appendFloats(append(dst, `,"bounds":`...), h.Bounds)
	}
	return append(dst, '}')
}

func appendBuckets(dst []byte, key string, b Buckets) []byte {
	if len(b.Counts) == 0 {
		return dst
	}
	dst = strconv.AppendInt(append(append(dst, key...), `{"offset":`...), int64(b.Offset), 10)
	return append(appendFloats(append(dst, `,"counts":`...), b.Counts), '}')
}

func appendFloats(dst []byte, list []float64) []byte {
	dst = append(dst, '[')
	for i, f := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendFloat(dst, f)
	}
	return append(dst, ']')
}

func appendLabels(dst []byte, opening string, labels series.Labels) []byte {
	if len(labels) == 0 {
		return dst
	}
	dst = append(dst, opening...)
	for i := range labels {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, labels[i].Name), ':')
		dst = appendString(dst, labels[i].Value)
	}
	return append(dst, '}')
}

func appendText(dst []byte, key, text string) []byte {
	if text == "" {
		return dst
	}
	return appendString(append(dst, key...), text)
}

func appendString(dst []byte, text string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(text[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, text[from:i]...), "\uFFFD"...)
				from = i + 1
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, text[from:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		from = i
	}
	return append(append(dst, text[from:]...), '"')
}
