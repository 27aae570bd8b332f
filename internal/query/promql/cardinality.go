package promql

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"github.com/prometheus/common/model"
	apiv1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/vigie-io/vigie/internal/tenants"
)

// Cardinality is how many series a tenant has, by label. The metric's name is the label __name__.
type Cardinality struct {
	Series uint64
	Labels []LabelCardinality
}

// LabelCardinality is about one label.
type LabelCardinality struct {
	Name   string
	Values uint64 // different ones
	Series uint64 // that have it
	Bytes  uint64 // of its values, of all series
	Top    []ValueCount
}

// ValueCount is a label's value and how many series have it.
type ValueCount struct {
	Value  string
	Series uint64
}

// Most and fewest entries of the lists of /status/tsdb, as upstream has them.
const (
	cardinalityTop  = 10
	cardinalityMost = 10_000
)

// serveCardinality answers /status/tsdb: of stored series that were active within labels_window, before anything is
// derived of them. There are no chunks. It takes one of the tenant's places, as queries do.
func (s *Service) serveCardinality(w http.ResponseWriter, r *http.Request) {
	tenant, ok := tenants.FromContext(r.Context())
	if !ok || s.cardinality == nil {
		writeError(w, http.StatusNotFound, "not_found", "no statistics are kept here")
		return
	}
	most, err := number(r, "limit")
	if r.FormValue("limit") == "" {
		most = cardinalityTop
	}
	if err != nil || most < 1 || most > cardinalityMost {
		writeError(w, http.StatusBadRequest, "bad_data", "limit: want a number from 1 to 10000")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.limits(tenant).QueryTimeout)
	defer cancel()
	place, err := s.place(ctx, tenant)
	if err == nil {
		defer place.Release()
		err = nameLimit(s.answerCardinality(place.Context(ctx), w, tenant, most), s.limits(tenant))
	}
	if err != nil {
		code, kind := statusOf(err)
		writeError(w, code, kind, err.Error())
	}
}

func (s *Service) answerCardinality(ctx context.Context, w http.ResponseWriter, tenant tenants.ID, most int) error {
	p, err := s.newPlan(ctx)
	if err != nil {
		return err
	}
	since := p.now - s.cfg.LabelsWindow.Milliseconds()
	c, err := s.cardinality(ctx, tenant, since, most)
	if err != nil {
		return s.storeError(ctx, tenant, "statistics", err)
	}
	status := c.status(most)
	status.HeadStats.MinTime, status.HeadStats.MaxTime = since, p.clamp
	writeJSON(w, http.StatusOK, map[string]any{"status": "success", "data": status})
	return nil
}

func (c *Cardinality) status(most int) *apiv1.TSDBStatus {
	status := &apiv1.TSDBStatus{HeadStats: apiv1.HeadStats{NumSeries: c.Series}, SeriesCountByMetricName: []apiv1.TSDBStat{}}
	for _, l := range c.Labels {
		status.HeadStats.NumLabelPairs += int(l.Values)
		status.LabelValueCountByLabelName = append(status.LabelValueCountByLabelName,
			apiv1.TSDBStat{Name: l.Name, Value: l.Values})
		status.MemoryInBytesByLabelName = append(status.MemoryInBytesByLabelName, apiv1.TSDBStat{Name: l.Name, Value: l.Bytes})
		for _, v := range l.Top {
			status.SeriesCountByLabelValuePair = append(status.SeriesCountByLabelValuePair,
				apiv1.TSDBStat{Name: l.Name + "=" + v.Value, Value: v.Series})
			if l.Name == model.MetricNameLabel {
				status.SeriesCountByMetricName = append(status.SeriesCountByMetricName,
					apiv1.TSDBStat{Name: v.Value, Value: v.Series})
			}
		}
	}
	for _, list := range []*[]apiv1.TSDBStat{
		&status.SeriesCountByMetricName, &status.LabelValueCountByLabelName,
		&status.MemoryInBytesByLabelName, &status.SeriesCountByLabelValuePair,
	} {
		*list = greatest(*list, most)
	}
	return status
}

// greatest are the first entries by value, equal ones by name; never nil.
func greatest(list []apiv1.TSDBStat, most int) []apiv1.TSDBStat {
	slices.SortFunc(list, func(a, b apiv1.TSDBStat) int {
		return cmp.Or(cmp.Compare(b.Value, a.Value), cmp.Compare(a.Name, b.Name))
	})
	if list == nil {
		return []apiv1.TSDBStat{}
	}
	return list[:min(most, len(list))]
}
