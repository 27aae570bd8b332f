package topology_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/sink"
	"github.com/vigie-io/vigie/internal/topology"
)

var at = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

const hostile = `"><script>alert(1)</script><img src=x onerror=alert(1)>`

func picture() *topology.Topology {
	tenant := pipeline.TenantTopology{Tenant: hostile, Series: 12345, Watermark: at.Add(-90 * time.Second).UnixMilli(), Lag: 90 * time.Second}
	return &topology.Topology{
		Instance: "stream-0", Version: "v1", At: at, NotReady: "reach kafka",
		Workers: []*pipeline.Topology{
			{
				Slot: 0, State: "running", Since: at.Add(-time.Hour), Epoch: 7, Aborted: 2, EpochLength: 250 * time.Millisecond, Committed: at.Add(-time.Second),
				Tasks: []pipeline.TaskTopology{
					{Topic: "vigie.spans.v1", Partition: 3, Signal: "spans", State: pipeline.TaskStopped, Error: "state of kind 9 is not known: " + hostile},
					{Topic: "vigie.metrics.v1", Partition: 1, Signal: "metrics", State: pipeline.TaskRunning, Lag: 42, StateKeys: 5, StateBytes: 3 << 20,
						Letters: 17, Dropped: 3, Lagging: []pipeline.TenantTopology{tenant}, Top: []pipeline.TenantTopology{tenant, {Tenant: "limited", Watermark: -5000}},
						Limits: []pipeline.LimitTopology{
							{Tenant: hostile, Limit: "window_bytes", Used: 3 << 19, Most: 3 << 20}, {Tenant: "limited", Limit: "active_series", Used: 1000, Most: 1000},
							{Tenant: "quiet", Limit: "active_series", Used: 9, Most: 100},
						}},
					{Topic: "vigie.metrics.v1", Partition: 2, Signal: "metrics", State: pipeline.TaskRestoring, Restored: 1000},
				},
			},
			{Slot: 1, State: "waiting", Error: "another process took over", Failures: 4, Since: at},
		},
		Sink: topology.Sink{State: "running", Since: at.Add(-time.Minute), Deduplicated: 6, Lanes: []sink.LaneTopology{
			{Partition: 4, Lag: 8, LastInsert: at.Add(-2 * time.Second), LastTable: "ingest_rollups", Error: "connection refused"},
		}},
	}
}

