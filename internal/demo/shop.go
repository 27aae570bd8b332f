// Package demo plays an online shop of eight services and emits its telemetry: spans, logs and metrics of requests that
// fan out from the frontend, with the shape of a day, slow tails, errors, and deploys that go wrong now and then.
//
// Its main type is Shop, a generator without sockets: the same Config and the same times give the same bytes. Shop
// writes the public event contract and knows nothing of Vigie's inside; whoever runs it gives it a way to produce.
package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

const (
	// tick is the grain of the simulation. Times passed to Next only decide how many whole ticks come out.
	tick = 100 * time.Millisecond
	// maxCatchUp is how much of a gap between two calls of Next is played; the rest is skipped, as a process that was
	// suspended would have sent nothing.
	maxCatchUp = time.Minute
	// scrape is how often levels and running totals are reported, on whole multiples in event time, unless the rate is
	// too low for it.
	scrape = 10 * time.Second
)

// Config says how much happens, to whom.
type Config struct {
	// Tenants are the shops, one tenant each, the first the busiest. Default demo, acme.
	Tenants []string `yaml:"tenants"`
	// Rate is the mean number of events per second over the day, all tenants and signals together; the hour of the day
	// moves it between about a third and 1.7 times that. Default 200.
	Rate float64 `yaml:"rate"`
	// Seed selects the course of events: the same seed and times give the same events. Default 1.
	Seed uint64 `yaml:"seed"`
}

// DefaultConfig is two tenants at 200 events per second.
func DefaultConfig() Config {
	return Config{Tenants: []string{"demo", "acme"}, Rate: 200, Seed: 1}
}

// Validate says what is wrong with values that came from outside.
func (c Config) Validate() error {
	if len(c.Tenants) == 0 {
		return errors.New("demo tenants: want at least one")
	}
	for i, name := range c.Tenants {
		if err := tenants.Validate(tenants.ID(name)); err != nil {
			return fmt.Errorf("demo tenants: %w", err)
		}
		if slices.Contains(c.Tenants[:i], name) {
			return fmt.Errorf("demo tenants: %q comes twice: name each tenant once", name)
		}
	}
	if !(c.Rate > 0 && c.Rate <= 1e7) {
		return fmt.Errorf("demo rate %v: want events per second above 0 and at most 10,000,000", c.Rate)
	}
	return nil
}

// Record is one Kafka record for the source topic of Signal: one event of one tenant.
type Record struct {
	Signal events.Signal
	Key    []byte // the tenant
	Value  []byte // one JSON event
}

// Shop generates the telemetry of the shops of all tenants. Not safe for concurrent use.
type Shop struct {
	shops []*shop
	clock int64 // end of the last tick played, Unix nanoseconds; 0 before the first
}

// NewShop takes a valid Config.
func NewShop(config Config) *Shop {
	s := &Shop{}
	var total float64
	for i := range config.Tenants {
		total += size(i)
	}
	for i, name := range config.Tenants {
		s.shops = append(s.shops, newShop(name, config.Rate*size(i)/total, config.Seed))
	}
	return s
}

// size is the traffic of a tenant relative to the first.
func size(i int) float64 { return 1 / float64(i+1) }

// Next plays the time since the last call and returns what happened, in memory of the caller's. Event times lie at or
// before now. How the time is cut into calls does not matter: only whole ticks are played, and gaps of more than a
// minute are skipped. The first call plays one tick, and so does one after the clock was put back by more than a
// minute.
func (s *Shop) Next(now time.Time) []Record {
	end := now.UnixNano() - now.UnixNano()%int64(tick)
	if gap := end - s.clock; gap > int64(maxCatchUp) || gap < -int64(maxCatchUp) {
		s.clock = end - int64(tick)
	}
	var out []Record
	for ; s.clock < end; s.clock += int64(tick) {
		for _, shop := range s.shops {
			out = shop.play(out, s.clock, s.clock+int64(tick))
		}
	}
	return out
}

// Run plays in real time until ctx ends, and hands what happened to produce several times a second. It returns nil
// when ctx ends and the first error of produce otherwise. A produce that takes long delays what follows; over a minute
// of delay is skipped, not made up for.
func (s *Shop) Run(ctx context.Context, produce func(context.Context, []Record) error) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		if records := s.Next(time.Now()); len(records) > 0 {
			if err := produce(ctx, records); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("produce %d demo records: %w", len(records), err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
