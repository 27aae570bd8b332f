package demo_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vigie-io/vigie/internal/demo"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// noon of a Tuesday.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func config(rate float64, names ...string) demo.Config {
	c := demo.DefaultConfig()
	c.Rate = rate
	if len(names) > 0 {
		c.Tenants = names
	}
	return c
}

// play runs a shop for a while in steps and gives every record to each, with the end of its step.
func play(c demo.Config, from time.Time, length, step time.Duration, each func(r demo.Record, now time.Time)) {
	shop := demo.NewShop(c)
	for at := from; !at.After(from.Add(length)); at = at.Add(step) {
		for _, r := range shop.Next(at) {
			each(r, at)
		}
	}
}

func digest(c demo.Config, step time.Duration) (id series.ID, records int) {
	var all []byte
	play(c, noon, time.Minute, step, func(r demo.Record, _ time.Time) {
		all = fmt.Appendf(all, "%s %s %s\n", r.Signal, r.Key, r.Value)
		records++
	})
	return series.Hash(all), records
}

// The same seed and times give the same bytes, however the time is cut into calls.
func TestDeterminism(t *testing.T) {
	want, records := digest(config(100), time.Second)
	if records < 1000 {
		t.Fatalf("got %d records in a minute at 100/s, want thousands", records)
	}
	for _, step := range []time.Duration{time.Second, 100 * time.Millisecond, 10 * time.Second, 30 * time.Second} {
		if got, _ := digest(config(100), step); got != want {
			t.Errorf("steps of %s: got other bytes, want the same", step)
		}
	}
	other := config(100)
	other.Seed = 2
	if got, _ := digest(other, time.Second); got == want {
		t.Error("another seed: got the same bytes, want others")
	}
}

// One tenant's course of events does not depend on who else has a shop.
func TestTenantsAreIndependent(t *testing.T) {
	of := func(tenant string, c demo.Config) (all []byte) {
		play(c, noon, 10*time.Second, time.Second, func(r demo.Record, _ time.Time) {
			if string(r.Key) == tenant {
				all = append(append(all, r.Value...), '\n')
			}
		})
		return all
	}
	alone, together := of("a", config(40, "a")), of("a", config(60, "a", "b"))
	if string(alone) != string(together) {
		t.Error("got other events of a with b beside it, want the same")
	}
}

// Every record is one event that the contract's decoder takes as it is, of its key's tenant, not from the future.
func TestEveryRecordIsAccepted(t *testing.T) {
	decoder := events.NewDecoder(events.DefaultOptions())
	var batch events.Batch
	seen := map[events.Signal]int{}
	play(config(300), noon, 3*time.Minute, time.Second, func(r demo.Record, now time.Time) {
		decoder.Decode(&batch, events.Source{Signal: r.Signal, Key: r.Key, Value: r.Value, Timestamp: now.UnixNano()})
		if len(batch.Rejects) > 0 || batch.Events != 1 || batch.NoTime != 0 {
			t.Fatalf("%s: got %+v of %d events, want one accepted", r.Value, batch.Rejects, batch.Events)
		}
		tenant, at := event(&batch)
		if tenant != string(r.Key) {
			t.Fatalf("%s: got tenant %q, want %q", r.Value, tenant, r.Key)
		}
		if at > now.UnixNano() || at < noon.Add(-time.Minute).UnixNano() {
			t.Fatalf("%s: got a time that is not in the minute before %s", r.Value, now)
		}
		seen[r.Signal]++
	})
	for _, signal := range []events.Signal{events.Metrics, events.Spans, events.Logs} {
		if seen[signal] < 100 {
			t.Errorf("got %d %s, want hundreds", seen[signal], signal)
		}
	}
}

func event(b *events.Batch) (tenant string, at int64) {
	switch {
	case len(b.Metrics) == 1:
		return b.Metrics[0].Tenant, b.Metrics[0].Time
	case len(b.Spans) == 1:
		return b.Spans[0].Tenant, b.Spans[0].Time
	default:
		return b.Logs[0].Tenant, b.Logs[0].Time
	}
}

