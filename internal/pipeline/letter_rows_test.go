package pipeline_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/units"
)

func letterLines(out *pipeline.Outputs) string {
	var lines []string
	for i := range out.LetterRows {
		r := &out.LetterRows[i]
		lines = append(lines, fmt.Sprintf("%s %s %s %s/%d@%d %d/%d %q %q", r.Tenant, r.Signal, r.Reason, r.Topic, r.Partition, r.Offset, r.Letters, r.Events, r.Detail, r.Excerpt))
	}
	return strings.Join(lines, "\n")
}

// A tenant learns what was wrong with which of its records, and nothing that an event of another tenant holds.
func TestLetterRowsSay(t *testing.T) {
	f := func(key, header, value, contentType, want string) {
		t.Helper()
		task := newTask(func(c *pipeline.TaskConfig) { c.Config.DLQExcerpt = 40 })
		r := record(key, value)
		r.Offset = 42
		if header != "" {
			r.Headers = append(r.Headers, pipeline.Header{Key: pipeline.HeaderTenant, Value: []byte(header)})
		}
		if contentType != "" {
			r.Headers = append(r.Headers, pipeline.Header{Key: pipeline.HeaderContentType, Value: []byte(contentType)})
		}
		step(task, start, r)
		out := drain(task, start)
		if got := letterLines(out); got != want || len(out.Letters) != 1 {
			t.Errorf("%s %s: got %d letters, rows\n%s\nwant one,\n%s", key, value, len(out.Letters), got, want)
		}
	}
	at := "vigie.metrics.v1/4@42"
	f("acme", "", `{"name":"m","value":1`, "", "acme metrics bad_json "+at+` 1/1 "not JSON at byte 21: want ',' or '}', got the end" "{\"name\":\"m\",\"value\":1"`)
	// The event that was refused, not the first of the record.
	f("acme", "", `[`+event(start, "m", "")+`, {"name":"m","time":1}]`, "",
		"acme metrics missing_field "+at+` 1/1 "event 1: value: a metric needs a value (a number), a histogram or stale" "{\"name\":\"m\",\"time\":1}"`)
	f("acme", "", `[{"name":"é`+strings.Repeat("x", 60)+`"}]`, "",
		"acme metrics missing_field "+at+` 1/1 "event 0: value: a metric needs a value (a number), a histogram or stale" "{\"name\":\"é`+strings.Repeat("x", 29)+`"`)
	f("acme", "", "\xff\x00vgk_ABC0123456789", "", "acme metrics bad_json "+at+` 1/1 "not JSON at byte 0: want a value, got \"\\xff\\x00vgk_…\"" "`+"\ufffd"+`\x00vgk_…"`)
	f("acme", "", "\xff\xff", "application/x-protobuf", "acme metrics bad_otlp "+at+` 1/1 "not an OTLP export request of metrics: \"unexpected EOF\"" ""`)
	// Another tenant's event, in a record of one's own: neither name nor content.
	const other = `"left out: the payload may name another tenant than the record's header or key" ""`
	f("acme", "", `{"tenant":"demo","name":"secret","value":1}`, "", "acme metrics tenant_mismatch "+at+" 1/1 "+other)
	f("acme", "", `[{"name":"m"},{"tenant":"demo","name":"secret","value":1}]`, "", "acme metrics missing_field "+at+" 1/2 "+other)
	f("demo", "acme", `{"tenant":"demo","name":"secret","value":1}`, "", "acme metrics tenant_mismatch "+at+" 1/1 "+other)
	// Also where another fault comes first, or the record breaks off.
	f("acme", "", `{"tenant":"demo","name":"secret","value":"secret"}`, "", "acme metrics tenant_mismatch "+at+" 1/1 "+other)
	f("acme", "", `{"name":"secret","value":"secret","tenant":"demo"}`, "", "acme metrics tenant_mismatch "+at+" 1/1 "+other)
	f("acme", "", `[{"name":"m"},{"name":"secret","tenant":"demo"`, "", "acme metrics missing_field "+at+" 1/2 "+other)
	f("acme", "", `{"name":"secret","tenant" : "demo", "value":secret}`, "", "acme metrics bad_json "+at+" 1/1 "+other)
	f("acme", "", `{"name":"secret","ten\u0061nt":"demo", "value":secret}`, "", "acme metrics bad_json "+at+" 1/1 "+other)
	f("acme", "", `{"tenant":"acme","tenant":"demo","name":"secret","value":1}`, "", "acme metrics tenant_mismatch "+at+" 1/1 "+other)
	f("acme", "", `{"resourceMetrics":[{"resource":{"attributes":[{"key":"vigie.tenant","value":{"stringValue":"demo"}},{"key":"service.name","value":secret}]}}]}`, "",
		"acme metrics bad_json "+at+" 1/1 "+other)
	// Naming oneself hides nothing, nor do names that only end so.
	f("acme", "", `{"tenant":"acme","tenant_id":"demo","name":"m"`, "", "acme metrics bad_json "+at+` 1/1 "not JSON at byte 46: want ',' or '}', got the end" "{\"tenant\":\"acme\",\"tenant_id\":\"demo\",\"nam"`)
	// Nobody's.
	f("", "", `{"name":"m","value":1}`, "", "")
	f("a b", "", `{"name":"m","value":1}`, "", "")
}

