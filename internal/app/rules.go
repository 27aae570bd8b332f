package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/alertapi"
	"github.com/vigie-io/vigie/internal/auth"
	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/query/alertmanager"
	"github.com/vigie-io/vigie/internal/query/ruler"
	"github.com/vigie-io/vigie/internal/tenants"
)

var _ ruler.Shard = (*kafka.RuleShard)(nil)

const (
	rulesRetryMin = time.Second
	rulesRetryMax = 30 * time.Second
)

// ruleRunner evaluates rules in a query service, from when there are some, and passes alerts on.
type ruleRunner struct {
	ruler    *ruler.Ruler
	sender   *alertmanager.Sender
	embedded *alertmanager.Embedded // nil when there are Alertmanagers elsewhere
	needed   chan struct{}          // closed when there are rules
	once     sync.Once
}

// ruleSet is a configuration whose files have been read.
type ruleSet struct {
	files   *ruler.Files
	routing alertmanager.Configs
}

// alertTimeout bounds one request to an Alertmanager elsewhere.
const alertTimeout = 10 * time.Second

func newRuleRunner(cfg *config.Config, source ruler.Source, p *Process) (*ruleRunner, error) {
	r := &ruleRunner{needed: make(chan struct{})}
	rules, err := r.load(cfg)
	if err != nil {
		return nil, err
	}
	target := alertmanager.Target(alertmanager.NewExternal(cfg.Rules.Alertmanagers, alertTimeout))
	if len(cfg.Rules.Alertmanagers) == 0 {
		dir := cmp.Or(cfg.Rules.AlertmanagerDir, filepath.Join(cfg.DataDir, "alertmanager"))
		if r.embedded, err = alertmanager.NewEmbedded(dir, cfg.Rules.ExternalURL, p.Log); err != nil {
			return nil, err
		}
		target = r.embedded
	}
	r.sender = alertmanager.NewSender(target, p.Registry, p.Log)
	r.ruler = ruler.New(rules.files, ruler.Options{
		Source: source, Registerer: p.Registry, Log: p.Log,
		Send: func(tenant tenants.ID, alerts []alertapi.Alert) { r.sender.Send(tenant, alerts, len(alerts)) },
	})
	return r, r.replace(rules)
}

// load reads all files of a configuration. Nothing of it is in force yet.
func (r *ruleRunner) load(cfg *config.Config) (ruleSet, error) {
	files, err := ruler.Load(cfg.Rules)
	if err != nil {
		return ruleSet{}, fmt.Errorf("rules: %w", err)
	}
	paths := map[tenants.ID]string{}
	for tenant, of := range cfg.Rules.Tenants {
		paths[tenant] = of.Alertmanager
	}
	routing, err := alertmanager.Read(paths)
	if err != nil {
		return ruleSet{}, fmt.Errorf("rules: %w", err)
	}
	return ruleSet{files, routing}, nil
}

func (r *ruleRunner) replace(rules ruleSet) error {
	if r.embedded != nil {
		if err := r.embedded.Apply(rules.routing); err != nil {
			return fmt.Errorf("rules: %w", err)
		}
	}
	r.ruler.Replace(rules.files)
	if !rules.files.Empty() {
		r.once.Do(func() { close(r.needed) })
	}
	return nil
}

// mount serves the API of the tenants' Alertmanagers: reading with the role read, all else with write.
func (r *ruleRunner) mount(mux *http.ServeMux, keys *auth.Authenticator) {
	if r.embedded == nil {
		return
	}
	serve := func(w http.ResponseWriter, request *http.Request) {
		role := auth.Write
		if request.Method == http.MethodGet || request.Method == http.MethodHead {
			role = auth.Read
		}
		tenant, err := keys.Tenant(request, role)
		switch {
		case errors.Is(err, tenants.ErrForbidden):
			http.Error(w, "this API key may not do this: reading needs the role read, all else write", http.StatusForbidden)
		case err != nil:
			w.Header().Set("WWW-Authenticate", `Basic realm="Vigie API key as password"`)
			http.Error(w, "an API key is required: send Authorization: Bearer <key>, or the key as basic auth password",
				http.StatusUnauthorized)
		default:
			r.embedded.ServeHTTP(w, request.WithContext(tenants.NewContext(request.Context(), tenant)))
		}
	}
	mux.Handle("/alertmanager/", http.StripPrefix("/alertmanager", http.HandlerFunc(serve)))
}

func (r *ruleRunner) close() {
	if r.embedded != nil {
		r.embedded.Close()
	}
}

// run returns when ctx ends. A query service without rules needs no Kafka.
func (r *ruleRunner) run(ctx context.Context, cfg kafka.Config, log *slog.Logger) error {
	select {
	case <-ctx.Done():
		return nil
	case <-r.needed:
		return runRules(ctx, cfg, r.ruler, log)
	}
}

// runRules evaluates rules until ctx ends, whatever becomes of Kafka.
func runRules(ctx context.Context, cfg kafka.Config, r *ruler.Ruler, log *slog.Logger) error {
	if err := newTopics(cfg, log).ensure(ctx); err != nil {
		return err
	}
	following := make(chan struct{})
	go func() {
		defer close(following)
		sessions(ctx, rulesRetryMin, rulesRetryMax, func() error {
			return kafka.FollowRuleStates(ctx, cfg, log, r.Observe)
		}, func(err error, wait time.Duration) {
			log.Warn("rules of other processes are shown as they were; reading their states again", "err", err, "retry_in", wait)
		})
	}()
	defer func() { <-following }()
	sessions(ctx, rulesRetryMin, rulesRetryMax, func() error {
		return kafka.RunRuleShards(ctx, cfg, log,
			func(ctx context.Context, shard *kafka.RuleShard) error { return r.RunShard(ctx, shard) })
	}, func(err error, wait time.Duration) {
		log.Error("rules are not evaluated; joining the group again", "err", err, "retry_in", wait)
	})
	return nil
}
