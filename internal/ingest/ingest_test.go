package ingest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/vigie-io/vigie/internal/auth"
	"github.com/vigie-io/vigie/internal/ingest"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)

// log is a Publisher that keeps what it is given.
type log struct {
	mu      sync.Mutex
	records []ingest.Record
	err     error
	block   chan struct{}
}

func (l *log) Publish(ctx context.Context, records []ingest.Record) error {
	if l.block != nil {
		select {
		case <-l.block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	for _, r := range records {
		r.Value, r.Key = bytes.Clone(r.Value), bytes.Clone(r.Key)
		l.records = append(l.records, r)
	}
	return nil
}

func (l *log) take() []ingest.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	records := l.records
	l.records = nil
	return records
}

// rig is a server with two keys, "w" for acme and "r" without the right to write.
type rig struct {
	testing.TB
	*ingest.Server
	log *log
	reg *prometheus.Registry
	out bytes.Buffer // what the server logs
}

// limited are the default limits with a change.
func limited(change func(*tenants.Config)) func(tenants.ID) tenants.Limits {
	config := tenants.DefaultConfig()
	change(&config)
	return config.For
}

func newRig(t testing.TB, change func(*ingest.Options)) *rig {
	t.Helper()
	r := &rig{TB: t, log: &log{}, reg: prometheus.NewRegistry()}
	a, err := auth.New(auth.Config{Keys: []auth.Key{
		{SHA256: auth.Digest("w"), Tenant: "acme", Roles: []auth.Role{auth.Write}},
		{SHA256: auth.Digest("d"), Tenant: "demo", Roles: []auth.Role{auth.Write}},
		{SHA256: auth.Digest("r"), Tenant: "acme", Roles: []auth.Role{auth.Read}},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	options := ingest.Options{
		Config: ingest.DefaultConfig(), Publisher: r.log, Limits: limited(func(*tenants.Config) {}), Registerer: r.reg,
		Authenticate: func(q *http.Request) (tenants.ID, error) { return a.Tenant(q, auth.Write) },
		Log:          slog.New(slog.NewTextHandler(&r.out, nil)),
		Now:          func() time.Time { return now },
	}
	if change != nil {
		change(&options)
	}
	if r.Server, err = ingest.New(options); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) send(method, path string, body []byte, header ...string) *httptest.ResponseRecorder {
	r.Helper()
	q := httptest.NewRequest(method, path, bytes.NewReader(body))
	q.Header.Set("Authorization", "Bearer w")
	for i := 0; i < len(header); i += 2 {
		if q.Header.Set(header[i], header[i+1]); header[i+1] == "" {
			q.Header.Del(header[i])
		}
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, q)
	return w
}

// decode reads records as a stream worker does, and fails on whatever a worker would refuse.
func (r *rig) decode(signal events.Signal, records []ingest.Record) (batches []*events.Batch) {
	r.Helper()
	decoder := events.NewDecoder(events.Options{})
	for i, record := range records {
		if want := "vigie." + string(signal) + ".v1"; record.Topic != want {
			r.Errorf("record %d: got topic %s, want %s", i, record.Topic, want)
		}
		source := events.Source{Signal: signal, Key: record.Key, Value: record.Value, Timestamp: now.UnixNano()}
		for _, h := range record.Headers {
			switch h.Key {
			case ingest.HeaderTenant:
				source.Tenant = string(h.Value)
			case ingest.HeaderContentType:
				source.ContentType = string(h.Value)
			}
		}
		if source.Tenant == "" || source.ContentType == "" {
			r.Errorf("record %d: headers %q, want tenant and content type", i, record.Headers)
		}
		batch := new(events.Batch)
		decoder.Decode(batch, source)
		if len(batch.Rejects) > 0 {
			r.Errorf("record %d: a stream worker would refuse %+v", i, batch.Rejects[0])
		}
		batches = append(batches, batch)
	}
	return batches
}

func (r *rig) decodedMetrics() (all []events.Metric) {
	r.Helper()
	for _, b := range r.decode(events.Metrics, r.log.take()) {
		all = append(all, b.Metrics...)
	}
	return all
}

type answer struct {
	Accepted, Rejected int
	Errors             []struct {
		Index                 int
		Field, Reason, Detail string
	}
}

func parse(t testing.TB, w *httptest.ResponseRecorder) (a answer) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatalf("answer %q: %v", w.Body, err)
	}
	return a
}

func gzipped(body []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(body)
	_ = z.Close()
	return out.Bytes()
}

func zstded(body []byte) []byte {
	z, _ := zstd.NewWriter(nil)
	defer z.Close()
	return z.EncodeAll(body, nil)
}

const goodMetric = `{"time":"2026-11-24T09:59:58.5Z","name":"latency_seconds","value":0.25,"labels":{"service":"pay"}}`

func TestEventsGood(t *testing.T) {
	r := newRig(t, nil)
	f := func(path, body string, accepted int, header ...string) {
		t.Helper()
		w := r.send("POST", path, []byte(body), append([]string{"Content-Type", "application/json"}, header...)...)
		if a := parse(t, w); w.Code != 200 || a.Accepted != accepted || a.Rejected != 0 || a.Errors == nil {
			t.Fatalf("got %d %s, want 200 with %d accepted", w.Code, w.Body, accepted)
		}
		records := r.log.take()
		if len(records) != 1 || string(records[0].Value) != body || string(records[0].Key) != "acme" {
			t.Errorf("got %d records, want one with the body as it came and key acme", len(records))
		}
		signal := events.Signal(strings.TrimPrefix(path, "/v1/events/"))
		r.decode(signal, records)
	}
	f("/v1/events/metrics", goodMetric, 1)
	f("/v1/events/metrics", "["+goodMetric+",\n"+goodMetric+"]", 2)
	f("/v1/events/metrics", goodMetric+"\n"+goodMetric+"\n", 2, "Content-Type", "application/x-ndjson")
	for _, contentType := range []string{"application/json-lines", "text/json"} { // whatever a record of the topic may say
		f("/v1/events/metrics", goodMetric, 1, "Content-Type", contentType)
	}
	f("/v1/events/metrics", goodMetric, 1, "Content-Type", "")
	f("/v1/events/metrics", goodMetric, 1, "Content-Type", "application/json; charset=utf-8", "Content-Encoding", "identity")
	f("/v1/events/metrics", `{"tenant":"acme","name":"m","value":1}`, 1)
	// The key names the tenant; a header cannot.
	f("/v1/events/metrics", goodMetric, 1, "X-Scope-OrgID", "demo")
	f("/v1/events/spans", `{"service":"pay","name":"POST /pay","kind":"server","duration":"12ms","status":"error"}`, 1)
	f("/v1/events/logs", `{"service":"pay","severity":"error","body":"declined"}`, 1)

	if got := testutil.CollectAndCount(r.reg, "vigie_ingest_accepted_events_total"); got != 3 {
		t.Errorf("got %d accepted counters, want one per signal", got)
	}
}

func TestEventsNothingToSay(t *testing.T) {
	r := newRig(t, nil)
	w := r.send("POST", "/v1/events/metrics", []byte("[]"))
	if a := parse(t, w); w.Code != 200 || a.Accepted != 0 || len(r.log.take()) != 0 {
		t.Errorf("empty array: got %d %s, want 200 and no record", w.Code, w.Body)
	}
}

func TestEventsCompressed(t *testing.T) {
	r := newRig(t, nil)
	body := []byte("[" + strings.Repeat(goodMetric+",", 999) + goodMetric + "]")
	for encoding, packed := range map[string][]byte{"gzip": gzipped(body), "zstd": zstded(body)} {
		for range 2 { // a pooled decompressor must be as good as a new one
			w := r.send("POST", "/v1/events/metrics", packed, "Content-Encoding", encoding)
			if a := parse(t, w); w.Code != 200 || a.Accepted != 1000 {
				t.Errorf("%s: got %d %s, want 1000 accepted", encoding, w.Code, w.Body)
			}
			if records := r.log.take(); len(records) != 1 || !bytes.Equal(records[0].Value, body) {
				t.Errorf("%s: got %d records, want the decompressed body", encoding, len(records))
			}
			w = r.send("POST", "/v1/events/metrics", packed[:len(packed)/2], "Content-Encoding", encoding)
			if a := parse(t, w); w.Code != 400 || a.Errors[0].Reason != "body_unreadable" {
				t.Errorf("%s cut off: got %d %s, want 400", encoding, w.Code, w.Body)
			}
		}
	}
}

// The list of bad input that Vigie promises to survive: none costs the good event beside it.
func TestEventsBadBesideGood(t *testing.T) {
	manyLabels := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `%s"l%d":"x"`, map[bool]string{true: ","}[i > 0], i)
		}
		return `{"name":"m","value":1,"labels":{` + b.String() + `}}`
	}
	f := func(signal, bad, field string, reason events.Reason) {
		t.Helper()
		good := map[string]string{
			"metrics": goodMetric,
			"spans":   `{"time":"2026-11-24T09:59:58.5Z","service":"pay","name":"op","duration":1}`,
			"logs":    `{"time":"2026-11-24T09:59:58.5Z","body":"x"}`,
		}[signal]
		r := newRig(t, nil)
		w := r.send("POST", "/v1/events/"+signal, []byte(good+"\n"+bad+"\n"+good))
		a := parse(t, w)
		if w.Code != 200 || a.Accepted != 2 || a.Rejected != 1 || len(a.Errors) != 1 {
			t.Fatalf("%.80s: got %d %.300s, want 2 accepted, 1 rejected", bad, w.Code, w.Body)
		}
		if e := a.Errors[0]; e.Index != 1 || e.Reason != string(reason) || e.Field != field || e.Detail == "" {
			t.Errorf("%.80s: got %+v, want index 1, field %q, reason %s", bad, e, field, reason)
		}
		batches := r.decode(events.Signal(signal), r.log.take())
		if len(batches) != 1 || batches[0].Events != 2 {
			t.Errorf("%.80s: got %d batches, want one of the two good events", bad, len(batches))
		}
		if n := testutil.CollectAndCount(r.reg, "vigie_ingest_rejected_events_total"); n != 1 {
			t.Errorf("%.80s: got %d reject counters, want 1", bad, n)
		}

		r = newRig(t, nil)
		w = r.send("POST", "/v1/events/"+signal, []byte(bad))
		if a := parse(t, w); w.Code != 400 || a.Accepted != 0 || a.Rejected != 1 || len(r.log.take()) != 0 {
			t.Errorf("%.80s alone: got %d %.300s, want 400 and no record", bad, w.Code, w.Body)
		}
	}
	f("metrics", `{"name":"m","value":"1"}`, "value", events.ReasonWrongType)
	f("metrics", `{"name":"m","value":NaN}`, "value", events.ReasonNotFinite)
	f("metrics", `{"name":"m","value":"+Inf"}`, "value", events.ReasonNotFinite)
	f("metrics", `{"name":"m"}`, "value", events.ReasonMissing)
	f("metrics", `{"value":1}`, "name", events.ReasonMissing)
	f("metrics", `{"name":"m","value":1,"kind":"counter"}`, "kind", events.ReasonUnknownWord)
	f("metrics", `{"time":"1970-01-02T00:00:00Z","name":"m","value":1}`, "time", events.ReasonTooOld)
	f("metrics", `{"time":"3000-01-01T00:00:00Z","name":"m","value":1}`, "time", events.ReasonTooNew)
	f("metrics", `{"time":"2026-11-24T10:06:00Z","name":"m","value":1}`, "time", events.ReasonTooNew)
	f("metrics", `{"time":"2026-11-20T10:00:00Z","name":"m","value":1}`, "time", events.ReasonTooOld)
	f("metrics", manyLabels(65), "labels", events.ReasonTooManyLabels)
	f("metrics", `{"name":"m","value":1,"labels":{"a":"`+strings.Repeat("x", 2<<20)+`"}}`, "labels", events.ReasonTooLong)
	f("metrics", "{\"name\":\"m\",\"value\":1,\"labels\":{\"a\":\"\xff\"}}", "labels", events.ReasonInvalidUTF8)
	f("metrics", `{"name":"m","value":1,"labels":{"a":"1","a":"2"}}`, "labels", events.ReasonDuplicateLabel)
	f("metrics", `{"tenant":"demo","name":"m","value":1}`, "tenant", events.ReasonTenantMismatch)
	f("spans", `{"service":"pay","name":"op","duration":-1}`, "duration", events.ReasonBadDuration)
	f("spans", `{"service":"pay","name":"op","duration":"-12ms"}`, "duration", events.ReasonBadDuration)
	f("logs", `{"time":"3000-01-01T00:00:00Z","body":"x"}`, "time", events.ReasonTooNew)
}

