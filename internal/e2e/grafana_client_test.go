package e2e

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/internal/testkit/grafana"
)

// TestGrafanaClient lets Grafana's own Prometheus client, as npm has it, ask the built programs for all that a data
// source and its panels ask for.
func TestGrafanaClient(t *testing.T) {
	in := install(t, testkit.Kafka(t), []string{"ingest", "stream", "query"})
	to := time.Now().Add(-time.Minute).Truncate(10 * time.Second)
	from := to.Add(-20 * time.Minute)
	in.sendShop(t, from, to)
	testkit.Eventually(t, time.Minute, func() error {
		if status, answer := in.tryPromQL("acme", "sum(increase(shop_orders_total[20m]))", to.Unix()); status != http.StatusOK || !strings.Contains(answer, fmt.Sprintf(`[%d,"240"]`, to.Unix())) {
			return fmt.Errorf("got %d %s, want 240 at %d", status, answer, to.Unix())
		}
		return nil
	})
	seen := grafana.Client(t, grafana.Look{
		URL: in.queryURL, Key: in.keys["acme"], ScrapeSeconds: 10, From: from.UnixMilli(), To: to.UnixMilli(),
		Counter: "shop_orders_total", Label: "http.route",
		Find: []string{
			"label_names()", "label_names(orders)", "label_values(service)", "label_values(shop_orders_total, service)", "metrics(shop_.*)",
			"query_result(sum(increase(shop_orders_total[20m])))", `shop_temp{service="shop"}`,
		},
		Hinted: []string{"shop_orders_total", "shop_checkout_seconds", "shop_checkout_seconds_bucket", "shop_temp", "rate(shop_orders_total[5m])"},
		Panel:  `sum by (service) (rate(shop_orders_total[$__rate_interval]))`, Gauge: "shop_temp",
		Heatmap: "sum(rate(shop_checkout_seconds[1m]))", Classic: "sum by (le) (rate(shop_checkout_seconds_bucket[1m]))",
		Table: `topk(1, sum by ("http.route") (increase(shop_orders_total[20m])))`,
	})
	seesLists(t, seen)
	seesPanels(t, seen)
	for _, call := range seen.Calls {
		if !strings.HasSuffix(call, " 200") && call != "POST api/v1/query_range 400" {
			t.Errorf("got %s, want 200 of all but the query that does not parse", call)
		}
	}
}

// sendShop sends, every ten seconds, an order and a checkout of each of two routes, and a temperature.
func (in *installation) sendShop(t *testing.T, from, to time.Time) {
	t.Helper()
	var body strings.Builder
	for at := from; at.Before(to); at = at.Add(10 * time.Second) {
		when := at.Add(time.Second).UTC().Format(time.RFC3339Nano)
		for _, route := range []string{"/pay", "/cart"} {
			fmt.Fprintf(&body, `{"time":%q,"name":"shop_orders_total","kind":"delta","value":1,"help":"Orders.","labels":{"service":"shop","http.route":%q}}`+"\n", when, route)
			fmt.Fprintf(&body, `{"time":%q,"name":"shop_checkout_seconds","value":0.3,"unit":"seconds","labels":{"service":"shop","http.route":%q}}`+"\n", when, route)
		}
		fmt.Fprintf(&body, `{"time":%q,"name":"shop_temp","kind":"gauge","value":20,"labels":{"service":"shop"}}`+"\n", when)
	}
	if status, answer := in.post("acme", "/v1/events/metrics", body.String(), http.Header{"Content-Type": {"application/x-ndjson"}}); status != http.StatusOK {
		t.Fatalf("got %d %s", status, answer)
	}
}

