package clickhouse_test

import (
	"cmp"
	"reflect"
	"slices"
	"testing"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
)

// checkCardinality compares the counts of series by label with plain loops.
func checkCardinality(t *testing.T, store *clickhouse.Store, o *oracle, at uint32) {
	t.Helper()
	for _, tenant := range []tenants.ID{"acme", "demo", "nobody"} {
		for _, since := range []int64{0, (int64(at) + 1800) * 1000} {
			for _, most := range []int{1, 10, 10000} {
				got, err := store.Cardinality(t.Context(), tenant, since, most)
				if err != nil {
					t.Fatal(err)
				}
				if want := o.cardinality(tenant, since, most); !reflect.DeepEqual(got, want) {
					t.Errorf("tenant %s since %d, at most %d:\ngot  %+v\nwant %+v", tenant, since, most, got, want)
				}
			}
		}
	}
}

func (o *oracle) cardinality(tenant tenants.ID, since int64, most int) *promql.Cardinality {
	counts := map[string]map[string]uint64{}
	out := &promql.Cardinality{}
	count := func(name, value string) {
		if counts[name] == nil {
			counts[name] = map[string]uint64{}
		}
		counts[name][value]++
	}
	for _, s := range o.series[tenant] {
		if int64(s.seen) < since/1000 {
			continue
		}
		out.Series++
		count("__name__", s.Metric)
		for _, l := range s.Labels {
			count(l.Name, l.Value)
		}
	}
	for name, values := range counts {
		label := promql.LabelCardinality{Name: name, Values: uint64(len(values))}
		for value, n := range values {
			label.Series += n
			label.Bytes += n * uint64(len(value))
			label.Top = append(label.Top, promql.ValueCount{Value: value, Series: n})
		}
		slices.SortFunc(label.Top, func(a, b promql.ValueCount) int {
			return cmp.Or(cmp.Compare(b.Series, a.Series), cmp.Compare(a.Value, b.Value))
		})
		label.Top = label.Top[:min(most, len(label.Top))]
		out.Labels = append(out.Labels, label)
	}
	slices.SortFunc(out.Labels, func(a, b promql.LabelCardinality) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