func TestEventsWhollyBad(t *testing.T) {
	r := newRig(t, nil)
	for _, body := range []string{"", " \n", "{", "nonsense", "\x00\x01", `{"name":"m","value":1`} {
		w := r.send("POST", "/v1/events/metrics", []byte(body))
		if a := parse(t, w); w.Code != 400 || a.Accepted != 0 || len(a.Errors) == 0 || len(r.log.take()) != 0 {
			t.Errorf("%q: got %d %s, want 400 with an error", body, w.Code, w.Body)
		}
	}
}

// A body over the record size is cut; none of it is lost or doubled.
func TestEventsCutIntoRecords(t *testing.T) {
	for _, shards := range []int{1, 3} {
		r := newRig(t, func(o *ingest.Options) {
			o.Config.RecordTarget, o.Config.RecordMax = 4<<10, 8<<10
			o.Limits = limited(func(c *tenants.Config) { c.Overrides = map[tenants.ID]tenants.Limits{"acme": {Shards: shards}} })
		})
		var body bytes.Buffer
		for i := range 1000 {
			fmt.Fprintf(&body, `{"name":"m","value":%d,"labels":{"n":"%d"}}`+"\n", i, i%50)
		}
		if w := r.send("POST", "/v1/events/metrics", body.Bytes()); w.Code != 200 {
			t.Fatalf("got %d %s, want 200", w.Code, w.Body)
		}
		records := r.log.take()
		keys, values, shardOf := map[string]bool{}, map[float64]bool{}, map[string]string{}
		for i, batch := range r.decode(events.Metrics, records) {
			key := string(records[i].Key)
			keys[key] = true
			if len(records[i].Value) > 8<<10 {
				t.Errorf("record of %d bytes, want at most 8 KiB", len(records[i].Value))
			}
			for _, m := range batch.Metrics {
				values[m.Value] = true
				if other, seen := shardOf[m.Labels.Get("n")]; seen && other != key {
					t.Errorf("series %s is on %s and %s, want one shard", m.Labels.Get("n"), key, other)
				}
				shardOf[m.Labels.Get("n")] = key
			}
		}
		if len(values) != 1000 || len(keys) != shards {
			t.Errorf("%d shards: got %d events under %d keys, want 1000", shards, len(values), len(keys))
		}
	}
}

