package promql_test

import (
	"context"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	upstream "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
)

// A tenant sees its own rules and alerts, as Grafana asks for them, and no other's.
func TestRulesOfATenant(t *testing.T) {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr("up == 0")
	if err != nil {
		t.Fatal(err)
	}
	rule := rules.NewAlertingRule("Down", expr, 0, 0, labels.FromStrings("severity", "page"), labels.EmptyLabels(), labels.EmptyLabels(), "", true, slog.New(slog.DiscardHandler))
	group := rules.NewGroup(rules.GroupOptions{Name: "shop", File: "rules.yml", Interval: time.Minute, Rules: []rules.Rule{rule}})
	_, err = rule.Eval(context.Background(), 0, epoch, func(context.Context, string, time.Time) (upstream.Vector, error) {
		return upstream.Vector{{Metric: labels.FromStrings("instance", "one")}}, nil
	}, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	rule.SetEvaluationTimestamp(epoch)
	s := newServer(t, func(s *server) {
		s.options.Rules = func(tenant tenants.ID) promql.Rules {
			if tenant == "acme" {
				return promql.Rules{group}
			}
			return nil
		}
	})
	f := func(tenant tenants.ID, path, want, never string) {
		t.Helper()
		a := s.do(tenant, "GET", path, url.Values{})
		if a.code != 200 || !strings.Contains(a.body, want) || strings.Contains(a.body, never) {
			t.Errorf("%s of %s: got %d %s, want %s and not %s", path, tenant, a.code, a.body, want, never)
		}
	}
	f("acme", "/rules", `"name":"shop","file":"rules.yml"`, `"groups":[]`)
	f("acme", "/rules", `"state":"firing"`, `"groups":[]`)
	f("acme", "/alerts", `"alertname":"Down"`, `"alerts":[]`)
	f("demo", "/rules", `"groups":[]`, "Down")
	f("demo", "/alerts", `"alerts":[]`, "Down")
}
