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
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/query/querylog"
	"github.com/vigie-io/vigie/internal/query/slots"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/internal/units"
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

// Config bounds the SQL endpoint beyond tenants.Limits.
type Config struct {
	// MaxQuerySize is the longest statement taken, decompressed. Default 256KiB.
	MaxQuerySize units.Bytes `yaml:"max_query_size"`
	// Database is where bare table names are looked up. Default api.
	Database string `yaml:"database"`
	// TenantThreads is how many threads of ClickHouse the statements of one tenant share, so that many heavy ones of
	// one leave the processors to others: a statement that begins while n of its tenant run, itself one of them, has at
	// most an n-th of them, but at least one, and never more than clickhouse.sql.max_threads. Default 8.
	TenantThreads int `yaml:"tenant_threads"`
}

// DefaultConfig is the configuration without any setting.
func DefaultConfig() Config {
	return Config{MaxQuerySize: 256 << 10, Database: "api", TenantThreads: 8}
}

// Validate says which fields cannot be.
func (c *Config) Validate() error {
	var errs []error
	if c.MaxQuerySize <= 0 || c.MaxQuerySize > 64<<20 {
		errs = append(errs, fmt.Errorf("max_query_size %s: want more than zero and at most 64MiB", c.MaxQuerySize))
	}
	if c.Database == "" {
		errs = append(errs, errors.New("database: want the name of the database with the views, api"))
	}
	if c.TenantThreads < 1 {
		errs = append(errs, fmt.Errorf("tenant_threads %d: want at least 1", c.TenantThreads))
	}
	return errors.Join(errs...)
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
	release, err := g.o.Slots.Acquire(ctx, tenant)
	asked.entry.Waited = time.Since(asked.began)
	if err != nil {
		return g.turnedAway(err, limits)
	}
	defer release()
	limit(params, "max_threads", float64(max(1, g.cfg.TenantThreads/g.o.Slots.Running(tenant))))
	answer, err := g.o.Upstream.SQL(ctx, tenant, http.MethodPost, params, forwarded(r.Header), strings.NewReader(checked.text))
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

// answerHeaders are passed on beside X-ClickHouse-*, of which the server's name is not a tenant's business.
var answerHeaders = []string{"Content-Type", "Content-Disposition"}

// pass streams the answer as it comes. ClickHouse reports an error in the middle inside the body, marked by
// X-ClickHouse-Exception-Tag; a connection that breaks is broken here too, so that nobody takes a part for all.
func (g *Gateway) pass(w http.ResponseWriter, answer *http.Response, asked *asked, encoding string, framed bool) {
	h := w.Header()
	for _, name := range answerHeaders {
		if values := answer.Header.Values(name); len(values) > 0 {
			h[name] = values
		}
	}
	for name, values := range answer.Header {
		if strings.HasPrefix(name, "X-Clickhouse-") && name != "X-Clickhouse-Server-Display-Name" {
			h[name] = values
		}
	}
	if id, ours := strings.CutPrefix(h.Get("X-ClickHouse-Query-Id"), string(asked.entry.Tenant)+":"); ours {
		h.Set("X-ClickHouse-Query-Id", id)
	}
	if answer.StatusCode != http.StatusOK {
		g.queries.WithLabelValues("upstream").Inc()
		asked.entry.Status = exceptionName(g.fail(w, answer, framed))
		return
	}
	g.queries.WithLabelValues("ok").Inc()
	if encoding != "" {
		h.Set("Content-Encoding", encoding)
		h.Add("Vary", "Accept-Encoding")
	} else if answer.ContentLength >= 0 && !framed {
		h.Set("Content-Length", strconv.FormatInt(answer.ContentLength, 10))
	}
	w.WriteHeader(answer.StatusCode)
	out := &flushing{w: w, c: http.NewResponseController(w)}
	text, err := g.copy(out, answer, encoding, framed)
	g.bytes.Add(float64(out.n))
	asked.entry.ResultBytes = out.n
	if text != "" {
		asked.entry.Status = exceptionName(text)
	}
	if err != nil {
		panic(http.ErrAbortHandler)
	}
}

// copy streams the body, compressed as asked. An error at its end is scrubbed, and returned as text.
func (g *Gateway) copy(to io.Writer, answer *http.Response, encoding string, framed bool) (text string, err error) {
	encoder := encoded(to, encoding, framed)
	t := newTail(flushed{encoder}, answer.Header.Get("X-ClickHouse-Exception-Tag"), g.scrub)
	if _, err := io.Copy(t, answer.Body); err != nil {
		err = errors.Join(err, t.finish()) // not closed: a part must not look whole
		return t.text, err
	}
	err = t.finish()
	return t.text, errors.Join(err, encoder.Close())
}

// flushing sends what it is given at once.
type flushing struct {
	w http.ResponseWriter
	c *http.ResponseController
	n int64 // bytes sent
}

func (f *flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	f.n += int64(n)
	if err == nil {
		err = f.c.Flush()
	}
	if errors.Is(err, http.ErrNotSupported) {
		err = nil
	}
	return n, err
}
