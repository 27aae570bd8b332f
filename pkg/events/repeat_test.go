package events_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// knower decodes with Repeats, as a task does, and gives every event in full.
type knower struct {
	decoder *events.Decoder
	batch   events.Batch
	repeats *events.Repeats
	looks   bool // it looks before it decodes
	looker  events.Looker
	learned []events.Metric
	known   int
}

func newKnower(limit int) *knower {
	return &knower{decoder: events.NewDecoder(events.Options{MaxLabels: 5}), repeats: events.NewRepeats(7, limit)}
}

// outcome is what a record decodes to, in the order of its events.
type outcome struct {
	metrics []events.Metric
	indexes []int
	rejects []events.Reject
	events  int
	noTime  int
}

func (k *knower) decode(record []byte, repeats *events.Repeats) (o outcome) {
	b, look := &k.batch, make([]events.Look, 1)
	source := events.Source{Signal: events.Metrics, Key: []byte("acme"), Value: record, Timestamp: 1e18, Repeats: repeats}
	if k.looks {
		k.decoder.Begin(&k.looker, &look[0], &source)
		k.looker.Recognize(look)
		source.Look = &look[0]
	}
	if look[0].Known() {
		k.know(&o, []events.Repeat{look[0].Repeat})
		if o.events = 1; look[0].NoTime {
			o.noTime = 1
		}
		return o
	}
	k.decoder.Decode(b, source)
	known := b.Repeats
	for i := range b.Metrics {
		for len(known) > 0 && known[0].Index < b.MetricIndex[i] {
			known = k.know(&o, known)
		}
		m := clone(b.Metrics[i])
		if m.Digest != (series.ID{}) {
			k.repeats.Learn(m.Digest, uint32(len(k.learned)))
			k.learned = append(k.learned, m)
		}
		m.Digest = series.ID{}
		o.metrics, o.indexes = append(o.metrics, m), append(o.indexes, b.MetricIndex[i])
	}
	for len(known) > 0 {
		known = k.know(&o, known)
	}
	for _, r := range b.Rejects {
		o.rejects = append(o.rejects,
			events.Reject{Index: r.Index, Reason: r.Reason, Field: strings.Clone(r.Field), Detail: strings.Clone(r.Detail)})
	}
	o.events, o.noTime = b.Events, b.NoTime
	return o
}

func (k *knower) know(o *outcome, known []events.Repeat) []events.Repeat {
	k.known++
	m := k.learned[known[0].Ref]
	m.Time, m.Start, m.Value, m.Digest = known[0].Time, known[0].Start, known[0].Value, series.ID{}
	o.metrics, o.indexes = append(o.metrics, m), append(o.indexes, known[0].Index)
	return known[1:]
}

func clone(m events.Metric) events.Metric {
	for _, s := range []*string{&m.Tenant, &m.Name, &m.Unit, &m.Help} {
		*s = strings.Clone(*s)
	}
	m.Labels = slices.Clone(m.Labels)
	for i, l := range m.Labels {
		m.Labels[i] = series.Label{Name: strings.Clone(l.Name), Value: strings.Clone(l.Value)}
	}
	if m.Histogram != nil {
		m.Histogram = &events.Histogram{} // of no interest: these are never known
	}
	return m
}

// knownOf decodes the records with and without knowledge of earlier ones, and returns how many events were known.
func knownOf(t interface{ Fatalf(string, ...any) }, limit int, records ...[]byte) int {
	looking, with, without := newKnower(limit), newKnower(limit), newKnower(limit)
	looking.looks = true
	for _, record := range records {
		want := without.decode(record, nil)
		for _, k := range []*knower{with, looking} {
			if got := k.decode(record, k.repeats); !reflect.DeepEqual(got, want) {
				t.Fatalf("record %q (looked at: %v):\n got %+v\nwant %+v", record, k.looks, got, want)
			}
		}
	}
	return min(with.known, looking.known)
}

// knownLooking is how many events of records are known when they are looked up before they are decoded.
func knownLooking(limit int, records ...[]byte) int {
	looking := newKnower(limit)
	looking.looks = true
	for _, record := range records {
		looking.decode(record, looking.repeats)
	}
	return looking.known
}

