package promql

import (
	"cmp"
	"slices"
)

// A selector such as {__name__=~".+"} means hundreds of metrics of few series each, and a statement takes milliseconds
// however little it reads. So metrics are read together while they have so many series, which is what the database sorts
// at once, and names of so many bytes, which stand in the statement. A metric with more is read alone.
const (
	seriesTogether = 4096
	namesTogether  = 16 << 10
)

// together are members by what one read of the database can bring: series of one kind and shape of windows, for those
// need the same columns and the same time. Each list is ascending in ID; those of kinds come in the order of kinds. It
// changes the order of members.
func together(members []member) (lists [][]member) {
	slices.SortFunc(members, func(a, b member) int { return cmp.Or(compareNeeds(&a, &b), cmp.Compare(a.Metric, b.Metric)) })
	start, names := 0, 0 // of the list at hand
	for at, end := 0, 0; at < len(members); at = end {
		one := &members[at]
		for end = at; end < len(members) && members[end].Metric == one.Metric && compareNeeds(&members[end], one) == 0; {
			end++
		}
		full := end-start > seriesTogether || names+len(one.Metric) > namesTogether
		if at > start && (full || compareNeeds(&members[start], one) != 0) {
			lists = append(lists, members[start:at])
			start, names = at, 0
		}
		names += len(one.Metric)
	}
	if start < len(members) {
		lists = append(lists, members[start:])
	}
	for _, list := range lists {
		slices.SortFunc(list, func(a, b member) int { return compareIDs(a.ID, b.ID) })
	}
	return lists
}

// compareNeeds is by what has to be read of a series.
func compareNeeds(a, b *member) int {
	return cmp.Or(cmp.Compare(a.kinds(), b.kinds()), cmp.Compare(a.Shape, b.Shape))
}

// metricsOf are the metrics of members, each once.
func metricsOf(members []member) (metrics []string) {
	for i := range members {
		if n := len(metrics); n == 0 || metrics[n-1] != members[i].Metric {
			metrics = append(metrics, members[i].Metric)
		}
	}
	slices.Sort(metrics)
	return slices.Compact(metrics)
}
