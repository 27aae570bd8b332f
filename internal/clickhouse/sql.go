package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/tenants"
)

// Hidden are the names in ClickHouse's errors that tenants have no use for, and what stands for them.
func Hidden() *strings.Replacer {
	return strings.NewReplacer(UserSQL+": ", "", UserSQL, "this key", UserViewOwner, "…", TenantHeader, "…")
}

// Parameters and headers that name somebody, or reach what another tenant left on the server: all tenants are one user
// there. The gateway has refused them already.
var withheldParams = []string{"user", "password", "quota_key", "role", "session_id", "session_check",
	"session_timeout", "close_session"}

var relayedHeaders = []string{
	"Accept-Encoding", "Content-Encoding", "Content-Type", "Traceparent", "Tracestate",
	"X-Clickhouse-Format", "X-Clickhouse-Database",
}

// SQL sends a statement of a tenant to ClickHouse's HTTP interface, as the user that sees the api views only, and bound
// to the tenant. It judges neither statement nor settings, but lowers settings to the bounds of Config.SQL, above which
// the server would refuse the query. The answer comes as soon as its header is there, whatever its status; its body
// streams, and the caller closes it. Ending ctx ends the statement. body is read once: only one address is asked.
func (c *Client) SQL(ctx context.Context, tenant tenants.ID, method string, params url.Values, header http.Header,
	body io.Reader) (*http.Response, error) {
	if err := tenants.Validate(tenant); err != nil {
		return nil, fmt.Errorf("run SQL: %w", err)
	}
	if method != http.MethodGet && method != http.MethodPost && method != http.MethodHead {
		return nil, fmt.Errorf("run SQL of tenant %s: method %q: want GET or POST", tenant, method)
	}
	out := http.Header{}
	for _, name := range relayedHeaders {
		if values := header.Values(name); len(values) > 0 {
			out[name] = slices.Clone(values)
		}
	}
	out.Set(TenantHeader, string(tenant))
	out.Set("X-ClickHouse-Quota", string(tenant))
	if body == nil {
		body = http.NoBody
	}
	set := c.sqlParams(params)
	giveWay(ctx, set)
	response, err := c.do(ctx, &call{
		as: c.sql, method: method, params: set, header: out, stream: body, noErrors: true,
	})
	if err != nil {
		return nil, fmt.Errorf("run SQL of tenant %s: %w", tenant, err)
	}
	if refusesUs(response) {
		response.Body.Close()
		return nil, fmt.Errorf("run SQL of tenant %s: %w", tenant, errSQLUser)
	}
	return response, nil
}

var errSQLUser = errors.New("the server does not take the password of clickhouse.sql_user")

// SQLReady returns nil when the server answers the user that tenants' SQL runs as.
func (c *Client) SQLReady(ctx context.Context) error {
	response, err := c.do(ctx, &call{
		as: c.sql, method: http.MethodPost, params: url.Values{}, header: http.Header{}, body: []byte("SELECT 1"), noErrors: true,
	})
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if refusesUs(response) {
		return errSQLUser
	}
	return nil
}

// refusesUs tells an answer that is about our credentials, not the tenant's statement.
func refusesUs(response *http.Response) bool {
	return response.Header.Get("X-ClickHouse-Exception-Code") == strconv.Itoa(codeLogin)
}

func (c *Client) sqlParams(in url.Values) url.Values {
	out := maps.Clone(in)
	if out == nil {
		out = url.Values{}
	}
	for _, name := range withheldParams {
		out.Del(name)
	}
	if !out.Has("database") {
		out.Set("database", DatabaseAPI)
	}
	// Or the server would notice that nobody waits when it writes, which a query that aggregates does at its end.
	out.Set("cancel_http_readonly_queries_on_client_close", "1")
	for name, most := range c.cfg.SQL.settings() {
		if asked, err := strconv.ParseFloat(out.Get(name), 64); out.Has(name) && (err != nil || asked <= 0 || asked > most) {
			out.Set(name, strconv.FormatFloat(most, 'f', -1, 64))
		}
	}
	return out
}

// settings are the bounds that a query may lower, by the names of their settings.
func (l *SQLLimits) settings() map[string]float64 {
	return map[string]float64{
		"max_execution_time": l.MaxTime.Seconds(),
		"max_memory_usage":   float64(l.MaxMemory),
		"max_rows_to_read":   float64(l.MaxRowsRead),
		"max_result_rows":    float64(l.MaxResultRows),
		"max_threads":        float64(l.MaxThreads),
	}
}
