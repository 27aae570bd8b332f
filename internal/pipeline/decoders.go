package pipeline

import (
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// DecoderOptions are the contract's limits with a tenant's limits of labels.
func DecoderOptions(l *tenants.Limits) events.Options {
	options := events.DefaultOptions()
	options.MaxLabels, options.MaxName, options.MaxValue = l.MaxLabels, int(l.MaxLabelName), int(l.MaxLabelValue)
	return options
}

// decoders are a task's decoders, one for each set of limits of labels. Sets that no tenant has any more are kept: a
// configuration has few, and a decoder that stays the same keeps what is known of events.
type decoders struct {
	fixed *events.Decoder // for all tenants; nil: each has its limits
	made  map[labelLimits]*events.Decoder
}

type labelLimits struct{ labels, name, value int }

func newDecoders(fixed *events.Decoder) decoders {
	return decoders{fixed: fixed, made: make(map[labelLimits]*events.Decoder)}
}

// of returns the decoder for records of a tenant, which may not be there yet.
func (d *decoders) of(name string, tn *tenant, limits *tenants.Config) *events.Decoder {
	if tn != nil {
		return tn.decoder
	}
	l := limits.For(tenants.ID(name))
	return d.with(&l)
}

func (d *decoders) with(l *tenants.Limits) *events.Decoder {
	if d.fixed != nil {
		return d.fixed
	}
	key := labelLimits{l.MaxLabels, int(l.MaxLabelName), int(l.MaxLabelValue)}
	decoder := d.made[key]
	if decoder == nil {
		decoder = events.NewDecoder(DecoderOptions(l))
		d.made[key] = decoder
	}
	return decoder
}
