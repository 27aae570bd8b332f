package backfill

import (
	"cmp"
	"slices"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// hoursOf are the hours that blocks have rows in, those that follow each other together.
func hoursOf(blocks []*pipeline.Rollups) []Hours {
	seen := map[Hours]bool{}
	for _, b := range blocks {
		for i := range b.Tenant {
			hour := int64(b.Pane[i]) / 3600
			seen[Hours{b.Tenant[i], b.Metric[i], hour, hour + 1}] = true
		}
	}
	single := make([]Hours, 0, len(seen))
	for h := range seen {
		single = append(single, h)
	}
	slices.SortFunc(single, func(a, b Hours) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.From, b.From))
	})
	var hours []Hours
	for _, h := range single {
		if last := len(hours) - 1; last >= 0 && hours[last].Tenant == h.Tenant &&
			hours[last].Metric == h.Metric && hours[last].To == h.From {
			hours[last].To = h.To
		} else {
			hours = append(hours, h)
		}
	}
	return hours
}
