package simulation_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/simulation"
	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// engine is the real ClickHouse with Vigie's schema.
type engine struct {
	server *testkit.Server
	client *clickhouse.Client
	access clickhouse.Access
}

func startEngine(t *testing.T) *engine {
	t.Helper()
	e := &engine{access: clickhouse.Access{ServicePassword: "service-password-1", SQLPassword: "sql-password-12345",
		Limits: clickhouse.DefaultSQLLimits()}}
	users, err := clickhouse.UsersXML(e.access)
	if err != nil {
		t.Fatal(err)
	}
	e.server = testkit.ClickHouse(t, users)
	cfg := clickhouse.DefaultConfig()
	cfg.Addrs, cfg.Password, cfg.SQLPassword, cfg.SQL = []string{e.server.HTTPAddr}, e.access.ServicePassword, e.access.SQLPassword, e.access.Limits
	if e.client, err = clickhouse.NewClient(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.client.Close)
	if _, err := e.client.Migrate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *engine) ask(t *testing.T, statement string) string {
	t.Helper()
	status, answer := e.server.Post(t, clickhouse.UserService, string(e.access.ServicePassword), "", statement)
	if status != http.StatusOK {
		t.Fatalf("%s: %s", statement, answer)
	}
	return strings.TrimSpace(answer)
}

// contents is every merged row of the engine, as lines.
func (e *engine) contents(t *testing.T) (lines []string) {
	t.Helper()
	for _, tier := range []string{"10s", "1m", "1h"} {
		lines = append(lines, e.lines(t, "rollups_"+tier, "series_id", "max(r.last)")...)
		lines = append(lines, e.lines(t, "services_"+tier, "toUInt128(0)", "(0, 0, '')")...)
	}
	slices.Sort(lines)
	return lines
}

func (e *engine) lines(t *testing.T, table, id, last string) (lines []string) {
	t.Helper()
	answer := e.ask(t, fmt.Sprintf(`SELECT '%s', tenant, metric, service, leftPad(hex(%s AS id), 32, '0'), toUnixTimestamp(ts), sum(r.count), sum(r.sum), min(r.min), max(r.max), (%s AS l).1, l.2
		FROM vigie.%s AS r GROUP BY tenant, metric, service, id, ts FORMAT TSV`, table, id, last, table))
	for line := range strings.Lines(answer) {
		lines = append(lines, strings.ReplaceAll(strings.TrimSpace(line), "\t", " "))
	}
	return lines
}

// model is the same of the model.
func model(s *simulation.Server) (lines []string) {
	for key, cell := range s.Contents() {
		id := fmt.Sprintf("%016X%016X", key.Series.Hi, key.Series.Lo)
		lines = append(lines, fmt.Sprint(key.Table, " ", key.Tenant, " ", key.Metric, " ", key.Service, " ", id, " ", key.Start, " ",
			cell.Count, " ", cell.Sum, " ", cell.Min, " ", cell.Max, " ", cell.LastTime, " ", cell.Last))
	}
	slices.Sort(lines)
	return lines
}

// drawRollups makes a block whose rows lie in up to three days: several parts in each table.
func drawRollups(r *rand.Rand, base uint32) *pipeline.Rollups {
	b := &pipeline.Rollups{}
	for range 1 + r.IntN(6) {
		v := float64(r.IntN(1000)) / 64
		grain, id, lastTime := pipeline.Grain(r.IntN(2)), series.ID{Hi: uint64(r.IntN(2)), Lo: 1 + uint64(r.IntN(3))}, int64(0)
		if grain == pipeline.GrainService {
			id = series.ID{}
		} else if r.IntN(2) == 0 {
			lastTime = 1 + r.Int64N(50)
		}
		var sketch sketches.Sketch
		sketch.Add(v)
		b.Grain, b.Tenant = append(b.Grain, grain), append(b.Tenant, []string{"acme", "demo"}[r.IntN(2)])
		b.Metric, b.Service = append(b.Metric, "m"), append(b.Service, []string{"", "shop"}[r.IntN(2)])
		b.Series, b.Pane = append(b.Series, id), append(b.Pane, base-uint32(r.IntN(3))*86400+uint32(r.IntN(8))*10)
		b.Count, b.Sum, b.Min, b.Max = append(b.Count, 1), append(b.Sum, v), append(b.Min, v), append(b.Max, v)
		b.LastTime, b.Last, b.LastHist = append(b.LastTime, lastTime), append(b.Last, v*float64(min(lastTime, 1))), append(b.LastHist, "")
		b.Sketch = sketch.AppendDD(b.Sketch)
	}
	return b
}