// Whatever the producers' way of writing, an event that is known is what decoding it in full gives.
func TestRepeatsEqualDecoding(t *testing.T) {
	known := 0
	rapid.Check(t, func(t *rapid.T) {
		style := drawStyle(t)
		var records [][]byte
		for range rapid.IntRange(2, 20).Draw(t, "records") {
			var texts []string
			for range rapid.IntRange(1, 4).Draw(t, "events") {
				texts = append(texts, style.event(t))
			}
			records = sometimesTwice(t, records, []byte(rapid.SampledFrom([]func() string{
				func() string { return texts[0] },
				func() string { return texts[0] + "\r\n" },
				func() string { return "[" + strings.Join(texts, ",") + "]" },
				func() string { return " [ " + strings.Join(texts, " , ") + " ] \n" },
				func() string { return strings.Join(texts, "\n") + "\n" },
				func() string { return strings.Join(texts, "") },
				func() string { return "[" + strings.Join(texts, ",") },
			}).Draw(t, "record")()))
		}
		known += knownOf(t, rapid.SampledFrom([]int{1, 1000}).Draw(t, "limit"), records...)
	})
	if known == 0 {
		t.Errorf("no event was known")
	}
}

// sometimesTwice appends a record, and half of the time once more: few short runs have two alike by chance alone.
func sometimesTwice(t *rapid.T, records [][]byte, record []byte) [][]byte {
	if rapid.Bool().Draw(t, "again") {
		records = append(records, record)
	}
	return append(records, record)
}

// style is how a producer writes events: which fields, in which order, with which white space, and what they mostly
// say.
type style struct {
	fields []string
	colon  string
	comma  string
	says   map[string]string
}

func drawStyle(t *rapid.T) style {
	fields := []string{"value", "name", "labels"}
	if rapid.IntRange(0, 3).Draw(t, "timed") > 0 {
		fields = append(fields, "time")
	}
	fields = append(fields, rapid.SliceOfDistinct(rapid.SampledFrom([]string{"kind", "unit", "help", "extra", "tenant", "start", "null"}), rapid.ID).Draw(t, "more")...)
	s := style{
		fields: rapid.Permutation(fields).Draw(t, "order"),
		colon:  rapid.SampledFrom([]string{":", ": ", " :"}).Draw(t, "colon"),
		comma:  rapid.SampledFrom([]string{",", ", ", "\n,"}).Draw(t, "comma"),
		says:   map[string]string{},
	}
	for _, f := range fields {
		s.says[f] = draw(t, f)
	}
	return s
}

func (s style) event(t *rapid.T) string {
	odd := rapid.SampledFrom([]string{"", "", "", "name", "labels", "kind", "unit", "extra", "tenant"}).Draw(t, "odd")
	var parts []string
	for _, f := range s.fields {
		says := s.says[f]
		if f == odd || f == "time" || f == "value" {
			says = draw(t, f)
		}
		parts = append(parts, `"`+f+`"`+s.colon+says)
	}
	if rapid.IntRange(0, 30).Draw(t, "twice") == 0 {
		parts = append(parts, `"time":1`)
	}
	return "{" + strings.Join(parts, s.comma) + "}"
}

// draw returns what a field may say, the usual first.
func draw(t *rapid.T, field string) string {
	usual := map[string][]string{
		"time":  {`"2026-11-23T10:00:01Z"`, `"2026-11-23T10:00:00.123+01:00"`, `1763892000`, `1763892000.5`, `1763892000123`},
		"value": {`1`, `0.25`, `-3e-2`, `12345678901234567890`, `0.1234567890123456`},
	}[field]
	if len(usual) > 0 && rapid.IntRange(0, 9).Draw(t, "usual") > 0 {
		return rapid.SampledFrom(usual).Draw(t, field)
	}
	return rapid.SampledFrom(map[string][]string{
		"time":  {`"2026-11-23T10:00:\u0030\u0030Z"`, `"yesterday"`, `null`, `-1`, `9e30`, `"`},
		"value": {`1e999`, `NaN`, `"1"`, `null`, `01`, `-`, `5}`},
		"name":  {`"m"`, `"m"`, `"m\u0031"`, `""`},
		"labels": {
			`{"service":"a"}`, `{"service":"b","time":"x"}`, `{"a":"},{","b":"\"time\":1"}`, `{"z":"1","a":"2"}`, `{}`, `null`,
			`{"\u0061":"x\\"}`, `{"a":"1","a":"2"}`, `{"a":"","b":null}`, `{"value":"1","time":"2026-11-23T10:00:00Z"}`, `{"é":"ü"}`, `{"a":{}}`,
			`{"a":"1","b":"1","c":"1","d":"1","e":"1","f":"1"}`,
		},
		"kind":   {`"gauge"`, `"delta"`, `"observation"`, `"cumulative"`, `"odd"`},
		"unit":   {`"s"`, `""`},
		"help":   {`"a \"value\":1, in a help text"`},
		"extra":  {`{"time":1,"value":[2,{"x":"}"}]}`, `[]`, `true`},
		"tenant": {`"acme"`, `"acme"`, `"other"`},
		"start":  {`1763890000`},
		"null":   {`null`},
	}[field]).Draw(t, field)
}

