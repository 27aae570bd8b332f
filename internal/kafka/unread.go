package kafka

import (
	"math"
	"sort"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// polled is what a client that bundles has returned last.
type polled struct {
	bundles *bundler
	fetches kgo.Fetches
	headers []pipeline.Header // of the records that were read last
}

// release gives the memory of all of it back.
func (p *polled) release() {
	p.bundles.recycle(p.fetches)
	p.fetches = nil
}

// unread tells of records of a partition. It leaves transaction markers out and, of a batch that the client's place is
// within, what is before from. bytes is about what the records take in memory.
func (p *polled) unread(in []*kgo.Record, from int64) (all pipeline.Unread, bytes int64) {
	add := func(first, last int64, n int) {
		if all.Len == 0 {
			all.First = first
		}
		all.Last, all.Len = last, all.Len+n
	}
	u := unread{polled: p, rest: in, from: from}
	all.Read = u.read
	for u := u; ; {
		r, b, head := u.next()
		switch {
		case r == nil:
			return all, bytes
		case b == nil:
			add(r.Offset, r.Offset, 1)
			bytes += recordOverhead + int64(len(r.Key)+len(r.Value))
		default:
			if o := open(r, b, head, from); len(o.entries) > 0 {
				add(o.base+int64(o.entries[0].offset), o.base+int64(b.last()), len(o.entries))
			}
			bytes += int64(cap(b.bytes)) + bytesOf[entry](cap(b.entries))
		}
	}
}

// unread are records that were polled, some of them in bundles.
type unread struct {
	polled *polled
	rest   []*kgo.Record
	from   int64
	opened opened
	whole  *bundle // the last that came whole
}

// read is pipeline.Unread's Read.
func (u *unread) read(room []pipeline.Record) []pipeline.Record {
	headers := u.polled.headers[:0]
	n := 0
	for n < len(room) {
		if len(u.opened.entries) > 0 {
			var some int
			some, headers = u.opened.read(room[n:], headers)
			n += some
			continue
		}
		r, b, head := u.next()
		if r == nil {
			break
		}
		if b != nil {
			u.opened = open(r, b, head, u.from)
			continue
		}
		room[n], headers = single(r, headers)
		n++
	}
	u.polled.headers = headers
	return room[:n]
}

// next is the next record of the client's that is an event or leads to a bundle, nil at the end. head says that all of
// the bundle is meant.
func (u *unread) next() (r *kgo.Record, b *bundle, head bool) {
	for len(u.rest) > 0 {
		r, u.rest = u.rest[0], u.rest[1:]
		if r.Attrs.IsControl() {
			continue
		}
		b, head = u.polled.bundles.open(r)
		switch {
		case head:
			u.whole = b
		case b != nil && b == u.whole:
			continue
		}
		return r, b, head
	}
	return nil, nil, false
}

// opened are the records of a bundle that have not been read.
type opened struct {
	batch       []byte
	entries     []entry
	base        int64 // offset of the batch
	begin, unit int64 // its time, and what its records' times are counted in, in nanoseconds
}

// open opens the bundle that r leads to: all of it or, when its head did not come, what is from an offset on.
func open(r *kgo.Record, b *bundle, head bool, from int64) opened {
	o := opened{batch: b.bytes, entries: b.entries, begin: r.Timestamp.UnixNano(), unit: int64(time.Millisecond)}
	const brokers = 1
	if r.Attrs.TimestampType() == brokers {
		o.unit = 0
	}
	if head {
		o.base = r.Offset - int64(b.first())
		return o
	}
	o.base = r.Offset - int64(b.last())
	o.entries = o.entries[sort.Search(len(o.entries), func(i int) bool { return o.base+int64(o.entries[i].offset) >= from }):]
	return o
}

// read reads as many records as there is room for. Their headers are appended to headers, which is returned.
func (o *opened) read(room []pipeline.Record, headers []pipeline.Header) (n int, _ []pipeline.Header) {
	n = min(len(room), len(o.entries))
	for i := range n {
		// Field by field: a whole Record would be made elsewhere and copied.
		e, into := &o.entries[i], &room[i]
		into.Offset, into.Timestamp = o.base+int64(e.offset), representable(o.begin+e.time*o.unit)
		into.Key, into.Value = e.key.of(o.batch), e.value.of(o.batch)
		into.Headers, into.BadBatch = nil, nil
		if e.headers > 0 {
			first := len(headers)
			headers = e.appendHeaders(headers, o.batch)
			into.Headers = headers[first:len(headers):len(headers)]
		}
	}
	o.entries = o.entries[n:]
	return n, headers
}

// single is a record that came by itself. Its headers are appended to headers, which is returned.
func single(r *kgo.Record, headers []pipeline.Header) (pipeline.Record, []pipeline.Header) {
	first := len(headers)
	for _, h := range r.Headers {
		headers = append(headers, pipeline.Header{Key: h.Key, Value: h.Value})
	}
	return pipeline.Record{
		Offset: r.Offset, Timestamp: nanoseconds(r.Timestamp), Key: r.Key, Value: r.Value,
		Headers: headers[first:len(headers):len(headers)],
	}, headers
}

// nanoseconds are those of a record's timestamp, as the client has it.
func nanoseconds(t time.Time) int64 { return representable(t.UnixNano()) }

// representable is the time of a record in nanoseconds that were made of milliseconds. Those of a time that they cannot
// say, after 2262-04-11, have wrapped around to any other, but to no whole millisecond. They become the last that they
// can say, which is refused as too new.
func representable(ns int64) int64 {
	if ns%int64(time.Millisecond) != 0 {
		return math.MaxInt64
	}
	return ns
}
