package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit"
)

// TestFiguresFairness measures what a tenant with small queries waits, alone and beside 50 heavy queries of another
// that never end: each that ends is asked anew, with another number in it, so that none is computed for two.
func TestFiguresFairness(t *testing.T) {
	figures(t)
	for _, places := range []string{"0", "16"} {
		t.Run("tenant_places="+places, func(t *testing.T) { fairness(t, places) })
	}
}

func fairness(t *testing.T, places string) {
	in := install(t, testkit.ApacheKafka(t), []string{"ingest", "stream", "query"},
		"VIGIE_QUERY_TENANT_PLACES="+places)
	const hour = 360 // windows
	begin := time.Now().Truncate(10 * time.Second).Add(-hour * 10 * time.Second)
	in.sendHour(begin, "acme", 400)
	in.sendHour(begin, "demo", 4)
	await := func(tenant string, events int) {
		testkit.Eventually(t, time.Minute, func() error {
			got := in.sql(tenant, "SELECT sum(count) FROM api.metrics_10s")
			if got != fmt.Sprint(events) {
				return fmt.Errorf("got %s events of %s in ClickHouse, want %d", got, tenant, events)
			}
			return nil
		})
	}
	await("acme", 400*hour)
	await("demo", 4*hour)

	within := fmt.Sprintf("&start=%d&end=%d&step=10", begin.Unix(), begin.Unix()+3600)
	promql := func(query string) string { return "/api/v1/query_range?query=" + url.QueryEscape(query) + within }
	sql := func(statement string) string { return "/sql?query=" + url.QueryEscape(statement) }
	light := map[string]string{
		"PromQL": promql("sum(rate(" + latency + "_count[1m]))"),
		"SQL":    sql("SELECT service, sum(count) FROM api.metrics_1m GROUP BY service FORMAT JSON"),
	}
	heavy := map[string]func(i int) string{
		"SQL": func(i int) string {
			return sql(fmt.Sprintf("SELECT sum(length(SHA256(toString(number + %d)))) FROM numbers(100000000)", i))
		},
		"PromQL": func(i int) string {
			return promql(fmt.Sprintf("histogram_quantile(0.%04d, rate(%s[5m]))", 1000+i%9000, latency))
		},
	}
	measure := func(beside string) {
		for kind, path := range light {
			taken := newSamples()
			for end := time.Now().Add(6 * time.Second); time.Now().Before(end); {
				began := time.Now()
				if got := <-in.ask(t.Context(), "demo", path); got.err != nil || got.status != http.StatusOK {
					t.Fatalf("%s beside %s: got %d %s %v", kind, beside, got.status, got.body, got.err)
				}
				taken.add(time.Since(began))
			}
			t.Logf("light %s beside %s: %s", kind, beside, taken)
		}
	}
	measure("nothing")
	for kind, path := range heavy {
		answers := newSamples()
		enough := watch(func(ctx context.Context) {
			done := make(chan struct{})
			for i := range 50 {
				go func() {
					defer func() { done <- struct{}{} }()
					for n := i; ctx.Err() == nil; n += 50 {
						began := time.Now()
						if got := <-in.ask(ctx, "acme", path(n)); got.status == http.StatusTooManyRequests {
							time.Sleep(100 * time.Millisecond) // as a client that is told so
						} else if got.err == nil {
							answers.add(time.Since(began))
						}
					}
				}()
			}
			for range 50 {
				<-done
			}
		})
		time.Sleep(2 * time.Second)
		measure("50 heavy of " + kind)
		enough()
		t.Logf("heavy %s: %s", kind, answers)
	}
}

// sendHour sends an observation in each of the windows from begin on, of so many series.
func (in *installation) sendHour(begin time.Time, tenant string, series int) {
	in.t.Helper()
	for window := 0; window < 360; window += 20 {
		var b strings.Builder
		for w := window; w < window+20; w++ {
			at := begin.Add(time.Duration(w)*10*time.Second + time.Second).UTC().Format(time.RFC3339)
			for i := range series {
				fmt.Fprintf(&b, `{"name":"%s","time":"%s","value":%d,"labels":{"service":"svc-%d","instance":"i-%d"}}`+"\n",
					latency, at, 1+(i*7+w)%50, i%10, i)
			}
		}
		if code, answer := in.post(tenant, "/v1/events/metrics", b.String(), http.Header{"Content-Type": {"application/x-ndjson"}}); code/100 != 2 {
			in.t.Fatalf("send the hour: %d %s", code, answer)
		}
	}
}