// Events of many series that each come again are known, in arrays and alone, with labels of many lengths before or
// behind.
func TestRepeatsAreFound(t *testing.T) {
	for name, format := range map[string]string{
		"vigie":        `{"tenant":"acme","time":"2026-11-23T10:00:%02dZ","name":"m","value":%d.5,"labels":{"instance":"%s"}}`,
		"python":       `{"name": "m", "labels": {"instance": "%[3]s"}, "time": 17638920%02[1]d, "value": %[2]d}`,
		"value first":  `{"value":%[2]d,"labels":{"instance":"%[3]s"},"time":"2026-11-23T10:00:%02[1]d.25Z","name":"m"}`,
		"labels first": `{"labels":{"instance":"%[3]s"},"value":%[2]d,"name":"m","time":17638920%02[1]d000}`,
		"nanoseconds":  `{"name":"m","labels":{"instance":"%[3]s"},"value":%[2]d.125,"time":17638920%02[1]d000000000}`,
		"no time":      `{"name":"m","labels":{"instance":"%[3]s"},"value":%[2]d.%[1]d}`,
		"value alone":  `{"value":%[2]d.%[1]d,"name":"m","labels":{"instance":"%[3]s"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			var one [][]byte
			for second := range 3 {
				for n := range 40 {
					one = append(one, fmt.Appendf(nil, format, second, n, strings.Repeat("x", n)))
				}
			}
			if known := knownOf(t, 1000, one...); known != 80 {
				t.Errorf("got %d of 120 events known, want the 80 that come again", known)
			}
			array := append(append([]byte("["), bytes.Join(one, []byte(","))...), ']')
			if known := knownOf(t, 1000, array, array); known < 120 {
				t.Errorf("in arrays: got %d events known, want all 120 of the second", known)
			}
		})
	}
}

// After many events of which none was known few are looked up, until one is known.
func TestRepeatsAfterAFlood(t *testing.T) {
	for _, format := range []string{`%s`, `[%s]`, ` %s `} {
		var records [][]byte
		of := func(n int) []byte {
			return fmt.Appendf(nil, format, fmt.Sprintf(`{"time":1763892000,"value":%d,"name":"m","labels":{"n":"%d"}}`, n, n))
		}
		for n := range 2000 {
			records = append(records, of(n))
		}
		for range 40 {
			records = append(records, of(7))
		}
		if known := knownOf(t, 10_000, records...); known < 20 {
			t.Errorf("format %q: got %d of the last 40 events known, want more than half", format, known)
		}
	}
}

// unorderedEvent is an event of one of eight series whose fields and labels come in any order, with a field of its own,
// so that none of its bytes come again.
func unorderedEvent(r *rand.Rand, n int) (fields []string) {
	labels := []string{`"a":"1"`, `"b":"2"`, `"c":"3"`, fmt.Sprintf(`"d":"%d"`, r.IntN(8))}
	r.Shuffle(len(labels), func(i, j int) { labels[i], labels[j] = labels[j], labels[i] })
	fields = []string{
		`"name":"m"`, fmt.Sprintf(`"value":%d.5`, r.IntN(1e6)), fmt.Sprintf(`"time":%d`, 1763892000+r.IntN(1e6)),
		`"unit":"s"`, `"labels":{` + strings.Join(labels, ",") + "}", fmt.Sprintf(`"x":"%d"`, n),
	}
	r.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	return fields
}

func TestUnorderedEventsAreFound(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var records [][]byte
	for n := range 2000 {
		records = append(records, []byte("{"+strings.Join(unorderedEvent(r, n), ",")+"}"))
	}
	// After 256 in vain all but one of 64, and what had to be learnt.
	if known := knownLooking(1000, records...); known < 1600 {
		t.Errorf("got %d of 2000 events known, want 1600 at least", known)
	}
}

// An event that is known by its unordered digest is what decoding it in full gives, whatever else is between such
// events: written otherwise, twice, or wrong.
func TestUnorderedEqualsDecoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var records [][]byte
		for n := range 500 {
			fields := unorderedEvent(r, n)
			if n > 300 && r.IntN(4) == 0 {
				at := r.IntN(len(fields))
				fields[at] = rapid.SampledFrom([]string{
					fields[0], fields[len(fields)-1], `"name":"m"`, `"name":"\u006d"`, `"name":"é"`, `"name":"other"`,
					`"tenant":"acme"`,
					`"tenant":"other"`, `"unit":"ms"`, `"unit":null`, `"unit" :"s"`, `"kind":"gauge"`, `"kind":"odd"`,
					`"start":1`, `"stale":true`,
					`"labels":{"a":"1","b":"2","c":"3","d":"4"}`, `"labels":{"a":"1","a":"1","b":"2","c":"3","d":"4"}`, `"labels":{}`,
					`"labels":{"a":"1","b":"2","c":"3","d":"4","e":""}`, `"labels":null`,
					`"labels":{"a":"1","b":"2","c":"3","d":"4","e":"5","f":"6"}`,
					`"value":1`, `"value":null`, `"value":"1"`, `"value":1e999`, `"value":01`, `"time":1`,
					`"time":"2026-11-23T10:00:00Z"`,
					`"time":null`, `"time":"never"`, `"x":1`, `"x":{"name":"m"}`, `"x":"","`, `"x":"}"`, `"x":tru`,
					`"resourceMetrics":"x"`, `x`, ``,
				}).Draw(t, "odd")
				if r.IntN(2) == 0 {
					fields = append(fields, `"unit":"s"`)
				}
			}
			end := rapid.SampledFrom([]string{"}", "}", "}", "}\n", "}}", "", "},"}).Draw(t, "end")
			records = append(records, []byte("{"+strings.Join(fields, ",")+end))
		}
		knownOf(t, 1000, records...)
	})
}

