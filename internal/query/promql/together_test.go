package promql_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/pkg/events"
)

// A selector of many names says what selectors of one name each say, of every kind of series, and few reads bring it.
func TestManyNames(t *testing.T) {
	const metrics, large = 200, 3000
	r := rand.New(rand.NewPCG(1, 2))
	s := newServer(t)
	values := func() (list []event) {
		for at := epoch; at.Before(s.now); at = at.Add(time.Duration(1+r.IntN(1200)) * time.Second) {
			list = append(list, event{at, float64(r.IntN(100))})
		}
		return list
	}
	long := strings.Repeat("x", 100) // so that not all names fit in one statement
	for i := range metrics {
		name, host := fmt.Sprint("m", i, long), map[string]string{"host": fmt.Sprint(r.IntN(2))}
		if i%8 > 0 {
			for range 1 + r.IntN(3) { // of several kinds with the same labels, too
				s.store.add(t, "acme", events.Kind(r.IntN(4)), name, host, values()...)
			}
			continue
		}
		end := epoch.Add(time.Duration(r.IntN(100)) * time.Minute)
		shape := []string{"tumbling 1m", "tumbling 1h", "session 5m"}[r.IntN(3)]
		length := map[string]time.Duration{"tumbling 1m": time.Minute, "tumbling 1h": time.Hour, "session 5m": 3 * time.Hour}[shape]
		s.store.window(t, events.Kind(r.IntN(2)), name, shape, host, result(end.Add(-length), end, 3, 2))
	}
	for i := range 2 * large {
		s.store.add(t, "acme", events.Gauge, fmt.Sprint("large", i%2), map[string]string{"pod": fmt.Sprint(i)}, event{epoch.Add(time.Hour), 1})
	}
	var names struct{ Data []string }
	if err := json.Unmarshal([]byte(s.do("acme", "GET", "/label/__name__/values", url.Values{"start": {"0"}}).body), &names); err != nil {
		t.Fatal(err)
	}
	ask := func(selector, path string, form url.Values) (list []string) {
		form.Set("query", selector)
		a := s.do("acme", "GET", path, form)
		var found []json.RawMessage
		if err := json.Unmarshal(a.Data.Result, &found); a.Status != "success" || err != nil {
			t.Fatalf("%s: got %d %.200s", selector, a.code, a.body)
		}
		for _, one := range found {
			list = append(list, string(one))
		}
		return list
	}
	start, end := seconds(epoch.Add(time.Hour)), seconds(epoch.Add(100*time.Minute))
	for path, form := range map[string]url.Values{
		"/query": {"time": {start}}, "/query_range": {"start": {start}, "end": {end}, "step": {"600"}},
	} {
		var want []string
		for _, name := range names.Data {
			want = append(want, ask(fmt.Sprintf(`{__name__=%q}`, name), path, form)...)
		}
		s.store.reads, s.store.windows = nil, 0
		got := ask(`{__name__=~".+"}`, path, form)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) || len(want) < metrics+2*large {
			t.Errorf("%s: got %d series, want those %d that %d selectors give", path, len(got), len(want), len(names.Data))
		}
		if n := len(s.store.reads) + s.store.windows; n > 30 {
			t.Errorf("%s: %d reads of %d metrics, want 30 at most", path, n, metrics+2)
		}
		for _, q := range s.store.reads {
			if len(q.IDs) > 4096 || len(strings.Join(q.Metrics, "")) > 16<<10 {
				t.Errorf("%s: a read of %d series of %d metrics", path, len(q.IDs), len(q.Metrics))
			}
		}
	}
}
