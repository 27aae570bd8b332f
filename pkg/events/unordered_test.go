package events

import (
	"bytes"
	stdjson "encoding/json"
	"testing"

	"github.com/vigie-io/vigie/pkg/series"
)

// FuzzUnordered cuts what readUnordered takes once more, as encoding/json cuts it, and adds up the same pairs. What the
// decoder takes, too, has the same time and value.
func FuzzUnordered(f *testing.F) {
	for _, seed := range []string{
		`{"time":1763892000,"value":1,"name":"m","labels":{"a":"b","c":"d"},"x":"y","z":-1.5e3}`,
		`{"labels":{"a":"b","a":"b"},"value":0.5,"name":"m","time":"2026-11-23T10:00:00Z","unit":"s","help":"h","kind":"gauge"}`,
		`{"value":1,"name":"m","labels":{},"tenant":"acme"}`, `{"value":1,"value":2,"name":"m"}`,
		`{"resourceMetrics":"","value":1,"name":"m"}`,
		`{"name":"m","value":1,"x":"a\","y":"b"}`, `{"name":"m","value":1,"x":{"y":1}}`, `{"name":"é","value":1}`,
		`{"name":"m","value":1,"start":5}`,
		`{"name":"m", "value":1}`, `{"name":"m","value":1}}`, `{"name":"m","value":1`, `{"value":1,"name":"m","time":null}`,
		`{"":"","value":1,"name":"m"}`,
	} {
		f.Add([]byte(seed))
	}
	d := NewDecoder(Options{})
	var c cutter
	var batch Batch
	f.Fuzz(func(t *testing.T, value []byte) {
		var e Repeat
		r := NewRepeats(7, 100)
		if len(value) == 0 || value[0] != '{' {
			return
		}
		got, noTime, ok := c.readUnordered(unorderedSeed(r), value, &e, nil)
		if !ok {
			return
		}
		if !stdjson.Valid(value) {
			t.Fatalf("%q: taken, want it left: it is not JSON", value)
		}
		want, times := sumOfPairs(t, value, unorderedSeed(r))
		if got != want || noTime != (times == 0) {
			t.Fatalf("%q: got digest %v, no time %v; want %v and %d times", value, got, noTime, want, times)
		}
		d.Decode(&batch, Source{Signal: Metrics, Key: []byte("acme"), Value: value, Timestamp: 5})
		if len(batch.Metrics) == 0 {
			return
		}
		m := &batch.Metrics[0]
		if batch.Events != 1 || m.Value != e.Value || !noTime && m.Time != e.Time ||
			m.Start != 0 || m.Histogram != nil || m.Stale {
			t.Fatalf("%q: got time %d and value %v, want what decoding gives: %+v", value, e.Time, e.Value, m)
		}
	})
}

// sumOfPairs is the digest of an event, cut by encoding/json.
func sumOfPairs(t *testing.T, event []byte, seed uint64) (sum series.ID, times int) {
	eachPair(t, event, func(key string, value, pair []byte) {
		switch key {
		case "time":
			times++
		case "labels":
			eachPair(t, value, func(_ string, _, pair []byte) {
				h := series.HashSeeded(pair, seed^labelSeed)
				sum.Hi, sum.Lo = sum.Hi+h.Hi, sum.Lo+h.Lo
			})
		case "tenant", "name", "kind", "unit", "help":
			h := series.HashSeeded(pair, seed)
			sum.Hi, sum.Lo = sum.Hi+h.Hi, sum.Lo+h.Lo
		}
	})
	return sum, times
}

func eachPair(t *testing.T, object []byte, fn func(key string, value, pair []byte)) {
	d := stdjson.NewDecoder(bytes.NewReader(object))
	next := func() stdjson.Token {
		token, err := d.Token()
		if err != nil {
			t.Fatalf("%q: %v", object, err)
		}
		return token
	}
	for next(); d.More(); {
		key := next().(string)
		var value stdjson.RawMessage
		if err := d.Decode(&value); err != nil {
			t.Fatalf("%q: %v", object, err)
		}
		pair := append([]byte(`"`+key+`":`), value...)
		if !bytes.Contains(object, pair) {
			t.Fatalf("%q: holds no %q: it is not written plainly", object, pair)
		}
		fn(key, value, pair)
	}
}
