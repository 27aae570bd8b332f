package promql_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
)

// forms are the schemas of the OpenAPI document.
type forms struct{ *jsonschema.Compiler }

func newForms(t *testing.T) forms {
	t.Helper()
	doc, err := promql.Describe("test")
	if err != nil {
		t.Fatal(err)
	}
	f := forms{jsonschema.NewCompiler()}
	if err := f.AddResource("mem:///document.json", doc); err != nil {
		t.Fatal(err)
	}
	return f
}

// check compares an answer with the schema of its path, method and status.
func (f forms) check(t *testing.T, method, path string, a answer) {
	t.Helper()
	status := "default"
	if a.code == http.StatusOK {
		status = "200"
	}
	schema, err := f.Compile("mem:///document.json#/paths/" + strings.ReplaceAll(path, "/", "~1") + "/" + strings.ToLower(method) + "/responses/" + status + "/content/application~1json/schema")
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(a.body))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		t.Errorf("%s %s: %v in %s", method, path, err, a.body)
	}
}

// What Grafana is answered has the form that the OpenAPI document says.
func TestAnswersMeetTheDocument(t *testing.T) {
	s := shop(t)
	text, err := os.ReadFile("testdata/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []exchange
	times := strings.NewReplacer("NOW_MS", strconv.FormatInt(s.now.UnixMilli(), 10), "NOW", seconds(s.now), "MINUS_1H", seconds(s.now.Add(-time.Hour)))
	if err := json.Unmarshal([]byte(times.Replace(string(text))), &list); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/status/config", "/status/flags", "/status/runtimeinfo"} {
		list = append(list, exchange{When: path, Method: http.MethodGet, Path: path})
	}
	checked := 0
	forms := newForms(t)
	for _, e := range list {
		path := e.Path
		if strings.HasPrefix(path, "/label/") {
			path = "/label/{name}/values"
		}
		if _, served := promql.Routes()[path]; !served || e.Status == http.StatusMethodNotAllowed {
			continue // search is answered so that Grafana leaves it alone
		}
		a := s.do("acme", e.Method, e.Path, url.Values(e.Form))
		forms.check(t, e.Method, path, a)
		checked++
	}
	if checked < 35 {
		t.Errorf("got %d answers compared, want the whole table", checked)
	}
}

// /status/tsdb as Prometheus has it: the greatest first, of one tenant, for one of its places.
func TestStatusTSDB(t *testing.T) {
	var asked tenants.ID
	s := newServer(t, func(s *server) {
		s.options.Cardinality = func(_ context.Context, tenant tenants.ID, since int64, most int) (*promql.Cardinality, error) {
			asked = tenant
			if most != 10 && most != 1 || since != s.now.Add(-24*time.Hour).UnixMilli() {
				t.Errorf("got since %d, at most %d", since, most)
			}
			return &promql.Cardinality{Series: 5, Labels: []promql.LabelCardinality{
				{Name: "__name__", Values: 2, Series: 5, Bytes: 40, Top: []promql.ValueCount{{Value: "hits_total", Series: 4}, {Value: "temp", Series: 1}}},
				{Name: "pod", Values: 3, Series: 4, Bytes: 90, Top: []promql.ValueCount{{Value: "a", Series: 2}, {Value: "b", Series: 1}}},
			}}, nil
		}
	})
	f := func(form url.Values, want string) {
		t.Helper()
		a := s.do("acme", http.MethodGet, "/status/tsdb", form)
		want = strings.NewReplacer("SINCE", strconv.FormatInt(s.now.Add(-24*time.Hour).UnixMilli(), 10), "NOW", strconv.FormatInt(s.now.UnixMilli(), 10)).Replace(want)
		if got := strings.TrimSpace(a.body); a.code != http.StatusOK || got != want {
			t.Errorf("got  %d %s\nwant %s", a.code, got, want)
		}
		newForms(t).check(t, http.MethodGet, "/status/tsdb", a)
	}
	f(nil, `{"data":{"headStats":{"numSeries":5,"numLabelPairs":5,"chunkCount":0,"minTime":SINCE,"maxTime":NOW},`+
		`"seriesCountByMetricName":[{"name":"hits_total","value":4},{"name":"temp","value":1}],`+
		`"labelValueCountByLabelName":[{"name":"pod","value":3},{"name":"__name__","value":2}],`+
		`"memoryInBytesByLabelName":[{"name":"pod","value":90},{"name":"__name__","value":40}],`+
		`"seriesCountByLabelValuePair":[{"name":"__name__=hits_total","value":4},{"name":"pod=a","value":2},{"name":"__name__=temp","value":1},{"name":"pod=b","value":1}]},"status":"success"}`)
	f(url.Values{"limit": {"1"}}, `{"data":{"headStats":{"numSeries":5,"numLabelPairs":5,"chunkCount":0,"minTime":SINCE,"maxTime":NOW},`+
		`"seriesCountByMetricName":[{"name":"hits_total","value":4}],"labelValueCountByLabelName":[{"name":"pod","value":3}],`+
		`"memoryInBytesByLabelName":[{"name":"pod","value":90}],"seriesCountByLabelValuePair":[{"name":"__name__=hits_total","value":4}]},"status":"success"}`)
	if asked != "acme" {
		t.Errorf("got tenant %q asked for, want acme", asked)
	}
	for _, limit := range []string{"0", "-1", "x", "10001"} {
		if a := s.do("acme", http.MethodGet, "/status/tsdb", url.Values{"limit": {limit}}); a.code != http.StatusBadRequest || a.Type != "bad_data" {
			t.Errorf("limit %s: got %d %s", limit, a.code, a.body)
		}
	}
}