func TestEventTooLargeForARecord(t *testing.T) {
	r := newRig(t, func(o *ingest.Options) { o.Config.RecordTarget, o.Config.RecordMax = 1<<10, 1<<10 })
	body := `[{"body":"` + strings.Repeat("x", 2000) + `"},{"body":"small"}]`
	w := r.send("POST", "/v1/events/logs", []byte(body))
	a := parse(t, w)
	if w.Code != 200 || a.Accepted != 1 || a.Rejected != 1 || a.Errors[0].Reason != string(events.ReasonRecordTooLarge) || a.Errors[0].Index != 0 {
		t.Errorf("got %d %s, want one accepted and event 0 too large", w.Code, w.Body)
	}
	if batches := r.decode(events.Logs, r.log.take()); len(batches) != 1 || batches[0].Events != 1 {
		t.Errorf("got %d batches, want one with one event", len(batches))
	}
}

func TestErrorListIsBounded(t *testing.T) {
	r := newRig(t, nil)
	w := r.send("POST", "/v1/events/metrics", []byte(strings.Repeat("{\"name\":\"m\"}\n", 500)))
	if a := parse(t, w); w.Code != 400 || a.Rejected != 500 || len(a.Errors) != 100 {
		t.Errorf("got %d, %d rejected, %d errors, want 400, 500, 100", w.Code, a.Rejected, len(a.Errors))
	}
}

