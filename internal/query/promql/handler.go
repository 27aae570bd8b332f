package promql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// routes are the paths of Prometheus' HTTP API that mean something here, with their methods. Writing, administration
// and scrape targets do not.
var routes = map[string]string{
	"/query":              "GET POST",
	"/query_range":        "GET POST",
	"/query_exemplars":    "GET POST",
	"/format_query":       "GET POST",
	"/parse_query":        "GET POST",
	"/labels":             "GET POST",
	"/series":             "GET POST",
	"/rules":              "GET",
	"/alerts":             "GET",
	"/status/buildinfo":   "GET",
	"/status/config":      "GET",
	"/status/flags":       "GET",
	"/status/runtimeinfo": "GET",
	"/status/tsdb":        "GET",
	"/notifications":      "GET",
	"/label/:name/values": "GET",
	"/metadata":           "GET",
	"/read":               "POST",
}

// maxBody bounds a form.
const maxBody = 1 << 20

// Handler serves Prometheus' HTTP API below its prefix ("/query", not "/api/v1/query"). The request's context
// carries the tenant.
func (s *Service) Handler() http.Handler {
	upstream := newAPI(s, s.QueryEngine(), s.Queryable())
	queries, lists, reads := s.queries(traced(upstream)), s.held(upstream), s.held(s.remoteRead())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if strings.HasPrefix(path, "/label/") && strings.HasSuffix(path, "/values") {
			path = "/label/:name/values"
		}
		methods, known := routes[path]
		switch {
		case strings.HasPrefix(path, "/search/"):
			// Grafana then lists labels instead, for the rest of its session.
			writeError(w, http.StatusServiceUnavailable, "unavailable",
				"search is not supported; use /labels and /label/<name>/values")
		case !known:
			writeError(w, http.StatusNotFound, "not_found", "there is no "+path+" here: see docs/query-api.md for what is served")
		case r.Method == http.MethodOptions:
			w.Header().Set("Allow", strings.ReplaceAll(methods, " ", ", ")+", OPTIONS")
			w.WriteHeader(http.StatusNoContent)
		case !strings.Contains(methods, r.Method):
			w.Header().Set("Allow", strings.ReplaceAll(methods, " ", ", "))
			writeError(w, http.StatusMethodNotAllowed, "bad_data", path+" takes "+strings.ReplaceAll(methods, " ", " or "))
		case path == "/metadata":
			s.serveMetadata(w, r)
		case path == "/status/tsdb":
			s.serveCardinality(w, r)
		case path == "/read":
			reads.ServeHTTP(w, r)
		default:
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			err := r.ParseForm()
			if err == nil {
				err = errors.Join(checkTimes(r), checkNesting(r.FormValue("query")))
			}
			_, large := errors.AsType[*http.MaxBytesError](err)
			switch {
			case large:
				writeError(w, http.StatusRequestEntityTooLarge, "bad_data",
					fmt.Sprintf("the request is larger than %d bytes: send a shorter query", maxBody))
			case err != nil:
				writeError(w, http.StatusBadRequest, "bad_data", err.Error())
			case len(r.Form["match[]"]) > s.cfg.MaxSelectors: // each is a read of the database
				writeError(w, http.StatusUnprocessableEntity, "execution", selectorsLimit(s.cfg.MaxSelectors).Error())
			case path == "/query" || path == "/query_range":
				queries.ServeHTTP(w, r)
			case path == "/series" || path == "/labels" || path == "/label/:name/values":
				lists.ServeHTTP(w, r)
			default:
				upstream.ServeHTTP(w, r)
			}
		}
	})
}

// held lets next answer in one of the tenant's places, for which a request waits at most as long as a query may run.
func (s *Service) held(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tenant, ok := tenants.FromContext(r.Context())
		if !ok {
			writeError(w, http.StatusInternalServerError, "internal", errNoTenant.Error())
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), s.limits(tenant).QueryTimeout)
		release, err := s.place(ctx, tenant)
		cancel()
		if err != nil {
			code, kind := statusOf(err)
			writeError(w, code, kind, err.Error())
			return
		}
		defer release()
		next.ServeHTTP(w, r)
	})
}

// queries lets identical queries share their answer. There is one handler a service.
func (s *Service) queries(next http.Handler) http.Handler {
	s.sharing = newSharing(next, s.metrics.shared, func(tenant tenants.ID, cause any) {
		s.log.Error("answer a query", "tenant", tenant, "err", cause, "stack", string(debug.Stack()))
	})
	return s.sharing
}

func writeError(w http.ResponseWriter, code int, kind, text string) {
	writeJSON(w, code, map[string]string{"status": "error", "errorType": kind, "error": text})
}

func writeJSON(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the client has gone
}

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

// number reads an optional number; -1 when there is none.
func number(r *http.Request, name string) (int, error) {
	text := r.FormValue(name)
	if text == "" {
		return -1, nil
	}
	return strconv.Atoi(text)
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
