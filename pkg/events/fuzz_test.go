package events_test

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

var signals = []events.Signal{events.Metrics, events.Spans, events.Logs}

var reasons = func() map[events.Reason]bool {
	all := map[events.Reason]bool{}
	for _, r := range events.Reasons() {
		all[r] = true
	}
	return all
}()

// holds checks what is true of every batch, whatever the record was.
func holds(t *testing.T, b *events.Batch) {
	t.Helper()
	if len(b.Metrics) != len(b.MetricIndex) || len(b.Spans) != len(b.SpanIndex) || len(b.Logs) != len(b.LogIndex) {
		t.Fatalf("got %d/%d, %d/%d, %d/%d events and indexes, want as many",
			len(b.Metrics), len(b.MetricIndex), len(b.Spans), len(b.SpanIndex), len(b.Logs), len(b.LogIndex))
	}
	outcome := map[int]bool{}
	last := -1
	indexes := append(append(append([]int(nil), b.MetricIndex...), b.SpanIndex...), b.LogIndex...)
	for _, i := range indexes {
		if i < last || i >= b.Events {
			t.Fatalf("got index %d after %d of %d events, want them ascending", i, last, b.Events)
		}
		last, outcome[i] = i, true
	}
	for _, r := range b.Rejects {
		if !reasons[r.Reason] || r.Detail == "" || !utf8.ValidString(r.Detail) || r.Index >= b.Events || outcome[r.Index] {
			t.Fatalf("got reject %+v of %d events (index taken: %v), want a known reason, a readable detail and an index of its own", r, b.Events, outcome[r.Index])
		}
		outcome[r.Index] = true
	}
	for i := range b.Metrics {
		m := &b.Metrics[i]
		utf8Texts(t, m.Tenant, m.Name, m.Unit, m.Help)
		labels(t, m.Labels, 65) // 64 and le
		if m.Time < 0 || m.Name == "" || m.Tenant == "" || math.IsNaN(m.Value) ||
			math.IsInf(m.Value, 0) || m.Kind > events.Cumulative {
			t.Fatalf("got %+v, want a valid metric", m)
		}
	}
	for i := range b.Spans {
		p := &b.Spans[i]
		utf8Texts(t, p.Tenant, p.Service, p.Name, p.Kind, p.Status, p.Route, p.Peer, p.TraceID, p.SpanID, p.ParentID)
		labels(t, p.Attributes, 150)
		if p.Time < 0 || p.Duration < 0 || p.Service == "" || p.Name == "" || p.Kind == "" || p.Status == "" || p.Tenant == "" {
			t.Fatalf("got %+v, want a valid span", p)
		}
	}
	for i := range b.Logs {
		l := &b.Logs[i]
		utf8Texts(t, l.Tenant, l.Service, l.Severity, l.Body, l.TraceID, l.SpanID)
		labels(t, l.Attributes, 150)
		if l.Time < 0 || l.Severity == "" || l.Tenant == "" {
			t.Fatalf("got %+v, want a valid log", l)
		}
	}
}

func utf8Texts(t *testing.T, texts ...string) {
	for _, s := range texts {
		if !utf8.ValidString(s) {
			t.Fatalf("got text %q, want UTF-8", s)
		}
	}
}

func labels(t *testing.T, ls series.Labels, most int) {
	for i, l := range ls {
		utf8Texts(t, l.Name, l.Value)
		if l.Name == "" || l.Value == "" || i > 0 && ls[i-1].Name >= l.Name {
			t.Fatalf("got labels %v, want them named, not empty, sorted and unique", ls)
		}
	}
	if len(ls) > most {
		t.Fatalf("got %d labels, want at most %d", len(ls), most)
	}
}

// again decodes the batch's own encoding and wants the same events.
func again(t *testing.T, signal events.Signal, b *events.Batch) {
	t.Helper()
	first := strings.Split(dump(b), "\n")
	record := []byte("[")
	for i := range b.Metrics {
		record = append(events.AppendMetric(record, &b.Metrics[i]), ',')
	}
	for i := range b.Spans {
		record = append(events.AppendSpan(record, &b.Spans[i]), ',')
	}
	for i := range b.Logs {
		record = append(events.AppendLog(record, &b.Logs[i]), ',')
	}
	n := accepted(b)
	if n == 0 {
		return
	}
	record[len(record)-1] = ']'
	if !stdjson.Valid(record) {
		t.Fatalf("got %s, want valid JSON", record)
	}
	var c events.Batch
	events.NewDecoder(events.Options{MaxRecord: 1 << 30, MaxAttributes: 1000, MaxLabels: 100}).Decode(&c,
		events.Source{Signal: signal, Value: record})
	second := strings.Split(dump(&c), "\n")
	for i := range n {
		_, want, _ := strings.Cut(first[i], " ")
		_, got, _ := strings.Cut(second[i], " ")
		if got != want {
			t.Fatalf("got\n%s\nafter encoding and decoding again, want\n%s", got, want)
		}
	}
}

// oracle is the contract's metric as encoding/json sees it.
type oracle struct {
	Tenant    *string            `json:"tenant"`
	Name      *string            `json:"name"`
	Value     *float64           `json:"value"`
	Labels    map[string]*string `json:"labels"`
	Unit      *string            `json:"unit"`
	Help      *string            `json:"help"`
	Kind      *string            `json:"kind"`
	Time      stdjson.RawMessage `json:"time"`
	Start     stdjson.RawMessage `json:"start"`
	Histogram stdjson.RawMessage `json:"histogram"`
}