func TestRefusedRequests(t *testing.T) {
	bomb := gzipped(make([]byte, 32<<20))
	small := func(o *ingest.Options) {
		o.Limits = limited(func(c *tenants.Config) { c.Defaults.MaxBody, c.Defaults.MaxDecompressed = 64<<10, 256<<10 })
	}
	f := func(name string, change func(*ingest.Options), method, path string, body []byte, header []string, status int) *httptest.ResponseRecorder {
		t.Helper()
		r := newRig(t, change)
		w := r.send(method, path, body, header...)
		if w.Code != status || len(r.log.take()) != 0 {
			t.Errorf("%s: got %d %s, want %d and nothing published", name, w.Code, w.Body, status)
		}
		if status == 401 && !strings.Contains(w.Header().Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%s: no WWW-Authenticate", name)
		}
		return w
	}
	const path = "/v1/events/metrics"
	good := []byte(goodMetric)
	f("no key", nil, "POST", path, good, []string{"Authorization", ""}, 401)
	f("unknown key", nil, "POST", path, good, []string{"Authorization", "Bearer x"}, 401)
	f("key to read", nil, "POST", path, good, []string{"Authorization", "Bearer r"}, 403)
	for address, instead := range map[string]string{path: "with POST", "/v1/events": "/v1/events/metrics"} {
		method := map[string]string{path: "GET", "/v1/events": "POST"}[address]
		w := f("method", nil, method, address, good, nil, 405)
		if !strings.Contains(w.Body.String(), instead) || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Allow") == "" {
			t.Errorf("%s %s: got %s of %s, want what to do instead, in JSON", method, address, w.Body, w.Header().Get("Content-Type"))
		}
	}
	f("method", nil, "PUT", "/v1/traces", nil, nil, 405)
	for _, address := range []string{path + "/", "/v1/events/costs", "/write"} {
		if w := f("address", nil, "POST", address, good, nil, 404); w.Header().Get("Content-Type") != "application/json" || !strings.Contains(w.Body.String(), `"detail":"`) {
			t.Errorf("POST %s: got %s, want what there is instead, in JSON", address, w.Body)
		}
	}
	if w := f("start", nil, "GET", "/", nil, nil, 200); !strings.Contains(w.Body.String(), "POST /v1/events/metrics") {
		t.Errorf("GET /: got %s, want what the server takes", w.Body)
	}
	f("type", nil, "POST", path, good, []string{"Content-Type", "text/html"}, 415)
	f("type", nil, "POST", path, good, []string{"Content-Type", ";"}, 415)
	f("encoding", nil, "POST", path, good, []string{"Content-Encoding", "br"}, 415)
	f("encoding", nil, "POST", path, good, []string{"Content-Encoding", "gzip, zstd"}, 415)
	f("not gzip", nil, "POST", path, good, []string{"Content-Encoding", "gzip"}, 400)
	f("not zstd", nil, "POST", path, good, []string{"Content-Encoding", "zstd"}, 400)
	f("bomb", small, "POST", path, bomb, []string{"Content-Encoding", "gzip"}, 413)
	f("bomb", small, "POST", path, zstded(make([]byte, 32<<20)), []string{"Content-Encoding", "zstd"}, 413)
	f("bomb", small, "POST", "/v1/metrics", bomb, []string{"Content-Encoding", "gzip", "Content-Type", "application/x-protobuf"}, 413)
	f("body", small, "POST", path, bytes.Repeat(good, 1000), nil, 413)
	f("events", nil, "POST", path, bytes.Repeat([]byte("{}\n"), 500_001), nil, 413)
	f("memory", func(o *ingest.Options) { o.Config.MaxInFlight = 1 << 10 }, "POST", path, bytes.Repeat([]byte(goodMetric+"\n"), 100), nil, 503)

	// An unknown length is held to the same limit.
	r := newRig(t, small)
	q := httptest.NewRequest("POST", path, io.MultiReader(bytes.NewReader(bytes.Repeat(good, 1000))))
	q.ContentLength = -1
	q.Header.Set("Authorization", "Bearer w")
	w := httptest.NewRecorder()
	if r.ServeHTTP(w, q); w.Code != 413 {
		t.Errorf("chunked: got %d %s, want 413", w.Code, w.Body)
	}
}

