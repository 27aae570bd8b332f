package sqlgate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/query/querylog"
	"github.com/vigie-io/vigie/internal/query/slots"
	"github.com/vigie-io/vigie/internal/tenants"
)

// Upstream runs one checked statement for a tenant.
type Upstream interface {
	// SQL sends method, params, header and body to ClickHouse's HTTP interface, bound to the tenant, and
	// returns the answer as soon as its header is there, whatever its status. params hold the database, the
	// parameters and the settings of the statement (among them the tenant's limits: max_execution_time,
	// max_rows_to_read, max_bytes_to_read, max_result_rows, max_memory_usage), never the statement; header holds
	// nothing that names or proves anybody. The caller closes the answer's body. Ending ctx ends the statement.
	SQL(ctx context.Context, tenant tenants.ID, method string, params url.Values, header http.Header,
		body io.Reader) (*http.Response, error)
}

// Options are a Gateway's surroundings.
type Options struct {
	// Upstream runs the statements. Required.
	Upstream Upstream
	// Authenticate returns the tenant of a request from its Authorization header, or an error wrapping
	// tenants.ErrUnauthenticated or tenants.ErrForbidden. Required.
	Authenticate func(*http.Request) (tenants.ID, error)
	// Limits says what a tenant may use. Required.
	Limits func(tenants.ID) tenants.Limits
	// Slots bounds concurrent queries. Required.
	Slots *slots.Slots
	// Hidden replaces names in ClickHouse's errors that are the operator's business; nil replaces none.
	Hidden *strings.Replacer
	// Queries takes every statement of a tenant; nil takes none.
	Queries *querylog.Log
	// Registerer takes the metrics; nil leaves them out.
	Registerer prometheus.Registerer
	// Log takes what clients are not told; nil is slog.Default.
	Log *slog.Logger
}

// Gateway is an http.Handler that speaks ClickHouse's HTTP interface at "/" (and "/ping"). Safe for concurrent use.
type Gateway struct {
	cfg     Config
	o       Options
	queries *prometheus.CounterVec
	bytes   prometheus.Counter
}

// New makes a Gateway. cfg must be valid.
func New(cfg Config, o Options) (*Gateway, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("sql: %w", err)
	}
	if o.Upstream == nil || o.Authenticate == nil || o.Limits == nil || o.Slots == nil {
		return nil, errors.New("sqlgate: Upstream, Authenticate, Limits and Slots are required")
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	g := &Gateway{
		cfg: cfg, o: o,
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vigie_query_sql_total",
			Help: "SQL requests by outcome: ok, or ClickHouse's name of the error (upstream when it came from ClickHouse).",
		}, []string{"outcome"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vigie_query_sql_response_bytes_total", Help: "Bytes of SQL answers passed on.",
		}),
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(g.queries, g.bytes)
	}
	return g, nil
}

func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if alive(w, r) {
		return
	}
	err := g.serve(w, r)
	if err == nil {
		return
	}
	var e *Exception
	if !errors.As(err, &e) {
		e = refuse(networkError, "the database did not answer; try again")
	}
	g.queries.WithLabelValues(e.name).Inc()
	e.write(w, r.URL.Query().Get("compress") == "1")
}

// alive answers what clients and load balancers ask before they have credentials.
func alive(w http.ResponseWriter, r *http.Request) bool {
	path := strings.TrimSuffix(r.URL.Path, "/")
	idle := path == "" && (r.Method == http.MethodGet || r.Method == http.MethodHead) && !r.URL.Query().Has("query")
	if path != "/ping" && path != "/replicas_status" && !idle {
		return false
	}
	w.Header().Set("Content-Type", "text/html; charset=UTF-8")
	_, _ = io.WriteString(w, "Ok.\n") // the client has gone
	return true
}

// serve returns an error as long as nothing of the answer is written.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) error {
	if path := strings.TrimSuffix(r.URL.Path, "/"); path != "" {
		return refuse(code{badArguments.number, badArguments.name, http.StatusNotFound},
			"there is no %s here; queries go to /", clip(path))
	}
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return refuse(code{badArguments.number, badArguments.name, http.StatusMethodNotAllowed},
			"%s is not taken: send GET or POST", clip(r.Method))
	}
	tenant, err := g.authenticate(r)
	if err != nil {
		return err
	}
	asked := ask(tenant)
	defer func() { g.o.Queries.Add(asked.ended()) }() // also when the connection is broken off
	err = g.answer(w, r, tenant, asked)
	asked.failed(err)
	return err
}

