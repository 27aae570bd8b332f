package pipeline_test

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

var at = pipeline.Partition{Topic: "vigie.metrics.v1", Partition: 4}

func newTask(change func(*pipeline.TaskConfig)) *pipeline.Task {
	cfg := pipeline.TaskConfig{Partition: at, Signal: events.Metrics, Config: pipeline.DefaultConfig()}
	if change != nil {
		change(&cfg)
	}
	return pipeline.NewTask(cfg)
}

// limitsOf are the defaults with overrides.
func limitsOf(overrides map[tenants.ID]tenants.Limits) func() *tenants.Config {
	limits := tenants.DefaultConfig()
	limits.Overrides = overrides
	return func() *tenants.Config { return &limits }
}

func step(task *pipeline.Task, now time.Time, records ...pipeline.Record) {
	half := len(records) / 2
	task.Step(&pipeline.Chunk{Partition: at, Signal: events.Metrics, Records: records[:half], Unread: unread(records[half:])},
		now.UnixMilli())
}

// unread are records to be read.
func unread(records []pipeline.Record) pipeline.Unread {
	if len(records) == 0 {
		return pipeline.Unread{}
	}
	return pipeline.Unread{
		First: records[0].Offset, Last: records[len(records)-1].Offset, Len: len(records),
		Read: func(room []pipeline.Record) []pipeline.Record {
			n := copy(room, records)
			records = records[n:]
			return room[:n]
		},
	}
}

func drain(task *pipeline.Task, now time.Time) *pipeline.Outputs {
	cfg := pipeline.DefaultConfig()
	out := pipeline.NewOutputs(&cfg)
	task.Drain(out, now.UnixMilli())
	return out
}

func record(tenant string, values ...string) pipeline.Record {
	return pipeline.Record{Offset: 42, Timestamp: start.UnixNano(), Key: []byte(tenant),
		Value: []byte(strings.Join(values, "\n"))}
}

func event(t time.Time, name, labels string) string {
	return fmt.Sprintf(`{"time":%q,"name":%q,"value":1.5,"labels":{%s}}`, t.Format(time.RFC3339Nano), name, labels)
}

func progress(task *pipeline.Task, now time.Time) string {
	var rows pipeline.ProgressRows
	task.AppendProgress(&rows, now.UnixMilli())
	var b strings.Builder
	for i := range rows.Topic {
		fmt.Fprintf(&b, "%s/%d %q %d;", rows.Topic[i], rows.Partition[i], rows.Tenant[i], rows.Time[i]-start.UnixMilli())
	}
	return b.String()
}

func rowsOf(out *pipeline.Outputs) (rows []string) {
	for _, b := range out.Rollups {
		for i := range b.Grain {
			rows = append(rows, fmt.Sprintf("%d %s %s %s %d count %d sum %v", b.Grain[i], b.Tenant[i], b.Metric[i], b.Service[i],
				int64(b.Pane[i])-start.Unix(), b.Count[i], b.Sum[i]))
		}
	}
	return rows
}

func TestTimeAdmission(t *testing.T) {
	f := func(offset time.Duration, want events.Reason) {
		t.Helper()
		task := newTask(nil)
		step(task, start, record("acme", event(start.Add(offset), "m", "")))
		out := drain(task, start)
		got := events.Reason("")
		for key, n := range out.Tally.Refused {
			if got = key.Reason; n != 1 || key.Tenant != "acme" {
				t.Errorf("%s: got %d refusals of %q, want 1 of acme", offset, n, key.Tenant)
			}
		}
		if taken := len(out.Rollups) == 1; got != want || taken == (want != "") || len(out.Letters) != int(out.Tally.Letters) {
			t.Errorf("%s: got reason %q, taken %v, %d letters; want %q", offset, got, taken, len(out.Letters), want)
		}
		if moved := progress(task, start) != ""; moved != (want == "") {
			t.Errorf("%s: got watermark moved %v, want %v", offset, moved, want == "")
		}
	}
	f(0, "")
	f(1, "")
	f(-1, "")
	f(5*time.Minute, "")
	f(5*time.Minute+1, events.ReasonTooNew)
	f(-72*time.Hour, "")
	f(-72*time.Hour-1, events.ReasonTooOld)
	// A zone's worth of hours, the usual mistake: ahead is refused, behind is late data.
	f(6*time.Hour, events.ReasonTooNew)
	f(-6*time.Hour, "")
	f(-56*365*24*time.Hour, events.ReasonTooOld)
	f(200*365*24*time.Hour, events.ReasonTooNew)
	// The words themselves are part of the contract.
	f(99*time.Hour, "too_new")
	f(-99*time.Hour, "too_old")
}

