package ingest

import (
	"sync"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// decoders keeps one decoder for every set of label limits, and batches for all.
type decoders struct {
	byLimits sync.Map // labelLimits → *events.Decoder
	batches  sync.Pool
}

type labelLimits struct{ labels, name, value, body int }

// maxRequestEvents bounds the events of one request, whatever its size.
const maxRequestEvents = 500_000

func (d *decoders) of(l *tenants.Limits) *events.Decoder {
	key := labelLimits{l.MaxLabels, int(l.MaxLabelName), int(l.MaxLabelValue), int(l.MaxDecompressed)}
	if decoder, ok := d.byLimits.Load(key); ok {
		return decoder.(*events.Decoder)
	}
	decoder, _ := d.byLimits.LoadOrStore(key, events.NewDecoder(events.Options{
		MaxRecord: key.body, MaxEvents: maxRequestEvents,
		MaxLabels: key.labels, MaxName: key.name, MaxValue: key.value,
	}))
	return decoder.(*events.Decoder)
}

func (d *decoders) batch() *events.Batch {
	if b, ok := d.batches.Get().(*events.Batch); ok {
		return b
	}
	return new(events.Batch)
}
