package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/testkit"
)

func good(tenant string) string {
	return fmt.Sprintf(`{"tenant":%q,"name":"good_seconds","value":0.5,"labels":{"service":"s"}}`, tenant)
}

// many returns an event with n labels.
func many(n int) string {
	labels := map[string]string{}
	for i := range n {
		labels[fmt.Sprintf("l%d", i)] = "v"
	}
	text, _ := json.Marshal(map[string]any{"tenant": "acme", "name": "m", "value": 1, "labels": labels})
	return string(text)
}

// bad are events that nobody may accept, with the reason that the contract gives.
var bad = []struct{ name, event, reason string }{
	{"broken JSON", `{"tenant":"acme","name":"m","value":1`, "bad_json"},
	{"wrong type", `{"tenant":"acme","name":"m","value":"1"}`, "wrong_type"},
	{"NaN", `{"tenant":"acme","name":"m","value":NaN}`, "not_finite"},
	{"infinity", `{"tenant":"acme","name":"m","value":Infinity}`, "not_finite"},
	{"a number beyond float64", `{"tenant":"acme","name":"m","value":1e999}`, "not_finite|number_range"},
	{"year 1970", `{"tenant":"acme","name":"m","value":1,"time":"1970-01-02T00:00:00Z"}`, "too_old"},
	{"year 3000", `{"tenant":"acme","name":"m","value":1,"time":"3000-01-01T00:00:00Z"}`, "too_new"},
	{"65 labels", many(65), "too_many_labels"},
	{"2 MiB label", `{"tenant":"acme","name":"m","value":1,"labels":{"l":"` + strings.Repeat("x", 2<<20) + `"}}`, "too_long|record_too_large"},
	{"invalid UTF-8", "{\"tenant\":\"acme\",\"name\":\"m\",\"value\":1,\"labels\":{\"l\":\"\xff\xfe\"}}", "invalid_utf8"},
	{"duplicated label", `{"tenant":"acme","name":"m","value":1,"labels":{"l":"1","l":"2"}}`, "duplicate_label"},
	{"another tenant's name", `{"tenant":"demo","name":"m","value":1}`, "tenant_mismatch"},
	{"no value", `{"tenant":"acme","name":"m"}`, "missing_field"},
}

// TestBadInput sends every bad event by HTTP and by Kafka with a good one beside it: the bad one is refused with its
// reason and counted, the good one arrives, and nobody falls over.
func TestBadInput(t *testing.T) {
	in := install(t, testkit.Kafka(t), []string{"ingest", "stream", "query"})
	accepted := map[string]int{}

	for _, b := range bad {
		t.Run("HTTP: "+b.name, func(t *testing.T) {
			status, answer := in.post("acme", "/v1/events/metrics", good("acme")+"\n"+b.event+"\n"+good("acme"), nil)
			if len(b.event) > 1<<20 && status == http.StatusRequestEntityTooLarge {
				return // refused as a whole, which the client sees
			}
			if status != http.StatusOK {
				t.Fatalf("got %d %s, want 200 with one refusal", status, last(answer, 500))
			}
			var said struct {
				Accepted, Rejected int
				Errors             []struct {
					Index                 int
					Field, Reason, Detail string
				}
			}
			if err := json.Unmarshal([]byte(answer), &said); err != nil {
				t.Fatal(err)
			}
			accepted["acme"] += said.Accepted
			if said.Accepted != 2 || said.Rejected != 1 || len(said.Errors) != 1 {
				t.Fatalf("got %s, want 2 accepted and 1 rejected", last(answer, 800))
			}
			if e := said.Errors[0]; e.Index != 1 || !oneOf(e.Reason, b.reason) || e.Detail == "" {
				t.Errorf("got %+v, want index 1 and reason %s with a sentence", e, b.reason)
			}
		})
		t.Run("Kafka: "+b.name, func(t *testing.T) {
			if len(b.event) > 1<<20 {
				in.produceRecord(t, "acme", []byte(b.event))
				return
			}
			in.produceRecord(t, "acme", []byte(good("acme")+"\n"+b.event+"\n"+good("acme")))
			accepted["acme"] += 2
		})
	}
	in.produceRecord(t, "acme", nil)                          // a tombstone
	in.produceRecord(t, "acme", []byte{})                     // an empty record
	in.produceRecord(t, "", []byte(`{"name":"m","value":1}`)) // no tenant at all
	in.produceRecord(t, "no such tenant!", []byte(`{"name":"m","value":1}`))
	in.produceRecord(t, "demo", []byte(good("demo")))

	testkit.Eventually(t, time.Minute, func() error {
		got := in.sql("acme", "SELECT sum(count) FROM api.metrics_10s WHERE metric = 'good_seconds'")
		if got != fmt.Sprint(accepted["acme"]) {
			return fmt.Errorf("got %s good events, want %d", got, accepted["acme"])
		}
		if got := in.sql("demo", "SELECT sum(count) FROM api.metrics_10s"); got != "1" {
			return fmt.Errorf("tenant demo: got %s events, want its 1", got)
		}
		return nil
	})
	if got := in.sql("acme", "SELECT count() FROM api.series WHERE metric = 'm'"); got != "0" {
		t.Errorf("got %s series of refused events, want 0", got)
	}

	list := in.vigie("dlq", "list", "-limit", "1000")
	for _, b := range bad {
		if !anyOf(list, b.reason) {
			t.Errorf("%s: no dead letter with reason %s in\n%s", b.name, b.reason, list)
		}
	}
	for _, reason := range []string{"tombstone", "empty_record", "tenant_missing", "tenant_invalid"} {
		if !strings.Contains(list, reason) {
			t.Errorf("no dead letter with reason %s in\n%s", reason, list)
		}
		if n := metric(t, in.streamURL, "vigie_pipeline_refused_events_total", `reason="`+reason+`"`); n < 1 {
			t.Errorf("counter of reason %s: got %v, want at least 1", reason, n)
		}
	}
	// Replaying what is still bad is safe and changes no number, however often.
	for range 2 {
		t.Log(in.vigie("dlq", "replay", "-all"))
	}
	time.Sleep(2 * time.Second)
	if got := in.sql("acme", "SELECT sum(count) FROM api.metrics_10s WHERE metric = 'good_seconds'"); got != fmt.Sprint(accepted["acme"]) {
		t.Errorf("after two replays: got %s good events, want %d", got, accepted["acme"])
	}
}