func TestRepeatsForget(t *testing.T) {
	r := events.NewRepeats(1, 200)
	digest := func(i int) series.ID { return series.HashSeeded([]byte(strconv.Itoa(i)), 0) }
	for i := range 150 {
		r.Learn(digest(i), uint32(i))
		r.Learn(digest(i), uint32(i))
	}
	if r.Len() != 150 {
		t.Errorf("got %d events known, want 150", r.Len())
	}
	r.Forget(func(ref uint32) bool { return ref%3 == 0 })
	if r.Len() != 100 {
		t.Errorf("got %d events known after a third was forgotten, want 100", r.Len())
	}
	for i := range 10_000 {
		r.Learn(digest(i), uint32(i))
	}
	if r.Len() > 512 {
		t.Errorf("got %d events known, want the limit to hold", r.Len())
	}
}

// However many events are beyond a limit, they take no place from others.
func TestRepeatsBeyond(t *testing.T) {
	r := events.NewRepeats(1, 200)
	digest := func(i int) series.ID { return series.HashSeeded([]byte(strconv.Itoa(i)), 0) }
	for i := range 150 {
		r.Learn(digest(i), uint32(i))
	}
	for i := range 100_000 {
		r.LearnBeyond(digest(1000 + i))
	}
	if known, beyond := r.Len(), r.Beyond(); known-beyond != 150 || beyond < 100 || known > 512 {
		t.Errorf("got %d events known, %d of them beyond, want 150 others, and the limit to hold", known, beyond)
	}
	for i := range 50 {
		r.Learn(digest(150+i), uint32(150+i))
	}
	if known, beyond := r.Len(), r.Beyond(); known-beyond != 200 {
		t.Errorf("got %d events known, %d of them beyond, want 200 others", known, beyond)
	}
	r.ForgetBeyond()
	if known, beyond := r.Len(), r.Beyond(); known != 200 || beyond != 0 {
		t.Errorf("got %d events known, %d of them beyond, want 200 and none", known, beyond)
	}
}

func FuzzRepeats(f *testing.F) {
	f.Add([]byte(`{"time":1763892000,"value":1,"name":"m","labels":{"a":"b"}}` + "\x00" + `[{"time":1763892001,"value":2,"name":"m","labels":{"a":"b"}}]`))
	f.Add([]byte(`{"value": 1, "time": "2026-11-23T10:00:00Z", "name": "m"}` + "\x00" + `{"value": 2, "time": "2026-11-23T10:00:01Z", "name": "m"}{"a":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		records := bytes.Split(data, []byte{0})
		knownOf(t, 100, append(records, records...)...)
	})
}
