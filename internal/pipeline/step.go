package pipeline

import (
	"strings"

	"github.com/vigie-io/vigie/pkg/events"
)

// Step decodes, admits and accumulates the records of chunk, which is of the task's partition. It keeps nothing of it.
func (t *Task) Step(chunk *Chunk, now int64) {
	t.now, t.admit = now, newAdmission(&t.cfg.Config, now)
	t.advance(chunk)
	t.claims.follow(t.rates.changes)
	for n, rest := 0, chunk.Records; ; n++ {
		if len(rest) == 0 {
			if rest = chunk.more(t.cfg.Scratch.records[:]); len(rest) == 0 {
				break
			}
		}
		run := rest[:runLength(rest)]
		split := t.cfg.watch.split(n%sampledRuns == 0)
		t.decode(run)
		t.readAhead(run)
		split.half()
		for i := range run {
			h := &t.cfg.Scratch.headers[i]
			if l := &t.cfg.Scratch.looks[i]; l.Known() {
				t.recognized(&run[i], h, l)
			} else {
				t.record(&run[i], h, h.batch)
			}
		}
		split.end()
		rest = rest[len(run):]
	}
	t.cfg.watch.lapSplit(stageDecode, stageAccumulate)
}

const (
	runRecords = 32      // records decoded before the first of them is accumulated
	largeValue = 1 << 15 // bytes; a record above has a run of its own, so that only one batch grows with it

	// sampledRuns is how many runs share one measurement: asking for a thread's time takes as long as an event does.
	sampledRuns = 16
)

// runLength is how many of the records are decoded together: few enough to stay in the caches.
func runLength(records []Record) int {
	bytes := 0
	for i := range records {
		if bytes += len(records[i].Value); i > 0 && (i == runRecords || bytes > largeValue) {
			return i
		}
	}
	return len(records)
}

// decode looks at all records of a run first: most are one event that is known.
func (t *Task) decode(run []Record) {
	scratch := t.cfg.Scratch
	looks := scratch.looks[:len(run)]
	src := events.Source{Signal: t.cfg.Signal}
	for i := range run {
		t.look(&run[i], &scratch.headers[i], &looks[i], &src)
	}
	scratch.looker.Recognize(looks)
	batch := 0 // the first ones are used most, and have seen most of how events are written
	for i := range run {
		h := &scratch.headers[i]
		h.batch = &scratch.batches[batch]
		if !looks[i].Known() && h.barred == nil && !t.isBeyond(&run[i], h, &looks[i], &src) {
			batch++
			r := &run[i]
			fill(&src, r, h)
			src.Repeats, src.Look = nil, nil
			if h.known != nil {
				src.Repeats, src.Look = h.known.repeats, &looks[i]
			}
			h.batch.Share(&scratch.keys)
			t.decoders.of(claimed(r, h), h.claimant, t.limits).Decode(h.batch, src)
		}
	}
}

// look reads the headers of a record, and time and value of what may be a known event.
func (t *Task) look(r *Record, h *sourceHeaders, l *events.Look, src *events.Source) {
	h.read(r)
	h.claimant, h.meter = t.claimant(r, h)
	if h.known = t.knows(h); h.known == nil {
		*l = events.Look{}
		return
	}
	src.ContentType, src.Value, src.Timestamp, src.Repeats = h.contentType, r.Value, r.Timestamp, h.known.repeats
	h.known.decoder.Begin(&t.cfg.Scratch.looker, l, src)
}

// recognized takes a record that is one event of a series that the tenant has.
func (t *Task) recognized(r *Record, h *sourceHeaders, l *events.Look) {
	tn := h.known
	t.offset = r.Offset
	t.tally.Records++
	t.tally.Bytes += uint64(len(r.Key) + len(r.Value))
	if t.overRate(r, h, tn.name, 1) {
		return
	}
	t.refused = t.refused[:0]
	t.repeat(tn, &l.Repeat)
	if l.NoTime {
		t.tally.NoTime++
	}
	if len(t.refused) > 0 {
		t.refuse(r, h, tn.name, 1)
	}
}

