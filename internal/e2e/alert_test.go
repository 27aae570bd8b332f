package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/testkit"
)

// streamAlerts is the configuration of one alert on the share of failures.
const streamAlerts = `[{"name":"CheckoutErrors","from":"spans","where":"service == 'checkout'","share":"status_code >= 500","by":["route"],
	"over":"4s","when":"share > 0.5 && count >= 10","until":"share < 0.1","severity":"P1","annotations":{"summary":"${share} of ${route} fail"}}]`

// An alert is in Kafka within seconds of the event that makes it true; and once, as its end is, although the stream is
// killed while it fires.
func TestStreamAlert(t *testing.T) {
	broker := testkit.ApacheKafka(t)
	told := &alertmanager{starts: map[string]int{}}
	server := httptest.NewServer(told)
	defer server.Close()
	in := install(t, broker, []string{"ingest", "stream"}, "VIGIE_STREAM_ALERTS="+streamAlerts, "VIGIE_STREAM_ALERTMANAGER_URLS="+server.URL,
		"VIGIE_STREAM_ALERTMANAGER_RESEND=2s")
	heard := in.hearAlerts()
	send := func(status int) time.Time {
		for range 10 {
			body := fmt.Sprintf(`{"service":"checkout","name":"POST","kind":"server","duration":"5ms","route":"/pay","status_code":%d}`, status)
			if code, answer := in.post("acme", "/v1/events/spans", body, http.Header{"Content-Type": {"application/json"}}); code/100 != 2 {
				t.Fatalf("got %d %s", code, answer)
			}
		}
		return time.Now()
	}
	// A step is judged when a later event comes: send until the alert is heard.
	await := func(state string, status int) (last time.Time) {
		deadline := time.Now().Add(60 * time.Second)
		for time.Now().Before(deadline) {
			last = send(status)
			select {
			case a := <-heard:
				if a.State != state || a.Alert != "CheckoutErrors" || a.Labels["route"] != "/pay" || a.Severity != "P1" {
					t.Fatalf("got %+v, want it %s", a, state)
				}
				return last
			case <-time.After(200 * time.Millisecond):
			}
		}
		t.Fatalf("the alert is not %s after a minute\n%s", state, in.stream.out)
		return last
	}
	begun := time.Now()
	await("firing", 503)
	t.Logf("from the first of the failing events to its alert in Kafka: %s", time.Since(begun).Round(time.Millisecond))
	told.await(t, "firing")
	t.Logf("to Alertmanager: %s", time.Since(begun).Round(time.Millisecond))
	in.stream.kill()
	send(503)
	in.stream.start()
	in.awaitReady(in.streamURL)
	for range 10 {
		send(503)
		time.Sleep(200 * time.Millisecond)
	}
	select {
	case a := <-heard:
		t.Fatalf("after kill -9 got %+v, want nothing new", a)
	default:
	}
	await("resolved", 200)
	told.await(t, "resolved")
	if told.mu.Lock(); len(told.starts) != 1 {
		t.Errorf("Alertmanager was told of firings that began at %v, want one", told.starts)
	}
	told.mu.Unlock()
}

// alertmanager notes what it is told of alerts.
type alertmanager struct {
	mu     sync.Mutex
	state  string
	starts map[string]int // of firings, and how often each was told
}

func (a *alertmanager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var alerts []struct {
		Labels           map[string]string
		StartsAt, EndsAt time.Time
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := json.NewDecoder(r.Body).Decode(&alerts); err != nil || r.URL.Path != "/api/v2/alerts" {
		http.Error(w, "want alerts", http.StatusBadRequest)
		return
	}
	for _, alert := range alerts {
		if a.state = "resolved"; alert.EndsAt.After(time.Now()) {
			a.state = "firing"
		}
		a.starts[alert.Labels["tenant"]+" "+alert.Labels["alertname"]+" "+alert.StartsAt.String()]++
	}
}

func (a *alertmanager) await(t *testing.T, state string) {
	t.Helper()
	testkit.Eventually(t, 30*time.Second, func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.state != state {
			return fmt.Errorf("Alertmanager was told %q, want %q", a.state, state)
		}
		return nil
	})
}

type streamAlert struct {
	Alert, State, Severity string
	Labels                 map[string]string
}

// hearAlerts reads the committed records of the topic of alerts.
func (in *installation) hearAlerts() <-chan streamAlert {
	client := in.client(in.t, kgo.ConsumeTopics(in.topic("alerts")), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	heard := make(chan streamAlert, 100)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	in.t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			client.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
				var a streamAlert
				if err := json.Unmarshal(r.Value, &a); err != nil || string(r.Key) != "acme" {
					a.State = fmt.Sprintf("unreadable: %s %q: %v", r.Key, r.Value, err)
				}
				heard <- a
			})
		}
	}()
	return heard
}
