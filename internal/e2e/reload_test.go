package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/testkit"
)

// TestReload changes a tenant's limit in the file of a running ingest: it holds at once after POST /-/reload and after
// SIGHUP; a file that is not valid is refused and changes nothing.
func TestReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "vigie.yaml")
	write := func(format string, args ...any) {
		t.Helper()
		if err := os.WriteFile(file, fmt.Appendf(nil, format, args...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	labels := func(n int) { write("tenants: {overrides: {acme: {max_labels: %d}}}\n", n) }
	labels(1)
	in := install(t, testkit.Kafka(t), []string{"ingest"}, "VIGIE_CONFIG="+file)
	takes := func(want bool) error {
		status, answer := in.post("acme", "/v1/events/metrics", `{"name":"m","value":1,"labels":{"a":"1","b":"2"}}`, nil)
		if (status == http.StatusOK) != want {
			return fmt.Errorf("two labels: got %d %s, want taken %v", status, answer, want)
		}
		return nil
	}
	reload := func(key string, want int, text string) {
		t.Helper()
		status, answer, err := fetch(http.MethodPost, in.ingestURL+"/-/reload", key, nil, nil)
		if err != nil || status != want || !strings.Contains(answer, text) {
			t.Errorf("reload: got %d %s (%v), want %d with %q", status, answer, err, want, text)
		}
	}
	check := func(when string, want bool) {
		t.Helper()
		if err := takes(want); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	check("at first", false)
	labels(2)
	check("before the reload", false)
	reload("", http.StatusOK, "reloaded: tenants.overrides")
	check("after it", true)
	reload("", http.StatusOK, "nothing changed")
	write("tenants: {overrides: {acme: {max_labels: -1}}}\n")
	reload("", http.StatusBadRequest, "max_labels: got -1")
	check("after a refused one", true)
	if got := metric(t, in.ingestURL, "vigie_config_last_reload_successful"); got != 0 {
		t.Errorf("vigie_config_last_reload_successful: got %v, want 0", got)
	}
	reload(in.keys["acme"], http.StatusForbidden, "admin")
	write("tenants: {overrides: {acme: {max_labels: 1}}}\nkafka: {group: other}\n")
	if err := in.ingest.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() error {
		if got := metric(t, in.ingestURL, "vigie_config_last_reload_successful"); got != 1 {
			return fmt.Errorf("vigie_config_last_reload_successful: got %v, want 1", got)
		}
		return takes(false)
	})
}

// TestReloadOfTheStream changes a tenant's limits in the file of a running stream: after POST /-/reload and after
// SIGHUP they hold from the next epoch on; a file that is not valid is refused, and the limits stay.
func TestReloadOfTheStream(t *testing.T) {
	file := filepath.Join(t.TempDir(), "vigie.yaml")
	limits := func(rate, labels int) {
		t.Helper()
		text := fmt.Sprintf("tenants: {overrides: {acme: {stream_events_per_second: %d, burst: 1s, max_labels: %d}}}\n", rate, labels)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const few, many = 2, 1_000_000
	limits(few, 64)
	in := install(t, testkit.Kafka(t), []string{"stream"}, "VIGIE_CONFIG="+file)
	client := in.client(t)
	sent, dropped, refused := 0, 0.0, 0.0
	// send produces records of a tenant and returns how many of their events were dropped, and how many refused.
	send := func(tenant string, n int) (float64, float64) {
		t.Helper()
		for range n {
			sent++
			client.Produce(t.Context(), &kgo.Record{Topic: in.topic("metrics"), Key: []byte(tenant), Value: []byte(`{"name":"m","value":1,"labels":{"a":"1","b":"2"}}`)}, nil)
		}
		if err := client.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, 30*time.Second, func() error {
			if got := metric(t, in.streamURL, "vigie_pipeline_records_total", `signal="metrics"`); got != float64(sent) {
				return fmt.Errorf("got %v records, want %d", got, sent)
			}
			return nil
		})
		d, r := metric(t, in.streamURL, "vigie_pipeline_dropped_events_total", `reason="rate_events"`), metric(t, in.streamURL, "vigie_pipeline_refused_events_total", `reason="too_many_labels"`)
		defer func() { dropped, refused = d, r }()
		return d - dropped, r - refused
	}
	const records = 200 // within a second or two, and more than few in each
	check := func(when, tenant string, drops, refuses bool) {
		t.Helper()
		send(tenant, 1) // an epoch that may have begun before the change
		if d, r := send(tenant, records); (d > 0) != drops || (r > 0) != refuses {
			t.Errorf("%s, %s: got %v dropped, %v refused of %d, want some: %v, %v", when, tenant, d, r, records, drops, refuses)
		}
	}
	reload := func(want int, text string) {
		t.Helper()
		status, answer, err := fetch(http.MethodPost, in.streamURL+"/-/reload", "", nil, nil)
		if err != nil || status != want || !strings.Contains(answer, text) || strings.Contains(answer, "restart") {
			t.Errorf("reload: got %d %s (%v), want %d with %q", status, answer, err, want, text)
		}
	}
	check("at first", "acme", true, false)
	check("at first", "demo", false, false)
	limits(many, 64)
	reload(http.StatusOK, "reloaded: tenants.overrides")
	check("after /-/reload", "acme", false, false)
	limits(-1, 64)
	reload(http.StatusBadRequest, "stream_events_per_second: got -1")
	check("after a refused reload", "acme", false, false)
	limits(many, 1)
	hangup := func(want float64) {
		t.Helper()
		if err := in.stream.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, time.Minute, func() error {
			if got := metric(t, in.streamURL, "vigie_config_last_reload_successful"); got != want {
				return fmt.Errorf("vigie_config_last_reload_successful: got %v, want %v", got, want)
			}
			return nil
		})
	}
	hangup(1)
	check("after SIGHUP", "acme", false, true)
	check("after SIGHUP", "demo", false, false)
	limits(-1, 64)
	hangup(0)
	check("after a refused SIGHUP", "acme", false, true)
	limits(few, 64)
	hangup(1)
	check("after another", "acme", true, false)
}
