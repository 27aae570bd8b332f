package events

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/pkg/series"
)

// beyondOf looks at a record of tenant acme by a filter of some series.
func beyondOf(d *Decoder, value []byte, set ...Metric) (l Look, beyond bool) {
	f := NewFilter("acme", 7, 100)
	for i := range set {
		f.Add(set[i].Kind, set[i].Name, set[i].Labels)
	}
	src := Source{Signal: Metrics, Key: []byte("acme"), Value: value, Timestamp: 5}
	beyond = d.Beyond(new(Looker), &l, &src, f)
	return l, beyond
}

// What is beyond is what decoding gives: one event, with nothing to refuse, of no series of the filter.
func FuzzBeyond(f *testing.F) {
	known := Metric{Time: 1763892000e9, Name: "m", Value: 1, Labels: series.Labels{{Name: "a", Value: "b"}, {Name: "c", Value: "d"}}}
	other := Metric{Tenant: "acme", Time: 1763892000e9, Kind: Gauge, Name: "n", Value: 1, Unit: "s", Help: "h",
		Labels: series.Labels{{Name: "x", Value: "y"}}}
	f.Add(AppendMetric(nil, &known))
	f.Add(AppendMetric(nil, &other))
	f.Add(AppendMetricProtobuf(nil, &known))
	f.Add(AppendMetricProtobuf(nil, &other))
	for _, seed := range []string{
		`{"labels":{"c":"d","a":"b"},"value":1,"name":"m","kind":"observation","x":"y"}`,
		`{"labels":{"c":"d","a":"b","e":""},"value":1,"name":"m","tenant":"acme"}`,
		`{"labels":{"c":"d","a":"b","a":""},"value":1,"name":"m","tenant":"other"}`,
		`{"labels":{"b":"d","a":"b","b":"e"},"value":1,"name":"m"}`, `{"labels":{"__name__":"d"},"value":1,"name":"m"}`,
		`{"labels":{"":"d"},"value":1,"name":"m"}`, `{"name":"","value":1}`, `{"value":1}`, `{"name":"m","value":1,"name":"m"}`,
		`{"name":"m","value":1,"kind":"odd"}`, `{"name":"m","value":1,"kind":"delta","kind":"delta"}`, `{"name":"m","value":1} `,
		`{"name":"m","value":1}{"name":"m","value":1}`, `{"name":"n","value":1,"tenant":"other"}`,
		`{"labels":{"a":"1","b":"2","c":"3","d":"4","e":"5"},"value":1,"name":"n"}`,
		`{"name":"n","value":1,"unit":"longer than twelve"}`, `{"name":"longer than twelve","value":1}`,
		`{"name":"n","value":1,"help":"longer than twenty bytes"}`,
	} {
		f.Add([]byte(seed))
	}
	bare := other
	bare.Unit, bare.Help = "", ""
	for _, more := range []string{
		"\x22\x01q", "\x28\x01", "\x28\x09", "\x20\x01", "\x52\x05other", "\x32\x06\x0a\x01x\x12\x01z", "\x32\x06\x0a\x01y\x12\x01z",
		"\x32\x06\x12\x01y\x0a\x01z", "\x32\x05\x0a\x00\x12\x01z", "\x42\x01s\x42\x01s", "\x4a\x01\xff", "\x38\x01", "\x5a\x00", "\x09",
	} {
		message := append(AppendMetricProtobuf(nil, &bare), more...)
		message[1] += byte(len(more))
		f.Add(message)
	}
	d := NewDecoder(Options{MaxLabels: 4, MaxName: 12, MaxValue: 20, MaxRecord: 1 << 12})
	var batch Batch
	f.Fuzz(func(t *testing.T, value []byte) {
		l, beyond := beyondOf(d, value, known)
		if !beyond {
			return
		}
		d.Decode(&batch, Source{Signal: Metrics, Key: []byte("acme"), Value: value, Timestamp: 5})
		if batch.Events != 1 || len(batch.Metrics) != 1 || len(batch.Rejects) > 0 {
			t.Fatalf("%q: beyond, but decoding gives %d events, %+v and refuses %+v", value, batch.Events, batch.Metrics, batch.Rejects)
		}
		m := batch.Metrics[0]
		if m.Time != l.Time || m.Value != l.Value || m.Start != 0 || m.Histogram != nil || m.Stale || l.NoTime != (batch.NoTime == 1) ||
			l.Index != 0 || l.Ref != Beyond || !l.Known() {
			t.Fatalf("%q: got %+v, want what decoding gives: %+v", value, l, m)
		}
		if m.Name == known.Name && m.Kind == known.Kind && m.Labels.Equal(known.Labels) {
			t.Fatalf("%q: beyond, though it is of a series of the filter", value)
		}
		if _, beyond := beyondOf(d, value, m); beyond {
			t.Fatalf("%q: beyond by a filter of its own series", value)
		}
	})
}

// Events are found to be beyond in any order of fields and labels, in both formats, and those of the set never.
func TestFilterTellsSeriesApart(t *testing.T) {
	const n = 2000
	d := NewDecoder(Options{})
	f := NewFilter("acme", 7, n)
	texts := []string{"plain", "é", `"`, `\`}
	metric := func(i int) Metric {
		return Metric{Tenant: "acme", Time: 1763892000e9, Name: fmt.Sprint("name", i%7), Kind: Kind(i % 4), Value: 1, Unit: "s",
			Labels: series.Labels{{Name: "a", Value: "1"}, {Name: "b", Value: fmt.Sprint(i)}, {Name: "c", Value: texts[i*5/3%4]}}}
	}
	for i := range n {
		m := metric(i)
		f.Add(m.Kind, m.Name, m.Labels)
	}
	var k Looker
	beyond, all := 0, 0
	for i := range 2 * n {
		m := metric(i)
		slices.Reverse(m.Labels)
		for _, value := range [][]byte{AppendMetric(nil, &m), AppendMetricProtobuf(nil, &m)} {
			var l Look
			is := d.Beyond(&k, &l, &Source{Signal: Metrics, Key: []byte("acme"), Value: value}, f)
			switch {
			case i < n && is:
				t.Fatalf("event %d (%q) is beyond, want it of the set", i, value)
			case i >= n:
				all++
				if is {
					beyond++
				}
			}
		}
	}
	if beyond < all*3/5 { // all in protobuf and a quarter in JSON are written plainly
		t.Errorf("got %d of %d events beyond, want nearly all that are written plainly", beyond, all)
	}
}

// Of many labels in any order, no two have one name.
func TestFilterLeavesLabelsOfOneName(t *testing.T) {
	d := NewDecoder(Options{})
	for _, long := range []string{"", "a name of more than eight bytes "} {
		var labels []string
		for i := range 40 {
			labels = append(labels, fmt.Sprintf(`"%s%d":"v"`, long, i))
		}
		event := func() []byte {
			return fmt.Appendf(nil, `{"name":"m","value":1,"labels":{%s}}`, strings.Join(labels, ","))
		}
		if _, beyond := beyondOf(d, event()); !beyond {
			t.Errorf("%s: not beyond, want it: each name is another", event())
		}
		labels[33] = labels[7]
		if _, beyond := beyondOf(d, event()); beyond {
			t.Errorf("%s: beyond, want it decoded: a name stands twice", event())
		}
	}
}
