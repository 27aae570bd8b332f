package promql

import (
	"context"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
)

// progressAtOnce is of how many tenants one statement reads the progress.
const progressAtOnce = 1000

// Complete is, for each of the tenants, the time up to which all of its windows are complete; nil beside an error.
// Queries that follow within a second take it from here. What was appended to Kafka before stored, by the clocks of the
// stream's hosts, can be queried; it is zero without tenants.
func (s *Service) Complete(ctx context.Context, of []tenants.ID) (complete map[tenants.ID]time.Time, stored time.Time, err error) {
	complete = make(map[tenants.ID]time.Time, len(of))
	now := s.now().UnixMilli()
	for some := range slices.Chunk(of, progressAtOnce) {
		rows, err := s.store.Progress(ctx, some)
		if err != nil {
			return nil, time.Time{}, s.storeError(ctx, some[0], "progress", err)
		}
		byTenant := make(map[tenants.ID][]Progress)
		for _, r := range rows {
			byTenant[r.Tenant] = append(byTenant[r.Tenant], r)
		}
		stored = time.UnixMilli(processed(byTenant[""], now)).UTC()
		for _, tenant := range some {
			its := slices.Concat(byTenant[""], byTenant[tenant])
			s.progress.put(tenant, its)
			complete[tenant] = time.UnixMilli(watermark(its, now)).UTC()
		}
	}
	return complete, stored, nil
}
