package promql_test

import (
	"fmt"
	"math"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// Whatever is asked, the answer is Prometheus' JSON with one of its error types and a status that fits, in bounded
// time.
func TestBadQueries(t *testing.T) {
	s := newServer(t, func(s *server) {
		s.limits.QueryTimeout, s.limits.QuerySamples, s.limits.QueryRange = 2*time.Second, 1_000_000, 400*24*time.Hour
	})
	for i := range 3 {
		s.store.add(t, "acme", events.Delta, "hits_total", map[string]string{"i": fmt.Sprint(i), "ünï.cödé": "ja"}, every(10*time.Second, epoch, s.now, 1)...)
	}
	now := seconds(s.now)
	ranged := func(query, start, end, step string) url.Values {
		return url.Values{"query": {query}, "start": {start}, "end": {end}, "step": {step}}
	}
	for name, test := range map[string]struct {
		path  string
		form  url.Values
		codes string // allowed
		kind  string // "" for a success or any kind
	}{
		"a megabyte":                  {"/query", url.Values{"query": {strings.Repeat("1+", 1<<19) + "1"}}, "400 413", "bad_data"},
		"a million steps":             {"/query_range", ranged("hits_total", "0", now, "1"), "400", "bad_data"},
		"many selectors":              {"/query", url.Values{"query": {strings.Repeat("hits_total+", 400) + "hits_total"}, "time": {now}}, "422", "execution"},
		"ten thousand selectors":      {"/query", url.Values{"query": {strings.Repeat("hits_total+", 9999) + "hits_total"}, "time": {now}}, "400", "bad_data"},
		"a long sum, formatted":       {"/format_query", url.Values{"query": {strings.Repeat("1+", 10_000) + "1"}}, "400", "bad_data"},
		"many minuses":                {"/parse_query", url.Values{"query": {strings.Repeat("-", 400_000) + "1"}}, "400", "bad_data"},
		"two hundred match[]":         {"/series", url.Values{"match[]": slices.Repeat([]string{`hits_total{i="9"}`}, 200)}, "200", ""},
		"more match[]":                {"/series", url.Values{"match[]": slices.Repeat([]string{`hits_total{i="9"}`}, 201)}, "422", "execution"},
		"more match[] of labels":      {"/labels", url.Values{"match[]": slices.Repeat([]string{`hits_total{i="9"}`}, 3000)}, "422", "execution"},
		"many matchers":               {"/query", url.Values{"query": {`hits_total{` + strings.Repeat(`i!="9",`, 1000) + `}`}, "time": {now}}, "200", ""},
		"repeats of repeats":          {"/query", url.Values{"query": {`hits_total{i=~"(((a{1000}){1000}){1000})"}`}}, "400", "bad_data"},
		"a backtracker's dread":       {"/query", url.Values{"query": {`hits_total{i=~"(a*)*(a*)*(a*)*b"}`}, "time": {now}}, "200", ""},
		"subqueries of subqueries":    {"/query", url.Values{"query": {`max_over_time(max_over_time(max_over_time(hits_total[1d:1s])[1d:1s])[1d:1s])`}, "time": {now}}, "200 422 503", ""},
		"deep parentheses":            {"/query", url.Values{"query": {strings.Repeat("(", 20000) + "1" + strings.Repeat(")", 20000)}}, "400", "bad_data"},
		"deep parentheses, formatted": {"/format_query", url.Values{"query": {strings.Repeat("(", 20000) + "1" + strings.Repeat(")", 20000)}}, "400", "bad_data"},
		"deep sums":                   {"/parse_query", url.Values{"query": {strings.Repeat("sum(", 20000) + "1" + strings.Repeat(")", 20000)}}, "400", "bad_data"},
		"as deep as may be":           {"/format_query", url.Values{"query": {strings.Repeat("(", 100) + "1" + strings.Repeat(")", 100)}}, "200", ""},
		"as long as may be":           {"/format_query", url.Values{"query": {strings.Repeat("1+", 500) + "1"}}, "200", ""},
		"the end of time":             {"/query", url.Values{"query": {"hits_total"}, "time": {fmt.Sprint(math.MaxInt64)}}, "400", "bad_data"},
		"the beginning of time":       {"/query", url.Values{"query": {"hits_total"}, "time": {fmt.Sprint(math.MinInt64)}}, "400", "bad_data"},
		"after the end of time":       {"/query", url.Values{"query": {"hits_total"}, "time": {"1e400"}}, "400", "bad_data"},
		"labels of all time":          {"/labels", url.Values{"start": {"-1e17"}, "end": {"1e17"}}, "400", "bad_data"},
		"series from no time":         {"/series", url.Values{"match[]": {"hits_total"}, "start": {"-Inf"}}, "400", "bad_data"},
		"all of time":                 {"/query_range", ranged("hits_total", fmt.Sprint(math.MinInt64/1000), fmt.Sprint(math.MaxInt64/1000), "1e15"), "200 400 422", ""},
		"both ends in milliseconds":   {"/query_range", ranged("rate(hits_total[5m])", "-9223372036854775", "9223372036854775", "9223372036"), "200 400 422", ""},
		"a range of all time":         {"/query", url.Values{"query": {"rate(hits_total[290y])"}, "time": {now}}, "200 400 422", ""},
		"an offset of all time":       {"/query", url.Values{"query": {"hits_total offset -290y"}, "time": {now}}, "200 400 422", ""},
		"at the end of time":          {"/query", url.Values{"query": {"hits_total @ 9223372036854775"}, "time": {now}}, "200 400 422", ""},
		"no number":                   {"/query", url.Values{"query": {"hits_total"}, "time": {"NaN"}}, "400", "bad_data"},
		"endless step":                {"/query_range", ranged("hits_total", now, now, "Inf"), "400", "bad_data"},
		"negative step":               {"/query_range", ranged("hits_total", now, now, "-10"), "400", "bad_data"},
		"names beyond ASCII":          {"/query", url.Values{"query": {`{"hits_total", "ünï.cödé"="ja"}`}, "time": {now}}, "200", ""},
		"bytes that are no text":      {"/query", url.Values{"query": {"hits_total{i=\"\xff\xfe\"}"}}, "200 400", ""},
		"a parameter twice":           {"/query", url.Values{"query": {"1", "("}}, "200", ""},
		"nothing":                     {"/query", nil, "400", "bad_data"},
	} {
		begin := time.Now()
		a := s.do("acme", "POST", test.path, test.form)
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
		body := a.body[:min(len(a.body), 300)]
		if !strings.Contains(test.codes, fmt.Sprint(a.code)) || a.code != 200 && (a.Status != "error" || a.Error == "") || test.kind != "" && a.Type != test.kind {
			t.Errorf("%s: got %d %s, want %s %s", name, a.code, body, test.codes, test.kind)
		}
		if len(a.Error) > 4000 {
			t.Errorf("%s: got an error of %d bytes", name, len(a.Error))
		}
	}
	if got := s.one(`sum(rate(hits_total[5m]))`, s.now); !near(got, 0.3, 1e-9) {
		t.Errorf("afterwards: got %v, want 0.3", got)
	}
	for _, kind := range []string{"application/json", "multipart/form-data", "text/plain", "application/x-www-form-urlencoded; charset=\xff"} {
		r := httptest.NewRequest("POST", "/query", strings.NewReader(`{"query":"1"}`))
		r.Header.Set("Content-Type", kind)
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r.WithContext(tenants.NewContext(r.Context(), "acme")))
		if w.Code != 400 || !strings.Contains(w.Body.String(), "bad_data") {
			t.Errorf("content type %s: got %d %s, want 400", kind, w.Code, w.Body)
		}
	}
}

