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
	testkit.Eventually(t, 10*time.Second, func() error {
		if got := metric(t, in.ingestURL, "vigie_config_last_reload_successful"); got != 1 {
			return fmt.Errorf("vigie_config_last_reload_successful: got %v, want 1", got)
		}
		return takes(false)
	})
}
