package promql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/tenants"
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
	queries, lists := s.form(s.queries(traced(upstream))), s.form(s.held(upstream))
	answers := map[string]http.Handler{
		"/query":              queries,
		"/query_range":        queries,
		"/series":             lists,
		"/labels":             lists,
		"/label/:name/values": lists,
		"/metadata":           http.HandlerFunc(s.serveMetadata),
		"/status/tsdb":        http.HandlerFunc(s.serveCardinality),
		"/read":               s.held(s.remoteRead()),
	}
	others := s.form(upstream)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, ok := routeOf(w, r)
		if !ok {
			return
		}
		if answer := answers[path]; answer != nil {
			answer.ServeHTTP(w, r)
			return
		}
		others.ServeHTTP(w, r)
	})
}

// routeOf is the route of a request. Where there is none, or nothing left to do, it answers, and ok is false.
func routeOf(w http.ResponseWriter, r *http.Request) (path string, ok bool) {
	path = r.URL.Path
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
	default:
		return path, true
	}
	return path, false
}

// form lets next see a request whose form can be read, and asks for nothing that would take too long only to look at.
func (s *Service) form(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
		default:
			next.ServeHTTP(w, r)
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
		place, err := s.place(ctx, tenant)
		cancel()
		if err != nil {
			code, kind := statusOf(err)
			writeError(w, code, kind, err.Error())
			return
		}
		defer place.Release()
		next.ServeHTTP(w, r.WithContext(place.Context(r.Context())))
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

// number reads an optional number; -1 when there is none.
func number(r *http.Request, name string) (int, error) {
	text := r.FormValue(name)
	if text == "" {
		return -1, nil
	}
	return strconv.Atoi(text)
}
