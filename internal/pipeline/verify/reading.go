package verify

import (
	"fmt"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/rules"
)

// reading goes through the topic's records in order and calls take for the events that count.
type reading struct {
	v     *verifier
	rates *rates
	first bool // counts records and events for the summary
	lost  []Difference
	take  func(*event)
	grown fileSamples
}

func (v *verifier) read(first bool, take func(*event)) reading {
	return reading{v: v, rates: newRates(v.cfg.Limits), first: first, take: take, grown: newFileSamples(int64(v.cfg.Memory))}
}

// event is one that the contract accepts, and no letter refuses.
type event struct {
	partition int32
	timestamp int64         // of its record, Unix nanoseconds
	metric    events.Metric // itself, or the observation or count that a span or log record stands for
	fields    rules.Fields
	unknown   bool        // a letter is about events of its record, and does not say which
	file      *LoadedFile // that it is of, and then of no partition; nil: of the topic
}

// record reads one record.
func (p *reading) record(partition int32, r *pipeline.Record) {
	batch, standsFor := p.v.reader.Read(r)
	at := position{partition, r.Offset, r.Timestamp / 1e6}
	l := p.v.letters[at]
	if p.first {
		p.v.sum.Records++
	}
	if !p.rates.take(partition, r.Timestamp, p.v.reader.Charge()) {
		return
	}
	if batch == nil {
		p.refused(at, l, -1)
		return
	}
	for i := range batch.Rejects {
		if index := batch.Rejects[i].Index; index < 0 || standsFor(index) {
			p.refused(at, l, index)
		}
	}
	each(batch, func(index int, e *event) {
		if standsFor(index) && p.accepts(at, r, l, index, &e.metric) {
			e.partition, e.timestamp, e.unknown = partition, r.Timestamp, l != nil && l.Unknown
			p.take(e)
		}
	})
}

// refused notes an event that the contract refuses: it must be in a dead letter.
func (p *reading) refused(at position, l *Refusal, index int) {
	if !p.first {
		return
	}
	p.v.sum.Refused++
	if l == nil || !l.Unknown && index >= 0 && !l.refuses(index) {
		p.lose(at, index, "is refused, and in no dead letter")
	}
}

func (p *reading) lose(at position, index int, what string) {
	if len(p.lost) < maxDifferences {
		p.lost = append(p.lost,
			Difference{What: fmt.Sprintf("event %d of record %d/%d %s", index, at.partition, at.offset, what)})
	}
}

// accepts says whether an event counts that the contract accepts: not when a letter says that its time or its labels
// were refused.
func (p *reading) accepts(at position, r *pipeline.Record, l *Refusal, index int, m *events.Metric) bool {
	switch {
	case p.v.cfg.Tenant != "" && m.Tenant != string(p.v.cfg.Tenant):
		return false
	case l != nil && l.Unknown:
		return true
	case l.refuses(index):
		if p.first {
			p.v.sum.Refused++
			if !l.outOfTime(m.Time, p.v.cfg.MaxPast, p.v.cfg.MaxFuture) && !l.overLabels() && !p.v.overNow(r, m.Tenant, index) {
				p.lose(at, index, "is in a dead letter, and nothing is wrong with it")
			}
		}
		return false
	}
	if p.first {
		p.v.sum.Events++
	}
	return true
}
