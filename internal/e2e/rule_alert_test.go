package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/testkit"
)

const ruleFile = `groups:
  - name: shop
    interval: 10s
    rules:
      - {record: 'shop:errors:rate20s', expr: 'sum by (service) (rate(errors_total[20s]))'}
      - alert: ManyErrors
        expr: shop:errors:rate20s > 1
        labels: {severity: page}
        annotations: {summary: '{{ $labels.service }} fails'}
`

const ruleRouting = `route: {receiver: hook, group_by: [alertname], group_wait: 100ms, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: hook, webhook_configs: [{url: %q}]}]
`

// From an event to a webhook; and one notification, and each recorded sample once, although query and stream are killed
// while the alert fires.
func TestRuleAlert(t *testing.T) {
	heard := make(chan string, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body struct {
			Status       string
			CommonLabels map[string]string
		}
		err := json.NewDecoder(r.Body).Decode(&body)
		heard <- fmt.Sprint(body.Status, " ", body.CommonLabels["alertname"], " ", body.CommonLabels["service"], " ", err)
	}))
	defer hook.Close()
	dir := t.TempDir()
	for name, text := range map[string]string{"rules.yml": ruleFile, "am.yml": fmt.Sprintf(ruleRouting, hook.URL)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := install(t, testkit.ApacheKafka(t), []string{"ingest", "stream", "query"},
		fmt.Sprintf("VIGIE_RULES_TENANTS={acme: {files: [%q], alertmanager: %q}}", dir+"/rules.yml", dir+"/am.yml"),
		"VIGIE_RULES_ALERTMANAGER_DIR="+dir+"/am", "VIGIE_KAFKA_SESSION_TIMEOUT=6s")
	recorded := in.hearRecorded("shop:errors:rate20s")
	var failing sync.WaitGroup
	sending, stop := context.WithCancel(t.Context())
	defer failing.Wait()
	defer stop()
	begun := time.Now()
	failing.Go(func() {
		for sending.Err() == nil {
			in.post("acme", "/v1/events/metrics", `{"name":"errors_total","kind":"delta","value":2,"labels":{"service":"checkout"}}`, http.Header{"Content-Type": {"application/json"}})
			time.Sleep(200 * time.Millisecond)
		}
	})
	await := func(want string, patience time.Duration) {
		t.Helper()
		select {
		case got := <-heard:
			if got != want {
				t.Fatalf("got notification %q, want %q", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("got no notification in %s, want %q\n%s", patience, want, last(in.query.out.String(), 4000))
		}
	}
	await("firing ManyErrors checkout <nil>", 2*time.Minute)
	t.Logf("from the first of the failing events to the webhook: %s", time.Since(begun).Round(time.Millisecond))
	// What is killed between a receiver's answer and the note of it, some milliseconds, notifies again.
	time.Sleep(2 * time.Second)
	in.query.kill()
	in.stream.kill()
	in.stream.start()
	in.query.start()
	killed := time.Now()
	in.awaitReady(in.streamURL)
	in.awaitReady(in.queryURL)
	for metric(t, in.queryURL, "vigie_ruler_evaluations_total") < 2 {
		if time.Since(killed) > time.Minute {
			t.Fatal("no evaluations a minute after kill -9")
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Logf("from kill -9 of query and stream to the second evaluation: %s", time.Since(killed).Round(time.Millisecond))
	for metric(t, in.queryURL, "vigie_ruler_alerts_sent_total", `result="ok"`) < 1 {
		time.Sleep(200 * time.Millisecond)
	}
	time.Sleep(3 * time.Second)
	select {
	case got := <-heard:
		t.Fatalf("after kill -9 got %q, want nothing new", got)
	default:
	}
	stop()
	ended := time.Now()
	await("resolved ManyErrors checkout <nil>", 2*time.Minute)
	t.Logf("from the last failing event to the end in the webhook: %s", time.Since(ended).Round(time.Millisecond))
	times := recorded()
	if len(times) < 3 {
		t.Fatalf("got samples at %v, want more", times)
	}
	for i, at := range times[1:] {
		if at.Sub(times[i]) != 10*time.Second {
			t.Errorf("got samples at %s and %s, want one every 10 s, each once", times[i], at)
		}
	}
	t.Logf("%d samples recorded, one every 10 s", len(times))
}

// hearRecorded reads the topic of metrics for samples of one recorded metric.
func (in *installation) hearRecorded(name string) (times func() []time.Time) {
	client := in.client(in.t, kgo.ConsumeTopics(in.topic("metrics")), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	var mu sync.Mutex
	var list []time.Time
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	in.t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			client.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
				var batch []struct {
					Name string
					Time time.Time
				}
				if json.Unmarshal(r.Value, &batch) != nil {
					return // not of rules
				}
				mu.Lock()
				defer mu.Unlock()
				for _, m := range batch {
					if m.Name == name {
						list = append(list, m.Time)
					}
				}
			})
		}
	}()
	return func() []time.Time {
		mu.Lock()
		defer mu.Unlock()
		return list
	}
}
