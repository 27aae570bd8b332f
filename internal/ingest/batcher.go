package ingest

import (
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// maxRecordEvents keeps a record below the number of events that a stream worker takes from one.
const maxRecordEvents = 32_000

// batcher gathers encoded events into records: JSON arrays of about target bytes, one run of them per shard.
type batcher struct {
	target, limit int
	shards        []shardBuffer
	done          []keyedValue
	buffers       []*[]byte
	key           []byte // scratch
}

type shardBuffer struct {
	buffer *[]byte
	events int
	start  int // of the event being appended
}

func newBatcher(c *call) *batcher {
	return &batcher{
		target: int(c.config.RecordTarget), limit: int(c.config.RecordMax),
		shards: make([]shardBuffer, max(c.limits.Shards, 1)),
	}
}

// begin returns the buffer that the next event of a shard is to be appended to; end takes it back.
func (b *batcher) begin(shard int) []byte {
	s := &b.shards[shard]
	if s.buffer == nil {
		s.buffer = b.newBuffer()
	}
	separator := byte(',')
	if s.events == 0 {
		separator = '['
	}
	dst := append(*s.buffer, separator)
	s.start = len(dst)
	return dst
}

// end keeps the event appended since begin; false when it is too large for any record, and then it is gone.
func (b *batcher) end(shard int, dst []byte) bool {
	s := &b.shards[shard]
	event := dst[s.start:]
	if len(event)+2 > b.limit {
		*s.buffer = dst[:s.start-1]
		return false
	}
	if s.events > 0 && (len(dst)+1 > b.target || s.events >= maxRecordEvents) {
		*s.buffer = dst[:s.start-1]
		next := b.newBuffer()
		*next = append(append(*next, '['), event...)
		b.cut(shard)
		s.buffer, s.events = next, 1
		return true
	}
	*s.buffer = dst
	s.events++
	return true
}

func (b *batcher) cut(shard int) {
	s := &b.shards[shard]
	if s.events > 0 {
		*s.buffer = append(*s.buffer, ']')
		b.done = append(b.done, keyedValue{shard, *s.buffer})
	}
	s.buffer, s.events = nil, 0
}

// values closes the open records and returns all.
func (b *batcher) values() []keyedValue {
	for shard := range b.shards {
		b.cut(shard)
	}
	return b.done
}

// release gives the buffers back. Only after they have been published, or never given away.
func (b *batcher) release() {
	for _, buffer := range b.buffers {
		putBuffer(buffer)
	}
	b.buffers = nil
}

func (b *batcher) newBuffer() *[]byte {
	buffer := getBuffer()
	b.buffers = append(b.buffers, buffer)
	return buffer
}

// shardOf keeps a series on one shard.
func (b *batcher) shardOf(kind byte, name string, labels series.Labels) int {
	if len(b.shards) == 1 {
		return 0
	}
	b.key = series.AppendKey(b.key[:0], kind, name, labels)
	return int(series.Hash(b.key).Lo % uint64(len(b.shards)))
}

func (b *batcher) addMetric(m *events.Metric) bool {
	shard := b.shardOf(byte(m.Kind), m.Name, m.Labels)
	return b.end(shard, events.AppendMetric(b.begin(shard), m))
}

// addSpan keeps the spans of one operation together: they make one series.
func (b *batcher) addSpan(s *events.Span) bool {
	shard := b.shardOf(0, s.Service, series.Labels{{Name: "span_name", Value: s.Name}})
	return b.end(shard, events.AppendSpan(b.begin(shard), s))
}

func (b *batcher) addLog(l *events.Log) bool {
	shard := b.shardOf(0, l.Service, nil)
	return b.end(shard, events.AppendLog(b.begin(shard), l))
}