// Late is what is older than the tenant's own watermark when it comes, and is counted once, in the epoch that commits
// it.
func TestLateEventsAreCounted(t *testing.T) {
	task := newTask(nil)
	late := func() map[string]uint64 {
		step(task, start, record("acme", event(start.Add(-5*time.Second), "m", ""), event(start.Add(-5*time.Second-1), "m", "")),
			record("globex", event(start.Add(-time.Hour), "m", "")))
		return drain(task, start).Tally.Late
	}
	step(task, start, record("acme", event(start, "m", "")))
	drain(task, start)
	task.Committed(true)
	for range 2 {
		if got := late(); len(got) != 1 || got["acme"] != 1 {
			t.Errorf("got %v, want the one of acme below its watermark", got)
		}
		task.Forget()
	}
	step(task, start, record("acme", event(start.Add(-time.Minute), "m", "")))
	task.Forget()
	if got := late(); got["acme"] != 1 {
		t.Errorf("got %v, want what was forgotten not counted", got)
	}
}

func TestRowsAreSortedAndPreMerged(t *testing.T) {
	task := newTask(nil)
	now := start.Add(time.Minute)
	step(task, now,
		record("zeta", event(start, "b", `"service":"s"`)),
		record("acme", event(start.Add(11*time.Second), "b", `"service":"s","x":"2"`),
			event(start, "b", `"service":"s","x":"1"`)),
		record("acme", event(start, "b", `"service":"s","x":"2"`), event(start, "a", "")),
	)
	got := rowsOf(drain(task, now))
	byID := []string{ // the two series of (b, s) stand in the order of their ids
		"0 acme b s 0 count 1 sum 1.5", "0 acme b s 10 count 1 sum 1.5", "0 acme b s 0 count 1 sum 1.5",
	}
	if series.Hash(series.AppendKey(nil, 0, "b", series.Labels{{Name: "service", Value: "s"}, {Name: "x", Value: "1"}})).Compare(
		series.Hash(series.AppendKey(nil, 0, "b", series.Labels{{Name: "service", Value: "s"}, {Name: "x", Value: "2"}}))) < 0 {
		byID[1], byID[2] = byID[2], byID[1]
	}
	want := append([]string{"0 acme a  0 count 1 sum 1.5", "1 acme a  0 count 1 sum 1.5"}, byID...)
	want = append(want, "1 acme b s 0 count 2 sum 3", "1 acme b s 10 count 1 sum 1.5", "0 zeta b s 0 count 1 sum 1.5",
		"1 zeta b s 0 count 1 sum 1.5")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A tenant that floods its task with series loses the new ones, is told by a counter, and harms nobody.
func TestSeriesLimit(t *testing.T) {
	task := newTask(func(c *pipeline.TaskConfig) {
		c.Limits = limitsOf(map[tenants.ID]tenants.Limits{"flood": {ActiveSeries: 110}, "calm": {ActiveSeries: 10}})
	})
	const n = 5000
	for i := range n {
		step(task, start,
			record("flood", event(start, "m", fmt.Sprintf(`"id":"%d"`, i))),
			record("calm", event(start, "m", fmt.Sprintf(`"id":"%d"`, i%10))))
	}
	out := drain(task, start)
	counts := map[string]uint64{}
	for _, b := range out.Rollups {
		for i := range b.Grain {
			counts[fmt.Sprint(b.Tenant[i], b.Grain[i])] += b.Count[i]
		}
	}
	if want := map[string]uint64{"flood0": 110, "flood1": 110, "calm0": n, "calm1": n}; !reflect.DeepEqual(counts, want) {
		t.Errorf("got counts %v, want %v", counts, want)
	}
	dropped := out.Tally.Dropped[pipeline.TenantReason{Tenant: "flood", Reason: pipeline.ReasonSeriesLimit}]
	if dropped != n-110 || len(out.Tally.Dropped) != 1 {
		t.Errorf("got dropped %v, want %d of flood", out.Tally.Dropped, n-110)
	}
	if len(out.Letters) != 0 {
		t.Errorf("got %d dead letters, want none: a flood is not to be doubled", len(out.Letters))
	}
	task.Committed(true)

	// Known series go on; after the idle time the others make room.
	later := start.Add(11 * time.Minute)
	step(task, later.Add(-time.Minute), record("flood", event(later, "m", `"id":"1"`)))
	if out = drain(task, later); len(out.Tally.Dropped) != 0 {
		t.Errorf("a known series: got dropped %v, want none", out.Tally.Dropped)
	}
	task.Committed(true)
	for i := range 109 {
		step(task, later, record("flood", event(later, "m", fmt.Sprintf(`"id":"new-%d"`, i))))
	}
	if out = drain(task, later); len(out.Tally.Dropped) != 0 {
		t.Errorf("after the idle time: got dropped %v, want none", out.Tally.Dropped)
	}
}

func TestTenantLimit(t *testing.T) {
	task := newTask(func(c *pipeline.TaskConfig) { c.Config.MaxTenants = 2 })
	for _, tenant := range []string{"a", "b", "c", "a", "d"} {
		step(task, start, record(tenant, event(start, "m", "")))
	}
	out := drain(task, start)
	if got := out.Tally.Dropped[pipeline.TenantReason{Reason: pipeline.ReasonTenantLimit}]; got != 2 || out.Tally.Events != 3 {
		t.Errorf("got %d dropped and %d taken, want 2 and 3", got, out.Tally.Events)
	}
	task.Committed(true)
	later := start.Add(time.Hour)
	drain(task, later)
	task.Committed(true)
	step(task, later, record("c", event(later, "m", "")))
	if out := drain(task, later); out.Tally.Events != 1 {
		t.Errorf("after the others went idle: got %d taken, want 1", out.Tally.Events)
	}
}

func TestAnnouncements(t *testing.T) {
	task := newTask(nil)
	announced := func(now time.Time, commit bool) int {
		step(task, now, record("acme", event(now, "m", `"a":"b"`)))
		out, n := drain(task, now), 0
		for _, b := range out.Series {
			n += len(b.ID)
		}
		if commit {
			task.Committed(false)
		} else {
			task.Forget()
		}
		return n
	}
	f := func(after time.Duration, commit bool, want int) {
		t.Helper()
		if got := announced(start.Add(after), commit); got != want {
			t.Errorf("after %s: got %d announcements, want %d", after, got, want)
		}
	}
	f(0, false, 1)            // the epoch is aborted:
	f(time.Second, true, 1)   // so it was not announced
	f(2*time.Second, true, 0) // now it was
	f(3*time.Minute, true, 0) // not before three quarters of the refresh
	f(5*time.Minute+time.Second, true, 1)
	f(5*time.Minute+2*time.Second, true, 0)
}

// Readers are never told of more than has been committed.
func TestWatermarkGoesBackWithAnAbortedEpoch(t *testing.T) {
	task := newTask(nil)
	f := func(want string) {
		t.Helper()
		if got := progress(task, start); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	f("")
	step(task, start, record("acme", event(start.Add(7*time.Second), "m", "")))
	task.SetReach(pipeline.Reach{Partition: at, Through: start.UnixMilli() + 900})
	drain(task, start)
	f(`vigie.metrics.v1/4 "" 900;vigie.metrics.v1/4 "acme" 2000;`)
	task.Forget()
	f("")
	step(task, start, record("acme", event(start.Add(6*time.Second), "m", "")))
	task.SetReach(pipeline.Reach{Partition: at, Through: start.UnixMilli() + 100})
	drain(task, start)
	f(`vigie.metrics.v1/4 "" 100;vigie.metrics.v1/4 "acme" 1000;`)
	task.Committed(true)
	f(`vigie.metrics.v1/4 "" 100;`) // a heartbeat: nothing new of the tenant
}

// Of each kind of what a task makes there is some, and of all the order and the bytes are the same again.
func TestSameInputSameOutput(t *testing.T) {
	kinds := []string{"observation", "gauge", "delta", "cumulative"}
	run := func() (all []*pipeline.Outputs, progress pipeline.ProgressRows) {
		task := newTask(func(c *pipeline.TaskConfig) {
			c.Config.Alerts = alertRules
			c.Config.Rollups = []rollup.Declared{
				{Name: "w", From: events.Metrics, By: []string{"service"},
					Window: &windowed.Window{Tumbling: 10 * time.Second, Late: "divert"}},
				{Name: "s", From: events.Metrics, By: []string{"x"},
					Window: &windowed.Window{Session: &windowed.Session{Gap: 3 * time.Second}}},
				{Name: "grown", From: events.Metrics, Measure: "increase", By: []string{"service", "x"}},
			}
			c.Limits = limitsOf(map[tenants.ID]tenants.Limits{
				"t0": {ActiveSeries: 30, MaxLabels: 3}, "t1": {StreamEventsPerSecond: 30}, "t2": {ActiveSeries: 40},
			})
		})
		for epoch := range 4 {
			now := start.Add(time.Duration(epoch) * 15 * time.Second)
			for i := range 400 {
				tenant, name, when := fmt.Sprint("t", i%3), fmt.Sprint("m", i%5), now.Add(-time.Duration(i*i%45)*time.Second)
				if i%7 == 0 {
					name = "req"
				}
				labels := fmt.Sprintf(`"service":"s%d","host":"h%d","x":"%d"%s`, i%4, i%5, i%11,
					map[bool]string{true: `,"y":"z"`}[i%13 == 0])
				step(task, now, record(tenant, fmt.Sprintf(`{"time":%q,"name":%q,"kind":%q,"value":%d,"labels":{%s}}`,
					when.Format(time.RFC3339Nano), name, kinds[i%4], i, labels)))
				step(task, now, record(tenant, "{"))
			}
			task.SetReach(pipeline.Reach{Partition: at, Signal: events.Metrics, Through: now.UnixMilli()})
			all = append(all, drain(task, now))
			task.AppendProgress(&progress, now.UnixMilli())
			task.Committed(true)
		}
		return all, progress
	}
	first, progress := run()
	made := map[string]int{"progress": len(progress.Tenant)}
	for _, out := range first {
		for kind, n := range map[string]int{
			"rollups": len(out.Rollups), "series": len(out.Series), "windows": len(out.Windows.Blocks), "state": len(out.State),
			"letters": len(out.Letters), "rows of letters": len(out.LetterRows), "alerts": len(out.Alerts),
			"limits": len(out.Limits.Tenant),
		} {
			made[kind] += n
		}
	}
	for kind, n := range made {
		if n == 0 {
			t.Errorf("got no %s: the test proves little", kind)
		}
	}
	for range 5 {
		again, progressAgain := run()
		if !reflect.DeepEqual(again, first) || !reflect.DeepEqual(progressAgain, progress) {
			t.Fatal("got different outputs for the same input, want them equal bit for bit")
		}
	}
}

// One series with an event in every pane of three days costs a row each, and no more than that.
func TestManyPanesOfOneSeries(t *testing.T) {
	task := newTask(nil)
	const n = 20_000
	for i := range n {
		pane := (i * 7919) % n // in no order
		step(task, start, record("acme", event(start.Add(-time.Duration(pane)*10*time.Second), "m", "")))
	}
	out := drain(task, start)
	if got := len(rowsOf(out)); got != 2*n {
		t.Errorf("got %d rows, want %d", got, 2*n)
	}
}

func TestAuthorityOfTheTenant(t *testing.T) {
	f := func(key, scope, payload, wantTenant string, wantReason events.Reason) {
		t.Helper()
		task := newTask(nil)
		r := record(key, `{"time":"2026-11-24T12:00:00Z","name":"m","value":1`+payload+`}`)
		if scope != "" {
			r.Headers = []pipeline.Header{{Key: "X-Scope-OrgID", Value: []byte(scope)}}
		}
		step(task, start, r)
		out := drain(task, start)
		tenant, reason := "", events.Reason("")
		if len(out.Rollups) > 0 {
			tenant = out.Rollups[0].Tenant[0]
		}
		for key := range out.Tally.Refused {
			tenant, reason = key.Tenant, key.Reason
		}
		if tenant != wantTenant || reason != wantReason {
			t.Errorf("key %q, header %q, payload %q: got %q %q, want %q %q",
				key, scope, payload, tenant, reason, wantTenant, wantReason)
		}
	}
	f("acme", "", "", "acme", "")
	f("acme#7", "", "", "acme", "")
	f("acme", "demo", "", "demo", "")
	f("", "", `,"tenant":"demo"`, "demo", "")
	f("acme", "", `,"tenant":"demo"`, "acme", events.ReasonTenantMismatch)
	f("acme", "demo", `,"tenant":"acme"`, "demo", events.ReasonTenantMismatch)
	f("", "", "", "", events.ReasonTenantMissing)
	f("_vigie", "", "", "", events.ReasonTenantInvalid)
}

func TestDeadLetters(t *testing.T) {
	good, late, future := event(start, "m", ""), event(start.Add(-99*time.Hour), "m", ""), event(start.Add(99*time.Hour), "m", "")
	f := func(r pipeline.Record, wantTaken uint64, wantReason, wantEvents string) pipeline.Message {
		t.Helper()
		task := newTask(nil)
		key, value := bytes.Clone(r.Key), bytes.Clone(r.Value)
		step(task, start, r)
		for i := range r.Value { // the next Poll takes the memory
			r.Value[i] = 'x'
		}
		out := drain(task, start)
		if out.Tally.Events != wantTaken || len(out.Letters) != 1 {
			t.Fatalf("%s: got %d taken, %d letters; want %d, 1", value, out.Tally.Events, len(out.Letters), wantTaken)
		}
		m := out.Letters[0]
		if got := header(&m, pipeline.HeaderDLQReason); got != wantReason {
			t.Errorf("%s: got reason %q, want %q", value, got, wantReason)
		}
		if got := header(&m, pipeline.HeaderDLQEvents); got != wantEvents {
			t.Errorf("%s: got events %q, want %q", value, got, wantEvents)
		}
		if !bytes.Equal(m.Key, key) || !bytes.Equal(m.Value, value) || (m.Value == nil) != (value == nil) {
			t.Errorf("got key %q value %q, want the original's %q %q", m.Key, m.Value, key, value)
		}
		if m.Topic != "vigie.dlq.v1" || m.Partition != -1 || header(&m, pipeline.HeaderDLQTopic) != at.Topic ||
			header(&m, pipeline.HeaderDLQPartition) != "4" || header(&m, pipeline.HeaderDLQOffset) != "42" ||
			header(&m, pipeline.HeaderDLQTimestamp) != fmt.Sprint(start.UnixMilli()) {
			t.Errorf("got %+v, want the source position", m)
		}
		return m
	}
	with := func(r pipeline.Record, headers ...string) pipeline.Record {
		for i := 0; i < len(headers); i += 2 {
			r.Headers = append(r.Headers, pipeline.Header{Key: headers[i], Value: []byte(headers[i+1])})
		}
		return r
	}
	f(record("acme", "{"), 0, "bad_json", "")
	f(record("acme", "  "), 0, "empty_record", "")
	f(pipeline.Record{Offset: 42, Timestamp: start.UnixNano(), Key: []byte("acme")}, 0, "tombstone", "")
	f(record("acme", late), 0, "too_old", "")
	f(record("acme", late, future), 0, "too_old", "")
	f(record("acme", good, future, good, late), 2, "too_new", "1,3")
	f(record("acme", good, `{"name":"m"}`, late), 1, "missing_field", "1,2")
	f(record("acme", late, `{"name":"m"}`, good), 1, "too_old", "0,1")

	// A replayed record stands for the events of its header only, also when it is refused again.
	f(with(record("acme", good, future, good, late), "vigie-only", "2,3"), 1, "too_old", "3")
	f(with(record("acme", good, future, good, late), "vigie-only", "1,3"), 0, "too_new", "1,3")
	f(with(record("acme#!", good, "}"), "vigie-only", "1", "x-scope-orgid", "_"), 0, "tenant_invalid", "1")
	m := f(with(record("acme", good, good), "vigie-only", "2,x"), 0, "bad_replay_header", "")
	if got := header(&m, "vigie-only"); got != "<none>" {
		t.Errorf("got header vigie-only %q in the letter, want none", got)
	}

	// The records of a batch that cannot be unpacked are one, and their letter says how much it leaves out.
	m = f(pipeline.Record{Offset: 42, Timestamp: start.UnixNano(), BadBatch: &pipeline.BadBatch{Why: "batch of 7 records", Size: 1234}}, 0, "bad_batch", "")
	if got := header(&m, pipeline.HeaderDLQDetail) + ", " + header(&m, pipeline.HeaderDLQOmitted); m.Value != nil ||
		got != "batch of 7 records, 1234" {
		t.Errorf("got %s, want what was refused and its size", got)
	}

	// Own headers of an earlier passage are replaced; all others stay.
	m = f(with(record("acme", good, late), "vigie-dlq-reason", "old", "a", "1", "VIGIE-DLQ-Events", "9", "a", "2"), 1, "too_old", "1")
	var keys []string
	for _, h := range m.Headers {
		keys = append(keys, h.Key)
	}
	if got := strings.Join(keys, " "); !strings.HasPrefix(got, "a a vigie-dlq-reason") || strings.Count(got, "reason") != 1 ||
		strings.Contains(got, "VIGIE") {
		t.Errorf("got headers %s, want a, a, and one of each of ours", got)
	}
}

func TestReplayTakesOnlyWhatItNames(t *testing.T) {
	task := newTask(nil)
	r := record("acme", event(start, "a", ""), event(start, "b", ""), `{"name":"m"}`, event(start, "c", ""))
	r.Headers = []pipeline.Header{{Key: "vigie-only", Value: []byte("3, 1,1")}}
	step(task, start, r)
	out := drain(task, start)
	if got := rowsOf(out); len(got) != 4 || !strings.Contains(got[0], " b ") ||
		!strings.Contains(got[2], " c ") || len(out.Letters) != 0 {
		t.Errorf("got rows %v and %d letters, want b and c and none", got, len(out.Letters))
	}
}

// A letter that would not fit says where the original is; it is never cut.
func TestOversizeDeadLetter(t *testing.T) {
	task := newTask(func(c *pipeline.TaskConfig) { c.Config.DLQMessageBytes = 4 << 10 })
	step(task, start, record("acme", "{"+strings.Repeat(" ", 5000)), record("acme", "{"+strings.Repeat(" ", 3000)))
	out := drain(task, start)
	if len(out.Letters) != 2 || out.Tally.Omitted != 1 || out.Tally.Letters != 2 {
		t.Fatalf("got %d letters, %d omitted; want 2, 1", len(out.Letters), out.Tally.Omitted)
	}
	m := &out.Letters[0]
	if m.Value != nil || string(m.Key) != "acme" || header(m, pipeline.HeaderDLQOffset) != "42" ||
		header(m, pipeline.HeaderDLQOmitted) == "<none>" {
		t.Errorf("got %+v, want a letter without value that says so", m)
	}
	if len(out.Letters[1].Value) != 3001 {
		t.Errorf("got %d bytes, want the original", len(out.Letters[1].Value))
	}
}

// One data point of an OTLP histogram becomes many samples; refusing it is one refusal.
func TestRefusalsAreCountedByEvent(t *testing.T) {
	task := newTask(nil)
	r := record("acme", fmt.Sprintf(`{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"h","histogram":{"aggregationTemporality":1,"dataPoints":[
		{"timeUnixNano":"%d","count":"3","sum":4.5,"bucketCounts":["1","1","1"],"explicitBounds":[1,2]},
		{"timeUnixNano":"%d","count":"3","sum":4.5,"bucketCounts":["1","1","1"],"explicitBounds":[1,2]}]}}]}]}]}`,
		start.Add(-99*time.Hour).UnixNano(), start.UnixNano()))
	step(task, start, r)
	out := drain(task, start)
	if got := out.Tally.Refused[pipeline.TenantReason{Tenant: "acme", Reason: events.ReasonTooOld}]; got != 1 {
		t.Errorf("got %d refusals (%v), want 1", got, out.Tally.Refused)
	}
	if len(out.Letters) != 1 || header(&out.Letters[0], pipeline.HeaderDLQEvents) != "0" || out.Tally.Events < 4 {
		t.Errorf("got %d letters, %d events; want one for event 0 and the samples of event 1", len(out.Letters), out.Tally.Events)
	}
}

func TestClampedValuesAreCounted(t *testing.T) {
	task := newTask(nil)
	step(task, start, record("acme", `{"time":"2026-11-24T12:00:00Z","name":"m","value":1e300}`, `{"time":"2026-11-24T12:00:00Z","name":"m","value":1e-300}`))
	if out := drain(task, start); out.Tally.Clamped != 2 || out.Rollups[0].Max[0] != 1e300 || out.Rollups[0].Min[0] != 1e-300 {
		t.Errorf("got %d clamped, max %v; want 2 and the values themselves", out.Tally.Clamped, out.Rollups[0].Max[0])
	}
}

// Whatever a record holds, it is taken, dropped or dead-lettered once, and harms no good record beside it.
func FuzzRecord(f *testing.F) {
	f.Add([]byte("acme#1"), []byte(event(start, "m", `"a":"b"`)), "1,3", "demo", "application/json")
	f.Add([]byte(nil), []byte(`[{"time":1,"name":"m","value":1},{"time":"2026-11-24T12:00:00Z","name":"m","value":1,"tenant":"x"}]`), "0", "", "")
	f.Add([]byte("#"), []byte("\x0a\x02\x08\x01"), ",", "_", "application/x-protobuf")
	f.Add([]byte("acme"), []byte(`{"resourceMetrics":[]}`), "99999999999999999999", "", "text/html")
	f.Fuzz(func(t *testing.T, key, value []byte, only, scope, contentType string) {
		task := newTask(nil)
		r := pipeline.Record{Offset: 42, Timestamp: start.UnixNano(), Key: key, Value: value, Headers: []pipeline.Header{
			{Key: "content-type", Value: []byte(contentType)}, {Key: "x-scope-orgid", Value: []byte(scope)},
		}}
		if only != "" {
			r.Headers = append(r.Headers, pipeline.Header{Key: "vigie-only", Value: []byte(only)})
		}
		step(task, start, record("good", event(start, "good", "")), r, record("good", event(start, "good", "")))
		out := drain(task, start)
		if len(out.Letters) > 1 || len(out.Letters) == 1 != (len(out.Tally.Refused) > 0) {
			t.Fatalf("got %d letters for refusals %v, want at most one, and one for any", len(out.Letters), out.Tally.Refused)
		}
		if len(out.Letters) == 1 && (!bytes.Equal(out.Letters[0].Value, value) || !bytes.Equal(out.Letters[0].Key, key)) {
			t.Fatalf("got letter %q %q, want the original", out.Letters[0].Key, out.Letters[0].Value)
		}
		found := false
		for i, metric := range out.Rollups[0].Metric {
			found = found || metric == "good" && out.Rollups[0].Tenant[i] == "good" && out.Rollups[0].Count[i] >= 2
		}
		if !found {
			t.Fatal("got no row of the good records, want both counted")
		}
	})
}

// A block keeps to its size also when every series brings long names of its own, which storage would have to keep
// apart.
func TestBlocksAreBoundedInBytes(t *testing.T) {
	const most, n, name = 64 << 10, 200, 4000
	task := newTask(nil)
	for i := range n {
		step(task, start, record("acme", event(start, "m", fmt.Sprintf(`"service":"%d%s"`, i, strings.Repeat("s", name)))))
	}
	cfg := pipeline.DefaultConfig()
	cfg.BlockBytes = most
	out := pipeline.NewOutputs(&cfg)
	task.Drain(out, start.UnixMilli())
	rows := 0
	for _, b := range out.Rollups {
		size, last := len(b.Sketch), ""
		for _, service := range b.Service {
			if service != last {
				size += len(service)
			}
			last = service
		}
		if rows += len(b.Grain); size > most+2*name {
			t.Errorf("got a block of %d bytes, want about %d", size, most)
		}
	}
	if rows != 2*n || out.Rows() != 3*n {
		t.Errorf("got %d rollup rows of %d, want %d of %d", rows, out.Rows(), 2*n, 3*n)
	}
	for _, b := range out.Series {
		if size := len(b.ID) * name; size > most+2*name {
			t.Errorf("got a block of %d bytes of services, want about %d", size, most)
		}
	}
}
