// Package api puts the query endpoints behind one address: Prometheus' HTTP API at /api/v1 (and
// /prometheus/api/v1), ClickHouse's HTTP interface at /sql, and at / for clients that take no path. It authenticates
// PromQL requests, carries their tenant in the context and measures everything. What is answered is decided in packages
// promql and sqlgate; health, readiness and /metrics belong to the service's admin address.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/query/querylog"
	"github.com/vigie-io/vigie/internal/query/slots"
	"github.com/vigie-io/vigie/internal/query/sqlgate"
	"github.com/vigie-io/vigie/internal/telemetry"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// Options are an API's surroundings.
type Options struct {
	// Store answers PromQL, Upstream SQL. Required.
	Store    promql.Store
	Upstream sqlgate.Upstream
	// Authenticate returns the tenant of a request from its Authorization header, or an error wrapping
	// tenants.ErrUnauthenticated or tenants.ErrForbidden. Required.
	Authenticate func(*http.Request) (tenants.ID, error)
	// Limits says what a tenant may use. Required.
	Limits func(tenants.ID) tenants.Limits
	// HiddenInSQL replaces names in errors of SQL that are the operator's business; nil replaces none.
	HiddenInSQL *strings.Replacer
	// Registerer takes the metrics; nil leaves them out.
	Registerer prometheus.Registerer
	// Log takes what clients are not told; nil is slog.Default.
	Log *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// DecodeHistogram reads native histogram samples; see promql.Options.
	DecodeHistogram func(bytes string) (*events.Histogram, error)
	// Rules lists the rule groups of a tenant; see promql.Options.
	Rules func(tenants.ID) promql.Rules
	// Cardinality counts series by label; see promql.Options.
	Cardinality func(ctx context.Context, tenant tenants.ID, since int64, most int) (*promql.Cardinality, error)
	// Queries takes every query; nil takes none.
	Queries *querylog.Log
	// Version is Vigie's, for /status/buildinfo.
	Version string
}

// API is an http.Handler. Safe for concurrent use.
type API struct {
	mux          http.Handler
	promql       *promql.Service
	authenticate func(*http.Request) (tenants.ID, error)
	log          *slog.Logger
	now          func() time.Time
	requests     *prometheus.CounterVec
	seconds      *prometheus.HistogramVec
	running      *prometheus.GaugeVec
}

// New makes an API. cfg must be valid.
func New(cfg Config, o Options) (*API, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	if o.Authenticate == nil || o.Limits == nil {
		return nil, errors.New("query: Authenticate and Limits are required")
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Limits = cfg.bounded(o.Limits)
	places := slots.New(func(t tenants.ID) (int, int) { return o.Limits(t).QueryConcurrency, cfg.PromQL.MaxWaiting })
	service, err := promql.New(cfg.PromQL, promql.Options{
		Store: o.Store, Limits: o.Limits, Registerer: o.Registerer, Log: o.Log, Now: o.Now, Slots: places,
		DecodeHistogram: o.DecodeHistogram, Version: o.Version, Rules: o.Rules, Cardinality: o.Cardinality, Queries: o.Queries,
	})
	if err != nil {
		return nil, err
	}
	gateway, err := sqlgate.New(cfg.SQL, sqlgate.Options{
		Upstream: o.Upstream, Authenticate: o.Authenticate, Limits: o.Limits, Slots: places, Hidden: o.HiddenInSQL,
		Queries: o.Queries, Registerer: o.Registerer, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	a := &API{promql: service, authenticate: o.Authenticate, log: o.Log, now: o.Now}
	a.measure(o.Registerer, places)
	a.route(gateway, document(o.Version))
	return a, nil
}

// PromQL is the service behind /api/v1, for rules.
func (a *API) PromQL() *promql.Service { return a.promql }

func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

func (a *API) route(gateway http.Handler, document func() []byte) {
	mux := http.NewServeMux()
	prometheus := http.NewServeMux()
	prometheus.Handle("/", a.promql.Handler())
	prometheus.Handle("GET /openapi.yaml", serveDocument(document))
	v1 := a.measured("promql", a.tenant(prometheus))
	mux.Handle("/api/v1/", http.StripPrefix("/api/v1", v1))
	mux.Handle("/federate", a.measured("promql", a.tenant(a.promql.Federate())))
	mux.Handle("/prometheus/api/v1/", http.StripPrefix("/prometheus/api/v1", v1))
	sql := a.measured("sql", gateway)
	mux.Handle("/sql", http.StripPrefix("/sql", sql))
	mux.Handle("/sql/", http.StripPrefix("/sql", sql))
	// Clients of ClickHouse that know host and port only, such as its JDBC driver.
	mux.Handle("/ping", sql)
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost && !r.URL.Query().Has("query") {
			discover(w, r)
			return
		}
		sql.ServeHTTP(w, r)
	})
	mux.HandleFunc("/", nothing)
	a.mux = mux
}

const help = `Ask Vigie in PromQL or SQL. Authorization: Bearer <key>, or the key as basic auth password; the key names the tenant.

PromQL, as Prometheus' HTTP API (Grafana: a Prometheus data source with this address):
GET, POST /api/v1/query         query, time
GET, POST /api/v1/query_range   query, start, end, step
GET       /api/v1/openapi.yaml  all of it

SQL, as ClickHouse's HTTP interface:
POST /sql  SELECT metric, kind, count() AS series FROM api.series GROUP BY metric, kind FORMAT PrettyCompact
POST /sql  SHOW TABLES FROM api
POST /sql  DESCRIBE api.metrics_10s

GET /-/ready says whether this service can answer.
`

// discover tells people who look what is here.
func discover(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, help)
}