// record takes one decoded record.
func (t *Task) record(r *Record, h *sourceHeaders, b *events.Batch) {
	t.offset = r.Offset
	t.tally.Records++
	t.tally.Bytes += uint64(len(r.Key) + len(r.Value))
	t.refused = t.refused[:0]
	if t.overRate(r, h, tenantOf(b, r, h), weight(h, b)) {
		return
	}
	if h.barred != nil {
		t.refused = append(t.refused, *h.barred)
		t.refuse(r, h, authority(r, h), 0)
		return
	}
	for i := range b.Rejects {
		if reject := &b.Rejects[i]; reject.Index < 0 || h.only.has(reject.Index) {
			t.refused = append(t.refused, refusal{reject.Index, reject.Reason, rejectDetail(reject)})
		}
	}
	t.metrics(h, b)
	for i := range b.Spans {
		if s, index := &b.Spans[i], b.SpanIndex[i]; t.wanted(h.only, index, s.Time) {
			t.span(s)
			if t.declares {
				t.declareSpan(s)
			}
		}
	}
	for i := range b.Logs {
		if l, index := &b.Logs[i], b.LogIndex[i]; t.wanted(h.only, index, l.Time) {
			t.log(l)
			if t.declares {
				t.declareLog(l)
			}
		}
	}
	if h.only == nil {
		t.tally.NoTime += uint64(b.NoTime)
		t.tally.Stale += uint64(b.Stale)
		t.tally.Coarse += uint64(b.Coarse)
	}
	if len(t.refused) > 0 {
		tenant := tenantOf(b, r, h)
		if h.claimant == nil {
			tenant = strings.Clone(tenant)
		}
		t.refuse(r, h, tenant, b.Events)
	}
}

// overRate says whether the record of n events is more than its tenant may send, which drops it with all its events,
// counted. The bad ones, too: dead letters would double a flood.
func (t *Task) overRate(r *Record, h *sourceHeaders, tenant string, n int) bool {
	m := h.meter
	if m == nil {
		if m = t.rates.of(tenant, r.Key); m == nil {
			return false
		}
		t.claims.claim(r.Key, h.claimant, m)
	}
	t.rates.use(m, t.now)
	reason := m.take(r.Timestamp, uint64(n), uint64(len(r.Key)+len(r.Value)))
	if reason == "" {
		return false
	}
	t.tally.dropped(m.key.tenant, reason, n)
	return true
}

// weight is how many events a record counts for, at least one.
func weight(h *sourceHeaders, b *events.Batch) int {
	switch {
	case h.only != nil:
		return len(h.only)
	case h.barred != nil:
		return 1
	}
	return max(b.Events, 1)
}

func rejectDetail(r *events.Reject) string {
	if r.Field == "" || strings.HasPrefix(r.Detail, r.Field) {
		return r.Detail
	}
	return r.Field + ": " + r.Detail
}

// tenantOf names the tenant of a record, "" when the record does not. All its events have one tenant. The name may be
// the batch's.
func tenantOf(b *events.Batch, r *Record, h *sourceHeaders) string {
	switch {
	case h.claimant != nil:
		return h.claimant.name
	case h.barred != nil: // the batch is an older record's
	case len(b.Metrics) > 0:
		return b.Metrics[0].Tenant
	case len(b.Spans) > 0:
		return b.Spans[0].Tenant
	case len(b.Logs) > 0:
		return b.Logs[0].Tenant
	}
	return authority(r, h)
}

// wanted says whether to take the event with this index and time, and notes the refusal of one that is out of time.
func (t *Task) wanted(only onlyEvents, index int, time int64) bool {
	if only != nil && !only.has(index) {
		return false
	}
	if t.admit.admits(time) {
		return true
	}
	if n := len(t.refused); n > 0 && t.refused[n-1].index == index {
		return false // another sample of the same data point
	}
	reason, detail := t.admit.refusal(&t.cfg.Config, time)
	t.refused = append(t.refused, refusal{index, reason, detail})
	return false
}

// refuse counts the refusals of the record at hand, of events in all, and writes its dead letter.
func (t *Task) refuse(r *Record, h *sourceHeaders, tenant string, events int) {
	t.refused = settle(t.refused)
	for i := range t.refused {
		t.tally.refuse(tenant, t.refused[i].reason)
	}
	letter := deadLetter(&t.arena, &t.cfg.Config, t.cfg.Partition, r, t.refused, events, h.only)
	t.tally.Letters++
	if letter.Value == nil && (r.Value != nil || r.BadBatch != nil) {
		t.tally.Omitted++
	}
	t.letterBytes += letter.size()
	t.letters = append(t.letters, letter)
	t.addLetter(r, h, tenant)
}