// Queries that are the same run once while they run, whoever of those who asked goes away; different tenants' never are
// the same.
func TestSharing(t *testing.T) {
	s := newServer(t)
	for _, tenant := range []tenants.ID{"acme", "demo"} {
		s.store.add(t, tenant, events.Delta, "hits_total", nil, every(time.Second, epoch, s.now, 1)...)
		s.store.upTo(tenant, s.now, s.now)
		s.do(tenant, "POST", "/query", url.Values{"query": {"hits_total"}, "time": {seconds(s.now)}}) // fills the caches
	}
	form := url.Values{"query": {"hits_total * 2"}, "time": {seconds(s.now)}}
	s.store.mu.Lock() // they hang in the database
	reads := len(s.store.reads)
	answers := make(chan answer)
	for _, tenant := range []tenants.ID{"acme", "acme", "acme", "demo"} {
		go func() { answers <- s.do(tenant, "POST", "/query", form) }()
	}
	for s.service.Sharing() != 4 {
		time.Sleep(time.Millisecond)
	}
	s.store.mu.Unlock()
	for range 4 {
		if a := <-answers; a.code != 200 || !strings.Contains(a.body, `"20"`) || a.header.Get(promql.HeaderPushdown) != "none" {
			t.Errorf("got %d %s", a.code, a.body)
		}
	}
	one := len(s.store.reads) - reads
	s.do("acme", "POST", "/query", form)
	if again := len(s.store.reads) - reads - one; one != 2*again {
		t.Errorf("got %d reads for three of one tenant and one of another, want twice the %d of one", one, again)
	}
	if n := s.service.Sharing(); n != 0 {
		t.Errorf("got %d waiting after the end, want none", n)
	}
}
