package pipeline

import "github.com/vigie-io/vigie/pkg/events"

// Reader makes of a record what a task makes of it before it looks at the clock and accumulates: for those who count
// records again. It is not safe for concurrent use.
type Reader struct {
	signal  events.Signal
	decoder *events.Decoder
	batch   events.Batch
	charge  Charge
}

// Charge is what a record counts for in its tenant's rates.
type Charge struct {
	Tenant        string // "" counts nowhere
	Shard         int    // as its key says
	Events, Bytes int
}

// NewReader returns a Reader of a signal's records. A nil decoder is one with the contract's limits.
func NewReader(signal events.Signal, decoder *events.Decoder) *Reader {
	if decoder == nil {
		decoder = events.NewDecoder(events.Options{})
	}
	return &Reader{signal: signal, decoder: decoder}
}

// Read returns the record's events and refusals, valid until the next Read, and which of them, by index, the record
// stands for: a replayed record stands for some only. It returns nil for a record that is refused whole without a look
// at its value.
func (d *Reader) Read(r *Record) (batch *events.Batch, standsFor func(index int) bool) {
	var h sourceHeaders
	if h.read(r); h.barred == nil {
		src := events.Source{Signal: d.signal}
		fill(&src, r, &h)
		d.decoder.Decode(&d.batch, src)
	}
	d.charge = Charge{tenantOf(&d.batch, r, &h), shardOf(r.Key), weight(&h, &d.batch), len(r.Key) + len(r.Value)}
	if h.barred != nil {
		return nil, nil
	}
	return &d.batch, h.only.has
}

// Charge is that of the record read last.
func (d *Reader) Charge() Charge { return d.charge }