// The model does with blocks and tokens what the engine does: same inserts, same contents. Tokens repeat with the same
// and with other rows, and an insert fails in the middle of the views and is sent again.
func TestServerIsClickHouse(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	e := startEngine(t)
	server := simulation.NewServer()
	r := rand.New(rand.NewPCG(1, 2))
	base := uint32(time.Now().Add(-2*time.Hour).Unix()) / 3600 * 3600
	insert := func(table, token string, rows *pipeline.Rollups) (real, modelled error) {
		block, err := clickhouse.Encoder{}.EncodeRollups(nil, rows)
		if err != nil {
			t.Fatal(err)
		}
		return e.client.Insert(t.Context(), table, token, len(rows.Grain), block),
			server.Insert(t.Context(), table, token, len(rows.Grain), block)
	}
	same := func(when string) {
		t.Helper()
		got, want := model(server), e.contents(t)
		if !slices.Equal(got, want) {
			t.Fatalf("%s: the model has\n%s\nthe engine has\n%s", when, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	tables := []string{pipeline.TableRollups, pipeline.TablePanes, coarse.TableMinutes}
	good := func(table, token string, rows *pipeline.Rollups) {
		t.Helper()
		if real, modelled := insert(table, token, rows); real != nil || modelled != nil {
			t.Fatalf("insert: got %v and %v from the model, want nil", real, modelled)
		}
	}
	first := drawRollups(r, base)
	for _, table := range tables {
		good(table, "t/0/0", first) // also under the token of another table
		same(table + ": one insert")
		good(table, "t/0/0", first)
		same(table + ": the same again")
		good(table, "t/0/1", first)
		same(table + ": the same under another token")
	}
	for n := range 40 {
		good(tables[r.IntN(len(tables))], fmt.Sprint("t/0/", 2+r.IntN(20)), drawRollups(r, base)) // other rows, also under a known token
		same(fmt.Sprint("insert ", n))
	}

	// The last table of the chain is away: the parts before it are written.
	interrupted := drawRollups(r, base)
	e.ask(t, "RENAME TABLE vigie.rollups_1h TO vigie.rollups_away")
	block, err := clickhouse.Encoder{}.EncodeRollups(nil, interrupted)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.client.Insert(t.Context(), pipeline.TableRollups, "t/1/0", len(interrupted.Grain), block); !clickhouse.IsRetryable(err) {
		t.Fatalf("insert into a broken chain: got %v, want an error worth a retry", err)
	}
	e.ask(t, "RENAME TABLE vigie.rollups_away TO vigie.rollups_1h")
	good(pipeline.TableRollups, "t/1/0", interrupted)
	same("a retry after half an insert")

	// What is refused for its content is so in both.
	for what, bad := range map[string][]byte{"truncated": block[:len(block)-3], "not a block": []byte("hello, world")} {
		real := e.client.Insert(t.Context(), pipeline.TableRollups, "t/2/0", len(interrupted.Grain), bad)
		modelled := server.Insert(t.Context(), pipeline.TableRollups, "t/2/0", len(interrupted.Grain), bad)
		if clickhouse.IsRetryable(real) || clickhouse.IsRetryable(modelled) {
			t.Errorf("%s: got %v and %v from the model, want both refused", what, real, modelled)
		}
	}
	same("refused blocks")
}

// The model keeps of progress, and of what is merged, what the engine keeps.
func TestServersReachIsClickHouses(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	e := startEngine(t)
	server := simulation.NewServer()
	r := rand.New(rand.NewPCG(5, 6))
	insert := func(table, token string, rows int, block []byte, err error) {
		t.Helper()
		if err == nil {
			err = e.client.Insert(t.Context(), table, token, rows, block)
		}
		if err == nil {
			err = server.Insert(t.Context(), table, token, rows, block)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	base := time.Now().UnixMilli()
	for n := range 30 {
		token := fmt.Sprint("t/0/", r.IntN(20))
		if r.IntN(3) == 0 {
			at := coarse.Position{Topic: fmt.Sprint("t", r.IntN(2)), Partition: r.Int32N(2), Next: r.Int64N(1000)}
			block, err := clickhouse.Encoder{}.EncodeMerged(nil, at)
			insert(coarse.TableMerged, token, 1, block, err)
		} else {
			rows := &pipeline.ProgressRows{}
			for range 1 + r.IntN(3) {
				rows.Tenant, rows.Topic = append(rows.Tenant, []string{"", "acme"}[r.IntN(2)]), append(rows.Topic, "m")
				rows.Partition, rows.Time = append(rows.Partition, r.Int32N(2)), append(rows.Time, base+r.Int64N(1000))
				rows.Updated = append(rows.Updated, base)
			}
			block, err := clickhouse.Encoder{}.EncodeProgress(nil, rows)
			insert([]string{pipeline.TableProgress, coarse.TableProgress}[r.IntN(2)], token, len(rows.Topic), block, err)
		}
		want := strings.Split(e.ask(t, `SELECT * FROM (
			SELECT 'progress "' || tenant || '" ' || topic || ' ' || partition || ' ' || toUnixTimestamp64Milli(max(p.time)) FROM vigie.progress AS p GROUP BY tenant, topic, partition
			UNION ALL SELECT 'coarse_progress "' || tenant || '" ' || topic || ' ' || partition || ' ' || toUnixTimestamp64Milli(max(p.time)) FROM vigie.coarse_progress AS p
				GROUP BY tenant, topic, partition
			UNION ALL SELECT 'merged ' || topic || ' ' || partition || ' ' || max(m.next) FROM vigie.merged AS m GROUP BY topic, partition) FORMAT TSVRaw`), "\n")
		slices.Sort(want)
		if got := server.Reach(); !slices.Equal(got, want) {
			t.Fatalf("insert %d: the model has\n%s\nthe engine has\n%s", n, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// drawWindows makes a block of few windows in two months, so that rows replace each other, add up and are retracted.
func drawWindows(r *rand.Rand, base int64) *windowed.Rows {
	b := &windowed.Rows{}
	for range 1 + r.IntN(6) {
		v := float64(r.IntN(1000)) / 64
		kind, delta, start := windowed.Kind(r.IntN(5)), uint64(0), base-int64(r.IntN(2))*32*86400+int64(r.IntN(3))*10
		if kind >= windowed.Delta {
			delta = 1 + uint64(r.IntN(2))
		}
		var sketch sketches.Sketch
		sketch.Add(v)
		b.Tenant, b.Metric, b.Service = append(b.Tenant, "acme"), append(b.Metric, "m"), append(b.Service, "shop")
		b.Series, b.Labels = append(b.Series, series.ID{Lo: 1}), append(b.Labels, series.Labels{{Name: "service", Value: "shop"}})
		b.Start, b.End, b.SeriesKind, b.Shape = append(b.Start, start), append(b.End, start+10), append(b.SeriesKind, 0), append(b.Shape, "tumbling 10s")
		b.Rule, b.Part, b.Version = append(b.Rule, uint64(r.IntN(2))), append(b.Part, "t/0"), append(b.Version, 1+uint32(r.IntN(3)))
		b.Kind, b.Delta, b.Count = append(b.Kind, kind), append(b.Delta, delta), append(b.Count, 1+uint64(r.IntN(3)))
		b.Sum, b.Min, b.Max = append(b.Sum, v), append(b.Min, v), append(b.Max, v)
		b.Sketch = sketch.AppendDD(b.Sketch)
	}
	return b
}

// The model keeps the row of a window that the engine keeps.
func TestServersWindowsAreClickHouses(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	e := startEngine(t)
	server := simulation.NewServer()
	r := rand.New(rand.NewPCG(3, 4))
	base := time.Now().Add(-2*time.Hour).Unix() / 3600 * 3600
	for n := range 25 {
		rows := drawWindows(r, base)
		block, err := clickhouse.Encoder{}.EncodeWindows(nil, rows)
		if err != nil {
			t.Fatal(err)
		}
		token := fmt.Sprint("t/0/", r.IntN(20))
		if err := e.client.Insert(t.Context(), pipeline.TableWindows, token, len(rows.Tenant), block); err != nil {
			t.Fatal(err)
		}
		if err := server.Insert(t.Context(), pipeline.TableWindows, token, len(rows.Tenant), block); err != nil {
			t.Fatal(err)
		}
		want := strings.Split(strings.ReplaceAll(e.ask(t, `SELECT start, end, part, sum(w.count), sum(w.sum), min(w.min), max(w.max) FROM
			(SELECT toUnixTimestamp(start) AS start, toUnixTimestamp(end) AS end, part, count, sum, min, max FROM vigie.windows FINAL WHERE kind != 1) AS w
			GROUP BY ALL FORMAT TSV`), "\t", " "), "\n")
		got := []string{}
		for key, cell := range server.Contents() {
			got = append(got, fmt.Sprint(key.Start, " ", key.End, " ", key.Part, " ", cell.Count, " ", cell.Sum, " ", cell.Min, " ", cell.Max))
		}
		slices.Sort(got)
		if slices.Sort(want); !slices.Equal(got, want) && len(got)+len(want[0]) > 0 {
			t.Fatalf("insert %d: the model has\n%s\nthe engine has\n%s", n, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}
