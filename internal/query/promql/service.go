package promql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/vigie-io/vigie/internal/query/querylog"
	"github.com/vigie-io/vigie/internal/query/slots"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

const (
	// How long answers of the database that all queries of a tenant need are kept.
	progressTTL = time.Second
	catalogTTL  = 5 * time.Second
)

// Options are a Service's surroundings.
type Options struct {
	// Store reads the rows. Required.
	Store Store
	// Limits says what a tenant may use; tenants.Config's For. Required.
	Limits func(tenants.ID) tenants.Limits
	// Registerer takes the metrics; nil leaves them out.
	Registerer prometheus.Registerer
	// Log takes what clients are not told, such as the database's errors; nil is slog.Default.
	Log *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Slots bounds concurrent queries; nil makes the Service's own. Share it with the SQL gateway and a tenant's
	// query_concurrency counts both.
	Slots *slots.Slots
	// DecodeHistogram reads Pane.LastHist. Nil leaves native histogram samples out; sketches are not concerned.
	DecodeHistogram func(bytes string) (*events.Histogram, error)
	// Rules lists the rule groups of a tenant for /rules and /alerts; nil shows none.
	Rules func(tenants.ID) Rules
	// Cardinality counts a tenant's series seen at or after since (Unix ms) by label, with at most so many values of
	// each, for /status/tsdb. Nil answers nothing there.
	Cardinality func(ctx context.Context, tenant tenants.ID, since int64, most int) (*Cardinality, error)
	// Queries takes every query that was asked; nil takes none.
	Queries *querylog.Log
	// Version is what /status/buildinfo reports beside the version of the Prometheus engine.
	Version string
}

// Service answers PromQL for every tenant. Safe for concurrent use.
type Service struct {
	cfg         Config
	store       Store
	limits      func(tenants.ID) tenants.Limits
	log         *slog.Logger
	now         func() time.Time
	slots       *slots.Slots
	decode      func(string) (*events.Histogram, error)
	version     string
	rules       func(tenants.ID) Rules
	cardinality func(ctx context.Context, tenant tenants.ID, since int64, most int) (*Cardinality, error)
	queryLog    *querylog.Log
	metrics     *metrics
	progress    *cache[[]Progress]
	catalogs    *cache[*catalog]
	lists       *lists
	engine      *engine
	sharing     *sharing

	seriesAtOnce func(panes int) int
}

// New makes a Service. cfg must be valid.
func New(cfg Config, o Options) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("promql: %w", err)
	}
	if o.Store == nil || o.Limits == nil {
		return nil, errors.New("promql: Store and Limits are required")
	}
	s := &Service{
		cfg: cfg, store: o.Store, limits: o.Limits, log: o.Log, now: o.Now, slots: o.Slots, decode: o.DecodeHistogram,
		version: o.Version, rules: o.Rules, cardinality: o.Cardinality, queryLog: o.Queries, metrics: newMetrics(o.Registerer),
		seriesAtOnce: seriesAtOnce,
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.slots == nil {
		s.slots = slots.New(func(t tenants.ID) (int, int) { return o.Limits(t).QueryConcurrency, cfg.MaxWaiting })
	}
	s.progress = newCache(progressTTL, s.now, func(ctx context.Context, tenant tenants.ID) ([]Progress, error) {
		return s.store.Progress(ctx, []tenants.ID{tenant})
	})
	s.catalogs = newCache(catalogTTL, s.now, func(ctx context.Context, tenant tenants.ID) (*catalog, error) {
		metas, err := s.store.Metas(ctx, tenant, 0)
		if err != nil {
			return nil, err
		}
		return newCatalog(metas), nil
	})
	s.lists = newLists(s.store, s.now)
	s.engine = newEngine(s)
	return s, nil
}

// QueryEngine is the engine that clamps and aligns; api/v1 and rules take it with Queryable.
func (s *Service) QueryEngine() promql.QueryEngine { return s.engine }

// Queryable reads series. Its methods take the tenant from the context (tenants.NewContext).
func (s *Service) Queryable() storage.SampleAndChunkQueryable { return queryable{s} }

// read returns what every query needs first.
func (s *Service) read(ctx context.Context) (*plan, *catalog, error) {
	p, err := s.newPlan(ctx)
	if err != nil {
		return nil, nil, err
	}
	c, err := s.catalog(ctx, p.tenant)
	return p, c, err
}

func (s *Service) catalog(ctx context.Context, tenant tenants.ID) (*catalog, error) {
	c, err := s.catalogs.get(ctx, tenant)
	if err != nil {
		return nil, s.storeError(ctx, tenant, "metrics", err)
	}
	return c, nil
}

// storeError logs a database error and returns what the client may know. An error of this package's own
// (a limit, an ended context) is passed on.
func (s *Service) storeError(ctx context.Context, tenant tenants.ID, what string, err error) error {
	var limit *LimitError
	if errors.As(err, &limit) {
		return limit
	}
	if ended := ctx.Err(); ended != nil {
		return ended
	}
	s.log.Error("read "+what+" for a query", "tenant", tenant, "err", err)
	s.metrics.storeErrors.Inc()
	return errStore
}
