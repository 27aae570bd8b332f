package events_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// Labels are sorted, and said twice are refused, in whatever order they come and however they are spelled, while their
// names become known, are more than are kept, and others take their places; also where batches learn them together.
func TestLabelsInAnyOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	decoder, batches := events.NewDecoder(events.Options{}), [4]*events.Batch{}
	for n := range 20_000 {
		pool := []int{5, 12, 60, 3000}[n/100%4]
		if n < 10_000 && n%25 == 0 { // begin with batches that know no name
			keys := new(events.Keys)
			for i := range batches {
				if batches[i] = new(events.Batch); i > 0 {
					batches[i].Share(keys)
				}
			}
		}
		batch := batches[r.IntN(len(batches))]
		names := make([]string, 1+r.IntN(min(pool, 60)))
		for i := range names {
			names[i] = fmt.Sprint([]string{"a", "service_", "z"}[r.IntN(3)], r.IntN(pool))
		}
		if r.IntN(10) > 0 {
			slices.Sort(names)
			names = slices.Compact(names)
			r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		}
		var want series.Labels
		var text []string
		for i, name := range names {
			spelled, value, space := name, fmt.Sprint(i), ""
			switch r.IntN(50) {
			case 0:
				spelled = fmt.Sprintf(`\u%04x%s`, name[0], name[1:])
			case 1:
				value = ""
			case 2:
				space = " "
			}
			text = append(text, fmt.Sprintf(`"%s"%s:%s"%s"`, spelled, space, space, value))
			if value != "" {
				want = append(want, series.Label{Name: name, Value: value})
			}
		}
		slices.SortFunc(want, func(a, b series.Label) int { return strings.Compare(a.Name, b.Name) })
		twice := len(slices.CompactFunc(slices.Clone(want), func(a, b series.Label) bool { return a.Name == b.Name })) < len(want)
		value := `{"name":"m","value":1,"time":1763892000,"labels":{` + strings.Join(text, ",") + `}}`
		decoder.Decode(batch, events.Source{Signal: events.Metrics, Key: []byte("acme"), Value: []byte(value)})
		switch {
		case twice:
			if len(batch.Metrics) > 0 || len(batch.Rejects) != 1 || batch.Rejects[0].Reason != events.ReasonDuplicateLabel {
				t.Fatalf("event %d: %s: got %v and refusals %v, want it refused as %s",
					n, value, batch.Metrics, batch.Rejects, events.ReasonDuplicateLabel)
			}
		case len(batch.Metrics) != 1:
			t.Fatalf("event %d: %s: got refusals %v, want an event", n, value, batch.Rejects)
		case !batch.Metrics[0].Labels.Equal(want):
			t.Fatalf("event %d: %s: got labels %v, want %v", n, value, batch.Metrics[0].Labels, want)
		}
	}
}