func TestKafkaDown(t *testing.T) {
	r := newRig(t, nil)
	for err, status := range map[error]int{
		fmt.Errorf("produce: %w", ingest.ErrUnavailable): 503,
		context.DeadlineExceeded:                         503,
		io.ErrShortWrite:                                 500,
	} {
		r.log.err = err
		w := r.send("POST", "/v1/events/metrics", []byte(goodMetric))
		if a := parse(t, w); w.Code != status || a.Accepted != 0 || strings.Contains(w.Body.String(), err.Error()) {
			t.Errorf("%v: got %d %s, want %d without the cause", err, w.Code, w.Body, status)
		}
		if got := w.Header().Get("Retry-After"); status == 503 && got != "5" {
			t.Errorf("Retry-After: got %q, want 5", got)
		}
	}
	if n := testutil.CollectAndCount(r.reg, "vigie_ingest_accepted_events_total"); n != 0 {
		t.Errorf("got %d accepted counters, want none", n)
	}
}

// A publisher that never answers must not hold a request longer than publish_timeout.
func TestPublishTimeout(t *testing.T) {
	r := newRig(t, func(o *ingest.Options) { o.Config.PublishTimeout = time.Millisecond })
	r.log.block = make(chan struct{})
	if w := r.send("POST", "/v1/events/metrics", []byte(goodMetric)); w.Code != 503 {
		t.Errorf("got %d %s, want 503", w.Code, w.Body)
	}
}

