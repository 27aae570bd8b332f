package promql_test

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
)

// Requests right and wrong are answered as Prometheus does that holds the same: status, type and text of errors, and
// data. Not here: times beyond int64, which are refused; ends before starts, where series are listed all the same; and
// which series a limit leaves, as neither promises that.
func TestAnswersAreUpstreams(t *testing.T) {
	w := &world{width: 10 * time.Second, now: epoch, begin: epoch.Add(-time.Hour), horizon: time.Hour}
	decoded := &histograms{}
	ours := newServer(t, func(s *server) {
		s.now, s.cfg.BucketBounds = w.now, drawnBounds
		s.options.DecodeHistogram = decoded.read
	})
	db, done := w.randomData(t, rand.New(rand.NewPCG(3, 1)), ours.store, decoded).prometheus(t)
	defer done()
	theirs := ours.service.Upstream(w.engine(), db)
	placed := strings.NewReplacer(
		"$at", "&time="+seconds(epoch),
		"$within", "&start="+seconds(epoch.Add(-10*time.Minute))+"&end="+seconds(epoch),
		"$ever", "&start="+seconds(w.begin.Add(-time.Hour))+"&end="+seconds(epoch),
	)
	requests, err := os.ReadFile("testdata/requests.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(placed.Replace(string(requests))) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "#") {
			continue
		}
		gotCode, got := request(ours.handler, line)
		wantCode, want := request(theirs, line)
		if gotCode != wantCode || got != want {
			t.Errorf("%s:\n got %d %.500s\nwant %d %.500s", line, gotCode, got, wantCode, want)
		}
	}
}

var escaped = strings.NewReplacer(" ", "%20", `"`, "%22", "{", "%7B", "}", "%7D", "(", "%28")

// request sends "METHOD target", and of a POST " | form".
func request(to http.Handler, line string) (code int, body string) {
	method, rest, _ := strings.Cut(line, " ")
	target, text, _ := strings.Cut(rest, " | ")
	form, _ := url.ParseQuery(strings.ReplaceAll(text, "+", "%2B"))
	r := httptest.NewRequest(method, escaped.Replace(target), strings.NewReader(form.Encode()))
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer := httptest.NewRecorder()
	to.ServeHTTP(answer, r.WithContext(tenants.NewContext(r.Context(), "acme")))
	return answer.Code, normal(answer.Body.Bytes())
}

// normal is an answer with series in the order of their text.
func normal(body []byte) string {
	var whole map[string]any
	if json.Unmarshal(body, &whole) != nil {
		return string(body)
	}
	list, _ := whole["data"].([]any)
	if data, ok := whole["data"].(map[string]any); ok {
		list, _ = data["result"].([]any)
	}
	text := func(v any) string {
		out, _ := json.Marshal(v)
		return string(out)
	}
	slices.SortFunc(list, func(a, b any) int { return strings.Compare(text(a), text(b)) })
	return text(whole)
}