// TestZipBomb sends a small body that unpacks to a large one.
func TestZipBomb(t *testing.T) {
	in := install(t, testkit.Kafka(t), []string{"ingest"})
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	zeros := make([]byte, 1<<20)
	for range 512 {
		_, _ = w.Write(zeros)
	}
	_ = w.Close()
	status, answer := in.post("acme", "/v1/events/metrics", bomb.String(), http.Header{"Content-Encoding": {"gzip"}})
	if status != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d %s, want 413", status, answer)
	}
	if status, answer := in.post("acme", "/v1/events/metrics", good("acme"), nil); status != http.StatusOK {
		t.Errorf("afterwards: got %d %s, want 200", status, answer)
	}
}

// TestUnknownKey shows that no key and a wrong key are told apart from a key without rights.
func TestUnknownKey(t *testing.T) {
	in := install(t, testkit.Kafka(t), []string{"ingest"})
	for _, key := range []string{"", "vgk_wrong"} {
		status, answer, err := fetch(http.MethodPost, in.ingestURL+"/v1/events/metrics", key, nil, strings.NewReader(good("acme")))
		if err != nil || status != http.StatusUnauthorized {
			t.Errorf("key %q: got %d %s (%v), want 401", key, status, answer, err)
		}
	}
}

// TestSeriesFlood lets one tenant make far more series than its limit: what is over is counted, and the numbers of
// the others stay exact.
func TestSeriesFlood(t *testing.T) {
	flood := number(t, "VIGIE_TEST_FLOOD", 60_000)
	in := install(t, testkit.Kafka(t), []string{"stream", "query"}, "VIGIE_TENANTS_DEFAULTS_ACTIVE_SERIES=2000")
	client, err := kgo.NewClient(kgo.SeedBrokers(in.broker.Addr), kgo.DefaultProduceTopic(in.topic("metrics")))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	random := rand.New(rand.NewPCG(3, 4))
	want := 0
	for i := range flood {
		client.Produce(t.Context(), &kgo.Record{Key: []byte("zeta"), Value: fmt.Appendf(nil,
			`{"name":"flood_seconds","value":1,"labels":{"service":"s","id":"%d-%d"}}`, i, random.Uint64())}, nil)
		if i%100 == 0 {
			client.Produce(t.Context(), &kgo.Record{Key: []byte("acme"), Value: []byte(good("acme"))}, nil)
			want++
		}
	}
	if err := client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 2*time.Minute, func() error {
		dropped := metric(t, in.streamURL, "vigie_pipeline_dropped_events_total", `reason="series_limit"`)
		kept := in.sql("zeta", "SELECT sum(count) FROM api.metrics_10s")
		if got := float(t, kept) + dropped; got != float64(flood) {
			return fmt.Errorf("kept %s + dropped %v = %v, want %d", kept, dropped, got, flood)
		}
		if dropped == 0 {
			return fmt.Errorf("the limit was not reached")
		}
		if got := in.sql("acme", "SELECT sum(count) FROM api.metrics_10s"); got != fmt.Sprint(want) {
			return fmt.Errorf("tenant acme: got %s events, want %d", got, want)
		}
		return nil
	})
	series := in.sql("zeta", "SELECT count() FROM api.series")
	if integer(t, series) > 2000*8 {
		t.Errorf("got %s series, want at most 2000 in each of 8 tasks", series)
	}
}

// TestBadQueries asks what cannot be answered.
func TestBadQueries(t *testing.T) {
	in := install(t, testkit.Kafka(t), []string{"query"})
	for _, statement := range []string{
		"INSERT INTO api.metrics_10s VALUES (1)", "DROP TABLE vigie.series", "SELECT 1; SELECT 2", "SELEC 1", "",
	} {
		if status, answer := in.trySQL("acme", statement); status == http.StatusOK || !strings.Contains(answer, "Exception") {
			t.Errorf("%q: got %d %s, want an exception", statement, status, answer)
		}
	}
	for _, query := range []string{"rate(", "sum by (x", "1 +", "foo{bar=~\"(\"}"} {
		status, answer := in.tryPromQL("acme", query, time.Now().Unix())
		if status != http.StatusBadRequest || !strings.Contains(answer, `"errorType":"bad_data"`) {
			t.Errorf("%q: got %d %s, want 400 bad_data", query, status, answer)
		}
	}
}

func (in *installation) produceRecord(t testing.TB, key string, value []byte) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(in.broker.Addr), kgo.ProducerBatchMaxBytes(8<<20), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	record := &kgo.Record{Topic: in.topic("metrics"), Value: value}
	if key != "" {
		record.Key = []byte(key)
	}
	if err := client.ProduceSync(context.Background(), record).FirstErr(); err != nil {
		t.Fatalf("produce: %v", err)
	}
}

func oneOf(got, want string) bool {
	for _, w := range strings.Split(want, "|") {
		if got == w {
			return true
		}
	}
	return false
}

func anyOf(text, words string) bool {
	for _, w := range strings.Split(words, "|") {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}