func TestRates(t *testing.T) {
	clock := now
	config := tenants.DefaultConfig()
	config.Overrides = map[tenants.ID]tenants.Limits{
		"acme": {EventsPerSecond: 10, Burst: time.Second},
		"demo": {BytesPerSecond: 200, Burst: time.Second},
	}
	limits := tenants.NewLive(config)
	r := newRig(t, func(o *ingest.Options) {
		o.Now = func() time.Time { return clock }
		o.Limits = limits.For
	})
	f := func(key string, events, status int, retry string) {
		t.Helper()
		body := strings.Repeat(`{"name":"m","value":1}`+"\n", events)
		w := r.send("POST", "/v1/events/metrics", []byte(body), "Authorization", "Bearer "+key)
		if w.Code != status || w.Header().Get("Retry-After") != retry {
			t.Errorf("%d events at %s: got %d, Retry-After %q, want %d, %q", events, clock, w.Code, w.Header().Get("Retry-After"), status, retry)
		}
	}
	f("w", 6, 200, "")
	f("w", 6, 429, "1")
	f("w", 4, 200, "")
	f("w", 1, 429, "1")
	clock = clock.Add(time.Second)
	// More than the bucket holds: taken when it is full, and paid off afterwards.
	f("w", 35, 200, "")
	f("w", 1, 429, "3")
	clock = clock.Add(2500 * time.Millisecond)
	f("w", 1, 429, "1")
	clock = clock.Add(time.Second)
	f("w", 1, 200, "")

	f("d", 8, 200, "") // 184 bytes
	f("d", 8, 429, "1")
	clock = clock.Add(time.Second)
	f("d", 8, 200, "")

	// Buckets fill at a changed rate from the next request on; what was taken stays taken.
	config.Overrides = map[tenants.ID]tenants.Limits{"acme": {EventsPerSecond: 100, Burst: time.Second}}
	limits.Replace(config)
	f("d", 8, 429, "1")
	f("w", 5, 200, "")
	clock = clock.Add(time.Millisecond)
	f("d", 8, 200, "")
	clock = clock.Add(time.Second)
	f("w", 90, 200, "")
	f("w", 90, 429, "1")
}