// decoded plays and decodes, copying what the decoder would use again.
func decoded(t *testing.T, c demo.Config, from time.Time, length time.Duration, each func(b *events.Batch)) {
	t.Helper()
	decoder := events.NewDecoder(events.DefaultOptions())
	var batch events.Batch
	play(c, from, length, 10*time.Second, func(r demo.Record, _ time.Time) {
		decoder.Decode(&batch, events.Source{Signal: r.Signal, Key: r.Key, Value: r.Value})
		each(&batch)
	})
}

// A visit is a tree: it begins at the frontend, every client span lies inside its parent, and every server span inside
// the client span that called it.
func TestTracesAreTrees(t *testing.T) {
	type span struct {
		service, kind, parent, peer, trace string
		start, end                         int64
	}
	spans := map[string]span{}
	decoded(t, config(300, "a"), noon, time.Minute, func(b *events.Batch) {
		for _, s := range b.Spans {
			spans[strings.Clone(s.SpanID)] = span{strings.Clone(s.Service), strings.Clone(s.Kind), strings.Clone(s.ParentID),
				strings.Clone(s.Peer), strings.Clone(s.TraceID), s.Time - s.Duration, s.Time}
		}
	})
	seen := map[string]bool{}
	for id, s := range spans {
		seen[s.service] = true
		if s.parent == "" {
			if s.service != "frontend" || s.kind != "server" {
				t.Fatalf("span %s: got a root %+v, want a server span of the frontend", id, s)
			}
			continue
		}
		parent, known := spans[s.parent]
		if !known || parent.trace != s.trace || s.start < parent.start || s.end > parent.end {
			t.Fatalf("span %s: got %+v in parent %+v, want it inside", id, s, parent)
		}
		if s.kind == "server" && (parent.kind != "client" || parent.peer != s.service) {
			t.Fatalf("span %s: got a server span %+v called by %+v, want a client span to it", id, s, parent)
		}
		if s.kind == "client" && parent.service != s.service {
			t.Fatalf("span %s: got a client span %+v in one of %s, want its own service", id, s, parent.service)
		}
	}
	for _, name := range []string{"frontend", "catalog", "search", "recommendation", "cart", "checkout", "payment", "shipping"} {
		if !seen[name] {
			t.Errorf("got no span of %s, want all eight services", name)
		}
	}
}

// Over a working day the rate asked for comes out, with a quiet night and a busy evening.
func TestDay(t *testing.T) {
	const rate = 5
	var hours [24]float64
	total := 0.0
	play(config(rate, "a"), noon.Add(-12*time.Hour), 24*time.Hour-time.Second, time.Minute/2, func(_ demo.Record, now time.Time) {
		hours[now.Hour()]++
		total++
	})
	if got := total / (24 * 3600); math.Abs(got-rate) > 0.1*rate {
		t.Errorf("got %.2f events/s, want about %d", got, rate)
	}
	quiet, busy := slices.Min(hours[:]), slices.Max(hours[:])
	if busy < 3*quiet || quiet == 0 {
		t.Errorf("got %v in the quietest hour and %v in the busiest, want at least three times as much", quiet, busy)
	}
}

// Now and then a version is much slower and fails often, for minutes; after it the one before is back.
func TestBadDeploys(t *testing.T) {
	type usage struct {
		requests, errors int
		seconds          float64
		first, last      int64
	}
	byService := map[string]map[string]*usage{}
	decoded(t, config(60, "a"), noon.Add(-6*time.Hour), 3*time.Hour, func(b *events.Batch) {
		for i := range b.Metrics {
			m := &b.Metrics[i]
			if m.Name != "http_request_duration_seconds" {
				continue
			}
			service, version := strings.Clone(m.Labels.Get("service")), strings.Clone(m.Labels.Get("version"))
			if byService[service] == nil {
				byService[service] = map[string]*usage{}
			}
			u := byService[service][version]
			if u == nil {
				u = &usage{first: m.Time}
				byService[service][version] = u
			}
			u.requests++
			u.seconds += m.Value
			u.last = max(u.last, m.Time)
			if strings.HasPrefix(m.Labels.Get("status"), "5") {
				u.errors++
			}
		}
	})
	bad := 0
	for service, versions := range byService {
		var steady *usage
		for _, u := range versions {
			if steady == nil || u.requests > steady.requests {
				steady = u
			}
		}
		for version, u := range versions {
			if u.requests < 30 || float64(u.errors) < 0.08*float64(u.requests) {
				continue
			}
			bad++
			if slower := (u.seconds / float64(u.requests)) / (steady.seconds / float64(steady.requests)); slower < 1.2 {
				t.Errorf("%s %s: got %.2f times the usual latency with %d of %d failing, want more", service, version, slower, u.errors, u.requests)
			}
			if length := time.Duration(u.last - u.first); length > 10*time.Minute {
				t.Errorf("%s %s: got a bad version for %s, want it rolled back within minutes", service, version, length)
			}
			back := false
			for other, o := range versions {
				back = back || other != version && o.first < u.first && o.last > u.last
			}
			if !back {
				t.Errorf("%s %s: got no older version after it, want a rollback", service, version)
			}
		}
	}
	if bad == 0 {
		t.Error("got no bad deploy in three hours, want some")
	}
}

