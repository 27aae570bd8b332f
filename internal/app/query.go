package app

import (
	"context"
	"fmt"
	"net/http"

	"github.com/vigie-io/vigie/internal/auth"
	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/query/api"
	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/query/querylog"
	"github.com/vigie-io/vigie/internal/tenants"
)

var _ Runner = Query

// Query answers PromQL and SQL from ClickHouse, and evaluates the tenants' Prometheus rules.
func Query(ctx context.Context, cfg config.Config, p Process) error {
	p.prepare()
	endpoint, err := p.open(ctx, cfg, cfg.Query.Listen, "query.listen")
	if err != nil {
		return err
	}
	defer endpoint.release()
	client, err := clickhouse.NewClient(cfg.ClickHouse)
	if err != nil {
		return err
	}
	defer client.Close()
	endpoint.tenants = true
	reload, err := newReloader(cfg, &p, endpoint.listener.Addr())
	if err != nil {
		return err
	}
	queries := querylog.New(cfg.Query.Log, client, p.Registry, p.Log)
	handler, rules, err := newAnswers(&cfg, &p, client, reload, queries)
	if err != nil {
		return err
	}
	defer rules.close()
	reload.rules = rules
	rules.mount(endpoint.mux, reload.keys)
	endpoint.mux.Handle("/", handler)
	g := newGroup(ctx)
	g.run("rules", func(ctx context.Context) error { return rules.run(ctx, cfg.Kafka, p.Log) })
	g.run("alerts", rules.sender.Run)
	// The log ends after the last query.
	logging, served := context.WithCancel(context.WithoutCancel(ctx))
	g.run("query log", func(context.Context) error { return queries.Run(logging) })
	g.run("query", func(ctx context.Context) error {
		defer g.stop()
		defer served()
		return endpoint.serve(ctx, reload, &p, func(ctx context.Context) error { return queryReady(ctx, client) })
	})
	return g.wait()
}

// queryReady says why PromQL or SQL cannot be answered.
func queryReady(ctx context.Context, client *clickhouse.Client) error {
	if err := client.Ready(ctx); err != nil {
		return fmt.Errorf("ClickHouse: %w", err)
	}
	if err := client.SQLReady(ctx); err != nil {
		return fmt.Errorf("ClickHouse, for SQL: %w", err)
	}
	return nil
}

// newAnswers makes the API that answers tenants, and what evaluates their rules. Each knows the other: rules ask the
// API's PromQL, and the API shows the rules.
func newAnswers(cfg *config.Config, p *Process, client *clickhouse.Client, reload *reloader, queries *querylog.Log) (
	handler *api.API, rules *ruleRunner, err error) {
	store := clickhouse.NewStore(client)
	handler, err = api.New(cfg.Query.Config, api.Options{
		Store:           store,
		Upstream:        client,
		Authenticate:    func(r *http.Request) (tenants.ID, error) { return reload.keys.Tenant(r, auth.Read) },
		Limits:          reload.limits.For,
		HiddenInSQL:     clickhouse.Hidden(),
		Registerer:      p.Registry,
		Log:             p.Log,
		DecodeHistogram: pipeline.DecodeHistogram,
		Version:         p.Version,
		Cardinality:     store.Cardinality,
		Queries:         queries,
		Rules:           func(tenant tenants.ID) promql.Rules { return rules.ruler.RuleGroups(tenant) },
	})
	if err != nil {
		return nil, nil, err
	}
	rules, err = newRuleRunner(cfg, handler.PromQL(), p)
	return handler, rules, err
}