// A real connection: kept alive over good and refused requests, and let go when its body does not come.
func TestConnections(t *testing.T) {
	r := newRig(t, func(o *ingest.Options) { o.Config.ReadTimeout = 200 * time.Millisecond })
	server := httptest.NewServer(r)
	defer server.Close()
	client := server.Client()
	defer client.CloseIdleConnections()
	post := func(body io.Reader) int {
		t.Helper()
		q, err := http.NewRequest("POST", server.URL+"/v1/events/metrics", body)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Authorization", "Bearer w")
		response, err := client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode
	}
	for _, want := range []int{200, 400, 200} {
		body := map[int]string{200: goodMetric, 400: "{"}[want]
		if got := post(io.MultiReader(strings.NewReader(body))); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
	slow, feed := io.Pipe()
	go func() { _, _ = feed.Write([]byte(goodMetric)) }() // and no end
	if got := post(slow); got != 400 {
		t.Errorf("a body without end: got %d, want 400", got)
	}
	_ = feed.Close()
	if got := post(strings.NewReader(goodMetric)); got != 200 {
		t.Errorf("the next request: got %d, want 200", got)
	}
}

// What many clients at once get accepted is what is in the log, and the memory is given back.
func TestConcurrentClients(t *testing.T) {
	r := newRig(t, func(o *ingest.Options) {
		o.Limits = limited(func(c *tenants.Config) { c.Defaults.EventsPerSecond, c.Defaults.Burst = 500, time.Second })
	})
	var wg sync.WaitGroup
	var mu sync.Mutex
	accepted, codes := 0, map[int]int{}
	body := gzipped([]byte(strings.Repeat(goodMetric+"\n{\"name\":\"bad\"}\n", 10)))
	for i := range 100 {
		wg.Go(func() {
			w := r.send("POST", "/v1/events/metrics", body, "Content-Encoding", "gzip", "Authorization", "Bearer "+[]string{"w", "d"}[i%2])
			mu.Lock()
			defer mu.Unlock()
			codes[w.Code]++
			accepted += parse(t, w).Accepted
		})
	}
	wg.Wait()
	if accepted != 1000 || codes[200] != 100 {
		t.Errorf("got %d accepted, statuses %v, want 1000 of 100 answers", accepted, codes)
	}
	perTenant := map[string]int{}
	for i, batch := range r.decode(events.Metrics, slices.Clone(r.log.records)) {
		perTenant[string(r.log.records[i].Key)] += batch.Events
	}
	if perTenant["acme"] != 500 || perTenant["demo"] != 500 {
		t.Errorf("got %v in the log, want 500 each", perTenant)
	}
	if w := r.send("POST", "/v1/events/metrics", body, "Content-Encoding", "gzip"); w.Code != 429 {
		t.Errorf("the next one: got %d, want 429", w.Code)
	}
	if err := testutil.GatherAndCompare(r.reg, strings.NewReader(`
# HELP vigie_ingest_in_flight_bytes Memory of request bodies being handled.
# TYPE vigie_ingest_in_flight_bytes gauge
vigie_ingest_in_flight_bytes 0
`), "vigie_ingest_in_flight_bytes"); err != nil {
		t.Error(err)
	}
}

func TestNothingIsLogged(t *testing.T) {
	r := newRig(t, nil)
	r.log.err = io.ErrClosedPipe
	r.send("POST", "/v1/events/logs", []byte(`{"body":"s3cret-body"}`), "Authorization", "Bearer w")
	r.send("POST", "/v1/events/logs", []byte(`{"body":"s3cret-body"`), "Authorization", "Bearer s3cret-key")
	if text := r.out.String(); strings.Contains(text, "s3cret") || !strings.Contains(text, "closed pipe") {
		t.Errorf("got log %q, want the cause and neither body nor key", text)
	}
}

func TestTenantLabelsAreBounded(t *testing.T) {
	r := newRig(t, func(o *ingest.Options) { o.Config.MaxTenantLabels = 1 })
	r.send("POST", "/v1/events/metrics", []byte(goodMetric))
	r.send("POST", "/v1/events/metrics", []byte(goodMetric), "Authorization", "Bearer d")
	if err := testutil.GatherAndCompare(r.reg, strings.NewReader(`
# HELP vigie_ingest_accepted_events_total Events acknowledged by Kafka.
# TYPE vigie_ingest_accepted_events_total counter
vigie_ingest_accepted_events_total{signal="metrics",tenant="acme"} 1
vigie_ingest_accepted_events_total{signal="metrics",tenant="other"} 1
`), "vigie_ingest_accepted_events_total"); err != nil {
		t.Error(err)
	}
}

func TestDiscovery(t *testing.T) {
	r := newRig(t, nil)
	if w := r.send("GET", "/v1/events", nil, "Authorization", ""); w.Code != 200 || !strings.Contains(w.Body.String(), "/api/v1/write") {
		t.Errorf("got %d %s, want the help text", w.Code, w.Body)
	}
}

// The configuration that docs/ingest.md describes is the one there is.
func TestDocsNameEveryLimit(t *testing.T) {
	text, err := os.ReadFile("../../docs/ingest.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bytes_per_second", "events_per_second", "max_body", "max_decompressed", "max_labels",
		"max_label_name", "max_label_value", "shards", "max_in_flight", "max_future", "max_past", "record_max", "publish_timeout"} {
		if !bytes.Contains(text, []byte("`"+name+"`")) {
			t.Errorf("docs/ingest.md does not mention %s", name)
		}
	}
}

func BenchmarkEvents(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := newRig(b, func(o *ingest.Options) {
				o.Limits = limited(func(c *tenants.Config) { c.Defaults.BytesPerSecond, c.Defaults.EventsPerSecond = 1<<50, 1<<50 })
				o.Publisher = discard{}
			})
			body := []byte(strings.Repeat(goodMetric+"\n", n))
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if w := r.send("POST", "/v1/events/metrics", body); w.Code != 200 {
					b.Fatal(w.Body)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

type discard struct{}

func (discard) Publish(context.Context, []ingest.Record) error { return nil }

// Events in protobuf are answered as those in JSON, and are in the log as they came when all are good, else in JSON.
func TestEventsInProtobuf(t *testing.T) {
	r := newRig(t, nil)
	event := func(name string, value float64) []byte {
		return events.AppendMetricProtobuf(nil, &events.Metric{Time: now.UnixNano(), Name: name, Value: value, Labels: series.Labels{{Name: "service", Value: "pay"}}})
	}
	good := append(event("a", 1), event("b", 2)...)
	f := func(body []byte, contentType, want string, indexes ...int) {
		t.Helper()
		w := r.send("POST", "/v1/events/metrics", body, "Content-Type", contentType)
		a := parse(t, w)
		if a.Accepted != 2 || a.Rejected != len(indexes) || w.Code != http.StatusOK {
			t.Fatalf("got %d and %+v, want 2 accepted, %d refused", w.Code, a, len(indexes))
		}
		for i, index := range indexes {
			if a.Errors[i].Index != index {
				t.Errorf("got %+v, want index %d", a.Errors[i], index)
			}
		}
		records := r.log.take()
		if len(records) != 1 || string(records[0].Headers[1].Value) != want || want != typeJSON && !bytes.Equal(records[0].Value, body) {
			t.Errorf("got records %q, want one of %s", records, want)
		}
		metrics := r.decode(events.Metrics, records)[0].Metrics
		if len(metrics) != 2 || metrics[0].Name != "a" || metrics[1].Value != 2 || metrics[1].Labels.Get("service") != "pay" || metrics[1].Tenant != "acme" {
			t.Errorf("got %+v, want a and b", metrics)
		}
	}
	f(good, events.ContentTypeProtobuf, events.ContentTypeProtobuf)
	f(good, "application/x-protobuf", events.ContentTypeProtobuf)
	f(slices.Concat(event("a", 1), event("", 1), event("b", 2), event("c", math.NaN())), events.ContentTypeProtobuf, typeJSON, 1, 3)
	f(append(slices.Clone(good), 0x12, 0x7f), events.ContentTypeProtobuf, typeJSON, 2)
	// An OTLP request on this path, and something else altogether.
	for _, body := range []string{"\x0a\x00", "{}", ""} {
		if w := r.send("POST", "/v1/events/metrics", []byte(body), "Content-Type", events.ContentTypeProtobuf); w.Code != http.StatusBadRequest || parse(t, w).Rejected == 0 {
			t.Errorf("%q: got %d %s, want 400 and a reason", body, w.Code, w.Body)
		}
	}
}

const typeJSON = "application/json"
