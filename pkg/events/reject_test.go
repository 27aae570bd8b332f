package events_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/pkg/events"
)

const (
	now  = int64(1_795_428_000_123_000_000) // 2026-11-23T10:00:00.123Z
	good = `{"tenant":"acme","time":"2026-11-23T10:00:00.123Z","name":"m","value":1}`
)

func decode(src events.Source) *events.Batch {
	b := new(events.Batch)
	events.NewDecoder(events.Options{}).Decode(b, src)
	return b
}

func json(signal events.Signal, value string) events.Source {
	return events.Source{Signal: signal, Value: []byte(value), Timestamp: now}
}

func accepted(b *events.Batch) int { return len(b.Metrics) + len(b.Spans) + len(b.Logs) }

// with returns a metric event in which one field is replaced or added.
func with(field string) string {
	return `{"tenant":"acme","time":1795428000,"name":"m","value":1,` + field + `}`
}

func TestEveryReason(t *testing.T) {
	seen := map[events.Reason]bool{}
	f := func(src events.Source, reason events.Reason, field string) {
		t.Helper()
		b := decode(src)
		if len(b.Rejects) != 1 || accepted(b) != 0 {
			t.Errorf("%.120q: got %d rejects and %d events, want 1 and 0: %+v", src.Value, len(b.Rejects), accepted(b), b.Rejects)
			return
		}
		r := b.Rejects[0]
		if r.Reason != reason || r.Field != field || r.Detail == "" {
			t.Errorf("%.120q: got %s of field %q (%s), want %s of %q", src.Value, r.Reason, r.Field, r.Detail, reason, field)
		}
		seen[r.Reason] = true
	}
	metric := func(value string, reason events.Reason, field string) {
		t.Helper()
		f(json(events.Metrics, value), reason, field)
		// The same event must cost nothing but itself.
		if reason == events.ReasonBadJSON || reason == events.ReasonEmpty || reason == events.ReasonTenantMissing ||
			reason == events.ReasonRecordTooLarge || strings.Contains(value, "resource") {
			return
		}
		for form, record := range map[string]string{
			"array":  "[" + good + "," + value + "," + good + "]",
			"ndjson": good + "\n" + value + "\n" + good,
		} {
			b := decode(json(events.Metrics, record))
			if len(b.Metrics) != 2 || len(b.Rejects) != 1 || b.Rejects[0].Index != 1 || b.Rejects[0].Reason != reason ||
				b.Events != 3 || !slices.Equal(b.MetricIndex, []int{0, 2}) {
				t.Errorf("%.80q in %s: got %d metrics %v, rejects %+v; want 2 [0 2] and one %s at 1",
					value, form, len(b.Metrics), b.MetricIndex, b.Rejects, reason)
			}
		}
	}
	span := func(value string, reason events.Reason, field string) {
		t.Helper()
		f(json(events.Spans, value), reason, field)
	}
	log := func(value string, reason events.Reason, field string) {
		t.Helper()
		f(json(events.Logs, value), reason, field)
	}

	// Records.
	f(events.Source{Signal: events.Metrics}, events.ReasonTombstone, "")
	metric("", events.ReasonEmpty, "")
	metric(" \r\n\t", events.ReasonEmpty, "")
	metric(with(`"labels":{"a":"`+strings.Repeat("x", 2<<20)+`"}`), events.ReasonRecordTooLarge, "")
	f(events.Source{Signal: events.Metrics, Value: []byte(good), ContentType: "text/plain"}, events.ReasonContentType, "content-type")
	metric(`{"resourceSpans":[]}`, events.ReasonWrongSignal, "")
	metric(`{"resourceMetrics":[{"scopeMetrics":7}]}`, events.ReasonBadOTLP, "")
	f(events.Source{Signal: events.Metrics, Value: []byte("\x12\x05\x0a"), ContentType: "application/x-protobuf"}, events.ReasonBadProtobuf, "")
	f(events.Source{Signal: events.Metrics, Value: []byte("\x0a\x05\x0a\xff\xff\xff\xff"), ContentType: "application/x-protobuf"}, events.ReasonBadOTLP, "")

	// JSON itself.
	for _, broken := range []string{
		`{"tenant":"acme"`, `{"tenant":"acme",}`, `{"tenant" "acme"}`, `{tenant:"acme"}`, `{'tenant':'acme'}`, `{"name":"a\x"}`,
		`{"name":"a\u12g4"}`, "{\"name\":\"a\nb\"}", `{"value":01}`, `{"value":+1}`, `{"value":1.}`, `{"value":.5}`, `{"value":1e}`,
		`{"value":0x1p3}`, `{"value":tru}`, `{"other":[1,}`, `{"other":[1 2]}`, `{"other":{"a":1]}`, `{"other":{1:2}}`, `garbage`,
		`[`, `[,]`, `{"value":-}`, `{"a":"\`, `{"a":"\u12`, `{"other":"\q"}`, `{"other":{"a":1,}}`, "\x00",
	} {
		metric(broken, events.ReasonBadJSON, "")
	}
	metric(with(`"other":`+strings.Repeat("[", 20)+strings.Repeat("]", 20)), events.ReasonTooDeep, "")
	metric(with(`"labels":`+strings.Repeat(`{"a":`, 20)+"1"+strings.Repeat("}", 20)), events.ReasonTooDeep, "labels")
	metric(with("\"help\":\"\xff\""), events.ReasonInvalidUTF8, "help")
	metric(with(`"help":"\ud800"`), events.ReasonInvalidUTF8, "help")
	metric(with(`"help":"\ud800\u0041"`), events.ReasonInvalidUTF8, "help")
	metric(with("\"labels\":{\"a\":\"x\xc3\"}"), events.ReasonInvalidUTF8, "labels")
	span("{\"tenant\":\"a\",\"time\":1,\"service\":\"s\",\"name\":\"n\",\"duration\":1,\"x\":[\"\xff\"]}",
		events.ReasonInvalidUTF8, "attributes")

	// Fields.
	metric(`{}`, events.ReasonTenantMissing, "tenant")
	metric(`{"tenant":"acme","time":1795428000,"value":1}`, events.ReasonMissing, "name")
	metric(`{"tenant":"acme","time":1795428000,"name":"","value":1}`, events.ReasonMissing, "name")
	metric(`{"tenant":"acme","time":1795428000,"name":"m"}`, events.ReasonMissing, "value")
	metric(`{"tenant":"acme","time":1795428000,"name":"m","value":null}`, events.ReasonMissing, "value")
	f(events.Source{Signal: events.Metrics, Value: []byte(`{"tenant":"acme","name":"m","value":1}`)}, events.ReasonMissing, "time")
	metric(with(`"value":2`), events.ReasonDuplicateField, "value")
	metric(with(`"tenant":"acme"`), events.ReasonDuplicateField, "tenant")
	for _, wrong := range []string{`"1"`, `true`, `{}`, `[1]`, `""`} {
		metric(`{"tenant":"acme","time":1795428000,"name":"m","value":`+wrong+`}`, events.ReasonWrongType, "value")
	}
	metric(`{"tenant":7,"time":1795428000,"name":"m","value":1}`, events.ReasonWrongType, "tenant")
	metric(with(`"labels":["a"]`), events.ReasonWrongType, "labels")
	metric(with(`"labels":{"status":200}`), events.ReasonWrongType, "labels")
	metric(with(`"start":true`), events.ReasonWrongType, "start")
	metric(with(`"kind":3`), events.ReasonWrongType, "kind")
	metric(`7`, events.ReasonWrongType, "")
	metric(`"text"`, events.ReasonWrongType, "")
	metric(`null`, events.ReasonWrongType, "")
	log(`{"tenant":"a","time":1795428000,"body":{"msg":"x"}}`, events.ReasonWrongType, "body")
	metric(with(`"kind":"counter"`), events.ReasonUnknownWord, "kind")
	span(`{"tenant":"a","time":1795428000,"service":"s","name":"n","duration":1,"status":"good"}`,
		events.ReasonUnknownWord, "status")
	span(`{"tenant":"a","time":1795428000,"service":"s","name":"n","duration":1,"kind":"x"}`, events.ReasonUnknownWord, "kind")
	metric(`{"tenant":"acme","time":1795428000,"name":"`+strings.Repeat("m", 257)+`","value":1}`, events.ReasonTooLong, "name")
	metric(with(`"labels":{"a":"`+strings.Repeat("x", 4097)+`"}`), events.ReasonTooLong, "labels")
	metric(with(`"labels":{"`+strings.Repeat("x", 257)+`":"a"}`), events.ReasonTooLong, "labels")

	// Numbers and times.
	for _, spelling := range []string{"NaN", "nan", "Infinity", "-Infinity", "inf", "+Inf", "-inf", `"NaN"`,
		`"+Inf"`, `"-Infinity"`, `"inf"`} {
		metric(`{"tenant":"acme","time":1795428000,"name":"m","value":`+spelling+`}`, events.ReasonNotFinite, "value")
	}
	metric(with(`"other":[NaN]`), events.ReasonNotFinite, "")
	metric(with(`"time2":1,"start":NaN`), events.ReasonNotFinite, "start")
	for _, big := range []string{"1e309", "-1e309", "1e999999999999", strings.Repeat("9", 400)} {
		metric(`{"tenant":"acme","time":1795428000,"name":"m","value":`+big+`}`, events.ReasonNumberRange, "value")
	}
	span(`{"tenant":"a","time":1,"service":"s","name":"n","duration":1,"status_code":99}`,
		events.ReasonNumberRange, "status_code")
	span(`{"tenant":"a","time":1,"service":"s","name":"n","duration":1,"status_code":200.5}`,
		events.ReasonNumberRange, "status_code")
	for _, text := range []string{"", "yesterday", "2026-11-23", "2026-11-23T10:00:00", "2026-13-23T10:00:00Z", "2026-02-29T10:00:00Z", "2026-11-23T24:00:00Z",
		"2026-11-23T10:60:00Z", "2026-11-23T10:00:61Z", "2026-11-23T10:00:00.Z", "2026-11-23T10:00:00+0100",
		"2026-11-23T10:00:00+24:00", "1795428000", "2026-11-23T10:00:00Zx",
		strings.Repeat(`\u0000`, 16) + ":00Z", "2026-11-23T10:00:0aZ", "2026-11-23T10:00.00Z"} {
		metric(`{"tenant":"acme","time":"`+text+`","name":"m","value":1}`, events.ReasonBadTime, "time")
	}
	for _, old := range []string{"-1", "-0.5", `"1969-12-31T23:59:59Z"`,
		`"1970-01-01T00:30:00+01:00"`, `"0000-01-01T00:00:00Z"`} {
		metric(`{"tenant":"acme","time":`+old+`,"name":"m","value":1}`, events.ReasonTooOld, "time")
	}
	for _, new := range []string{`"3000-01-01T00:00:00Z"`, `"2262-04-11T23:47:16.854775808Z"`, "32503680000", "32503680000000",
		"32503680000000000", "9223372036854775808", "1e300", `"9999-12-31T23:59:59Z"`} {
		metric(`{"tenant":"acme","time":`+new+`,"name":"m","value":1}`, events.ReasonTooNew, "time")
	}
	for _, d := range []string{"-1", "-0.001", `"-12ms"`, `"12"`, `"12 ms"`, `"ms"`, `"1e1000s"`, `"12parsec"`, `""`,
		"1e12", `"9999999h"`, `"1h2m"`} {
		span(`{"tenant":"a","time":1795428000,"service":"s","name":"n","duration":`+d+`}`, events.ReasonBadDuration, "duration")
	}
	for _, h := range []string{
		`{"scale":6,"count":3,"sum":1,"positive":{"offset":1,"counts":[1,1]}}`,
		`{"scale":6,"count":-1,"sum":1}`,
		`{"scale":6,"count":0,"sum":1,"positive":{"offset":1,"counts":[1,-1]}}`,
		`{"scale":6,"count":1,"sum":1,"positive":{"offset":2147483647,"counts":[1]}}`,
		`{"scale":6,"count":20000,"sum":1,"positive":{"counts":[1` + strings.Repeat(",1", 19999) + `]}}`,
	} {
		metric(`{"tenant":"acme","time":1795428000,"name":"m","histogram":`+h+`}`, events.ReasonBadHistogram, "histogram")
	}
	bounded := `{"tenant":"acme","time":1795428000,"name":"m","kind":"cumulative","histogram":{"scale":-53,"sum":1,`
	for _, h := range []string{
		`"count":1,"bounds":[1,1],"positive":{"counts":[1]}`,
		`"count":1,"bounds":[2,1],"positive":{"counts":[1]}`,
		`"count":4,"bounds":[1,2],"positive":{"counts":[1,1,1,1]}`,
		`"count":1,"bounds":[1,2],"positive":{"offset":3,"counts":[1]}`,
		`"count":1,"bounds":[1,2],"positive":{"offset":-1,"counts":[1]}`,
		`"count":1,"bounds":[1],"negative":{"counts":[1]}`,
		`"count":1,"bounds":[1],"zero_count":1`,
		`"count":0,"bounds":[1],"zero_threshold":1`,
		`"count":2,"bounds":[1],"positive":{"counts":[1]}`,
		`"count":0,"bounds":[0` + strings.Repeat(",1", 19999) + `]`,
	} {
		metric(bounded+h+`}}`, events.ReasonBadHistogram, "histogram")
	}
	metric(bounded+`"count":0,"bounds":[1,1e999]}}`, events.ReasonNumberRange, "histogram.bounds")
	metric(bounded+`"count":0,"bounds":1}}`, events.ReasonWrongType, "histogram.bounds")
	metric(strings.Replace(bounded, "-53", "6", 1)+`"count":0,"bounds":[1]}}`, events.ReasonBadHistogram, "histogram")
	metric(strings.Replace(bounded, "cumulative", "delta", 1)+`"count":0,"bounds":[1]}}`, events.ReasonBadHistogram, "kind")
	metric(strings.Replace(bounded, "-53", "-11", 1)+`"count":0}}`, events.ReasonNumberRange, "histogram.scale")
	metric(with(`"histogram":{"scale":6,"count":0,"sum":0}`), events.ReasonBadHistogram, "value")
	metric(`{"tenant":"acme","time":1,"name":"m","histogram":{"count":0,"sum":0}}`, events.ReasonMissing, "histogram.scale")
	metric(`{"tenant":"acme","time":1,"name":"m","histogram":{"scale":21,"count":0,"sum":0}}`,
		events.ReasonNumberRange, "histogram.scale")
	metric(`{"tenant":"acme","time":1,"name":"m","histogram":{"scale":6,"count":0,"sum":NaN}}`,
		events.ReasonNotFinite, "histogram.sum")
	metric(`{"tenant":"acme","time":1,"name":"m","histogram":{"scale":6,"count":0,"sum":0,"positive":{"counts":[null]}}}`,
		events.ReasonWrongType, "histogram.positive")

	stale := `{"tenant":"acme","time":1795428000,"name":"m","kind":"gauge","stale":`
	metric(stale+`true,"value":1}`, events.ReasonDuplicateField, "stale")
	metric(stale+`true,"histogram":{"scale":6,"count":0,"sum":0}}`, events.ReasonDuplicateField, "stale")
	metric(stale+`false}`, events.ReasonMissing, "value")
	metric(stale+`null}`, events.ReasonMissing, "value")
	metric(stale+`1}`, events.ReasonWrongType, "stale")
	metric(stale+`"true"}`, events.ReasonWrongType, "stale")
	metric(strings.Replace(stale, "gauge", "delta", 1)+`true}`, events.ReasonUnknownWord, "kind")

	// Labels.
	metric(with(`"labels":{`+manyLabels(65)+`}`), events.ReasonTooManyLabels, "labels")
	span(`{"tenant":"a","time":1,"service":"s","name":"n","duration":1,"attributes":{`+manyLabels(129)+`}}`,
		events.ReasonTooManyLabels, "attributes")
	metric(with(`"labels":{"a":"1","b":"2","a":"3"}`), events.ReasonDuplicateLabel, "labels")
	log(`{"tenant":"a","time":1,"body":"x","user":"u","attributes":{"user":"v"}}`, events.ReasonDuplicateLabel, "attributes")
	metric(with(`"labels":{"":"1"}`), events.ReasonBadLabel, "labels")
	metric(with(`"labels":{"__name__":"x"}`), events.ReasonBadLabel, "labels")

	// Tenants.
	f(json(events.Metrics, `{"tenant":"a b","time":1795428000,"name":"m","value":1}`), events.ReasonTenantInvalid, "tenant")
	for _, key := range []string{".acme", "_acme", "a/b", "#1", strings.Repeat("a", 65), "\xff"} {
		f(events.Source{Signal: events.Metrics, Key: []byte(key), Value: []byte(good)}, events.ReasonTenantInvalid, "key")
	}
	f(events.Source{Signal: events.Metrics, Tenant: "a b", Value: []byte(good)}, events.ReasonTenantInvalid, "tenant")
	f(events.Source{Signal: events.Metrics, Key: []byte("globex#3"), Value: []byte(good)}, events.ReasonTenantMismatch, "tenant")
	f(events.Source{Signal: events.Metrics, Key: []byte("acme"), Tenant: "globex", Value: []byte(good)}, events.ReasonTenantMismatch, "tenant")

	small := events.NewDecoder(events.Options{MaxEvents: 2})
	b := new(events.Batch)
	small.Decode(b, json(events.Metrics, "["+good+","+good+","+good+","+good+"]"))
	if len(b.Metrics) != 2 || len(b.Rejects) != 1 ||
		b.Rejects[0].Reason != events.ReasonTooManyEvents || b.Rejects[0].Index != 2 {
		t.Errorf("4 events at a limit of 2: got %d metrics and %+v, want 2 and one %s at 2",
			len(b.Metrics), b.Rejects, events.ReasonTooManyEvents)
	}
	seen[events.ReasonTooManyEvents] = true

	seen[events.ReasonTenantUnknown] = true // the pipeline's, which knows the tenants
	for _, reason := range events.Reasons() {
		if !seen[reason] {
			t.Errorf("reason %s: got no case, want one", reason)
		}
		delete(seen, reason)
	}
	for reason := range seen {
		t.Errorf("reason %s: got none in Reasons(), want it listed", reason)
	}
}

func manyLabels(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"l%d":"v"`, i)
	}
	return b.String()
}

// A break in a record must cost as little as the format allows.
func TestBreaks(t *testing.T) {
	f := func(record string, indexes []int, rejects ...int) {
		t.Helper()
		b := decode(json(events.Metrics, record))
		var got []int
		for _, r := range b.Rejects {
			got = append(got, r.Index)
		}
		if !slices.Equal(b.MetricIndex, indexes) || !slices.Equal(got, rejects) || len(b.Metrics) != len(b.MetricIndex) {
			t.Errorf("%q: got events %v, rejects %v (%+v); want %v, %v", record, b.MetricIndex, got, b.Rejects, indexes, rejects)
		}
	}
	f(good, []int{0})
	f("\xEF\xBB\xBF"+good, []int{0})
	f("["+good+"]\n", []int{0})
	f("[]", nil)
	f(" [ ] ", nil)
	f(good+"\r\n\r\n"+good+"\n", []int{0, 1})
	f(good+good, []int{0, 1})
	// The array breaks in its third element, between elements, at its end, or goes on after it.
	f("["+good+","+good+`,{"tenant":,`+good+"]", []int{0, 1}, 2)
	f("["+good+" "+good+"]", []int{0}, 1)
	f("["+good+","+good, []int{0, 1}, 2)
	f("["+good+",]", []int{0}, 1)
	f("["+good+"]"+good, []int{0}, 1)
	f("["+good+","+`{"name":"x`, []int{0}, 1)
	// A line that is cut off would swallow the next one.
	f(`{"tenant":"acme","labels":`+"\n"+good+"\n"+good, []int{1, 2}, 0)
	f(`{"tenant":"acme","name":"x`+"\n"+good, []int{1}, 0)
	f(good+"\n"+`{"tenant":"acme","name":"a\tb\`+"\n"+good, []int{0, 2}, 1)
	f("garbage\nmore garbage\n"+good, []int{1}, 0)
	// Undoing escapes in place must not leave line breaks for the recovery to find.
	f(`{"name":"\n{\n{\n{","other":1 1}`+"\n"+good, []int{1}, 0)
	// Alone and broken, the record is refused as a whole.
	f(`{"tenant":"acme"`, nil, -1)
	f("nonsense", nil, -1)
	// An event printed over several lines is one event, also when broken.
	f("{\n\"tenant\":\"acme\",\n\"name\": \"m\",\n\"value\": 1\n}\n"+good, []int{0, 1})
	f("{\n\"tenant\":\"acme\",\n\"name\" \"m\",\n\"value\": 1\n}\n"+good, []int{1}, 0)
}

// A hostile record may cost its own size, not a multiple without bound.
func TestRejectsAreBounded(t *testing.T) {
	b := new(events.Batch)
	events.NewDecoder(events.Options{MaxEvents: 100}).Decode(b, json(events.Metrics, "["+strings.Repeat("0,", 400_000)+"0]"))
	if len(b.Rejects) != 101 {
		t.Errorf("400,001 numbers at a limit of 100 events: got %d rejects, want 101", len(b.Rejects))
	}
}

// Details show JSON as it was sent: what was a number is not in quotes, and what was in quotes not in two pairs.
func TestDetailsShowTheJSON(t *testing.T) {
	f := func(signal events.Signal, value, want string) {
		t.Helper()
		b := decode(events.Source{Signal: signal, Tenant: "acme", Timestamp: now, Value: []byte(value)})
		if len(b.Rejects) != 1 || !strings.HasSuffix(b.Rejects[0].Detail, want) {
			t.Errorf("%s: got %+v, want a detail that ends in %s", value, b.Rejects, want)
		}
	}
	f(events.Metrics, `{"name":"a","value":1,"labels":{"status":200}}`, `of label "status", got 200`)
	f(events.Metrics, `{"name":"a","value":1,"labels":["x\\y"]}`, `got ["x\\y"]`)
	f(events.Metrics, `{"name":17,"value":1}`, `got 17`)
	f(events.Metrics, `{"name":["é"],"value":1}`, `got ["\u00e9"]`)
	f(events.Metrics, `{"name":["`+strings.Repeat("x", 100)+`"],"value":1}`, `got ["`+strings.Repeat("x", 62)+`…`)
	f(events.Spans, `{"service":"a","name":"b","duration":"12 ms"}`, `got "12 ms"`)
	f(events.Spans, `{"service":"a","name":"b","duration":-1}`, `negative: -1`)
}
