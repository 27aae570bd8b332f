package query

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/migrations"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// size is the data of one tenant, so many series of each metric over a span that ends now, and the panels over it:
// Grafana's step for 500 points and a range of windows that are read.
type size struct {
	series          int
	name            string // of the span
	span, step, rng time.Duration
	tier            string
	pane            time.Duration // the tier's
	observed        int           // series of latency_seconds, at most: sketches take their time to write
}

var spans = []size{
	{name: "1 h", span: time.Hour, step: 10 * time.Second, rng: time.Minute, tier: "10s", pane: 10 * time.Second},
	{name: "24 h", span: 24 * time.Hour, step: 2 * time.Minute, rng: 5 * time.Minute, tier: "1m", pane: time.Minute},
	{name: "30 d", span: 30 * 24 * time.Hour, step: time.Hour, rng: time.Hour, tier: "1h", pane: time.Hour},
}

func (s *size) tenant() string { return fmt.Sprintf("s%d_%s", s.series, s.tier) }

func (s *size) String() string {
	return fmt.Sprintf("%d/%s", s.series, strings.ReplaceAll(s.name, " ", ""))
}

// database is a server of the bench's own with the schema, and what it holds ends at end, Unix seconds.
type database struct {
	*testkit.Server
	t      testing.TB
	client *clickhouse.Client
	end    int64
}

func newDatabase(t testing.TB) *database {
	t.Helper()
	access := clickhouse.Access{ServicePassword: "service-password-1", SQLPassword: "sql-password-12345",
		Limits: clickhouse.DefaultSQLLimits()}
	users, err := clickhouse.UsersXML(access)
	if err != nil {
		t.Fatal(err)
	}
	server := testkit.ClickHouse(t, users)
	cfg := clickhouse.DefaultConfig()
	cfg.Addrs, cfg.Password, cfg.SQLPassword, cfg.SQL = []string{server.HTTPAddr}, access.ServicePassword, access.SQLPassword, access.Limits
	cfg.Timeout, cfg.InsertTimeout = time.Hour, time.Hour
	client, err := clickhouse.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if _, err := client.Migrate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	d := &database{Server: server, t: t, client: client, end: time.Now().Truncate(time.Hour).Unix()}
	// Rows are written into the tier that is read: to bring them there from the finest would take as long as it takes
	// the product.
	d.ask("DROP VIEW vigie.rollups_1h_mv")
	d.ask("DROP VIEW vigie.services_1h_mv")
	d.ask("SYSTEM STOP MERGES") // of what is measured later they would take their part
	return d
}

// ask runs a statement and returns its answer as TabSeparated.
func (d *database) ask(statement string) string {
	d.t.Helper()
	status, answer := d.Post(d.t, clickhouse.UserService, "service-password-1", "", statement)
	if status != http.StatusOK {
		d.t.Fatalf("%s: %s", statement, answer)
	}
	return answer
}

// fill writes the series of a size and their rows into the tier that is read, as the views would leave them there, of
// the metrics that are asked for. ClickHouse makes them itself.
func (d *database) fill(s size, asked func(metric string) bool) {
	d.t.Helper()
	if asked("requests_total") {
		d.fillMetric(s, "requests_total", 1, s.series, "v", "tuple(0, 0., '')", "")
	}
	if asked("queue_depth") {
		d.fillMetric(s, "queue_depth", 2, s.series, "v",
			"tuple((toUnixTimestamp(ts) + "+fmt.Sprint(s.pane.Seconds())+" - 1) * 1000000000, v, '')", "")
	}
	if asked("latency_seconds") {
		d.fillMetric(s, "latency_seconds", 0, min(s.series, s.observed), "20.", "tuple(0, 0., '')", sketchOf("s + p"))
	}
}

// fillMetric leaves sketches away where there is no expression for them: empty ones take as long to write as others.
func (d *database) fillMetric(s size, metric string, kind, series int, sum, last, sketch string) {
	ofSketch, merge, rows := "", "", 500_000
	if sketch != "" {
		rows = 50_000 // the server holds a block's states, and all of what it chooses them from
		ofSketch, sketch, merge = ", sketch", ", "+sketch, ", "+migrations.MergeStates("sketch")
	}
	before := s.rng + time.Hour // the hour for the look back at what was active
	panes := int((s.span + before) / s.pane)
	words := strings.NewReplacer(
		"{tenant}", s.tenant(), "{metric}", metric, "{kind}", fmt.Sprint(kind), "{series}",
		fmt.Sprint(series), "{end}", fmt.Sprint(d.end),
		"{rows}", fmt.Sprint(series*panes), "{panes}", fmt.Sprint(panes), "{pane}", fmt.Sprint(s.pane.Seconds()), "{start}",
		fmt.Sprint(d.end-int64((s.span+before).Seconds())),
		"{tier}", s.tier, "{sum}", sum, "{last}", last, "{, sketch}", ofSketch, "{sketch}", sketch, "{merge}", merge,
		"{id}", "bitOr(bitShiftLeft(toUInt128(cityHash64(s, '"+metric+"')), 64), toUInt128(cityHash64('"+metric+"', s)))",
	)
	settings := fmt.Sprintf(" SETTINGS min_insert_block_size_rows = %d, max_block_size = 8192, min_insert_block_size_bytes = 0, max_insert_threads = 1, optimize_on_insert = 0", rows)
	for _, statement := range []string{
		`INSERT INTO vigie.ingest_series (tenant, metric, service, series_id, kind, labels, last_seen)
SELECT '{tenant}', '{metric}', concat('s', toString(s % 50)), {id}, {kind},
    map('env', 'prod', 'instance', concat('10.0.0.', toString(s)), 'region', concat('r', toString(s % 10)), 'service', concat('s', toString(s % 50)), 'version', concat('v', toString(s % 4))), toDateTime({end})
FROM (SELECT number AS s FROM numbers({series}))`,
		`INSERT INTO vigie.rollups_{tier} (tenant, metric, service, series_id, ts, count, sum, min, max, last{, sketch})` + settings + `
SELECT '{tenant}', '{metric}', concat('s', toString(s % 50)), {id}, toDateTime({start} + {pane} * p) AS ts, 200, {sum}, 1, 30, {last}{sketch}
FROM (SELECT intDiv(number, {panes}) AS s, number % {panes} AS p, toFloat64(1 + (s * 7 + p * 13) % 29) AS v FROM numbers({rows}))`,
		`INSERT INTO vigie.services_{tier} (tenant, metric, service, ts, count, sum, min, max{, sketch})` + settings + `
SELECT '{tenant}', '{metric}', service, ts, sum(count), sum(sum), 1, 30{merge} FROM vigie.rollups_{tier}
WHERE tenant = '{tenant}' AND metric = '{metric}' GROUP BY service, ts`,
	} {
		d.ask(words.Replace(statement))
	}
}

// sketchOf is SQL for one of eight states of two hundred values, ten times twenty, by an expression: which of equal
// values a quantile is does not matter.
func sketchOf(expression string) string {
	var states []string
	for i := range 8 {
		var s sketches.Sketch
		for j := range 200 {
			s.Add(0.01 * float64(1+j%20*(i+1)%37))
		}
		states = append(states, "assumeNotNull((SELECT "+stateOf(&s)+"))") // made once, not for each row
	}
	return "[" + strings.Join(states, ", ") + "][1 + (" + expression + ") % 8]"
}

func stateOf(s *sketches.Sketch) string {
	return "CAST(unhex('" + hex.EncodeToString(s.AppendDD(nil)) + "'), '" + migrations.SketchType() + "')"
}
