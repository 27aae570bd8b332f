package pipeline

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/pkg/events"
)

// refusal is one refused event of the record at hand; index −1 is the record itself.
type refusal struct {
	index  int
	reason events.Reason
	detail string
}

const (
	maxDetails     = 3    // refusals that the detail header spells out
	maxDetailBytes = 1024 // and its size
	recordOverhead = 64   // of a Kafka record: lengths, deltas, attributes
	headerOverhead = 10
)

// settle sorts refusals and keeps one per event: several samples may come from one data point.
func settle(refused []refusal) []refusal {
	slices.SortStableFunc(refused, func(a, b refusal) int { return cmp.Compare(a.index, b.index) })
	return slices.CompactFunc(refused, func(a, b refusal) bool { return a.index == b.index })
}

// deadLetter makes the message for a record of which settled refusals, at least one, were refused. events is how many
// events the record holds, only which of them it stands for. Nothing of r is retained.
//
// A letter names the events to take at a replay. It names none (the whole record) when every event was refused, or
// the record did not decode; but a record that stands for some events only is never widened to all of it.
func deadLetter(a *arena, cfg *Config, at Partition, r *Record, refused []refusal, count int, only onlyEvents) Message {
	m := Message{Topic: cfg.DLQTopic, Partition: -1, Key: a.copy(r.Key), Value: a.copy(r.Value),
		Headers: make([]Header, 0, len(r.Headers)+ownHeaders)}
	for _, h := range r.Headers {
		if !ours(h.Key) {
			m.Headers = append(m.Headers, Header{strings.Clone(h.Key), a.copy(h.Value)})
		}
	}
	theirs := len(m.Headers)
	var buffer [256]byte
	add := func(key string, value []byte) { m.Headers = append(m.Headers, Header{key, a.copy(value)}) }
	add(HeaderDLQReason, append(buffer[:0], refused[0].reason...))
	add(HeaderDLQDetail, appendDetails(buffer[:0], refused))
	add(HeaderDLQTopic, append(buffer[:0], at.Topic...))
	add(HeaderDLQPartition, strconv.AppendInt(buffer[:0], int64(at.Partition), 10))
	add(HeaderDLQOffset, strconv.AppendInt(buffer[:0], r.Offset, 10))
	add(HeaderDLQTimestamp, strconv.AppendInt(buffer[:0], r.Timestamp/1e6, 10))
	whole := refused[0].index < 0 || only == nil && len(refused) >= count
	add(HeaderDLQEvents, appendEvents(nil, refused, whole, only))
	if r.BadBatch != nil {
		return reference(m, m.Headers[theirs:], r.BadBatch.Size)
	}
	if size := m.size(); size > int64(cfg.DLQMessageBytes) {
		return reference(m, m.Headers[theirs:], size)
	}
	return m
}

// ownHeaders is how many headers a letter has beside the original's.
const ownHeaders = 7

// reference replaces a letter that would be too large by one that says where the original is.
func reference(m Message, own []Header, size int64) Message {
	m.Headers = append(slices.Clone(own), Header{HeaderDLQOmitted, strconv.AppendInt(nil, size, 10)})
	m.Value = nil
	for i := range m.Headers {
		// A list of events is of no use without the events, and may be what was too large.
		if m.Headers[i].Key == HeaderDLQEvents {
			m.Headers[i].Value = nil
		}
	}
	if len(m.Key) > maxDetailBytes {
		m.Key = nil
	}
	return m
}

// size is about what the message takes on the wire, uncompressed.
func (m *Message) size() int64 {
	n := recordOverhead + len(m.Key) + len(m.Value)
	for i := range m.Headers {
		n += headerOverhead + len(m.Headers[i].Key) + len(m.Headers[i].Value)
	}
	return int64(n)
}

// ours says whether a header of the original is from an earlier passage through the dead letter queue.
func ours(key string) bool {
	return len(key) >= len("vigie-dlq-") && strings.EqualFold(key[:len("vigie-dlq-")], "vigie-dlq-") ||
		strings.EqualFold(key, HeaderOnly)
}

func appendEvents(dst []byte, refused []refusal, whole bool, only onlyEvents) []byte {
	appendIndex := func(index int) {
		if len(dst) > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, int64(index), 10)
	}
	switch {
	case whole:
		for _, index := range only {
			appendIndex(index)
		}
	default:
		for i := range refused {
			appendIndex(refused[i].index)
		}
	}
	return dst
}

// appendDetails spells out the first refusals and counts the others.
func appendDetails(dst []byte, refused []refusal) []byte {
	for i := range refused[:min(maxDetails, len(refused))] {
		r := &refused[i]
		if i > 0 {
			dst = append(dst, "; "...)
		}
		if r.index >= 0 {
			dst = append(strconv.AppendInt(append(dst, "event "...), int64(r.index), 10), ": "...)
		}
		dst = append(dst, r.detail...)
	}
	if more := len(refused) - maxDetails; more > 0 {
		dst = append(strconv.AppendInt(append(dst, "; and "...), int64(more), 10), " more"...)
	}
	if len(dst) > maxDetailBytes {
		dst = append(bytes.ToValidUTF8(dst[:maxDetailBytes], nil), "…"...)
	}
	return dst
}