// answer runs the statement of a tenant.
func (g *Gateway) answer(w http.ResponseWriter, r *http.Request, tenant tenants.ID, asked *asked) error {
	limits := g.o.Limits(tenant)
	sql, err := statement(r, int64(g.cfg.MaxQuerySize))
	if err != nil {
		return err
	}
	asked.entry.Text = sql
	checked, err := check(sql)
	if err != nil {
		return err
	}
	set := r.URL.Query()
	maps.Copy(set, checked.set) // as in ClickHouse, the statement's word is the last
	if err := checkIdentifiers(checked.identifiers, set); err != nil {
		return err
	}
	params, err := settings(set, r.Header, limits, g.cfg.Database)
	if err != nil {
		return err
	}
	if id := set.Get("query_id"); id != "" {
		params.Set("query_id", string(tenant)+":"+id) // another tenant's query of the same id must not be in the way
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout(set, limits))
	defer cancel()
	place, err := g.o.Slots.Acquire(ctx, tenant)
	asked.entry.Waited = time.Since(asked.began)
	if err != nil {
		return g.turnedAway(err, limits)
	}
	defer place.Release()
	limit(params, "max_threads", float64(max(1, g.cfg.TenantThreads/g.o.Slots.Running(tenant))))
	answer, err := g.o.Upstream.SQL(place.Context(ctx), tenant, http.MethodPost, params, forwarded(r.Header), strings.NewReader(checked.text))
	if err != nil {
		if ctx.Err() == nil {
			g.o.Log.Error("run SQL", "tenant", tenant, "err", err)
		}
		return g.turnedAway(err, limits)
	}
	defer func() { _ = answer.Body.Close() }() // read to its end or given up
	asked.entry.Read = querylog.ReadOf(answer.Header)
	stop := deadline(ctx, w)
	defer stop()
	g.pass(w, answer, asked, encoding(set, r.Header), set.Get("compress") == "1")
	return nil
}

// deadline ends writing to a client that does not read when ctx ends, which would otherwise hold the query, its place
// and its memory for ever. The function it returns lifts that.
func deadline(ctx context.Context, w http.ResponseWriter) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = http.NewResponseController(w).SetWriteDeadline(time.Now()) })
}

func (g *Gateway) turnedAway(err error, l tenants.Limits) error {
	switch {
	case errors.Is(err, slots.ErrFull):
		return refuse(tooManyQueries,
			"too many queries of this tenant run and wait (limit query_concurrency = %d here): run fewer at a time",
			l.QueryConcurrency)
	case errors.Is(err, context.DeadlineExceeded):
		return refuse(timeoutExceeded,
			"the query ran longer than allowed (limit query_timeout = %s): read a shorter time range, or from a wider tier",
			l.QueryTimeout)
	}
	return err
}

// authenticate translates ClickHouse's ways of giving a password into the Authorization header. A key in a URL
// ends up in logs, but some clients know no other way.
func (g *Gateway) authenticate(r *http.Request) (tenants.ID, error) {
	key := r.Header.Get("X-ClickHouse-Key")
	if key == "" {
		key = r.URL.Query().Get("password")
	}
	asked := r.Clone(r.Context())
	if asked.Header.Get("Authorization") == "" && key != "" {
		asked.Header.Set("Authorization", "Bearer "+key)
	}
	tenant, err := g.o.Authenticate(asked)
	switch {
	case err == nil:
		return tenant, nil
	case errors.Is(err, tenants.ErrForbidden):
		return "", refuse(accessDenied, "this API key may not read")
	case errors.Is(err, tenants.ErrUnauthenticated) && asked.Header.Get("Authorization") == "":
		return "", refuse(requiredPassword,
			"an API key is required: send it as password, X-ClickHouse-Key or Authorization: Bearer")
	case errors.Is(err, tenants.ErrUnauthenticated):
		return "", refuse(authFailed, "the API key is not known")
	}
	g.o.Log.Error("authenticate a SQL request", "err", err)
	return "", refuse(authFailed, "authentication is not available")
}
