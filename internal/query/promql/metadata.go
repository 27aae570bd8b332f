package promql

import (
	"net/http"
	"slices"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// metadata is one entry of /metadata.
type metadata struct {
	Type string `json:"type"`
	Help string `json:"help"`
	Unit string `json:"unit"`
}

// serveMetadata answers from the stored metrics; upstream's handler would ask scrape targets.
func (s *Service) serveMetadata(w http.ResponseWriter, r *http.Request) {
	limit, err := number(r, "limit")
	perMetric, err2 := number(r, "limit_per_metric")
	if err != nil || err2 != nil {
		writeError(w, http.StatusBadRequest, "bad_data", "limit and limit_per_metric: want whole numbers")
		return
	}
	tenant, ok := tenants.FromContext(r.Context())
	if !ok {
		writeError(w, http.StatusInternalServerError, "internal", errNoTenant.Error())
		return
	}
	c, err := s.catalog(r.Context(), tenant)
	if err != nil {
		writeError(w, http.StatusInternalServerError, "internal", err.Error())
		return
	}
	data := make(map[string][]metadata)
	c.describeAll(func(name string, about metadata) {
		if asked := r.FormValue("metric"); asked != "" && asked != name {
			return
		}
		list, seen := data[name]
		if !seen && limit >= 0 && len(data) >= limit || slices.Contains(list, about) {
			return
		}
		if perMetric <= 0 || len(list) < perMetric {
			data[name] = append(list, about)
		}
	})
	writeJSON(w, http.StatusOK, map[string]any{"status": "success", "data": data})
}

// describeAll calls f for every name that a query may use, stored ones with what was derived from them.
func (c *catalog) describeAll(f func(name string, about metadata)) {
	for i := range c.metas {
		m := &c.metas[i]
		about := metadata{metadataType(m), m.Help, m.Unit}
		part := metadata{"counter", m.Help, m.Unit}
		if m.Shape != "" {
			about.Help = "Closed windows, " + m.Shape + "."
			part = metadata{"gauge", about.Help, m.Unit}
		}
		f(m.Metric, about)
		for _, d := range derived {
			name := m.Metric + d.suffix
			if m.kinds()&d.kinds != 0 &&
				slices.ContainsFunc(c.targets[name], func(t target) bool { return t.metric == m.Metric && t.facet == d.facet }) {
				of := part
				if d.facet == count || d.facet == bucket {
					of.Unit = "" // they count
				}
				f(name, of)
			}
		}
	}
}

func metadataType(m *Meta) string {
	switch {
	case m.kinds() == kindClosedSketch:
		return "gaugehistogram"
	case m.Shape != "":
		return "gauge"
	case m.Kind == events.Gauge && m.Native:
		return "gaugehistogram"
	case m.Kind == events.Observation, m.Native:
		return "histogram"
	case m.Kind == events.Gauge:
		return "gauge"
	}
	return "counter"
}
