package promql_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/events"
)

// Names and values of labels are those of the series that /series lists, for stored series of every kind, also of
// several under one name.
func TestLabelsAreOfSeries(t *testing.T) {
	s := newServer(t)
	listed := 0
	rapid.Check(t, func(rt *rapid.T) {
		s.store.empty()
		for _, name := range []string{"hits_total", "lat_seconds", "lat_seconds_count", "temp", "visits"} {
			for i := range rapid.IntRange(0, 3).Draw(rt, name) {
				kind := rapid.SampledFrom([]events.Kind{events.Delta, events.Observation, events.Gauge, events.Cumulative}).Draw(rt, "kind")
				ls := map[string]string{}
				for _, label := range []string{"a", "service", "le"} {
					if v := rapid.SampledFrom([]string{"", "1", "2"}).Draw(rt, label); v != "" {
						ls[label] = v
					}
				}
				if name == "visits" {
					s.store.window(t, kind, name, "tumbling 1m", ls)
				} else {
					s.store.add(t, "acme", kind, name, ls, event{s.now.Add(-time.Duration(1+i) * time.Minute), 1})
				}
			}
		}
		s.now = s.now.Add(10 * time.Second) // later than the catalog is kept
		form := url.Values{"start": {seconds(epoch)}, "end": {seconds(s.now)}}
		match := rapid.SampledFrom([]string{
			"", `{a="1"}`, "lat_seconds_bucket", `{__name__=~"lat_.*",service!="1"}`, `lat_seconds_bucket{le="1"}`, `{le="+Inf"}`, `{le!="",a=~"1|2"}`, `{__name__=~"hits_total|visits_count"}`, `lat_seconds_bucket{le="none"}`,
		}).Draw(rt, "match")
		all := url.Values{"match[]": {`{__name__!=""}`}, "start": form["start"], "end": form["end"]}
		if match != "" {
			form.Set("match[]", match)
			all.Set("match[]", match)
		}
		var series struct{ Data []map[string]string }
		s.body(&series, "/series", all)
		want := map[string]map[string]bool{}
		for _, one := range series.Data {
			for name, value := range one {
				if want[name] == nil {
					want[name] = map[string]bool{}
				}
				want[name][value] = true
			}
		}
		check := func(path string, want []string) {
			var got struct{ Data []string }
			if s.body(&got, path, form); !slices.Equal(got.Data, want) {
				rt.Fatalf("%s of %s: got %q, want %q", path, match, got.Data, want)
			}
			listed += len(want)
		}
		check("/labels", slices.Sorted(maps.Keys(want)))
		for _, name := range []string{"__name__", "a", "service", "le", "item"} {
			check("/label/"+name+"/values", slices.Sorted(maps.Keys(want[name])))
		}
	})
	if listed == 0 {
		t.Error("nothing was listed")
	}
}

// What a tenant may see of values is bounded, and said; what the client bounds is not.
func TestLabelValuesLimit(t *testing.T) {
	s := newServer(t)
	for i := range 20 {
		s.store.add(t, "acme", events.Gauge, "temp", map[string]string{"a": fmt.Sprintf("%02d", i), "b": "x"}, event{s.now.Add(-time.Minute), 1})
	}
	s.limits.QuerySeries = 7
	ask := func(form url.Values) (values []string, warnings int) {
		var got struct{ Data, Warnings []string }
		s.body(&got, "/label/a/values", form)
		return got.Data, len(got.Warnings)
	}
	if values, warnings := ask(nil); len(values) != 7 || values[6] != "06" || warnings != 1 {
		t.Errorf("got %q and %d warnings, want the first seven and one", values, warnings)
	}
	if values, _ := ask(url.Values{"limit": {"3"}}); !slices.Equal(values, []string{"00", "01", "02"}) {
		t.Errorf("got %q, want three", values)
	}
	if a := s.do("acme", "GET", "/label/b/values", nil); a.code != 200 || len(a.Warnings) != 0 {
		t.Errorf("got %s, want the one value of all twenty series without a warning", a.body)
	}
}

func (s *server) body(into any, path string, form url.Values) {
	s.t.Helper()
	a := s.do("acme", "GET", path, form)
	if a.code != 200 {
		s.t.Fatalf("%s %v: %s", path, form, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), into); err != nil {
		s.t.Fatal(err)
	}
}