func get(t *testing.T, target, accept string) (*http.Response, string) {
	t.Helper()
	request := httptest.NewRequest(http.MethodGet, target, nil)
	if accept != "" {
		request.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	topology.Handler(func(context.Context) *topology.Topology { return picture() }).ServeHTTP(w, request)
	return w.Result(), w.Body.String()
}

// A worker that Kafka does not answer has no error to show, nor has its task.
func TestWorkersThatDoNotCommit(t *testing.T) {
	f := func(committed, since, target time.Duration, state string, tasks int, want bool) {
		t.Helper()
		w := &pipeline.Topology{State: state, Since: at.Add(-since), EpochTarget: target, Tasks: make([]pipeline.TaskTopology, tasks)}
		if committed > 0 {
			w.Committed = at.Add(-committed)
		}
		handler := topology.Handler(func(context.Context) *topology.Topology {
			return &topology.Topology{At: at, Workers: []*pipeline.Topology{w}}
		})
		page := httptest.NewRecorder()
		handler.ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/topology?format=html", nil))
		if got := strings.Contains(page.Body.String(), "<strong>worker 0:</strong> no commit for "); got != want {
			t.Errorf("last commit %s ago, %s for %s: got trouble %v, want %v", committed, state, since, got, want)
		}
	}
	f(31*time.Second, time.Hour, time.Second, "running", 1, true)
	f(29*time.Second, time.Hour, time.Second, "running", 1, false)
	f(0, 31*time.Second, time.Second, "running", 1, true)             // none since it began
	f(0, time.Second, time.Second, "running", 1, false)               // has just begun
	f(31*time.Second, time.Hour, time.Second, "running", 0, false)    // has nothing to commit
	f(31*time.Second, time.Hour, time.Second, "waiting", 1, false)    // says itself why
	f(31*time.Second, time.Hour, 20*time.Second, "running", 1, false) // works off a backlog
}

func TestFormat(t *testing.T) {
	f := func(target, accept, want string) {
		t.Helper()
		response, body := get(t, target, accept)
		if got := response.Header.Get("Content-Type"); !strings.HasPrefix(got, want) || response.StatusCode != http.StatusOK || response.Header.Get("Vary") != "Accept" {
			t.Errorf("%s, Accept %q: got %d %s, want %s", target, accept, response.StatusCode, got, want)
		}
		if isPage := strings.HasPrefix(body, "<!DOCTYPE html>"); isPage != (want == "text/html") {
			t.Errorf("%s, Accept %q: got the body %.60q", target, accept, body)
		}
	}
	f("/topology", "", "application/json")
	f("/topology", "*/*", "application/json") // curl
	f("/topology", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", "text/html")
	f("/topology", "application/json", "application/json")
	f("/topology", "application/json, text/html;q=0.5", "application/json")
	f("/topology", "text/html;q=0", "application/json")
	f("/topology", "text/html;q=no, ;;", "application/json")
	f("/topology?format=json", "text/html", "application/json")
	f("/topology?format=html", "application/json", "text/html")
	for _, target := range []string{"/topology?format=xml", "/topology?format=html&refresh=-1", "/topology?format=html&refresh=x", "/topology?format=html&refresh=1e9"} {
		if response, body := get(t, target, ""); response.StatusCode != http.StatusBadRequest || !strings.Contains(body, "want") {
			t.Errorf("%s: got %d %q, want a refusal that says what is wanted", target, response.StatusCode, body)
		}
	}
}

func TestJSONHoldsThePicture(t *testing.T) {
	_, body := get(t, "/topology", "")
	var got topology.Topology
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if want := picture(); fmt.Sprintf("%+v", got.Sink) != fmt.Sprintf("%+v", want.Sink) || len(got.Workers) != 2 || got.Workers[0].Tasks[1].Lagging[0].Tenant != hostile {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// What tenants, producers and servers say stays text, and nothing could run if it did not.
func TestHostileNames(t *testing.T) {
	response, body := get(t, "/topology?format=html", "")
	for _, bad := range []string{"<script", "<img", "onerror=alert(1)>"} {
		if strings.Contains(body, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	if n := strings.Count(body, "&lt;script&gt;alert(1)&lt;/script&gt;"); n != 5 {
		t.Errorf("got the escaped name %d times, want it in three tables, in the task's row and in what needs attention", n)
	}
	policy := response.Header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || !strings.Contains(policy, "style-src 'sha256-") {
		t.Errorf("got policy %q, want one that lets nothing run", policy)
	}
}

func TestPage(t *testing.T) {
	_, body := get(t, "/topology?format=html", "")
	for _, want := range []string{
		`<meta http-equiv="refresh" content="5">`, "● running", "■ waiting", "◐ restoring", "■ stopped", "another process took over",
		"12\u202f345", "3.0 MiB", "1 min 30 s", "2026-11-25 11:58:30", "2.0 s ago", "connection refused", "ingest_rollups", "Needs attention",
		"<li><strong>not ready:</strong> reach kafka</li>",
		"<td>1.5 MiB</td><td>3.0 MiB</td><td>50 %</td>", `<td>1` + "\u202f" + `000</td><td class="bad">100 %</td>`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Index(body, `"row">vigie.metrics.v1/1`) > strings.Index(body, `"row">vigie.spans.v1/3`) {
		t.Error("tasks are not in the order of their partitions")
	}
	if strings.Contains(body, "quiet") || strings.Index(body, "active_series") > strings.Index(body, "window_bytes") {
		t.Error("limits: want those that are used up first, and none of which little is used")
	}
	if strings.Contains(body, "1969") {
		t.Error("the page shows a watermark of a tenant that has none")
	}
	if outside := regexp.MustCompile(`(?i)(src|href)="?(https?:)?//|url\(|@import|<link|<script`).FindString(body); outside != "" {
		t.Errorf("the page asks for something from outside: %q", outside)
	}
	if cell := regexp.MustCompile(`<th[ >]`).FindAllString(body, -1); len(cell) != strings.Count(body, `scope="`) {
		t.Error("a header cell does not say what it is the header of")
	}
	if _, body := get(t, "/topology?format=html&refresh=0", ""); strings.Contains(body, "http-equiv") {
		t.Error("a paused page refreshes itself")
	}
}