func TestLetterRowsWithoutExcerpt(t *testing.T) {
	task := newTask(func(c *pipeline.TaskConfig) { c.Config.DLQExcerpt = units.Bytes(0) })
	step(task, start, record("acme", `{`))
	if out := drain(task, start); len(out.LetterRows) != 1 || out.LetterRows[0].Excerpt != "" {
		t.Errorf("got rows\n%s\nwant one without an excerpt", letterLines(out))
	}
}

// Of each tenant and reason ten letters a minute have rows of their own; a flood is a row an epoch, and hides no
// other's letters.
func TestLetterRowsAreBounded(t *testing.T) {
	task := newTask(nil)
	flood := func(now time.Time, tenant string, n int) *pipeline.Outputs {
		for range n {
			step(task, now, record(tenant, `{`))
		}
		out := drain(task, now)
		task.Committed(false)
		return out
	}
	f := func(out *pipeline.Outputs, want ...uint64) {
		t.Helper()
		var got []uint64
		for i := range out.LetterRows {
			r := &out.LetterRows[i]
			got = append(got, r.Letters)
			if (r.Offset < 0) != (r.Letters > 1) {
				t.Errorf("row %d: got %d letters at offset %d", i, r.Letters, r.Offset)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got rows of %v letters, want %v", got, want)
		}
	}
	f(flood(start, "acme", 4), 1, 1, 1, 1)
	f(flood(start, "acme", 500), 1, 1, 1, 1, 1, 1, 494)
	f(flood(start, "acme", 500), 500)
	f(flood(start, "demo", 2), 1, 1)
	f(flood(start.Add(time.Minute), "acme", 12), 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2)
	rows := 0
	for i := range 5000 {
		rows += len(flood(start.Add(2*time.Minute), fmt.Sprintf("made-up-%d", i), 2).LetterRows)
	}
	if rows > 2000 {
		t.Errorf("5,000 tenants that are made up: got %d rows in a minute, want 2,000 at most", rows)
	}
}

// What rows of committed epochs add up to is the letters of the tenants, whatever is aborted.
func TestLetterRowsAreLetters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		task := newTask(nil)
		letters, told := map[string]uint64{}, map[string]uint64{}
		now := start
		for range rapid.IntRange(1, 12).Draw(t, "epochs") {
			now = now.Add(time.Duration(rapid.IntRange(-10, 50).Draw(t, "seconds")) * time.Second)
			for range rapid.IntRange(0, 30).Draw(t, "records") {
				value := rapid.SampledFrom([]string{`{`, event(start, "m", ""), `{"name":"m"}`, `[{"name":"m"},{"value":1}]`}).Draw(t, "value")
				step(task, now, record(rapid.SampledFrom([]string{"acme", "globex"}).Draw(t, "tenant"), value))
			}
			out := drain(task, now)
			if rapid.IntRange(0, 3).Draw(t, "end") == 0 {
				task.Forget()
				continue
			}
			task.Committed(true)
			for i := range out.Letters {
				letters[string(out.Letters[i].Key)]++
			}
			for i := range out.LetterRows {
				told[out.LetterRows[i].Tenant] += out.LetterRows[i].Letters
			}
		}
		if !maps.Equal(told, letters) {
			t.Fatalf("got %v in rows, want %v", told, letters)
		}
	})
}
