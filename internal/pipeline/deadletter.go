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

// deadLetter makes the message for a record of which settled refusals, at least one, were refused. events is how many events
// the record holds, only which of them it stands for. Nothing of r is retained.
//
// A letter names the events to take at a replay. It names none (the whole record) when every event was refused, or
// the record did not decode; but a record that stands for some events only is never widened to all of it.
func deadLetter(cfg *Config, at Partition, r *Record, refused []refusal, count int, only onlyEvents) Message {
	m := Message{Topic: cfg.DLQTopic, Partition: -1, Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value)}
	whole := refused[0].index < 0 || only == nil && len(refused) >= count
	own := []Header{
		{HeaderDLQReason, []byte(refused[0].reason)},
		{HeaderDLQDetail, []byte(details(refused))},
		{HeaderDLQTopic, []byte(at.Topic)},
		{HeaderDLQPartition, strconv.AppendInt(nil, int64(at.Partition), 10)},
		{HeaderDLQOffset, strconv.AppendInt(nil, r.Offset, 10)},
		{HeaderDLQTimestamp, strconv.AppendInt(nil, r.Timestamp/1e6, 10)},
		{HeaderDLQEvents, eventList(refused, whole, only)},
	}
	for _, h := range r.Headers {
		if !ours(h.Key) {
			m.Headers = append(m.Headers, Header{strings.Clone(h.Key), bytes.Clone(h.Value)})
		}
	}
	m.Headers = append(m.Headers, own...)
	if size := m.size(); size > int64(cfg.DLQMessageBytes) {
		return reference(m, own, size)
	}
	return m
}

// reference replaces a letter that is too large by one that says where the original is.
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
	return len(key) >= len("vigie-dlq-") && strings.EqualFold(key[:len("vigie-dlq-")], "vigie-dlq-") || strings.EqualFold(key, HeaderOnly)
}

func eventList(refused []refusal, whole bool, only onlyEvents) (list []byte) {
	appendIndex := func(index int) {
		if len(list) > 0 {
			list = append(list, ',')
		}
		list = strconv.AppendInt(list, int64(index), 10)
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
	return list
}

// details spells out the first refusals and counts the others.
func details(refused []refusal) string {
	var b strings.Builder
	for i := range refused[:min(maxDetails, len(refused))] {
		r := &refused[i]
		if i > 0 {
			b.WriteString("; ")
		}
		if r.index >= 0 {
			b.WriteString("event " + strconv.Itoa(r.index) + ": ")
		}
		b.WriteString(r.detail)
	}
	if more := len(refused) - maxDetails; more > 0 {
		b.WriteString("; and " + strconv.Itoa(more) + " more")
	}
	s := b.String()
	if len(s) > maxDetailBytes {
		s = strings.ToValidUTF8(s[:maxDetailBytes], "") + "…"
	}
	return s
}