func seesLists(t *testing.T, seen *grafana.Seen) {
	t.Helper()
	f := func(what string, got any, want ...string) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	f("save and test", []string{seen.Health.Status, seen.Health.Message}, "success", "Prometheus 3.16.0")
	metrics := []string{"shop_checkout_seconds", "shop_checkout_seconds_bucket", "shop_checkout_seconds_count", "shop_checkout_seconds_sum", "shop_orders_total", "shop_temp"}
	f("metrics", seen.Metrics, metrics...)
	f("metrics of the series endpoint", seen.Series.Metrics, metrics...)
	f("metrics without search", seen.Search.Metrics, metrics...)
	f("histograms", seen.Histograms, "shop_checkout_seconds_bucket")
	f("labels", seen.LabelKeys, "__name__", "http.route", "le", "service")
	f("labels by GET", seen.Get.Keys, "__name__", "http.route", "le", "service")
	f("labels of the counter", seen.KeysOf, "__name__", "http.route", "service")
	f("values", seen.ValuesOf, "/cart", "/pay")
	f("one value at most", seen.Limited, "shop_checkout_seconds")
	f("ad hoc keys", seen.TagKeys, "__name__", "http.route", "le", "service")
	f("ad hoc values", seen.TagValues, "/cart", "/pay")
	f("label_names()", seen.Find["label_names()"], "__name__", "http.route", "le", "service")
	f("label_names(orders)", seen.Find["label_names(orders)"], "http.route", "service")
	f("label_values(service)", seen.Find["label_values(service)"], "shop")
	f("label_values of a metric", seen.Find["label_values(shop_orders_total, service)"], "shop")
	f("metrics(shop_.*)", seen.Find["metrics(shop_.*)"], metrics...)
	f("series", seen.Find[`shop_temp{service="shop"}`], `shop_temp{service="shop"}`)
	if got := seen.Find["query_result(sum(increase(shop_orders_total[20m])))"]; len(got) != 1 || !strings.HasPrefix(got[0], "{} 240 ") {
		t.Errorf("query_result: got %q, want 240", got)
	}
	if !seen.Exemplars || len(seen.Rules) != 0 {
		t.Errorf("got exemplars %v, rules %v, want true and none", seen.Exemplars, seen.Rules)
	}
	for metric, want := range map[string]string{"shop_orders_total": "counter", "shop_checkout_seconds": "histogram", "shop_checkout_seconds_bucket": "counter", "shop_temp": "gauge"} {
		if got := seen.Metadata[metric].Type; got != want {
			t.Errorf("type of %s: got %q, want %q", metric, got, want)
		}
	}
	f("hints for a counter", seen.Hints["shop_orders_total"], "APPLY_RATE: Selected metric is a counter.")
	f("hints for a classic histogram", seen.Hints["shop_checkout_seconds_bucket"][:1], "HISTOGRAM_QUANTILE: Selected metric has buckets.")
	if got := seen.Hints["shop_checkout_seconds"]; len(got) != 3 || !strings.Contains(got[0], "native histogram") {
		t.Errorf("hints for a native histogram: got %q", got)
	}
	if got := append(seen.Hints["shop_temp"], seen.Hints["rate(shop_orders_total[5m])"]...); len(got) != 0 {
		t.Errorf("hints for a gauge and a rate: got %q, want none", got)
	}
	if !slices.Contains(seen.Search.Calls, "GET api/v1/search/metric_names 503") {
		t.Errorf("got %q, want search tried and refused", seen.Search.Calls)
	}
}

func seesPanels(t *testing.T, seen *grafana.Seen) {
	t.Helper()
	one := func(what string, f grafana.Frames, frames int, last float64) {
		t.Helper()
		if f.Error != "" || len(f.Frames) != frames {
			t.Fatalf("%s: got %d frames (%s), want %d: %+v", what, len(f.Frames), f.Error, frames, f.Frames)
		}
		for _, frame := range f.Frames {
			values := frame.Fields[len(frame.Fields)-1].Values
			if got, ok := values[len(values)-1].(float64); !ok || got < last-1e-9 || got > last+1e-9 {
				t.Errorf("%s: got %v at the end, want %v", what, values[len(values)-1], last)
			}
		}
	}
	one("range and instant", seen.Panel, 2, 0.2)
	if got := seen.Panel.Frames[0].Fields; len(got[1].Values) < 100 || got[1].Labels["service"] != "shop" {
		t.Errorf("range: got %d values of %v, want one every ten seconds of the shop", len(got[1].Values), got[1].Labels)
	}
	one("gauge", seen.Gauge, 1, 20)
	one("table", seen.Table, 1, 120)
	one("incremental, first", seen.First, 1, 0.2)
	one("incremental, again", seen.Again, 1, 0.2)
	if a, b := seen.First.Frames[0].Fields, seen.Again.Frames[0].Fields; !reflect.DeepEqual(a, b) {
		t.Errorf("incremental: got %v, then %v, want the same", a, b)
	}
	if f := seen.Heatmap; f.Error != "" || len(f.Frames) != 1 || f.Frames[0].Type != "heatmap-cells" || len(f.Frames[0].Fields[3].Values) < 100 {
		t.Errorf("native heatmap: got %+v", f)
	}
	if f := seen.Classic; f.Error != "" || len(f.Frames) != 1 || len(f.Frames[0].Fields) < 10 {
		t.Errorf("classic heatmap: got %+v, want one frame with a field for each bucket", f)
	}
	if !strings.Contains(seen.Wrong.Error, "parse error") {
		t.Errorf("a query that does not parse: got %q", seen.Wrong.Error)
	}
}
