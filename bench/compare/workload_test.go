package compare

import (
	"bytes"
	"testing"
	"time"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// A log holds what its tally says, as Vigie reads it: as many events, and refusals, and about as many series as it
// should.
func TestWorkload(t *testing.T) {
	start := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	f := func(w Workload, leastSeries, mostSeries int) {
		t.Helper()
		decoder, batch := events.NewDecoder(events.Options{}), new(events.Batch)
		seen, good, bad, at := map[series.ID]bool{}, 0, 0, start.Add(-49*time.Hour).UnixNano()
		var first []byte
		tally, err := w.Make(start, func(r Record) error {
			if first == nil {
				first = r.Value
			}
			decoder.Decode(batch, events.Source{Signal: events.Metrics, Key: []byte(r.Tenant), Value: r.Value, Timestamp: r.Time * 1e6})
			for i := range batch.Metrics {
				m := &batch.Metrics[i]
				seen[series.Hash(series.AppendKey([]byte(m.Tenant), byte(m.Kind), m.Name, m.Labels))] = true
				if m.Time < at || m.Time > start.Add(w.Span).UnixNano() {
					t.Errorf("event of %s, want between %s and %s", time.Unix(0, m.Time), time.Unix(0, at), start.Add(w.Span))
				}
			}
			good, bad = good+len(batch.Metrics), bad+len(batch.Rejects)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if tally.Events != w.Events || good+bad != w.Events || bad != tally.Malformed {
			t.Errorf("%+v: got %d good and %d bad events, the tally %+v", w, good, bad, tally)
		}
		if len(seen) < leastSeries || len(seen) > mostSeries {
			t.Errorf("%+v: got %d series, want %d to %d", w, len(seen), leastSeries, mostSeries)
		}
		if _, err := w.Make(start, func(r Record) error {
			if !bytes.Equal(r.Value, first) {
				t.Errorf("%+v: another first record the second time", w)
			}
			return errStop
		}); err != errStop {
			t.Errorf("%+v: got error %v, want the one of emit", w, err)
		}
	}
	f(Workload{Format: "json", Series: 100, Events: 20_000, Span: time.Minute}, 100, 100)
	f(Workload{Format: "otlp", Series: 100, Events: 20_000, Span: time.Minute}, 100, 100)
	f(Workload{Format: "protobuf", Series: 100, Events: 20_000, Span: time.Minute}, 100, 100)
	f(Workload{Format: "protobuf", Series: 100, Events: 20_000, Span: time.Minute, Hostile: Unique}, 20_000, 20_000)
	f(Workload{Format: "protobuf", Series: 100, Events: 20_000, Span: time.Minute, Hostile: Shuffled}, 100, 100)
	f(Workload{Format: "json", Series: 10_000, Events: 20_000, Span: time.Minute, Zipf: true}, 1000, 5000)
	f(Workload{Format: "json", Series: 100, Events: 20_000, Span: time.Minute, Churn: 0.1}, 150, 200)
	f(Workload{Format: "json", Series: 100, Events: 20_000, Span: time.Minute, Hostile: Unique}, 20_000, 20_000)
	f(Workload{Format: "json", Series: 100, Events: 20_000, Span: time.Minute, Hostile: Shuffled}, 100, 100)
	f(Workload{Format: "json", Series: 100, Events: 20_000, Span: time.Minute, Hostile: Beyond}, 20_000, 20_000)
	f(Workload{Format: "json", Series: 100, Events: 20_000, Span: time.Minute, Hostile: Escaped}, 100, 100)
	f(Workload{Format: "json", Series: 100, Events: 20_000, Span: time.Minute, Hostile: Broken}, 0, 0)
	f(Workload{Format: "json", Series: 100, Events: 20_000, Span: time.Minute, Hostile: AnyTime}, 100, 100)
	f(Workload{Format: "otlp", Series: 100, Events: 20_000, Span: time.Minute, Hostile: Unique}, 20_000, 20_000)
	f(Workload{Format: "otlp", Series: 100, Events: 20_000, Span: time.Minute, Hostile: Shuffled}, 100, 100)
	f(Workload{Format: "json", Series: 1000, Events: 20_000, Span: time.Minute, Shape: Q12}, 900, 1000)
	f(Workload{Format: "json", Series: 1000, Events: 20_000, Span: time.Minute, Shape: Q17}, 900, 1000)
	f(Workload{Format: "json", Series: 1000, Events: 20_000, Span: time.Minute, Shape: TSBS}, 1000, 1000)
}

// The event that ends a partition is one that Vigie takes.
func TestLast(t *testing.T) {
	at := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	last, batch := Last(at), new(events.Batch)
	events.NewDecoder(events.Options{}).Decode(batch,
		events.Source{Signal: events.Metrics, Key: []byte(last.Tenant), Value: last.Value, Timestamp: last.Time * 1e6})
	if len(batch.Metrics) != 1 || len(batch.Rejects) != 0 || batch.Metrics[0].Time != at.UnixNano() {
		t.Errorf("got %+v and refusals %v, want one event of %s", batch.Metrics, batch.Rejects, at)
	}
}

var errStop = bytes.ErrTooLarge
