package clickhouse

import (
	"context"
	"fmt"
	"strings"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// Store reads what PromQL needs. Every statement names its tenant in the first place of the tables' sort keys. It is
// safe for concurrent use.
type Store struct {
	client *Client
}

var _ promql.Store = (*Store)(nil)

// NewStore reads through client.
func NewStore(client *Client) *Store { return &Store{client} }

// Metas lists the stored metrics of a tenant seen at or after since (Unix ms; 0 = ever), by name.
func (s *Store) Metas(ctx context.Context, tenant tenants.ID, since int64) ([]promql.Meta, error) {
	where := "tenant = " + literal(string(tenant))
	query := `SELECT metric::String AS metric, kind, max(native)::UInt8 AS native,
	argMax(unit, last_seen)::String AS unit, argMax(help, last_seen) AS help, '' AS shape, 0::UInt8 AS measures
FROM vigie.series AS s WHERE ` + where + seen(since) + `
GROUP BY metric, kind
UNION ALL
SELECT metric::String AS metric, kind, 0::UInt8 AS native,
	'' AS unit, '' AS help, shape::String AS shape, groupBitOr(s.measures) AS measures
FROM vigie.window_series AS s WHERE ` + where + windowsSeen(since) + `
GROUP BY metric, kind, shape`
	query = "SELECT * FROM (" + query + ") ORDER BY metric, kind, shape"
	var (
		metric, unit, help, shape proto.ColStr
		kind, native, kept        proto.ColUInt8
		metas                     []promql.Meta
	)
	err := s.read(ctx, query, nil, proto.Results{
		{Name: "metric", Data: &metric}, {Name: "kind", Data: &kind}, {Name: "native", Data: &native},
		{Name: "unit", Data: &unit}, {Name: "help", Data: &help}, {Name: "shape", Data: &shape}, {Name: "measures", Data: &kept},
	}, func(rows int) error {
		for i := range rows {
			metas = append(metas, promql.Meta{
				Metric: metric.Row(i), Kind: events.Kind(kind[i]), Native: native[i] != 0, Unit: unit.Row(i), Help: help.Row(i),
				Shape: shape.Row(i), Kept: promql.Kept(kept[i]),
			})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list metrics of tenant %s: %w", tenant, err)
	}
	return metas, nil
}

// Series lists series by metric and ID, panes before windows.
func (s *Store) Series(ctx context.Context, tenant tenants.ID, q promql.SeriesQuery) ([]promql.Series, error) {
	query, err := seriesQuery(tenant, &q)
	if err != nil || query == "" {
		return nil, err
	}
	var (
		id           proto.ColUInt128
		metric       proto.ColStr
		shape        proto.ColStr
		kind, native proto.ColUInt8
		labels       = proto.NewMap[string, string](new(proto.ColStr), new(proto.ColStr))
		found        []promql.Series
		interner     = series.NewInterner(1 << 16)
	)
	err = s.read(ctx, query, nil, proto.Results{
		{Name: "series_id", Data: &id}, {Name: "metric", Data: &metric}, {Name: "kind", Data: &kind},
		{Name: "native", Data: &native}, {Name: "labels", Data: labels}, {Name: "shape", Data: &shape},
	}, func(rows int) error {
		for i := range rows {
			found = append(found, promql.Series{
				ID: series.ID{Hi: id[i].High, Lo: id[i].Low}, Metric: interner.Bytes(metric.RowBytes(i)),
				Kind: events.Kind(kind[i]), Native: native[i] != 0, Labels: labelsOf(labels, i, interner),
				Shape: interner.Bytes(shape.RowBytes(i)),
			})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list series of tenant %s: %w", tenant, err)
	}
	return found, nil
}

func seriesQuery(tenant tenants.ID, q *promql.SeriesQuery) (string, error) {
	// Rows lie in the order of series: to take the first of each costs a fifth of grouping them.
	const columns = "SELECT s.series_id AS series_id, s.metric::String AS metric, s.kind AS kind, %s AS native," +
		" CAST(s.labels, 'Map(String, String)') AS labels, %s AS shape"
	ofPanes := fmt.Sprintf(columns, "s.native::UInt8", "''")
	ofWindows := fmt.Sprintf(columns, "0::UInt8", "s.shape::String")
	list, err := eachOf(tenant, q, ofPanes, ofWindows, func(latest string) string {
		return "\nORDER BY s.metric, s.series_id, s." + latest + " DESC LIMIT 1 BY s.metric, s.series_id"
	})
	if err != nil || len(list) == 0 {
		return "", err
	}
	query := list[0]
	if len(list) > 1 {
		query = "SELECT * FROM (" + strings.Join(list, "\nUNION ALL\n") + ") ORDER BY metric, series_id, shape"
	}
	return query + limitClause(q.Limit) + smallRows, nil
}

// eachOf are the statements that pick of the series of panes and of windows, those of them that are asked for. end is
// what comes at the end of each, given the column that says which of several rows of a series is to be taken, the one
// where it is greatest.
func eachOf(tenant tenants.ID, q *promql.SeriesQuery, ofPanes, ofWindows string,
	end func(latest string) string) (list []string, err error) {
	for _, one := range []struct {
		metrics                     []string
		columns, from, seen, latest string
	}{
		{q.Metrics, ofPanes, "series", seen(q.Since), "native"},
		{q.Closed, ofWindows, "window_series", windowsSeen(q.Since), "last_seen"},
	} {
		if len(one.metrics) == 0 {
			continue
		}
		where, err := seriesWhere(tenant, one.metrics, q.Matchers)
		if err != nil {
			return nil, err
		}
		list = append(list, one.columns+"\nFROM vigie."+one.from+" AS s WHERE "+where+one.seen+end(one.latest))
	}
	return list, nil
}

// Services lists the services that have series of a metric and meet all matchers, which are on the label service; by
// name.
func (s *Store) Services(ctx context.Context, tenant tenants.ID, metric string, matchers []promql.Matcher,
	since int64) ([]string, error) {
	query := "SELECT DISTINCT s.service::String AS service FROM vigie.series AS s WHERE tenant = " + literal(string(tenant)) +
		" AND metric = " + literal(metric) + seen(since)
	for _, m := range matchers {
		if m.Name != "service" {
			return nil, fmt.Errorf("list services: a matcher on label %s: want service", m.Name)
		}
		condition, err := conditionOn("s.service::String", m)
		if err != nil {
			return nil, err
		}
		query += "\nAND " + condition
	}
	var service proto.ColStr
	var found []string
	err := s.read(ctx, query+"\nORDER BY service", nil, proto.Results{{Name: "service", Data: &service}}, func(rows int) error {
		for i := range rows {
			found = append(found, service.Row(i))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list services of tenant %s: %w", tenant, err)
	}
	return found, nil
}

func labelsOf(column *proto.ColMap[string, string], row int, interner *series.Interner) series.Labels {
	from := 0
	if row > 0 {
		from = int(column.Offsets[row-1])
	}
	names, values := column.Keys.(*proto.ColStr), column.Values.(*proto.ColStr)
	labels := make(series.Labels, int(column.Offsets[row])-from)
	for i := range labels {
		labels[i] = series.Label{Name: interner.Bytes(names.RowBytes(from + i)), Value: interner.Bytes(values.RowBytes(from + i))}
	}
	return labels
}

// Progress returns the rows of vigie.progress of the partitions themselves and of some tenants, by topic and partition;
// with a partition's own, how far its results are in the wider tiers.
func (s *Store) Progress(ctx context.Context, list []tenants.ID) ([]promql.Progress, error) {
	names := []string{""}
	for _, tenant := range list {
		names = append(names, string(tenant))
	}
	query := `SELECT p.tenant::String AS tenant, p.topic::String AS topic, p.partition AS partition,
    toUnixTimestamp64Milli(maxIf(p.time, p.fine)) AS time, toUnixTimestamp64Milli(maxIf(p.updated, p.fine)) AS updated,
    toUnixTimestamp64Milli(maxIf(p.time, NOT p.fine)) AS coarse
FROM (
    SELECT tenant, topic, partition, time, updated, true AS fine FROM vigie.progress WHERE tenant IN (` + literals(names) + `)
    UNION ALL SELECT tenant, topic, partition, time, updated, false FROM vigie.coarse_progress WHERE tenant = ''
) AS p
GROUP BY tenant, topic, partition HAVING countIf(p.fine) > 0 ORDER BY topic, partition, tenant`
	var (
		of, topic     proto.ColStr
		partition     proto.ColInt32
		time, updated proto.ColInt64
		coarse        proto.ColInt64
		out           []promql.Progress
	)
	err := s.read(ctx, query, nil, proto.Results{
		{Name: "tenant", Data: &of}, {Name: "topic", Data: &topic}, {Name: "partition", Data: &partition},
		{Name: "time", Data: &time}, {Name: "updated", Data: &updated}, {Name: "coarse", Data: &coarse},
	}, func(rows int) error {
		for i := range rows {
			out = append(out, promql.Progress{
				Topic: topic.Row(i), Partition: partition[i], Tenant: tenants.ID(of.Row(i)), Time: time[i], Updated: updated[i],
				Coarse: coarse[i],
			})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read progress of %d tenants, %s the first: %w", len(list), names[min(1, len(names)-1)], err)
	}
	return out, nil
}
