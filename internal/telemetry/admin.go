package telemetry

import (
	"context"
	"fmt"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check says why a service cannot do its job now, or nil when it can. It must answer within its context.
type Check func(ctx context.Context) error

// Admin are the endpoints every service has beside its own: /-/healthy (the process answers), /-/ready (it can
// do its job), /metrics, /config (secrets masked) and /debug/pprof.
type Admin struct {
	Ready    Check
	Gatherer prometheus.Gatherer
	Config   func() []byte           // YAML with secrets masked, shown at /config
	Extra    map[string]http.Handler // further patterns

	// Guard lets operators through to /config and /debug/pprof, and to /metrics: they name tenants. nil lets everybody.
	Guard       func(http.Handler) http.Handler
	OpenMetrics bool // /metrics is not guarded
}

const readyTimeout = 3 * time.Second

// Handler serves the endpoints.
func (a Admin) Handler() http.Handler {
	mux := http.NewServeMux()
	a.Mount(mux)
	return mux
}

// Mount adds the endpoints to a mux that has others.
func (a Admin) Mount(mux *http.ServeMux) {
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "healthy") })
	mux.HandleFunc("GET /-/ready", a.ready)
	guard := a.Guard
	if guard == nil {
		guard = func(next http.Handler) http.Handler { return next }
	}
	metrics := promhttp.HandlerFor(a.Gatherer, promhttp.HandlerOpts{EnableOpenMetrics: true})
	if !a.OpenMetrics {
		metrics = guard(metrics)
	}
	mux.Handle("GET /metrics", metrics)
	mux.Handle("GET /config", guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8") // YAML, which browsers would download
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(a.Config())
	})))
	// Not the command line, which may hold secrets.
	for path, handler := range map[string]http.HandlerFunc{
		"/debug/pprof/":        pprof.Index,
		"/debug/pprof/profile": pprof.Profile,
		"/debug/pprof/symbol":  pprof.Symbol,
		"/debug/pprof/trace":   pprof.Trace,
		"/debug/pprof/cmdline": http.NotFound,
	} {
		mux.Handle(path, guard(handler))
	}
	for pattern, handler := range a.Extra {
		mux.Handle(pattern, handler)
	}
}

func (a Admin) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := a.Ready(ctx); err != nil {
		http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}
