package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"go.yaml.in/yaml/v3"

	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/internal/testkit/grafana"
)

// datasources are the two of deploy/grafana/provisioning, with the environment filled in.
type datasources struct {
	Datasources []struct {
		UID, Type, URL string
		JSONData       map[string]any    `yaml:"jsonData"`
		SecureJSONData map[string]string `yaml:"secureJsonData"`
	}
}

func provisioned(t testing.TB, environment map[string]string) *datasources {
	t.Helper()
	text, err := os.ReadFile("../../deploy/grafana/provisioning/datasources/vigie.yaml")
	if err != nil {
		t.Fatal(err)
	}
	expanded := os.Expand(string(text), func(name string) string {
		if value, ok := environment[name]; ok {
			return value
		}
		return "$" + name // $__rate_interval in a comment
	})
	out := &datasources{}
	if err := yaml.Unmarshal([]byte(expanded), out); err != nil {
		t.Fatal(err)
	}
	if len(out.Datasources) != 2 {
		t.Fatalf("got %d datasources, want two", len(out.Datasources))
	}
	return out
}

// viewer looks at dashboards through the provisioned datasources.
type viewer struct {
	promql string
	header http.Header
	sql    *clickhouse.Options
	scrape time.Duration
}

func newViewer(t testing.TB, from *datasources) *viewer {
	t.Helper()
	v := &viewer{header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}}
	for _, d := range from.Datasources {
		text := func(key string) string { return fmt.Sprint(d.JSONData[key]) }
		if d.Type == grafana.Prometheus {
			v.promql = d.URL
			v.header.Set(text("httpHeaderName1"), d.SecureJSONData["httpHeaderValue1"])
			scrape, err := time.ParseDuration(text("timeInterval"))
			if err != nil {
				t.Fatal(err)
			}
			v.scrape = scrape
			continue
		}
		// As the plugin of version 4.20 connects for the protocol http.
		v.sql = &clickhouse.Options{
			Protocol: clickhouse.HTTP, Addr: []string{text("host") + ":" + text("port")}, HttpUrlPath: text("path"),
			Auth:        clickhouse.Auth{Database: text("defaultDatabase"), Username: text("username"), Password: d.SecureJSONData["password"]},
			Compression: &clickhouse.Compression{Method: clickhouse.CompressionGZIP}, DialTimeout: 10 * time.Second, ReadTimeout: 60 * time.Second,
		}
	}
	return v
}

// rows is how many series or rows a query of a panel gives.
func (v *viewer) rows(ctx context.Context, view grafana.View, target grafana.Target) (int, error) {
	if target.Datasource.Type == grafana.Prometheus {
		return v.series(view, target)
	}
	statement, err := view.SQL(target.RawSQL)
	if err != nil {
		return 0, err
	}
	db := clickhouse.OpenDB(v.sql)
	defer db.Close()
	rows, err := db.QueryContext(ctx, statement)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		n++
	}
	return n, rows.Err()
}

func (v *viewer) series(view grafana.View, target grafana.Target) (int, error) {
	form, path := url.Values{"query": {view.PromQL(target.Expr, v.scrape)}}, "/api/v1/query"
	if target.Instant {
		form.Set("time", strconv.FormatInt(view.To.Unix(), 10))
	} else {
		path = "/api/v1/query_range"
		step := view.Step()
		form.Set("start", strconv.FormatInt(view.From.Truncate(step).Unix(), 10))
		form.Set("end", strconv.FormatInt(view.To.Truncate(step).Unix(), 10))
		form.Set("step", strconv.Itoa(int(step.Seconds())))
	}
	status, answer, err := fetch(http.MethodPost, v.promql+path, "", v.header, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, err
	}
	var decoded struct {
		Error string
		Data  struct{ Result []json.RawMessage }
	}
	if err := json.Unmarshal([]byte(answer), &decoded); err != nil || status != http.StatusOK {
		return 0, fmt.Errorf("%s: %d %s", form.Get("query"), status, answer)
	}
	return len(decoded.Data.Result), nil
}

// dashboards looks at every panel of deploy/grafana through the provisioned datasources: every query is answered, and
// all but those of what has gone wrong have something to show.
func (d *devStack) dashboards(t *testing.T) {
	t.Helper()
	keys, err := os.ReadFile(filepath.Join(d.dir, "keys.env"))
	if err != nil {
		t.Fatal(err)
	}
	_, key, _ := strings.Cut(string(keys), "VIGIE_KEY_DEMO=")
	key, _, _ = strings.Cut(key, "\n")
	host, port, _ := strings.Cut(d.query, ":")
	v := newViewer(t, provisioned(t, map[string]string{"VIGIE_QUERY_HOST": host, "VIGIE_QUERY_PORT": port, "VIGIE_KEY": key}))
	boards, err := grafana.Boards("../../deploy/grafana/dashboards")
	if err != nil {
		t.Fatal(err)
	}
	mayBeEmpty := map[string]bool{"Lost at limits": true, "Errors": true}
	queries := 0
	for _, board := range boards {
		for _, panel := range board.Panels {
			for _, target := range panel.Targets {
				queries++
				testkit.Eventually(t, 2*time.Minute, func() error {
					to := time.Now()
					view := board.View(grafana.View{From: to.Add(-30 * time.Minute), To: to, Interval: 10 * time.Second})
					n, err := v.rows(t.Context(), view, target)
					if err == nil && n == 0 && !mayBeEmpty[panel.Title] {
						err = errors.New("nothing to show")
					}
					if err != nil {
						return fmt.Errorf("%s, panel %s, query %s: %w", board.Title, panel.Title, target.RefID, err)
					}
					return nil
				})
			}
		}
		v.variables(t, &board)
	}
	t.Logf("%d queries of %d dashboards", queries, len(boards))
}

// variables asks what the lists above the panels ask.
func (v *viewer) variables(t *testing.T, board *grafana.Board) {
	t.Helper()
	for _, variable := range board.Templating.List {
		arguments, ok := strings.CutPrefix(variable.Definition, "label_values(")
		metric, label, two := strings.Cut(strings.TrimSuffix(arguments, ")"), ",")
		if !ok || !two {
			continue
		}
		status, answer, err := fetch(http.MethodGet, v.promql+"/api/v1/label/"+strings.TrimSpace(label)+"/values?match[]="+url.QueryEscape(metric), "",
			http.Header{"Authorization": v.header["Authorization"]}, nil)
		var decoded struct{ Data []string }
		if err != nil || status != http.StatusOK || json.Unmarshal([]byte(answer), &decoded) != nil || len(decoded.Data) == 0 {
			t.Errorf("%s, variable %s: got %d %s (%v), want values", board.Title, variable.Name, status, answer, err)
		}
		if unique := slices.Sorted(maps.Keys(set(decoded.Data))); !slices.Equal(unique, decoded.Data) {
			t.Errorf("%s, variable %s: got %v, want them sorted and once", board.Title, variable.Name, decoded.Data)
		}
	}
}

func set(list []string) map[string]bool {
	out := map[string]bool{}
	for _, s := range list {
		out[s] = true
	}
	return out
}