// The number of series stays what a shop of this size has: nothing that varies per request is a label.
func TestSeriesAreBounded(t *testing.T) {
	keys := map[string]bool{}
	kinds := map[events.Kind]bool{}
	decoded(t, config(50, "a"), noon, time.Hour, func(b *events.Batch) {
		for i := range b.Metrics {
			m := &b.Metrics[i]
			keys[string(series.AppendKey(nil, byte(m.Kind), m.Name, m.Labels))] = true
			kinds[m.Kind] = true
		}
	})
	if len(keys) > 500 || len(keys) < 50 {
		t.Errorf("got %d series in an hour, want 50 to 500", len(keys))
	}
	if len(kinds) != 4 {
		t.Errorf("got kinds %v, want all four", kinds)
	}
}

func TestGapsAreSkipped(t *testing.T) {
	shop := demo.NewShop(config(100))
	shop.Next(noon)
	if got := len(shop.Next(noon.Add(10 * time.Hour))); got > 1000 {
		t.Errorf("got %d records after ten hours asleep, want those of a moment", got)
	}
	if got := len(shop.Next(noon.Add(10*time.Hour - time.Second))); got != 0 {
		t.Errorf("got %d records for a clock that went back a little, want none until it is where it was", got)
	}
	if got := len(shop.Next(noon)); got == 0 {
		t.Error("got no records for a clock that was put back, want them to go on")
	}
}

func TestRun(t *testing.T) {
	t.Run("until its context ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			got := 0
			err := demo.NewShop(config(100)).Run(ctx, func(_ context.Context, records []demo.Record) error {
				got += len(records)
				return nil
			})
			if err != nil || got < 300 {
				t.Fatalf("got %d records and error %v, want about a thousand and none", got, err)
			}
		})
	})
	t.Run("until produce gives up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			broken := errors.New("broken")
			err := demo.NewShop(config(100)).Run(t.Context(), func(context.Context, []demo.Record) error { return broken })
			if !errors.Is(err, broken) {
				t.Fatalf("got error %v, want produce's", err)
			}
		})
	})
}

func TestConfigValidate(t *testing.T) {
	f := func(change func(*demo.Config), wrong string) {
		t.Helper()
		c := demo.DefaultConfig()
		change(&c)
		if err := c.Validate(); (err == nil) != (wrong == "") || err != nil && !strings.Contains(err.Error(), wrong) {
			t.Fatalf("got %v, want an error about %q", err, wrong)
		}
	}
	f(func(*demo.Config) {}, "")
	f(func(c *demo.Config) { c.Tenants = nil }, "at least one")
	f(func(c *demo.Config) { c.Tenants = []string{"a", "a"} }, "twice")
	f(func(c *demo.Config) { c.Tenants = []string{"a#b"} }, "tenant")
	f(func(c *demo.Config) { c.Rate = 0 }, "rate")
	f(func(c *demo.Config) { c.Rate = math.NaN() }, "rate")
	f(func(c *demo.Config) { c.Rate = math.Inf(1) }, "rate")
	if err := tenants.Validate(tenants.ID(demo.DefaultConfig().Tenants[0])); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkNext(b *testing.B) {
	shop := demo.NewShop(config(100_000))
	at, records := noon, 0
	b.ReportAllocs()
	for b.Loop() {
		at = at.Add(100 * time.Millisecond)
		records += len(shop.Next(at))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(records), "ns/event")
}