func nothing(w http.ResponseWriter, r *http.Request) {
	fail(w, http.StatusNotFound, "not_found", "there is no "+r.URL.Path+" here: PromQL is at /api/v1/, SQL at /sql")
}

// tenant authenticates and takes away what a client must not choose.
func (a *API) tenant(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodOptions {
			next.ServeHTTP(w, r)
			return
		}
		tenant, err := a.authenticate(r)
		if err != nil {
			a.refuse(w, r, err)
			return
		}
		r.Header.Del("X-Prometheus-Use-Start-Timestamps") // windows make no sense without
		next.ServeHTTP(w, r.WithContext(tenants.NewContext(r.Context(), tenant)))
	})
}

func (a *API) refuse(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, tenants.ErrForbidden):
		fail(w, http.StatusForbidden, "forbidden", "this API key may not read: it needs the role read")
	case errors.Is(err, tenants.ErrUnauthenticated):
		w.Header().Set("WWW-Authenticate", `Basic realm="Vigie API key as password"`)
		text := "an API key is required: send Authorization: Bearer <key>, or the key as basic auth password"
		if r.Header.Get("Authorization") != "" {
			text = "the API key is not known: want Authorization: Bearer <key>, or the key as basic auth password"
		}
		fail(w, http.StatusUnauthorized, "unauthorized", text)
	default:
		a.log.Error("authenticate a query", "err", err)
		fail(w, http.StatusInternalServerError, "internal", "authentication is not available")
	}
}

// fail answers in the form of Prometheus' API.
func fail(w http.ResponseWriter, status int, kind, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	answer := json.NewEncoder(w)
	answer.SetEscapeHTML(false)
	_ = answer.Encode(map[string]string{"status": "error", "errorType": kind, "error": text}) // the client has gone
}

func (a *API) measure(r prometheus.Registerer, places *slots.Slots) {
	a.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "vigie_query_requests_total", Help: "Requests by endpoint and HTTP status.",
	}, []string{"endpoint", "status"})
	a.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "vigie_query_request_seconds", Help: "Time from a request to the end of its answer, by endpoint.",
		Buckets: []float64{0.01, 0.05, 0.1, 0.5, 1, 5, 30}, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
	}, []string{"endpoint"})
	a.running = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "vigie_query_requests_running", Help: "Requests being answered or waiting for a place, by endpoint.",
	}, []string{"endpoint"})
	behind := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "vigie_query_gave_way_total",
		Help: "Queries and statements that ran behind those of others, as their tenant held more than its share of places.",
	}, func() float64 { return float64(places.Behind()) })
	if r != nil {
		r.MustRegister(a.requests, a.seconds, a.running, behind)
	}
}

// measured counts by kind of endpoint; PromQL's are told apart by their last constant word.
func (a *API) measured(kind string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := endpoint(kind, r.URL.Path)
		begin := a.now()
		a.running.WithLabelValues(name).Inc()
		seen := &telemetry.StatusWriter{ResponseWriter: w}
		defer func() { // also when the handler breaks the connection off
			a.running.WithLabelValues(name).Dec()
			a.seconds.WithLabelValues(name).Observe(a.now().Sub(begin).Seconds())
			a.requests.WithLabelValues(name, strconv.Itoa(seen.Status())).Inc()
		}()
		hurried(seen, r, uploadTime)
		next.ServeHTTP(seen, r)
	})
}

var endpoints = map[string]bool{"query": true, "query_range": true, "query_exemplars": true, "series": true,
	"labels": true, "metadata": true}

// endpoint is from a small set, whatever the path.
func endpoint(kind, path string) string {
	if kind != "promql" {
		return kind
	}
	switch path = strings.Trim(path, "/"); {
	case endpoints[path]:
		return path
	case strings.HasPrefix(path, "label/"):
		return "label_values"
	}
	return "other"
}
