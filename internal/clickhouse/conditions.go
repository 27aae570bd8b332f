package clickhouse

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
)

// seriesWhere is the condition on rows s of series: of a tenant and metrics, and what matchers ask of labels.
func seriesWhere(tenant tenants.ID, metrics []string, matchers []promql.Matcher) (string, error) {
	where := ofMetrics(tenant, metrics)
	for _, m := range matchers {
		condition, err := condition(m)
		if err != nil {
			return "", err
		}
		where += "\nAND " + condition
	}
	return where, nil
}

// ofMetrics is the condition on rows s of a tenant and metrics.
func ofMetrics(tenant tenants.ID, metrics []string) string {
	return "s.tenant = " + literal(string(tenant)) + " AND " + amongMetrics("s.metric", metrics)
}

// amongMetrics is the condition that a column is one of some metrics. One is compared, by which the server knows that
// rows lie in the order of what comes after it.
func amongMetrics(column string, metrics []string) string {
	if len(metrics) == 1 {
		return column + " = " + literal(metrics[0])
	}
	return column + " IN (" + literals(metrics) + ")"
}

// naming is metrics in the words of an error.
func naming(metrics []string) string {
	if len(metrics) == 1 {
		return fmt.Sprintf("metric %q", metrics[0])
	}
	return fmt.Sprintf("%d metrics", len(metrics))
}

// condition is a matcher in SQL. A label that a series has not is an empty string, on both sides.
func condition(m promql.Matcher) (string, error) {
	return conditionOn("s.labels["+literal(m.Name)+"]", m)
}

func conditionOn(label string, m promql.Matcher) (string, error) {
	switch m.Op {
	case "=", "!=":
		return label + " " + m.Op + " " + literal(m.Value), nil
	case "=~":
		return "match(" + label + ", " + literal(anchored(m.Value)) + ")", nil
	case "!~":
		return "NOT match(" + label + ", " + literal(anchored(m.Value)) + ")", nil
	}
	return "", fmt.Errorf("match label %s: operator %q: want =, !=, =~ or !~", m.Name, m.Op)
}

// anchored matches whole values, with a dot that also matches a line end, as Prometheus does.
func anchored(expression string) string { return "^(?s:" + expression + ")$" }

// seen is the condition on rows s of series that were seen at or after since (Unix ms; 0 = ever).
func seen(since int64) string {
	if since <= 0 {
		return ""
	}
	// Whole seconds, rounded down: a series too many is harmless, one too few is not.
	return " AND s.last_seen >= toDateTime(" + strconv.FormatInt(min(since/1000, 1<<32-1), 10) + ", 'UTC')"
}

// windowsSeen is seen for series of windows, which are last seen when a window ends: until the next does they stand.
// Sessions have no next one.
func windowsSeen(since int64) string {
	if since <= 0 {
		return ""
	}
	return " AND s.last_seen >= toDateTime64(" + strconv.FormatInt(min(since/1000, 1<<32-1), 10) +
		", 0, 'UTC') - INTERVAL if(s.shape LIKE 'session %', 0, 32) DAY"
}

// limitClause is for at most so many rows; 0 is for all.
func limitClause(limit int) string {
	if limit <= 0 {
		return ""
	}
	return "\nLIMIT " + strconv.Itoa(limit)
}

var literalEscapes = strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\x00", `\0`)

// literal is an SQL string.
func literal(s string) string { return "'" + literalEscapes.Replace(s) + "'" }

// literals are SQL strings, separated by commas.
func literals(texts []string) string {
	all := make([]string, len(texts))
	for i, text := range texts {
		all[i] = literal(text)
	}
	return strings.Join(all, ", ")
}