// compare holds the decoder against encoding/json on a record that is one object: what is accepted reads the same,
// and what is not JSON is refused as such. Where the two may differ by intent, encoding/json is the lenient one: it
// takes keys in any case, doubled fields, half surrogates and invalid UTF-8.
func compare(t *testing.T, value []byte, b *events.Batch) {
	valid := stdjson.Valid(value)
	for _, r := range b.Rejects {
		if valid && r.Reason == events.ReasonBadJSON {
			t.Fatalf("%q: got %+v, want valid JSON taken as such", value, r)
		}
	}
	if len(b.Metrics) != 1 || b.Events != 1 || bytes.HasPrefix(value, []byte("\xEF\xBB\xBF")) ||
		bytes.Contains(value, []byte("resource")) {
		return
	}
	if !valid {
		t.Fatalf("%q: got a metric, want it refused: it is not JSON", value)
	}
	m := &b.Metrics[0]
	var o oracle
	trimmed := bytes.TrimSpace(value)
	if trimmed[0] == '[' {
		trimmed = bytes.TrimSpace(trimmed[1 : len(trimmed)-1])
	}
	if stdjson.Unmarshal(trimmed, &o) != nil {
		return // a field whose name differs in case, and whose type is wrong
	}
	var keys map[string]stdjson.RawMessage
	if err := stdjson.Unmarshal(trimmed, &keys); err != nil {
		t.Fatal(err)
	}
	for key := range keys {
		if lower := strings.ToLower(key); lower != key {
			return
		}
	}
	f := func(field, got string, want *string) {
		t.Helper()
		if want == nil {
			want = new(string)
		}
		if got != *want {
			t.Fatalf("%q: field %s: got %q, want %q", value, field, got, *want)
		}
	}
	f("tenant", m.Tenant, o.Tenant)
	f("name", m.Name, o.Name)
	f("unit", m.Unit, o.Unit)
	f("help", m.Help, o.Help)
	if o.Value != nil && math.Float64bits(m.Value) != math.Float64bits(*o.Value) {
		t.Fatalf("%q: got value %v, want %v", value, m.Value, *o.Value)
	}
	for name, v := range o.Labels {
		f("label "+name, m.Labels.Get(name), v)
	}
}

func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		good, "[" + good + "," + good + "]", good + "\n{bad\n" + good, "{}", "[]", "", "null", `{"name":"\ud83d\ude00\n\u0000"}`,
		with(`"labels":{"b":"1","a":"\"","c":null,"d":""}`), with(`"other":[1,{"a":"b"},[[]],true,false,null,-1.5e+3]`), with(`"value":NaN`), with(`"kind":"delta","start":1.5`),
		`{"tenant":"acme","time":1795428000123,"name":"m","histogram":{"scale":7,"zero_count":1,"count":6,"sum":-2.5,"positive":{"offset":-3,"counts":[1,0,2]},"negative":{"offset":4,"counts":[2]}}}`,
		`{"tenant":"acme","time":1795428000,"service":"s","name":"n","duration":"1.5ms","kind":"server","status":"error","status_code":500,"x":{"y":[1]},"attributes":{"http.route":"/a"}}`,
		`{"tenant":"acme","time":"2026-11-23T10:00:00+01:00","body":"b","severity":"WARN","user":"u"}`,
		`{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1","body":{"stringValue":"a"}}]}]}]}`,
		"\xEF\xBB\xBF" + good, "\n" + good, strings.Repeat(`{"a":`, 70), strings.Repeat(`[`, 70),
	} {
		for i := range signals {
			f.Add(uint8(i), seed, "", "acme")
			f.Add(uint8(i), seed, "application/json", "")
		}
	}
	d := events.NewDecoder(events.Options{})
	batch := new(events.Batch)
	f.Fuzz(func(t *testing.T, s uint8, value, contentType, key string) {
		signal := signals[int(s)%len(signals)]
		d.Decode(batch, events.Source{Signal: signal, Value: []byte(value), ContentType: contentType, Key: []byte(key), Timestamp: now})
		holds(t, batch)
		again(t, signal, batch)
		if signal == events.Metrics && key == "" && contentType == "application/json" {
			compare(t, []byte(value), batch)
		}
		// Neighbours survive, unless the record itself is a list or cannot be kept apart by lines.
		if accepted(batch) == 0 && signal == events.Metrics && len(value) < 1<<16 && !strings.ContainsAny(value, "\n[") {
			d.Decode(batch, json(events.Metrics, good+"\n"+value+"\n"+good))
			if len(batch.Metrics) < 2 {
				t.Fatalf("%q between two good lines: got %d metrics and %+v, want 2 or more",
					value, len(batch.Metrics), batch.Rejects)
			}
		}
	})
}

func FuzzOTLP(f *testing.F) {
	for i, names := range [][]string{{"metrics"}, {"trace"}, {"logs", "events"}} {
		for _, name := range names {
			raw, err := os.ReadFile(fmt.Sprintf("testdata/otlp/%s.json", name))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), raw, false)
			f.Add(uint8(i), protobuf(f, signals[i], raw), true)
		}
	}
	d := events.NewDecoder(events.Options{})
	batch := new(events.Batch)
	f.Fuzz(func(t *testing.T, s uint8, value []byte, binary bool) {
		signal := signals[int(s)%len(signals)]
		contentType := "application/json"
		if binary {
			contentType = "application/x-protobuf"
		}
		for _, contentType := range []string{contentType, ""} {
			d.Decode(batch, events.Source{Signal: signal, Key: []byte("acme"), Value: value, ContentType: contentType, Timestamp: now})
			holds(t, batch)
			again(t, signal, batch)
		}
	})
}
