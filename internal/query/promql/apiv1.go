package promql

import (
	"context"
	"net/http"
	"runtime"
	"time"

	"github.com/grafana/regexp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/route"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/notifications"
	apiv1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/vigie-io/vigie/internal/tenants"
)

// engineVersion is the Prometheus release whose language and API this is. Grafana decides by it what to offer.
const engineVersion = "3.16.0"

// newAPI mounts upstream's web/api/v1 over an engine and a storage. Its constructor changes with nearly every release;
// nothing outside this file may call it, and TestAPIMounts fails to compile or to answer when it did.
func newAPI(s *Service, engine promql.QueryEngine, of storage.SampleAndChunkQueryable) http.Handler {
	started := s.now()
	api := apiv1.NewAPI(
		engine,
		of,
		nil, // appendables: nothing is written here
		exemplars{},
		func(context.Context) apiv1.ScrapePoolsRetriever { return nil },
		func(context.Context) apiv1.TargetRetriever { return nil },
		func(context.Context) apiv1.AlertmanagerRetriever { return nil },
		func() config.Config { return config.DefaultConfig },
		map[string]string{}, // flags
		apiv1.GlobalURLOptions{},
		func(h http.HandlerFunc) http.HandlerFunc { return h },
		nil, // TSDB statistics: /status/tsdb is serveCardinality
		"",
		false, // admin
		false, // search
		0,
		s.log,
		s.tenantRules,
		0, 0, 0, // remote read is remoteRead's
		false,
		regexp.MustCompile(`^$`), // no origin but ours
		func() (apiv1.RuntimeInfo, error) {
			// What a tenant may know: nothing of the process and its host.
			return apiv1.RuntimeInfo{
				StartTime: started, ServerTime: s.now(), ReloadConfigSuccess: true, LastConfigTime: started,
				StorageRetention: model.Duration(s.cfg.Retention1h).String(),
			}, nil
		},
		&apiv1.PrometheusVersion{Version: engineVersion, Revision: s.version, Branch: "vigie", GoVersion: runtime.Version()},
		func() []notifications.Notification { return []notifications.Notification{} },
		func() (<-chan notifications.Notification, func(), bool) { return nil, func() {}, false },
		prometheus.NewRegistry(), prometheus.NewRegistry(),
		nil, // statistics as upstream renders them
		false, nil,
		false, false, false,
		s.cfg.Lookback,
		false, false,
		errorCode,
		nil, // features: Grafana takes a server that lists any for Mimir
		apiv1.OpenAPIOptions{},
		parser.NewParser(parserOptions),
		false,
		time.Duration(0),
	)
	router := route.New()
	api.Register(router)
	return router
}

// errorCode gives a full line its own status; everything else is upstream's choice. The type of its first
// argument is upstream's own and has no name here.
func errorCode[N any](_ N, err error) (int, bool) {
	code, _ := statusOf(err)
	return code, code == http.StatusTooManyRequests
}

// exemplars has none: results keep no trace ids. Grafana asks at start-up, with milliseconds for seconds.
type exemplars struct{}

func (exemplars) ExemplarQuerier(context.Context) (storage.ExemplarQuerier, error) {
	return exemplars{}, nil
}

func (exemplars) Select(int64, int64, ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	return []exemplar.QueryResult{}, nil
}

// Rules are the rule groups of a tenant.
type Rules = []*rules.Group

// tenantRules shows a tenant its own rules at /rules and /alerts.
func (s *Service) tenantRules(ctx context.Context) apiv1.RulesRetriever {
	tenant, ok := tenants.FromContext(ctx)
	if !ok || s.rules == nil {
		return retriever{}
	}
	return retriever{s.rules(tenant)}
}

type retriever struct{ groups Rules }

func (r retriever) RuleGroups() []*rules.Group { return r.groups }

func (r retriever) AlertingRules() (list []*rules.AlertingRule) {
	for _, g := range r.groups {
		list = append(list, g.AlertingRules()...)
	}
	return list
}
